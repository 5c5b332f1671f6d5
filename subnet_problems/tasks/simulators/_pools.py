"""EnvPool's pools: few at a time, made only if there is room for their threads, and destroyed when it cannot hang.

A pool has ``num_threads`` worker threads and, for each 64 CPUs, one background thread that keeps a stock of spare
buffers. While a pool is made, it has additional threads: one for each CPU, or one for each environment if these are
fewer.

**What can hang.** Each ``_recv`` takes a buffer out of the stock. EnvPool's destructor sets a flag, takes one more
buffer, and waits for the background thread; it holds the interpreter's lock all this time. The background thread puts a
buffer into the stock, then reads the flag, and ends if the flag is set. Suppose that ``_recv`` takes the last buffer
and the destructor sets the flag between these two steps. Then the thread ends, the stock stays empty, and the
destructor waits forever. But the thread cannot sleep between the two steps. So once the thread was seen asleep after
the last ``_recv``, it has put a buffer into the stock, or will do so before it reads the flag, and the pool can be
destroyed.

**What can end the process.** If the system refuses a thread while a pool is made, C++ calls ``abort``. Therefore Python
threads are started first to test for room; a refused Python thread only raises an exception.
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
#: Seconds after which a closed pool is destroyed even if its threads were not seen asleep. On Linux, where threads can
#: be seen, this matters only if a thread of another library that never sleeps began while the pool was made.
_REST_SECONDS = 10.0 if _CAN_SEE_THREADS else 0.2
#: The number of closed pools that may wait to be destroyed while another one is made.
_MOST_RESTING = 2 if _CAN_SEE_THREADS else 64
#: Seconds for which a successful test for room stays valid, because a test takes as long as making a pool.
_ROOM_SECONDS = 5.0
#: Seconds to wait for room, because the system still counts threads for a moment after they have ended.
_PATIENCE = 1.0

_lock = threading.RLock()
_resting: list[Pool] = []
_room = 0  # the number of threads for which this process is known to have room
_room_until = 0.0


class Pool:
    """A pool and the threads that it started.

    Attributes:
        envs: EnvPool's object, with the methods ``_reset``, ``_send`` and ``_recv``.
    """

    def __init__(self, envs: Any, threads: set[str]) -> None:
        self.envs = envs
        self._awake = threads
        self._closed_at = 0.0

    def close(self) -> None:
        """Mark the pool for destruction as soon as this cannot hang. The pool must not be used afterwards."""
        with _lock:
            self._closed_at = time.monotonic()
            _resting.append(self)
            _destroy_rested()

    def has_rested(self) -> bool:
        """Return True if the pool can be destroyed: since it was closed, each thread has been seen asleep or gone."""
        if time.monotonic() - self._closed_at > _REST_SECONDS:
            return True
        self._awake = {thread for thread in self._awake if _is_awake(thread)}
        return _CAN_SEE_THREADS and not self._awake


def open_pool(name: str, seeds: Sequence[int], *, num_threads: int) -> Pool:
    """Wait until at most ``_MOST_RESTING`` closed pools are left, then make a pool.

    If P Python threads play at once, each with a pool for each half of its population, there are never more than
    ``2 P + _MOST_RESTING`` pools.

    Args:
        name: EnvPool's name of the environment.
        seeds: Seeds in [0, 2**31), one for each environment.
        num_threads: The number of threads that step the environments, at most one for each environment.

    Raises:
        OSError: The system does not let this process start enough threads.
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
        time.sleep(2e-4)  # threads that close their pools need the lock


def destroy_closed_pools() -> None:
    """Wait until every closed pool can be destroyed, and destroy it.

    This runs automatically when the process exits and before it forks, because a forked child inherits pools without
    their threads and could not destroy them.
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
            with suppress(ValueError):  # the garbage collector may close a pool meanwhile, which ends up here too
                _resting.remove(pool)


def _threads() -> set[str]:
    """Return the threads of this process; none on systems where they cannot be seen."""
    return set(os.listdir(_TASKS)) if _CAN_SEE_THREADS else set()  # noqa: PTH208


def _is_awake(thread: str) -> bool:
    try:
        with open(f"{_TASKS}/{thread}/stat", "rb") as file:
            return not file.read().rpartition(b") ")[2].startswith(b"S")
    except OSError:  # the thread has ended
        return False


def _find_room(needed: int) -> int:
    """Return how many of the needed threads can be started now."""
    global _room, _room_until
    now, wanted = time.monotonic(), len(_threads()) + needed
    if wanted <= _room and now < _room_until:
        return needed
    found = _start_and_end(needed)
    if found == needed:
        _room, _room_until = wanted, now + _ROOM_SECONDS
    return found


def _start_and_end(count: int) -> int:
    """Try to start ``count`` threads, end them all, and return how many could be started."""
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
