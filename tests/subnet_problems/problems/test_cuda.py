"""On a GPU: masks, learning, reproducibility and saved policies are the same as on the CPU."""

import numpy as np
import pytest
import torch
from evotorch.algorithms import CEM, CMAES, PGPE, SNES, GeneticAlgorithm
from evotorch.operators import GaussianMutation, OnePointCrossOver
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.optimize import minimize

from algorithms import Checkpointer, ElitistGaussianResampling, pareto_operators, resume
from subnet_problems import DenseGymProblem, MaskedGymProblem, ParetoSparsityProblem, Subnetwork, Threshold, TopK

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that PyTorch can use")

RULES = [
    Threshold(0.1),
    *(TopK(0.8, scope=scope) for scope in ("global", "layer", "erdos_renyi")),
]


def problem(device="cuda", kind=MaskedGymProblem, **options):
    options = {"env_config": {"continuous": True}, "hidden_sizes": (12, 7), "episode_length": 30, "seed": 3, **options}
    return kind("LunarLander-v3", device=device, **options)


def scores(p, popsize=40):
    values = torch.randn(popsize, p.solution_length, generator=torch.Generator().manual_seed(0))
    return values.round(decimals=1)  # so that some scores are equal


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_masks_and_weights_equal_those_on_the_cpu(rule):
    here, there = problem("cpu", mask_rule=rule), problem(mask_rule=rule)
    values = scores(here)
    assert there.mask(values).is_cuda
    assert torch.equal(here.mask(values), there.mask(values).cpu())
    torch.testing.assert_close(here.decode(values), there.decode(values).cpu())


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_expected_and_confined_scores_equal_those_on_the_cpu(rule):
    here, there = problem("cpu", mask_rule=rule), problem(mask_rule=rule)
    values, center = scores(here), 9.0 * scores(here, 1)[0]
    expected = torch.stack([*here.expected_solutions(values, center=center, stdev=0.5)])
    came = torch.stack([*there.expected_solutions(values.cuda(), center=center.cuda(), stdev=0.5)])
    torch.testing.assert_close(came.cpu(), expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(here.confined(center), center)
    torch.testing.assert_close(there.confined(center.cuda()).cpu(), here.confined(center))


@pytest.mark.parametrize("network", [{}, {"network": "RNN(obs_length, 6) >> Linear(6, act_length)"}], ids=repr)
def test_episodes_equal_those_on_the_cpu_chains_to_the_bit(network):
    options = {"episode_length": 8, "observation_normalization": True, "num_episodes": 2, **network}
    if network:
        options["hidden_sizes"] = None
    evals, steps = [], []
    for device in ("cpu", "cuda"):
        p = problem(device, **options)
        batch = p.generate_batch(40)
        batch.set_values(scores(p).to(device))
        p.evaluate(batch)
        evals.append(batch.evals.cpu())
        steps.append(p.interaction_count)
    assert steps[0] == steps[1]
    if network:
        torch.testing.assert_close(evals[1], evals[0], rtol=1e-3, atol=1e-3)
    else:
        assert torch.equal(evals[1], evals[0])


def test_fitness_of_a_solution_does_not_depend_on_the_rest_of_the_population():
    values = scores(problem("cpu"), 50)
    evals = []
    for part in (slice(0, 50), slice(7, 9), slice(20, 50)):
        p = problem()
        batch = p.generate_batch(len(values[part]))
        batch.set_values(values[part].cuda())
        p.evaluate(batch)
        evals.append(batch.evals[:, 0].cpu())
    assert torch.equal(evals[1], evals[0][7:9])
    assert torch.equal(evals[2], evals[0][20:])


@pytest.mark.parametrize("kind", [MaskedGymProblem, DenseGymProblem])
def test_equal_seeds_and_resumed_runs_give_bit_identical_results(kind, tmp_path):
    left_alone, searcher = (ElitistGaussianResampling(problem(kind=kind), popsize=16) for _ in range(2))
    left_alone.run(7)
    Checkpointer(searcher, tmp_path / "checkpoint", every=4)
    searcher.run(4)
    resumed = resume(tmp_path / "checkpoint", allow_pickle=True)
    assert (resumed.step_count, resumed.population.device.type) == (4, "cuda")
    for other in (searcher, resumed):
        other.run(3)
        assert torch.equal(other.status["center"], left_alone.status["center"])
        assert torch.equal(other.population.evals, left_alone.population.evals)


def test_saved_policies_and_tests_equal_those_from_the_cpu(tmp_path):
    here, there = (problem(device, sparsity=0.8) for device in ("cpu", "cuda"))
    values = scores(here, 1)[0]
    there.to_subnetwork(values.cuda()).save(tmp_path / "there.safetensors")
    subnet = Subnetwork.load(tmp_path / "there.safetensors")
    assert torch.equal(subnet.mask, here.mask(values))
    assert np.array_equal(there.test(values.cuda(), num_episodes=3), here.test(values, num_episodes=3))
    obs = torch.randn(5, 8)
    torch.testing.assert_close(there.to_policy(values.cuda())(obs), here.to_policy(values)(obs))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: PGPE(
            p, popsize=8, center_learning_rate=0.1, stdev_learning_rate=0.1, stdev_init=0.1, ranking_method="centered"
        ),
        lambda p: SNES(p, popsize=8, stdev_init=0.1),
        lambda p: CEM(p, popsize=8, parenthood_ratio=0.5, stdev_init=0.1),
        lambda p: CMAES(p, popsize=8, stdev_init=0.1, separable=True),
        lambda p: GeneticAlgorithm(
            p, popsize=8, operators=[OnePointCrossOver(p, tournament_size=2), GaussianMutation(p, stdev=0.1)]
        ),
    ],
    ids=["PGPE", "SNES", "CEM", "CMAES", "GeneticAlgorithm"],
)
def test_searches_of_evotorch_run(make):
    p = problem()
    searcher = make(p)
    searcher.run(2)
    assert searcher.population.evals.is_cuda
    assert searcher.population.evals.isfinite().any()
    assert p.interaction_count >= 2 * 8


def test_a_front_of_policies_is_searched():
    p = ParetoSparsityProblem(problem(mask_rule=TopK(0.5)))
    result = minimize(p, NSGA2(pop_size=12, **pareto_operators(0.3)), ("n_gen", 2), seed=1)
    for x, (_, density) in zip(result.X, result.F, strict=True):
        assert p.to_subnetwork(x).mask.float().mean() == pytest.approx(density)
