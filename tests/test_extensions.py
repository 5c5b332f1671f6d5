"""Each extension is one definition and one registration; then the search, the file and the command can use it.

The plugin below is an example of a user's code. It is imported in a new process, before the command.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from algorithms import Checkpointer, ElitistGaussianResampling, resume
from subnet_problems import MaskedGymProblem, Subnetwork, TopK
from subnet_problems.command import main
from subnet_problems.networks import FrozenNetwork
from subnet_problems.problems import Masked, MaskGenotype
from subnet_problems.tasks import BoxActions

PLUGIN = '''
import json

import numpy as np
import torch

from subnet_problems.experiments import FRONT_SEARCHES, SEARCHES, FrontPreset, Preset
from subnet_problems.masks import MASK_RULES, TopK
from subnet_problems.networks import INITS, Init, Numbers
from subnet_problems.subnetworks.export import EXPORTS, Export
from subnet_problems.tasks.simulators import SIMULATORS

# An initialization: thirds of -1, 0.5 and 1.
INITS["thirds"] = Init(Numbers(lambda words: np.array([-1.0, 0.5, 1.0])[(words % np.uint64(3)).astype(int)]))


class LoggingKind:
    """A simulator: Gymnasium's, which says how many episodes it plays."""

    num_parts = 1

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


class SignedTopK:
    """A mask rule: the scores farthest from 0 keep their weights, and negative scores flip them."""

    values, rescale = (-1, 0, 1), True

    def __init__(self, sparsity):
        self.sparsity = sparsity

    def __call__(self, scores, layers):
        return (scores.sign() * (scores.abs() >= self._limits(scores))).to(torch.int8)

    def cutoffs(self, scores, layers):
        limit = self._limits(scores).mean()
        return torch.stack([-limit, limit])[:, None]

    def _limits(self, scores):
        num_kept = round(scores.shape[1] * (1.0 - self.sparsity))
        return scores.abs().topk(num_kept, dim=1).values[:, -1:]


MASK_RULES["signed"] = SignedTopK


def spea2(popsize):
    from algorithms import pareto_operators
    from pymoo.algorithms.moo.spea2 import SPEA2

    return SPEA2(popsize, **pareto_operators(0.1))


FRONT_SEARCHES["spea2"] = FrontPreset(spea2, 8, (0.0, 0.9), TopK(0.5), common_random_numbers=True)
SEARCHES["wide"] = Preset(random_search, popsize=6)
MASK_RULES["half"] = lambda sparsity: TopK(0.5, scope="layer")
'''


def run_command(tmp_path, *words):
    """The output of a command in a process that has imported the plugin."""
    code = "import sys, plugin; from subnet_problems.command import main; sys.exit(main())"
    folders = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[1])))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": folders},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_supports_registered_extensions(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    out = run_command(
        tmp_path, "search", "CartPole-v1", "--weight-init", "thirds", "--mask", "half", "--algorithm", "wide",
        "--backend", "logging", "--hidden-sizes", 3, "--budget", 200, "--test-episodes", 2, "--output", "found",
    )  # fmt: skip
    assert "logged 6" in out
    assert "9 of 18 weights, sparsity 0.500" in out
    assert "thirds, gain 1, seed 0" in run_command(tmp_path, "show", "found/subnetwork.safetensors")
    run_command(tmp_path, "export", "found/subnetwork.safetensors", "policy.json")
    assert (tmp_path / "policy.json").read_text() == '{"kept": 9, "init": "thirds"}'


def test_the_command_offers_registered_searches_for_a_front(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    out = run_command(
        tmp_path, "pareto", "CartPole-v1", "--algorithm", "spea2", "--hidden-sizes", 3, "--budget", 300,
        "--min-reward", 5, "--test-episodes", 2, "--output", "front",
    )  # fmt: skip
    assert "smallest.safetensors" in out
    smallest = Subnetwork.load(tmp_path / "front" / "smallest.safetensors")
    assert smallest.num_active <= 9  # the front of 18 weights has masks of all sizes


def test_a_mask_rule_that_flips_signs_can_be_registered(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    out = run_command(
        tmp_path, "search", "CartPole-v1", "--mask", "signed", "--sparsity", 0.5, "--hidden-sizes", 8, "--budget",
        30_000, "--test-episodes", 2, "--output", "found",
    )  # fmt: skip
    assert "24 of 48 weights, sparsity 0.500" in out
    file = tmp_path / "found" / "subnetwork.safetensors"
    found = Subnetwork.load(file)
    assert set(found.factors[found.mask].tolist()) == {-1, 1}
    assert found.test(num_episodes=5, seed=1).mean() > 300  # random masks earn about 30
    assert "24 of 48" in run_command(tmp_path, "show", file, "--plot", "mask.png")
    assert (tmp_path / "mask.png").exists()
    run_command(tmp_path, "export", file, "c")
    assert (tmp_path / "c" / "c.h").exists()
    with pytest.raises(ValueError, match=r"^form: expected 'rows' for weights that do not come from a seed alone"):
        found.export_c(tmp_path / "c", form="seed")


@pytest.fixture
def signed():
    """The mask rule of the plugin, without registrations."""
    names = {"torch": torch}
    exec(PLUGIN[PLUGIN.index("class SignedTopK") : PLUGIN.index("MASK_RULES[")], names)
    return names["SignedTopK"]


def test_masks_with_other_values_are_evaluated_saved_and_loaded(signed, tmp_path):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), mask_rule=signed(0.5), seed=0)
    pieces = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), mask_rule=signed(0.5), seed=0, subbatch_size=3)
    scores = problem.generate_batch(8).values
    masks = problem.mask(scores)
    assert masks.dtype == torch.int8
    assert set(masks.unique().tolist()) == {-1, 0, 1}
    fitness = problem.evaluate_array(scores)
    np.testing.assert_array_equal(fitness, pieces.evaluate_array(scores))
    assert problem.status["mean_sparsity"] == 0.5
    again = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), mask_rule=signed(0.5), seed=0)
    np.testing.assert_array_equal(fitness, again.evaluate_masks(masks))
    for i in range(len(masks)):
        subnet = problem.mask_to_subnetwork(masks[i])
        torch.testing.assert_close(subnet.weights, problem.decode(scores[i]))
        subnet.save(tmp_path / "a.safetensors")
        loaded = Subnetwork.load(tmp_path / "a.safetensors")
        for policy in (loaded, subnet.prune()):
            assert policy.act([0.1, 0.2, -0.3, 0.4]) == subnet.act([0.1, 0.2, -0.3, 0.4])
        assert torch.equal(loaded.factors, subnet.factors)
        sparser = MaskedGymProblem.from_subnetwork(loaded, seed=0)
        torch.testing.assert_close(sparser.mask_to_subnetwork(loaded.mask).weights, subnet.weights)


def test_a_rule_with_other_values_confines_the_center(signed):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), mask_rule=signed(0.5), seed=0)
    center = 10.0 * problem.generate_batch(1).values[0]
    confined = problem.confined(center)
    assert torch.equal(problem.mask(confined), problem.mask(center))
    cutoffs = problem.mask_rule.cutoffs(confined[None], problem.network.layers)
    near = ((confined - cutoffs).abs().min(dim=0).values < problem.score_stdev / 2 + 1e-6).sum()
    assert near >= 0.6 * 24


def test_masks_with_values_unknown_to_the_rule_are_refused(signed):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), mask_rule=signed(0.5), seed=0)
    with pytest.raises(ValueError, match=r"^mask: expected each one of \(-1, 0, 1\), got \[2\]"):
        problem.evaluate_masks(np.full((1, 48), 2))
    with pytest.raises(TypeError, match=r"^mask: expected whole numbers, each one of \(-1, 0, 1\), of shape "):
        problem.evaluate_masks(np.ones((1, 48), dtype=bool))
    with pytest.raises(ValueError, match=r"^mask: expected a mask that the rule "):
        problem.scores_from_mask(np.ones(48, dtype=bool), seed=0)


@pytest.mark.parametrize(
    ("values", "error"), [((0, 0), ValueError), ((1, 2), ValueError), ((0, 200), ValueError), (3, TypeError)]
)
def test_invalid_values_of_a_rule_are_refused(signed, values, error):
    rule = signed(0.5)
    rule.values = values
    with pytest.raises(error, match=r"^values: expected "):
        MaskedGymProblem("CartPole-v1", hidden_sizes=(8,), mask_rule=rule, seed=0)


class MaskedRegression(Masked):
    """A problem without episodes: find masks of a frozen network whose outputs approximate ``y``."""

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
        population = self._genotype.network.population(weights, num_episodes=examples)
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

    def _shared_state(self):
        return ()

    def _use_shared_state(self, state):
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


def test_a_problem_without_episodes_is_searched_resumed_saved_and_shown(sine, tmp_path, monkeypatch, capsys):
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
    for words in (["show", "sine.safetensors"], ["export", "sine.safetensors", "c", "--name", "sine"]):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["subnet_problems", *words])
        assert main() == 0
    assert f"{found.num_active} of {problem.solution_length}" in capsys.readouterr().out
    assert (tmp_path / "c" / "sine.h").exists()


def test_its_fitness_does_not_depend_on_sub_batches(sine):
    whole, pieces = MaskedRegression(*sine), MaskedRegression(*sine, subbatch_size=3)
    scores = whole.generate_batch(8).values
    np.testing.assert_array_equal(whole.evaluate_array(scores), pieces.evaluate_array(scores))
