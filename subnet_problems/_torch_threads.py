"""PyTorch's number of threads: one while episodes are played; and the number that the user allows."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let PyTorch use one thread in the calling Python thread; other Python threads keep their numbers of threads.

    PyTorch's idle threads spin for about 8 ms after every parallel operation, on CPUs that the simulator needs. With
    one thread no operation is split, so that its bits do not depend on the number of CPUs.

    The context may be nested and used by several Python threads at once. On exit the calling thread has its old number
    again, even if it was set to another one in between. New Python threads begin with this number too, as after any
    call of ``torch.set_num_threads``.
    """
    with _torch_lock:
        number = torch.get_num_threads()
    before = getattr(_allowed, "number", None)
    _allowed.number = before or number
    try:
        if number > 1:
            _set_to_one(number)
        yield
    finally:
        _allowed.number = before
        if torch.get_num_threads() != number:
            torch.set_num_threads(number)


def num_threads() -> int:
    """PyTorch's number of threads in this Python thread, or what it was before ``one_torch_thread``."""
    return getattr(_allowed, "number", None) or torch.get_num_threads()


def _set_to_one(number: int) -> None:
    """Set one PyTorch thread for the calling Python thread, and keep ``number`` for Python threads that begin later.

    Each Python thread has its own number. It begins with the number that any thread set last, and keeps it, so a thread
    that begins after we set 1 would keep 1. Therefore another thread sets the old number right away.
    """
    with _torch_lock:
        torch.set_num_threads(1)
        if threading.active_count() == 1:  # no other thread can begin a new one
            return
        setter = threading.Thread(target=torch.set_num_threads, args=(number,), daemon=True)
        with suppress(RuntimeError):  # no thread can be started: until exit, new threads begin with 1
            setter.start()
            setter.join()
        if torch.get_num_threads() > 1:  # a build of PyTorch, not from PyPI, with one number for the whole process
            torch.set_num_threads(1)


#: The number of each Python thread within ``one_torch_thread``.
_allowed = threading.local()
#: Held while new threads would begin with 1, and during a fork, or else the child could never acquire it.
_torch_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_torch_lock.acquire, after_in_parent=_torch_lock.release, after_in_child=_torch_lock.release
    )
