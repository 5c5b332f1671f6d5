"""Losing workers or whole machines during a generation does not change the results of a run.

A cluster of several nodes runs on this machine. The head has no CPUs, so all actors are on nodes that can be added
and removed. Environments create a file at each reset, from which tests know the active workers. They wait at each step
as long as a file named ``hold`` exists, so that a worker is lost in the middle of its work.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
from evaluations import fitness
from ray.cluster_utils import Cluster

from algorithms import ElitistGaussianResampling
from subnet_problems import DenseGymProblem, WorkersLostError
from subnet_problems.problems import _workers as workers
from subnet_problems.problems._workers import Workers

STATUS = ("iter", "total_interaction_count", "total_episode_count", "pop_best_eval", "mean_eval")


class Holding(gym.Env):
    """Rewards and lengths depend on the seed and the actions; a step waits as long as the file ``folder/hold`` exists.

    Each reset creates the file ``folder/NODE PID``.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self, *, folder=None):
        self.spec = gym.envs.registration.EnvSpec("Holding-v0", max_episode_steps=12)
        self._folder = folder

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self._folder is not None:
            Path(self._folder, f"{ray.get_runtime_context().get_node_id()} {os.getpid()}").touch()
        return self._obs(), {}

    def step(self, action):
        while self._folder is not None and Path(self._folder, "hold").exists():
            time.sleep(0.01)
        return (
            self._obs(),
            float(action[0] + self.np_random.standard_normal()),
            self.np_random.random() < 0.1,
            False,
            {},
        )

    def _obs(self):
        return self.np_random.standard_normal(3).astype(np.float32)


class Unstable:
    """An actor for Workers, like EvaluationActor, with methods that fail."""

    def __init__(self, broken=False):
        if broken:
            raise ModuleNotFoundError("No module named 'simulator'")

    def get(self, field):
        return field

    def call(self, method, args, kwargs):
        return getattr(self, method)(*args, **kwargs)

    def place(self):
        return ray.get_runtime_context().get_node_id()

    def double(self, number):
        return 2 * number

    def die(self, number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def fail(self, number):
        raise ValueError("not today")


class Nodes:
    """The nodes of the cluster that have CPUs."""

    def __init__(self):
        # Ray gives up unresponsive nodes sooner than by default.
        config = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 2}
        small = {"object_store_memory": 80 * 2**20}
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={**small, "num_cpus": 0, "include_dashboard": False, "_system_config": config},
        )
        self._small = small
        self._nodes = []
        ray.init(address=self._cluster.address, log_to_driver=False)

    def have(self, count):
        """Add nodes until there are ``count``."""
        while len(self._nodes) < count:
            self._nodes.append(self._cluster.add_node(num_cpus=1, **self._small))
        self._cluster.wait_for_nodes()

    def remove(self, node_id=None):
        """Remove one node, or all of them."""
        for node in [node for node in self._nodes if node_id in (None, node.node_id)]:
            self._nodes.remove(node)
            self._cluster.remove_node(node, allow_graceful=False)

    def shutdown(self):
        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster():
    import environments

    modules = (environments, sys.modules[__name__])
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)  # actors cannot import these files
    nodes = Nodes()
    yield nodes
    nodes.shutdown()
    for module in modules:
        ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def nodes(cluster):
    cluster.have(2)
    return cluster


@pytest.fixture
def holding():
    """Makes problems, and kills their actors at the end."""
    problems = []

    def make(folder=None, **options):
        config = {"folder": None if folder is None else str(folder)}
        defaults = {"hidden_sizes": (4,), "num_episodes": 2, "seed": 3, "observation_normalization": True}
        problems.append(DenseGymProblem(Holding, env_config=config, **defaults | options))
        return problems[-1]

    yield make
    for problem in problems:
        if problem.actors is not None:
            problem.kill_actors()


def search(problem):
    return ElitistGaussianResampling(problem, popsize=8, num_elites=2)


def assert_same(searcher, expected):
    assert torch.equal(searcher.population.values, expected.population.values)
    assert torch.equal(searcher.population.evals, expected.population.evals)
    for name in STATUS:
        assert searcher.status[name] == expected.status[name]
    one, other = searcher.problem.get_observation_stats(), expected.problem.get_observation_stats()
    assert (one.count, one.sum.tolist()) == (other.count, other.sum.tolist())


class Attack(threading.Thread):
    """Holds up all workers, and calls ``strike(node_id, pid)``, which ends one of them, when it evaluates a share.

    With ``releases``, the other workers continue when it has ended.
    """

    def __init__(self, folder, strike, *, releases):
        super().__init__(daemon=True)
        self._folder, self._strike, self._releases = folder, strike, releases
        for path in folder.iterdir():
            path.unlink()
        (folder / "hold").touch()
        self.start()

    def run(self):
        while not (at_work := sorted(self._folder.glob("* *"))):
            time.sleep(0.01)
        node_id, pid = at_work[0].name.split()
        self._strike(node_id, int(pid))
        while self._releases and Path("/proc", pid).exists():
            time.sleep(0.01)
        if self._releases:
            (self._folder / "hold").unlink()


def test_losing_a_worker_and_then_a_node_does_not_change_a_run(nodes, holding, tmp_path, caplog):
    strikes = {
        1: lambda node_id, pid: os.kill(pid, signal.SIGKILL),
        3: lambda node_id, pid: nodes.remove(node_id),
    }
    # A problem larger than 100 kB, which Ray does not send inline
    large = {"hidden_sizes": (160, 160)}
    expected, searcher = search(holding(**large)), search(holding(tmp_path, num_actors=2, **large))
    for generation in range(5):
        attack = Attack(tmp_path, strikes[generation], releases=True) if generation in strikes else None
        expected.step()
        searcher.step()
        assert_same(searcher, expected)
        if attack is not None:
            attack.join()
            assert "a worker was lost, and its share is evaluated again" in caplog.text
            caplog.clear()


def test_losing_all_workers_raises_counts_nothing_and_the_search_can_continue(nodes, holding, tmp_path, monkeypatch):
    expected, searcher = search(holding()), search(holding(tmp_path, num_actors=2))
    expected.step()
    searcher.step()
    with monkeypatch.context() as patch:
        patch.setattr(searcher.problem._workers, "_timeout", 1.0)
        attack = Attack(tmp_path, lambda node_id, pid: nodes.remove(), releases=False)
        generator = searcher.problem.generator.get_state()
        batch = searcher.population.values.clone()
        with pytest.raises(WorkersLostError, match=r"none was ready within 1 seconds; the evaluation was not counted"):
            fitness(searcher.problem, batch)
        attack.join()
    (tmp_path / "hold").unlink()
    assert searcher.problem.actors is None
    assert torch.equal(searcher.problem.generator.get_state(), generator)
    nodes.have(1)
    expected.step()
    searcher.step()
    assert_same(searcher, expected)


def test_actors_that_cannot_be_scheduled_do_not_block_the_others(nodes, holding):
    expected, problem = holding(), holding(num_actors=5, actor_config={"num_cpus": 1})
    values = problem.generate_batch(7).values
    for _ in range(2):
        assert torch.equal(fitness(problem, values), fitness(expected, values))
    assert problem.interaction_count == expected.interaction_count


def unstable(count, **options):
    return [ray.remote(Unstable).options(**workers.ACTOR_OPTIONS).remote(**options) for _ in range(count)]


def test_actors_are_on_all_nodes_and_may_outnumber_cpus(nodes):
    """Ray may need a moment to free the CPUs of another test's actors; until then, the test retries."""
    deadline = time.monotonic() + 120.0
    places = []
    while len(set(places)) < 2 and time.monotonic() < deadline:
        places = ray.get([actor.call.remote("place", [], {}) for actor in unstable(6)])
    assert len(places) == 6
    assert len(set(places)) == 2


def test_a_share_that_kills_several_workers_is_an_error(nodes, monkeypatch):
    monkeypatch.setattr(workers, "MAX_LOSSES", 2)
    team = Workers(unstable(2))
    assert team.map("double", [[0], [1], [2]]) == [0, 2, 4]
    with pytest.raises(WorkersLostError, match="share 2 of 3 of the population lost 2 workers"):
        team.map("die", [[0], [1], [2]])
    assert team.map("double", [[0], [1], [2]]) == [0, 2, 4]


def test_workers_that_cannot_start_raise_an_immediate_error_with_the_reason(nodes):
    with pytest.raises(WorkersLostError, match="all are permanently lost") as error:
        Workers(unstable(2, broken=True)).map("double", [[0]])
    assert "No module named 'simulator'" in str(error.value.__cause__)


def test_an_error_in_a_method_is_raised_and_the_workers_survive(nodes):
    team = Workers(unstable(2))
    with pytest.raises(ValueError, match="not today"):
        team.map("fail", [[0], [1], [2]])
    assert team.map("double", [[0], [1], [2]]) == [0, 2, 4]


def test_an_actor_config_that_is_not_a_mapping_is_refused():
    with pytest.raises(TypeError, match=r"actor_config: expected a mapping .*, got 'num_cpus'"):
        DenseGymProblem(Holding, actor_config="num_cpus")
