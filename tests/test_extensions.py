"""Each extension is one thing to write and one registration: then the search, the file, and the command know it.

The plugin below is what a user would write. It is imported in a process of its own, before the command.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from algorithms import Checkpointer, ElitistGaussianResampling, resume
from subnet_problems import Subnetwork, TopK
from subnet_problems.networks import FrozenNetwork
from subnet_problems.problems import Masked, MaskGenotype
from subnet_problems.tasks import BoxActions

PLUGIN = '''
import json

import numpy as np

from subnet_problems.experiments import SEARCHES, Preset
from subnet_problems.masks import MASK_RULES, TopK
from subnet_problems.networks import INITS, Init, Numbers
from subnet_problems.subnetworks.export import EXPORTS, Export
from subnet_problems.tasks.simulators import SIMULATORS

# An initialization: thirds of -1, 0.5 and 1.
INITS["thirds"] = Init(Numbers(lambda words: np.array([-1.0, 0.5, 1.0])[(words % np.uint64(3)).astype(int)]))


class LoggingKind:
    """A simulator: Gymnasium's, which says how many episodes it plays."""

    turns = 1

    def serves(self, playground, probe):
        return "logged"

    def make(self, playground, served, seeds):
        print(served, len(seeds))
        return SIMULATORS["gymnasium"].make(playground, None, seeds)


SIMULATORS["logging"] = LoggingKind()


def write_json(policy, path, name):
    path.write_text(json.dumps({"kept": policy.num_active, "init": policy.network.weight_init}))
    return path


EXPORTS["json"] = Export(write_json, "a JSON object", suffix=".json")


def random_search(problem, popsize):
    from evotorch.algorithms import SNES

    return SNES(problem, popsize=popsize, stdev_init=1.0)


SEARCHES["wide"] = Preset(random_search, popsize=6)
MASK_RULES["half"] = lambda sparsity: TopK(0.5, scope="layer")
'''


def in_a_shell(tmp_path, *words):
    """What a command prints in a process that has the plugin."""
    code = "import sys, plugin; from subnet_problems.command import main; sys.exit(main())"
    folders = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[1])))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": folders},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_plugin_registers_is_searched_saved_loaded_shown_and_exported_by_the_command(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    out = in_a_shell(
        tmp_path, "search", "CartPole-v1", "--weight-init", "thirds", "--mask", "half", "--algorithm", "wide",
        "--backend", "logging", "--hidden-sizes", 3, "--budget", 200, "--test-episodes", 2, "--output", "found",
    )  # fmt: skip
    assert "logged 6" in out
    assert "9 of 18 weights, sparsity 0.500" in out
    assert "thirds, gain 1, seed 0" in in_a_shell(tmp_path, "show", "found/subnetwork.safetensors")
    in_a_shell(tmp_path, "export", "found/subnetwork.safetensors", "policy.json")
    assert (tmp_path / "policy.json").read_text() == '{"kept": 9, "init": "thirds"}'


class MaskedRegression(Masked):
    """A problem that plays nothing: masks of a frozen network whose outputs come near to ``y``."""

    def __init__(self, x, y, *, hidden_sizes=(16,), sparsity=0.5, seed=0, **options):
        network = FrozenNetwork(hidden_sizes, obs_length=x.shape[1], act_length=y.shape[1], bias=True, seed=seed)
        self._x, self._y, self._samples = x.astype(np.float32), y.astype(np.float32), 0
        defaults = {"num_actors": None, "actor_config": {}, "num_subbatches": None, "subbatch_size": None}
        super().__init__(
            MaskGenotype(network, TopK(sparsity), stdev=0.1, device="cpu"), seed=seed, device=torch.device("cpu"),
            worker_timeout=60.0, **defaults | options,
        )  # fmt: skip

    def _evaluate_share(self, payload):
        weights, examples = self._genotype.weights_of(payload), len(self._x)
        population = self._genotype.network.population([weights], popsize=len(payload), num_episodes=examples)
        rows = np.arange(len(payload) * examples, dtype=np.int32)
        outputs = population.act(rows, np.tile(self._x, (len(payload), 1))).reshape(len(payload), examples, -1)
        return ((outputs - self._y) ** 2).mean(axis=(1, 2))

    def _merged(self, shares):
        return np.concatenate(shares)

    def _fitness_of(self, outcome):
        return torch.from_numpy(-outcome.astype(np.float64))

    def _count(self, outcome):
        self._samples += len(outcome) * len(self._x)

    def _counts(self):
        return {"samples": self._samples}

    def _told(self):
        return ()

    def _use_told(self, told):
        pass

    def _report(self):
        return 0

    def _use_report(self, report):
        pass

    @property
    def _ready(self):
        return True

    def to_subnetwork(self, scores):
        length = self._y.shape[1]
        unbounded = BoxActions((-np.inf,) * length, (np.inf,) * length, (length,), "float32")
        return Subnetwork(self._genotype.network, self.mask(scores), actions=unbounded, rescale=self.mask_rule.rescale)


@pytest.fixture
def sine():
    x = np.linspace(-1.0, 1.0, 40)[:, None]
    return x, np.sin(3.0 * x)


def test_a_problem_that_is_no_game_is_searched_resumed_and_saved(sine, tmp_path):
    problem = MaskedRegression(*sine)
    searcher = ElitistGaussianResampling(problem)
    Checkpointer(searcher, tmp_path / "run.checkpoint", every=30)
    searcher.run(60)
    assert problem.status["samples"] == 60 * 64 * 40
    assert problem.status["mean_sparsity"] == pytest.approx(0.5, abs=0.02)
    resumed = resume(tmp_path / "run.checkpoint", allow_pickle=True)
    assert torch.equal(resumed.status["center"], searcher.status["center"])
    found = problem.to_subnetwork(searcher.status["center"])
    found.save(tmp_path / "sine.safetensors")
    loaded = Subnetwork.load(tmp_path / "sine.safetensors")
    x, y = sine
    error = np.mean((loaded.act(x) - y) ** 2)
    assert error < 0.3 * np.mean(y**2)
    assert error == pytest.approx(-problem.evaluate_masks(found.mask[None])[0], rel=1e-4)


def test_its_evaluations_are_the_same_in_any_pieces(sine):
    whole, pieces = MaskedRegression(*sine), MaskedRegression(*sine, subbatch_size=3)
    scores = whole.generate_batch(8).values
    np.testing.assert_array_equal(whole.evaluate_array(scores), pieces.evaluate_array(scores))
