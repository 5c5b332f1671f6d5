"""Jobs in new processes, several at a time. No process outlives the ``Processes`` that started it."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cloudpickle

#: Seconds that processes without work have to leave by themselves.
_PATIENCE = 3.0
#: Where multiprocessing looks for a script that was started by a relative path.
_FIRST_FOLDER: str = getattr(process, "ORIGINAL_DIR", None) or ""
#: The exit code of a new process whose script, while it was imported, asked for new processes itself.
_NOT_GUARDED = 78


class ProcessLostError(RuntimeError):
    """A process ended before its job was over: it crashed, or the system killed it."""


@dataclass(frozen=True)
class Message:
    """News of a job.

    Attributes:
        job: The job's index.
        kind: Whether it reported something, returned, raised, or lost its process.
        content: The report; the result; the error; or, in words, how the process ended.
    """

    job: int
    kind: Literal["report", "result", "error", "lost"]
    content: Any


@dataclass
class _Worker:
    process: BaseProcess
    job: int | None = None
    has_begun: bool = False


class Processes:
    """New processes that do jobs. As a context manager, it ends them.

    Args:
        work: Called as ``work(*job, report)`` in a process; whatever it passes to ``report`` comes out as a message.
            It is pickled by its name.
        jobs: What can be pickled.
        num_processes: The most jobs at a time.

    Raises:
        RuntimeError: This process may not start others.
    """

    def __init__(self, work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], num_processes: int) -> None:
        self._waiting = deque(enumerate(jobs))
        self._workers: dict[Connection, _Worker] = {}
        context = multiprocessing.get_context("spawn")
        try:
            with _ctrl_c_held_back(), _only_a_file_is_imported():
                for _ in range(min(num_processes, len(jobs))):
                    ours, theirs = context.Pipe()
                    started = context.Process(target=_serve, args=(theirs, work))
                    started.start()
                    self._workers[ours] = _Worker(started)
                    theirs.close()
        except BaseException:
            self._kill()
            raise

    @property
    def at_work(self) -> list[int]:
        """The jobs that are being done now."""
        return [worker.job for worker in self._workers.values() if worker.job is not None]

    def listen(self, timeout: float) -> list[Message]:
        """What came from the jobs, once there is something, or after ``timeout`` seconds.

        Raises:
            ProcessLostError: A process ended before it began to work.
            RuntimeError: The script that is running cannot be imported by new processes.
        """
        connection.wait([*self._workers], timeout)
        # A process that ended is known by its exit code: what it started itself may hold its end of the link open.
        ended = [link for link, worker in self._workers.items() if worker.process.exitcode is not None]
        messages: list[Message] = []
        for link in self._workers:
            with suppress(EOFError, OSError):
                while link.poll():
                    messages += self._take(link, *link.recv())
        for link in ended:
            messages += self._lost(self._workers.pop(link))
        return messages

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None and not self._waiting and all(worker.job is None for worker in self._workers.values()):
            for link in self._workers:
                link.close()
            deadline = time.monotonic() + _PATIENCE
            for worker in self._workers.values():
                worker.process.join(max(0.0, deadline - time.monotonic()))
        self._kill()

    def _take(self, link: Connection, kind: str, content: Any) -> list[Message]:
        worker = self._workers[link]
        worker.has_begun = True
        if kind == "report":
            assert worker.job is not None
            return [Message(worker.job, "report", content)]
        messages = []
        if worker.job is not None:
            found = Message(worker.job, "error", _error_of(*content)) if kind == "error" else None
            messages = [found or Message(worker.job, "result", content)]
            worker.job = None
        if self._waiting:
            worker.job, job = self._waiting.popleft()
            with suppress(OSError):  # it ended, as its exit code will say
                link.send(job)
        return messages

    def _lost(self, worker: _Worker) -> list[Message]:
        code = worker.process.exitcode
        assert code is not None
        names = {one.value: one.name for one in signal.Signals}
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by {names.get(-code, f'signal {-code}')}"
        if code == _NOT_GUARDED:
            raise RuntimeError(
                f"new processes import the script that starts them, and {_script()} would start some again as it is "
                'imported: put what it does, this call above all, under `if __name__ == "__main__":`'
            )
        if not worker.has_begun:
            raise ProcessLostError(
                f"a new process, which first imports {_script()}, {how} before it began to work; what it printed says "
                "why"
            )
        return [] if worker.job is None else [Message(worker.job, "lost", how)]

    def _kill(self) -> None:
        with _ctrl_c_held_back():
            for worker in self._workers.values():
                worker.process.kill()
            for worker in self._workers.values():
                worker.process.join(_PATIENCE)
            for link in self._workers:
                link.close()
            self._workers.clear()


def check_can_start_processes() -> None:
    """Refuse where no new process can be started; in one that imports an unguarded script, end it.

    Raises:
        RuntimeError: This process is a daemon.
    """
    current = multiprocessing.current_process()
    if getattr(current, "_inheriting", False):  # what multiprocessing's own message goes by
        raise SystemExit(_NOT_GUARDED)
    if current.daemon:
        raise RuntimeError("expected a process that may start others, and this one is a daemon of multiprocessing")


class CtrlC:
    """Whether Ctrl-C was pressed."""

    came = False

    def __call__(self, *_: Any) -> None:
        self.came = True


@contextmanager
def heard_ctrl_c() -> Iterator[CtrlC]:
    """Within it, in the main thread and in place of Python's own handler, Ctrl-C sets ``came`` and raises nothing."""
    ctrl_c = CtrlC()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield ctrl_c
        return
    signal.signal(signal.SIGINT, ctrl_c)
    try:
        yield ctrl_c
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _script() -> str:
    return str(getattr(sys.modules["__main__"], "__file__", "what is needed"))


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Ctrl-C comes after this instead of within it, and never to the processes that are started within it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # to start it lets Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _only_a_file_is_imported() -> Iterator[None]:
    """New processes import the script, unless it is no file but came from standard input."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is None or main.__spec__ is not None or Path(_FIRST_FOLDER, script).is_file():
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = script


def _serve(link: Connection, work: Callable[..., Any]) -> None:
    """What a new process does: jobs, until there are no more, or nobody is left to take their results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that started this one, which ends it
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def report(content: Any, kind: str = "report") -> None:
        try:
            link.send((kind, content))
        except OSError:
            os._exit(1)

    report(None, kind="begun")
    with suppress(EOFError, OSError):
        while True:
            job = link.recv()
            try:
                result = work(*job, report)
            except BaseException as error:
                report(_sent(error), kind="error")
            else:
                report(result, kind="result")
    # As in a process that was forked, nothing is torn down: with PyTorch and EnvPool that takes seconds.
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)


def _sent(error: BaseException) -> tuple[bytes | None, str]:
    """An error and its traceback, fit for a pipe."""
    text = "".join(traceback.format_exception(error))
    if not isinstance(error, Exception):  # such as SystemExit: it would end the process that takes it
        return None, text
    try:
        return cloudpickle.dumps(error), text
    except Exception:
        return None, text


class _Traceback(Exception):  # noqa: N818
    """The traceback of another process, shown as the cause of its error."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def _error_of(pickled: bytes | None, text: str) -> BaseException:
    error: BaseException = RuntimeError(text.strip().splitlines()[-1])
    if pickled is not None:
        with suppress(Exception):  # some cannot be made again from what is pickled of them
            error = cloudpickle.loads(pickled)
    error.__cause__ = _Traceback(text)
    return error
