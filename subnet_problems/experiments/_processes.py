"""Jobs in new parallel processes. No process outlives the ``Processes`` that started it."""

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

#: Seconds within which processes without work must exit by themselves.
_PATIENCE = 3.0
#: The folder in which multiprocessing looks for a script with a relative path.
_FIRST_FOLDER: str = getattr(process, "ORIGINAL_DIR", None) or ""
#: The exit code of a new process whose script starts new processes when it is imported.
_NOT_GUARDED = 78


class ProcessLostError(RuntimeError):
    """A process ended before its job was finished: it crashed, or the system killed it."""


@dataclass(frozen=True)
class Message:
    """A message about a job.

    Attributes:
        job: The job's index.
        kind: Whether the job reported something, returned, raised, or lost its process.
        content: The report, the result, the error, or a text that says how the process ended.
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
    """New processes that run jobs. As a context manager, it ends them.

    Args:
        work: Called as ``work(*job, report)`` in a process; an argument of ``report`` becomes a message. It is pickled
            by its name.
        jobs: The arguments of each job, which can be pickled.
        num_processes: Maximum number of jobs at a time.

    Raises:
        RuntimeError: This process may not start other processes.
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
        """Indices of the running jobs."""
        return [worker.job for worker in self._workers.values() if worker.job is not None]

    def listen(self, timeout: float) -> list[Message]:
        """Wait for messages of the jobs, for at most ``timeout`` seconds, and return them.

        Raises:
            ProcessLostError: A process ended before it started to work.
            RuntimeError: New processes cannot import the running script.
        """
        connection.wait([*self._workers], timeout)
        # Detect ended processes by their exit code: their children may keep their end of the link open.
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
            with suppress(OSError):  # the process ended, and ``listen`` will see its exit code
                link.send(job)
        return messages

    def _lost(self, worker: _Worker) -> list[Message]:
        code = worker.process.exitcode
        assert code is not None
        names = {one.value: one.name for one in signal.Signals}
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by {names.get(-code, f'signal {-code}')}"
        if code == _NOT_GUARDED:
            raise RuntimeError(
                f"new processes import the script that starts them, and importing {_script()} would start more: "
                'put its code, at least this call, under `if __name__ == "__main__":`'
            )
        if not worker.has_begun:
            raise ProcessLostError(
                f"a new process, which first imports {_script()}, {how} before it started to work; its output has the "
                "reason"
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
    """Check that new processes can be started; end this process if it is one that imports an unguarded script.

    Raises:
        RuntimeError: This process is a daemon.
    """
    current = multiprocessing.current_process()
    if getattr(current, "_inheriting", False):  # the flag behind multiprocessing's own error
        raise SystemExit(_NOT_GUARDED)
    if current.daemon:
        raise RuntimeError("expected a process that may start others, got a daemon of multiprocessing")


class CtrlC:
    """A signal handler that records Ctrl-C in ``came``."""

    came = False

    def __call__(self, *_: Any) -> None:
        self.came = True


@contextmanager
def ctrl_c_noted() -> Iterator[CtrlC]:
    """Context in which Ctrl-C sets ``came`` instead of raising; only in the main thread with Python's own handler."""
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
    """Context that delays Ctrl-C to its end; processes that are started within it never receive Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # starting it unblocks Ctrl-C, so do it first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _only_a_file_is_imported() -> Iterator[None]:
    """Context in which new processes do not import a script that is not a file, such as one from standard input."""
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
    """The main loop of a new process: run jobs until there are no more or the link is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C and ends this one
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
    # Exit without teardown, as forked processes do: with PyTorch and EnvPool it takes seconds.
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(0)


def _sent(error: BaseException) -> tuple[bytes | None, str]:
    """An error and its traceback in a form that can be sent through a pipe."""
    text = "".join(traceback.format_exception(error))
    if not isinstance(error, Exception):  # such as SystemExit: it would end the receiving process
        return None, text
    try:
        return cloudpickle.dumps(error), text
    except Exception:
        return None, text


class _Traceback(Exception):  # noqa: N818
    """The traceback of another process, displayed as the cause of its error."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def _error_of(pickled: bytes | None, text: str) -> BaseException:
    error: BaseException = RuntimeError(text.strip().splitlines()[-1])
    if pickled is not None:
        with suppress(Exception):  # some errors cannot be unpickled
            error = cloudpickle.loads(pickled)
    error.__cause__ = _Traceback(text)
    return error
