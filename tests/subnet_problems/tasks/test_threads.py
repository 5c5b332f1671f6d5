"""Threads: the number used by EnvPool, and concurrent evaluations in several Python threads."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from evaluations import fitness

from subnet_problems import MaskedGymProblem
from subnet_problems._torch_threads import num_threads, one_torch_thread
from subnet_problems.tasks.simulators import _pools
from subnet_problems.tasks.simulators._pools import destroy_closed_pools

linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at threads in /proc")
CPUS = os.cpu_count() or 1


def most_pool_threads(num_python_threads, num_threads):
    """Each Python thread has one pool per half of its population; two more may wait to be destroyed."""
    return (2 * num_python_threads + 2) * (num_threads + max(1, CPUS // 64))


def threads():
    return set(os.listdir("/proc/self/task"))  # noqa: PTH208


def eventually(condition):
    """Whether the condition holds within some seconds; ended threads remain listed for a moment."""
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def cart_pole(*, seed=0, episode_length=5, **options):
    return MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), episode_length=episode_length, seed=seed, **options)


# Pools


@linux
@pytest.mark.parametrize("num_threads", [1, 5])
def test_many_short_generations_keep_only_the_threads_of_a_few_pools(num_threads):
    problem = cart_pole(num_threads=num_threads, episode_length=3)
    problem.evaluate(problem.generate_batch(16))
    destroy_closed_pools()
    before, most = threads(), 0
    for _ in range(60):
        problem.evaluate(problem.generate_batch(16))
        most = max(most, len(threads() - before))
    assert most <= most_pool_threads(1, num_threads)
    destroy_closed_pools()
    assert eventually(lambda: not threads() - before)


@linux
def test_a_closed_pool_is_kept_until_all_its_threads_sleep():
    class Envs:
        pass

    busy = threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", 400_000))  # without the GIL
    idle = threading.Event()
    asleep = threading.Thread(target=idle.wait)
    busy.start()
    asleep.start()
    envs = Envs()
    alive = weakref.ref(envs)
    pool = _pools.Pool(envs, {str(busy.native_id), str(asleep.native_id)})
    del envs
    pool.close()
    del pool
    assert alive() is not None
    assert busy.is_alive()
    destroy_closed_pools()
    assert alive() is None
    assert not busy.is_alive()
    idle.set()
    asleep.join()


@linux
def test_a_simulator_that_is_not_closed_leaves_no_threads():
    task = cart_pole(num_threads=2)._task
    destroy_closed_pools()
    before = threads()
    simulators = [task.simulator(torch.arange(4).numpy()) for _ in range(3)]
    assert len(threads() - before) >= 3 * (2 + 1)
    del simulators
    destroy_closed_pools()
    assert eventually(lambda: not threads() - before)


UNDER_A_LIMIT = """
import os, resource, sys
from subnet_problems import MaskedGymProblem
from subnet_problems.command import main

problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), episode_length=3, seed=0, num_threads=2)
uid, room, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.setgroups([])
os.setgid(uid)
os.setuid(uid)  # root has no limit
count = len(os.listdir("/proc/self/task"))
def limit(room):
    resource.setrlimit(resource.RLIMIT_NPROC, (count + room, resource.getrlimit(resource.RLIMIT_NPROC)[1]))

for _ in range(2):  # at first, and after other evaluations
    limit(2)
    try:
        problem.evaluate(problem.generate_batch(8))
    except OSError as error:
        print(error)
    rounds = problem.evaluation_round
    limit(room)
    for _ in range(60):
        problem.evaluate(problem.generate_batch(8))
    print("played", problem.evaluation_round - rounds, flush=True)
    from subnet_problems.tasks.simulators import _pools
    _pools.destroy_closed_pools()
    _pools._room_until = 0.0  # 5 seconds later
limit(2)
sys.argv = ["search", "search", "CartPole-v1", "--output", folder, "--budget", "100"]
sys.exit(main())
"""


@linux
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs a user without other processes")
def test_a_search_respects_a_limit_of_threads_or_raises():
    folders = [Path(sys.prefix), *Path(sys.prefix).parents]
    if not all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders):
        pytest.skip("another user cannot read Python's packages here")
    uid = 20_000 + os.getpid() % 40_000
    room = most_pool_threads(1, 2) + min(CPUS, 4) + 2  # threads while a pool of 4 environments is created
    with TemporaryDirectory() as folder:
        os.chown(folder, uid, uid)
        child = subprocess.run(
            [sys.executable, "-c", UNDER_A_LIMIT, str(uid), str(room), folder],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    if "os.setgroups" in child.stderr or "os.setuid" in child.stderr or "os.setgid" in child.stderr:
        pytest.skip("this container has no other user")
    needed = 2 + min(CPUS, 4) + max(1, CPUS // 64)
    refused = f"EnvPool needs {needed} more threads, but the system lets this process start only 2: raise its limit"
    lines = child.stdout.splitlines()
    assert [line.startswith(refused) for line in lines] == [True, False, True, False], child.stderr
    assert lines[1::2] == ["played 60"] * 2
    assert "Error: EnvPool needs" in child.stderr
    assert "Traceback" not in child.stderr
    assert child.returncode == 1


# Evaluations in several Python threads


@pytest.mark.parametrize("backend", ["envpool", "gymnasium"])
def test_concurrent_evaluations_equal_sequential_ones(backend):
    def play(seed):
        problem = cart_pole(seed=seed, episode_length=40, backend=backend, num_threads=2)
        return fitness(problem, problem.generate_batch(9).values.clone(), rounds=12)

    alone = [play(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as executor:
        together = list(executor.map(play, range(3)))
    for bits, expected in zip(together, alone, strict=True):
        assert torch.equal(bits, expected)


@linux
def test_concurrent_evaluations_keep_few_threads():
    def play(seed):
        problem, most = cart_pole(seed=seed, num_threads=2), 0
        for _ in range(40):
            problem.evaluate(problem.generate_batch(8))
            most = max(most, len(threads() - before))
        return most

    destroy_closed_pools()
    before = threads()
    with ThreadPoolExecutor(3) as executor:
        most = max(executor.map(play, range(3)))
    being_made = min(CPUS, 4) + 2 * (2 + min(CPUS, 4) + max(1, CPUS // 64))  # and threads that probe the limit
    assert most <= most_pool_threads(3, 2) + 3 + 3 + being_made
    destroy_closed_pools()
    assert eventually(lambda: not threads() - before)


NUMBERS = torch.rand(1_000_003, generator=torch.Generator().manual_seed(0))  # the sum depends on the threads


@pytest.fixture
def three_torch_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def in_new_thread(function, *args):
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args).result()


class Visitor(threading.Thread):
    """A Python thread that enters ``one_torch_thread``, and leaves it when ``leave`` is called."""

    def __init__(self):
        super().__init__(daemon=True)
        self._entered, self._leave = threading.Event(), threading.Event()
        self.start()
        assert self._entered.wait(30)

    def run(self):
        self.before = torch.get_num_threads()
        with one_torch_thread():
            self._entered.set()
            self._leave.wait(30)
            self.inside, self.sum = torch.get_num_threads(), NUMBERS.sum().item()
        self.after = torch.get_num_threads()

    def leave(self):
        self._leave.set()
        self.join(30)
        assert not self.is_alive()


@pytest.mark.usefixtures("three_torch_threads")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_concurrent_blocks_use_one_torch_thread_each_and_restore_the_number(order):
    several = NUMBERS.sum().item()
    visitors = [Visitor() for _ in range(3)]
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == 3  # unaffected by the visitors
    assert NUMBERS.sum().item() == several
    for index in order:
        visitors[index].leave()
        assert in_new_thread(torch.get_num_threads) == 3
    torch.set_num_threads(1)
    alone = NUMBERS.sum().item()
    assert alone != several
    assert [(v.before, v.inside, v.sum, v.after) for v in visitors] == [(3, 1, alone, 3)] * 3


@pytest.mark.usefixtures("three_torch_threads")
def test_a_thread_that_starts_during_a_block_of_another_keeps_its_number():
    visitor = Visitor()

    def late():
        first = torch.get_num_threads()
        visitor.leave()
        with one_torch_thread():
            inside = torch.get_num_threads()
        return first, inside, torch.get_num_threads()

    assert in_new_thread(late) == (3, 1, 3)
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == 3


@pytest.mark.usefixtures("three_torch_threads")
def test_one_torch_thread_can_be_nested_and_restores_the_number_after_errors():
    def fail():
        with one_torch_thread():
            with one_torch_thread():
                assert torch.get_num_threads() == 1
                torch.set_num_threads(2)
            assert torch.get_num_threads() == 1
            torch.set_num_threads(2)
            raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        fail()
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == 3


@pytest.mark.usefixtures("three_torch_threads")
def test_a_number_set_by_another_thread_during_a_block_is_kept():
    visitor = Visitor()
    torch.set_num_threads(2)
    visitor.leave()
    assert (torch.get_num_threads(), visitor.inside, visitor.after) == (2, 1, 3)


@pytest.mark.usefixtures("three_torch_threads")
def test_concurrent_evaluations_restore_the_number_of_torch_threads():
    def play(seed):
        problem = cart_pole(seed=seed)
        for _ in range(20 + 10 * seed):
            problem.evaluate(problem.generate_batch(4))
            time.sleep(0.001)  # evaluations overlap in any order
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as executor:
        assert list(executor.map(play, range(2))) == [3, 3]
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == 3


@pytest.mark.usefixtures("three_torch_threads")
def test_the_allowed_number_of_threads_is_known_while_pytorch_uses_one():
    with one_torch_thread():
        assert (torch.get_num_threads(), num_threads()) == (1, 3)
        with one_torch_thread():
            assert (torch.get_num_threads(), num_threads()) == (1, 3)
    assert num_threads() == 3
    torch.set_num_threads(2)
    assert num_threads() == 2
