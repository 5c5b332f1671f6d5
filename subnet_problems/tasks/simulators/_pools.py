"""EnvPool's pools: made where their threads find room, destroyed where that cannot hang, and few at a time.

A pool has ``num_threads`` workers and, for each 64 CPUs, a background thread that keeps a stock of spare buffers. While
it is made, it has as many threads more as there are CPUs, or environments where these are fewer.

**What can hang.** Each ``_recv`` takes a buffer out of the stock. EnvPool's destructor sets a flag, takes one more
buffer and waits for the background thread, and holds the interpreter's lock all the while. The background thread puts a
buffer into the stock, then looks at the flag, and ends if it is set. Now let ``_recv`` take the last buffer and the
destructor set the flag between these two steps: the thread ends, the stock stays empty, and the destructor waits
forever. But the thread cannot sleep between the two. So once it was seen asleep after the last ``_recv``, it has put a
buffer into the stock, or will do so before it looks at the flag: the pool can be destroyed.

**What can end the process.** If the system refuses a thread while a pool is made, C++ calls ``abort``. So threads of
Python try first whether there is room; if one is refused, that is an exception.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

_TASKS = "/proc/self/task"
_CAN_SEE_THREADS = os.path.isdir(_TASKS)  # noqa: PTH112
_NUM_CPUS = os.cpu_count() or 1
#: A closed pool is destroyed after so many seconds even if its threads were not seen asleep. Where threads can be seen
#: (Linux), this is needed only if a thread of another library, which never sleeps, began while the pool was made.
_REST_SECONDS = 10.0 if _CAN_SEE_THREADS else 0.2
#: How many closed pools may rest while another one is made.
_MOST_RESTING = 2 if _CAN_SEE_THREADS else 64
#: Room that was found is relied on for so many seconds, since to look for it takes as long as to make a pool.
_ROOM_SECONDS = 5.0
#: A pool waits for room for so many seconds: the system counts threads for a moment after they have ended.
_PATIENCE = 1.0

_lock = threading.RLock()
_resting: list[Pool] = []
_room = 0  # how many threads this process is known to have room for
_room_until = 0.0


class Pool:
    """A pool and the threads that began with it.

    Attributes:
        envs: EnvPool's object, with the methods ``_reset``, ``_send`` and ``_recv``.
    """

    def __init__(self, envs: Any, threads: set[str]) -> None:
        self.envs = envs
        self._awake = threads
        self._closed_at = 0.0

    def close(self) -> None:
        """Leave it to be destroyed as soon as this cannot hang. It must not be used any more."""
        with _lock:
            self._closed_at = time.monotonic()
            _resting.append(self)
            _destroy_rested()

    def has_rested(self) -> bool:
        """Whether it can be destroyed: each of its threads was asleep, or gone, at some time since it was closed."""
        if time.monotonic() - self._closed_at > _REST_SECONDS:
            return True
        self._awake = {thread for thread in self._awake if _is_awake(thread)}
        return _CAN_SEE_THREADS and not self._awake


def open_pool(name: str, seeds: Sequence[int], *, num_threads: int) -> Pool:
    """Make a pool, once no more than ``_MOST_RESTING`` closed ones are left.

    If P threads of Python play at once, each with a pool for either half of its population, there are never more than
    ``2 P + _MOST_RESTING`` pools.

    Args:
        name: EnvPool's name of the environment.
        seeds: One for each environment, in [0, 2**31).
        num_threads: Threads that step them, at most one for each environment.

    Raises:
        OSError: The system lets this process start too few threads.
    """
    import envpool

    needed = num_threads + min(_NUM_CPUS, len(seeds)) + max(1, _NUM_CPUS // 64)
    deadline = time.monotonic() + _PATIENCE
    while True:
        with _lock:
            _destroy_rested()
            if len(_resting) <= _MOST_RESTING:
                found = _find_room(needed)
                if found == needed:
                    before = _threads()
                    envs = envpool.make(
                        name, env_type="gymnasium", num_envs=len(seeds), num_threads=num_threads, seed=list(seeds)
                    )
                    return Pool(envs, _threads() - before)
                if time.monotonic() > deadline:
                    raise OSError(
                        f"EnvPool needs {needed} more threads, but the system lets this process start only {found}: "
                        "raise its limit (of a container: the pids limit; of a user: ulimit -u), "
                        + (f"set num_threads below {num_threads}, " if num_threads > 1 else "")
                        + "or choose backend='gymnasium', which needs no threads"
                    )
        time.sleep(2e-4)  # others, which close their pools, need the lock


def destroy_closed_pools() -> None:
    """Wait until every pool that was closed can be destroyed, and destroy it.

    Done by itself at the end of the process, and before it forks: a child that inherits pools, but not their threads,
    could not destroy them.
    """
    while True:
        with _lock:
            _destroy_rested()
            if not _resting:
                return
        time.sleep(2e-4)


def _destroy_rested() -> None:
    for pool in list(_resting):
        if pool.has_rested():
            with suppress(ValueError):  # the garbage collector may have closed a pool meanwhile, and come here itself
                _resting.remove(pool)


def _threads() -> set[str]:
    """The threads of this process, or none where they cannot be seen."""
    return set(os.listdir(_TASKS)) if _CAN_SEE_THREADS else set()  # noqa: PTH208


def _is_awake(thread: str) -> bool:
    try:
        with open(f"{_TASKS}/{thread}/stat", "rb") as file:
            return not file.read().rpartition(b") ")[2].startswith(b"S")
    except OSError:  # it has ended
        return False


def _find_room(needed: int) -> int:
    """How many of the threads that are needed can be started now."""
    global _room, _room_until
    now, wanted = time.monotonic(), len(_threads()) + needed
    if wanted <= _room and now < _room_until:
        return needed
    found = _start_and_end(needed)
    if found == needed:
        _room, _room_until = wanted, now + _ROOM_SECONDS
    return found


def _start_and_end(count: int) -> int:
    """How many of so many threads can be started; all have ended when it returns."""
    gate = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=gate.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:  # can't start new thread
        pass
    finally:
        gate.set()
        for thread in started:
            thread.join()
    deadline = time.monotonic() + _PATIENCE
    while {str(thread.native_id) for thread in started} & _threads() and time.monotonic() < deadline:
        time.sleep(1e-4)
    return len(started)


def _before_fork() -> None:
    _lock.acquire()
    destroy_closed_pools()


atexit.register(destroy_closed_pools)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release)
