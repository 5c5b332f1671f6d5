"""PyTorch on one thread while episodes are played."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch on one thread, in the calling thread of Python; other threads keep their numbers.

    Its idle threads spin for about 8 ms after every parallel operation, on CPUs that the simulator needs; and
    with one thread alone no operation is split, so that its bits do not depend on how many CPUs there are.

    It may be nested and used by several threads of Python at once. At its end the calling thread has the number that it
    had at the beginning, whatever was set in between; new threads begin with this number, too, as after any call of
    ``torch.set_num_threads``.
    """
    with _torch_lock:
        number = torch.get_num_threads()
    try:
        if number > 1:
            _set_to_one(number)
        yield
    finally:
        if torch.get_num_threads() != number:
            torch.set_num_threads(number)


def _set_to_one(number: int) -> None:
    """One thread of PyTorch for the calling thread of Python, and still ``number`` for those that begin now.

    Each thread of Python has a number of its own. It begins with the one that any thread has set last, and keeps it: a
    thread that began now would keep our 1 for good. So another thread sets the old number at once.
    """
    with _torch_lock:
        torch.set_num_threads(1)
        if threading.active_count() == 1:  # no other thread is there to begin a new one
            return
        setter = threading.Thread(target=torch.set_num_threads, args=(number,), daemon=True)
        with suppress(RuntimeError):  # no thread can be started: new ones begin with 1 until the end
            setter.start()
            setter.join()
        if torch.get_num_threads() > 1:  # a build of PyTorch, not from PyPI, with one number for the whole process
            torch.set_num_threads(1)


#: Held while new threads would begin with 1; and during a fork, or the child could never take it.
_torch_lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_torch_lock.acquire, after_in_parent=_torch_lock.release, after_in_child=_torch_lock.release
    )
