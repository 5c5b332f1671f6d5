"""Jobs in new processes: their results, and that no process remains."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

# Import only the module: the package imports EvoTorch, which takes seconds in each new process.
FOLDERS = [str(Path(__file__).parents[3] / "subnet_problems" / "experiments"), str(Path(__file__).parent)]
sys.path += FOLDERS
from _processes import Processes, ProcessLostError, check_can_start_processes  # noqa: E402


def double(number, report):
    report(f"{number} begun")
    report(os.getpid())
    return 2 * number


def end_badly(how, report):
    if how == "exit":
        sys.exit("enough")
    if how == "odd error":
        raise OddError(1, 2)
    if how == "error":
        raise ValueError("number: expected another")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "daughter":  # the child inherits the pipes of its parent
        if os.fork() == 0:
            time.sleep(1.0)
            os._exit(0)
        os._exit(3)
    report(os.getpid())
    signal.pause()


def leave_a_note(path, report):
    atexit.register(Path(path).write_text, "cleaned up")


class OddError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def messages_until(processes, is_enough):
    messages = []
    while not is_enough(messages):
        messages += processes.listen(timeout=0.1)
    return messages


def is_gone(pid):
    """Whether a process has ended, including as a zombie (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_each_job_runs_once_and_its_reports_precede_its_result():
    with Processes(double, [(number,) for number in range(5)], 2) as processes:
        messages = messages_until(processes, lambda came: sum(one.kind == "result" for one in came) == 5)
        assert processes.at_work == []
    for job in range(5):
        begun, pid, result = (message for message in messages if message.job == job)
        assert (begun.kind, begun.content) == ("report", f"{job} begun")
        assert (result.kind, result.content) == ("result", 2 * job)
        assert is_gone(pid.content)
    assert len({message.content for message in messages if isinstance(message.content, int)} - set(range(9))) <= 2


def test_no_process_remains_after_an_exception():
    pids = []

    def interrupted():
        with Processes(end_badly, [("wait",), ("wait",)], 2) as processes:
            pids.extend(one.content for one in messages_until(processes, lambda came: len(came) == 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)


@pytest.mark.parametrize(
    ("how", "kind", "content"),
    [
        ("error", ValueError, "number: expected another"),
        ("odd error", RuntimeError, "OddError: 1 and 2"),
        ("exit", RuntimeError, "SystemExit: enough"),
    ],
)
def test_an_error_has_its_traceback_and_the_process_continues(how, kind, content):
    with Processes(end_badly, [(how,), (how,)], 1) as processes:
        for message in messages_until(processes, lambda came: len(came) == 2):
            assert message.kind == "error"
            assert type(message.content) is kind
            assert content in str(message.content)
            assert "in end_badly" in str(message.content.__cause__)


@pytest.mark.parametrize(
    ("how", "content"), [("kill", "was killed by SIGKILL"), ("daughter", "ended with exit code 3")]
)
def test_a_lost_job_reports_how_its_process_ended(how, content):
    with Processes(end_badly, [("wait",), (how,)], 2) as processes:
        *_, lost = messages_until(processes, lambda came: [one for one in came if one.kind == "lost"])
        assert (lost.job, lost.content) == (1, content)


def test_processes_exit_normally_after_all_jobs(tmp_path):
    with Processes(leave_a_note, [(str(tmp_path / "note"),)], 1) as processes:
        messages_until(processes, len)
    assert (tmp_path / "note").read_text() == "cleaned up"


def start_some():
    check_can_start_processes()


def test_a_daemon_must_not_start_processes(capfd):
    process = multiprocessing.get_context("spawn").Process(target=start_some, daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 1
    assert "RuntimeError: expected a process that may start others, got a daemon" in capfd.readouterr().err


def report_forever(report):
    while True:
        report(os.getpid())
        time.sleep(0.01)


ORPHANED = """
import os, signal
from _processes import Processes
from test_processes import messages_until, report_forever
if __name__ == "__main__":
    with Processes(report_forever, [()], 1) as processes:
        print(messages_until(processes, len)[0].content, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_the_process_that_started_them(tmp_path):
    (tmp_path / "orphaned.py").write_text(ORPHANED)
    pid = int(script("orphaned.py", cwd=tmp_path).stdout)
    deadline = time.monotonic() + 60.0
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_can_be_started_from_any_thread():
    results = []

    def start():
        with Processes(double, [(21,)], 1) as processes:
            results.extend(messages_until(processes, lambda came: [one for one in came if one.kind == "result"]))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert results[-1].content == 42


SCRIPT = """
from _processes import Processes, check_can_start_processes
from test_processes import double, messages_until
check_can_start_processes()
with Processes(double, [(21,)], 1) as processes:
    print(messages_until(processes, lambda came: len(came) == 3)[-1].content)
"""


def script(*words, **options):
    return subprocess.run(
        [sys.executable, *words], env={**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS)}, capture_output=True,
        text=True, **options,
    )  # fmt: skip


def test_a_script_without_a_main_guard_gets_one_error(tmp_path):
    (tmp_path / "unguarded.py").write_text(SCRIPT)
    done = script("unguarded.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == done.stderr.count("Error:") == 1
    assert "unguarded.py would start more: put its code" in done.stderr
    assert 'under `if __name__ == "__main__":`' in done.stderr


@pytest.mark.parametrize("words", [["-"], ["-c", SCRIPT]])
def test_code_without_a_file_needs_no_main_guard(words, tmp_path):
    done = script(*words, input=SCRIPT, cwd=tmp_path)
    assert done.stdout == "42\n", done.stderr


def test_a_script_that_fails_on_import_is_named(tmp_path):
    (tmp_path / "fails.py").write_text(f"import sys\nif __name__ != '__main__':\n    sys.exit('no')\n{SCRIPT}")
    done = script("fails.py", cwd=tmp_path)
    assert "no\n" in done.stderr
    assert "fails.py, ended with exit code 1 before it started to work; its output has the reason" in done.stderr


def test_a_process_killed_before_its_first_job_is_an_error():
    with Processes(double, [(21,)], 1) as processes:
        (child,) = multiprocessing.active_children()
        child.kill()
        with pytest.raises(ProcessLostError, match="was killed by SIGKILL before it started to work"):
            messages_until(processes, len)
