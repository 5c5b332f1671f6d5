"""Invalid input raises an error that starts with the argument's name, before any simulator runs."""

import re
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
import torch
from environments import Echo, OddSpaces
from evaluations import batch_of
from gymnasium.envs.classic_control import CartPoleEnv
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem as Pymoo
from torch import nn

import algorithms
import subnet_problems
from algorithms import (
    Checkpointer,
    Continuation,
    ElitistGaussianResampling,
    GaussianResampling,
    GaussianSampling,
    MeanRecombination,
    NeighborSelection,
    NicheSurvival,
    ParetoCheckpointer,
    Race,
    ReevaluatingSurvival,
    evaluate_again,
    pareto_algorithm,
    pareto_operators,
    remove_checkpoint,
    resume,
)
from subnet_problems import (
    BoxActions,
    DenseGymProblem,
    DiscreteActions,
    FrozenNetwork,
    GymTask,
    MaskedGymProblem,
    Normalizer,
    ParetoSparsityProblem,
    Subnetwork,
    Threshold,
    TopK,
    plot_front,
    plot_learning_curves,
    plot_mask,
    plot_network,
    record_video,
    sparsify,
)
from subnet_problems.tasks import observations_of

NAN, INF = float("nan"), float("inf")
#: A solution of the problem below, its mask, and the numbers of a normalizer.
X, BITS, ZEROS = torch.zeros(24), torch.ones(24, dtype=torch.bool), np.zeros(4, np.float32)
#: Public base classes, protocols and errors.
UNCHECKED = {
    "GymProblem",
    "DecodingProblem",
    "LeveledDecodingProblem",
    "LeveledProblem",
    "CutoffRule",
    "MaskRule",
    "CheckpointError",
    "EvaluationError",
    "ProcessLostError",
    "SubnetworkFileError",
    "WorkersLostError",
}

#: Invalid arguments of MaskedGymProblem: name, value, error.

BAD_OPTIONS = [
    ("hidden_sizes", (0,), ValueError),
    ("hidden_sizes", (8, -1), ValueError),
    ("hidden_sizes", (2.5,), TypeError),
    ("hidden_sizes", (True,), TypeError),
    ("hidden_sizes", 64, TypeError),
    ("hidden_sizes", "64", TypeError),
    ("network", 3.5, TypeError),
    ("network", "Linear(obs_length", ValueError),
    ("network", "Linear(obs_length, 3)", ValueError),
    ("network", "Linear(7, act_length)", ValueError),
    ("network", "Linear(3, act_length)", ValueError),
    ("network", "Linear(obs_length, 5) >> Linear(6, act_length)", ValueError),
    ("network", "Tanh()", ValueError),
    ("network", nn.Linear(4, 3), ValueError),
    ("network", lambda: 3, TypeError),
    ("network_args", 3, TypeError),
    ("bias", 1, TypeError),
    ("weight_init", "gaussian", ValueError),
    ("weight_init", 1, TypeError),
    ("weight_gain", 0.0, ValueError),
    ("weight_gain", NAN, ValueError),
    ("weight_gain", "1", TypeError),
    ("network_seed", -1, ValueError),
    ("network_seed", 2**63, ValueError),
    ("network_seed", 1.0, TypeError),
    ("sparsity", 1.0, ValueError),
    ("sparsity", -0.1, ValueError),
    ("sparsity", NAN, ValueError),
    ("sparsity", "0.5", TypeError),
    ("sparsity", 0.9999, ValueError),  # keeps no weight of 4,610
    ("mask_rule", 0.5, TypeError),
    ("mask_rule", "top", TypeError),
    ("mask_rule", TopK, TypeError),
    ("mask_rule", TopK(0.9999), ValueError),
    ("score_stdev", 0.0, ValueError),
    ("score_stdev", -1.0, ValueError),
    ("score_stdev", NAN, ValueError),
    ("score_stdev", INF, ValueError),
    ("score_stdev", None, TypeError),
    ("num_episodes", 0, ValueError),
    ("num_episodes", -1, ValueError),
    ("num_episodes", 2.5, TypeError),
    ("num_episodes", True, TypeError),
    ("num_episodes", None, TypeError),
    ("episode_length", 0, ValueError),
    ("episode_length", 1.5, TypeError),
    ("decrease_rewards_by", NAN, ValueError),
    ("decrease_rewards_by", "1", TypeError),
    ("alive_bonus_schedule", 5, ValueError),
    ("alive_bonus_schedule", (5,), ValueError),
    ("alive_bonus_schedule", (1, 2, 3, 4.0), ValueError),
    ("alive_bonus_schedule", (-1, 1.0), ValueError),
    ("alive_bonus_schedule", (8, 3, 1.0), ValueError),
    ("alive_bonus_schedule", (2.5, 1.0), TypeError),
    ("alive_bonus_schedule", (3, NAN), ValueError),
    ("alive_bonus_schedule", (3, "1"), TypeError),
    ("action_noise_stdev", -0.1, ValueError),
    ("action_noise_stdev", INF, ValueError),
    ("action_noise_stdev", "0.1", TypeError),
    ("risk_aversion", -1.0, ValueError),
    ("risk_aversion", NAN, ValueError),
    ("risk_aversion", None, TypeError),
    ("risk_aversion", 0.5, ValueError),  # needs more than one episode
    ("common_random_numbers", 1, TypeError),
    ("observation_normalization", "yes", TypeError),
    ("num_actors", -1, ValueError),
    ("num_actors", 1.5, TypeError),
    ("num_actors", "many", ValueError),
    ("num_subbatches", 0, ValueError),
    ("num_subbatches", 2.0, TypeError),
    ("subbatch_size", 0, ValueError),
    ("subbatch_size", "2", TypeError),
    ("seed", -1, ValueError),
    ("seed", 2**63, ValueError),
    ("seed", 1.5, TypeError),
    ("seed", True, TypeError),
    ("backend", "brax", ValueError),
    ("num_threads", 0, ValueError),
    ("network", b"8", TypeError),
    ("network", nn.Linear, ValueError),
    ("network", lambda: 1 / 0, ValueError),
    ("network_args", {1: 2}, TypeError),
    ("score_stdev", 1e300, ValueError),
    ("score_stdev", 10**400, ValueError),
    ("score_stdev", 1e-60, ValueError),
    ("actor_config", 3, TypeError),
    ("env_config", 3, TypeError),
    ("env_config", {1: 2}, TypeError),
    ("env_config", {"no_such_option": 1}, ValueError),
    ("device", "abacus", ValueError),
]

#: All other public callables of both packages, which are called with an invalid argument.
CALLS = {
    "DenseGymProblem": lambda **kwargs: DenseGymProblem("CartPole-v1", **kwargs),
    "GymTask": lambda env="CartPole-v1", **kwargs: GymTask(env, **kwargs),
    "Threshold": Threshold,
    "TopK": lambda sparsity=0.5, **kwargs: TopK(sparsity, **kwargs),
    "FrozenNetwork": lambda network=(4,), **kwargs: FrozenNetwork(
        network, **{"obs_length": 4, "act_length": 2} | kwargs
    ),
    "FrozenNetwork.to_module": lambda **kwargs: network().to_module(**kwargs),
    "FrozenNetwork.with_weights": lambda **kwargs: network().with_weights(**{"mask": BITS, "kept": X} | kwargs),
    "DiscreteActions": lambda **kwargs: DiscreteActions(**{"n": 2} | kwargs),
    "DiscreteActions()": DiscreteActions(2),
    "BoxActions": lambda **kwargs: BoxActions(**{"low": (0.0,), "high": (1.0,), "shape": (1,)} | kwargs),
    "BoxActions()": BoxActions((0.0,), (1.0,), (1,)),
    "Normalizer": lambda **kwargs: Normalizer(**{"mean": ZEROS, "scale": ZEROS} | kwargs),
    "Subnetwork": lambda **kwargs: subnetwork(**kwargs),
    "Subnetwork.act": lambda **kwargs: subnetwork().act(**kwargs),
    "Subnetwork.act of a number": lambda obs: subnetwork(observations=observations_of(gym.spaces.Discrete(4))).act(obs),
    "Subnetwork.to_policy": lambda **kwargs: subnetwork().to_policy(**kwargs),
    "Subnetwork.test": lambda **kwargs: subnetwork(env="CartPole-v1").test(**kwargs),
    "Subnetwork.save": lambda **kwargs: subnetwork().save(**kwargs),
    "Subnetwork.load": Subnetwork.load,
    "Subnetwork.export_c": lambda **kwargs: subnetwork().export_c(**{"folder": "unwritten"} | kwargs),
    "Subnetwork.export_onnx": lambda **kwargs: subnetwork().export_onnx(**kwargs),
    "Subnetwork.formula": lambda **kwargs: subnetwork().formula(**kwargs),
    "plot_mask": plot_mask,
    "plot_network": lambda **kwargs: plot_network(**{"subnet": subnetwork()} | kwargs),
    "plot_front": lambda **kwargs: plot_front(**{"subnets": [subnetwork(tests={"mean": 1.0})]} | kwargs),
    "plot_learning_curves": lambda **kwargs: plot_learning_curves(**{"rows": [{"name": "a"}]} | kwargs),
    "record_video": lambda **kwargs: record_video(
        **{"subnet": subnetwork(env="CartPole-v1"), "env": None, "path": "unwritten.gif"} | kwargs
    ),
    "mask": lambda **kwargs: problem().mask(**kwargs),
    "decode": lambda **kwargs: problem().decode(**kwargs),
    "expected_solutions": lambda **kwargs: problem().expected_solutions(
        **{"values": X[None], "center": X, "stdev": 0.1} | kwargs
    ),
    "confined": lambda **kwargs: problem().confined(**kwargs),
    "narrowed": lambda **kwargs: problem().narrowed(**kwargs),
    "at_level": lambda **kwargs: problem().at_level(**kwargs).__enter__(),
    "evaluate_masks": lambda **kwargs: problem().evaluate_masks(**{"mask": BITS[None]} | kwargs),
    "mask_to_subnetwork": lambda **kwargs: problem().mask_to_subnetwork(**kwargs),
    "to_subnetwork": lambda **kwargs: problem().to_subnetwork(**kwargs),
    "to_policy": lambda x=X, **kwargs: problem().to_policy(x, **kwargs),
    "test": lambda x=X, **kwargs: problem().test(x, **kwargs),
    "run": lambda policy=X, **kwargs: problem().run(policy, **kwargs),
    "visualize": lambda policy=X, **kwargs: problem().visualize(policy, **kwargs),
    "save_solution": lambda **kwargs: problem().save_solution(**{"solution": X, "fname": "unwritten"} | kwargs),
    "sparsify": lambda **kwargs: sparsify(
        **{"policy": subnetwork(), "folder": "unwritten", "env": "CartPole-v1"} | kwargs
    ),
    "ParetoSparsityProblem": lambda **kwargs: ParetoSparsityProblem(**{"problem": problem()} | kwargs),
    "ParetoSparsityProblem.mask": lambda **kwargs: ParetoSparsityProblem(problem()).mask(**kwargs),
    "ParetoSparsityProblem.to_subnetwork": lambda **kwargs: ParetoSparsityProblem(problem()).to_subnetwork(**kwargs),
    "ElitistGaussianResampling": lambda **kwargs: ElitistGaussianResampling(**{"problem": problem()} | kwargs),
    "Race": lambda **kwargs: Race(**{"searchers": [searcher(), other_searcher()], "steps": 100} | kwargs),
    "GaussianSampling": GaussianSampling,
    "GaussianResampling": lambda **kwargs: GaussianResampling(**{"stdev": 0.1, "last_stdev": 0.1} | kwargs),
    "MeanRecombination": MeanRecombination,
    "NeighborSelection": NeighborSelection,
    "Continuation": Continuation,
    "NicheSurvival": NicheSurvival,
    "ReevaluatingSurvival": ReevaluatingSurvival,
    "evaluate_again": lambda **kwargs: evaluate_again(**{"problem": Pymoo(n_var=2), "individuals": []} | kwargs),
    "pareto_algorithm": lambda **kwargs: pareto_algorithm(**{"algorithm": NSGA2, "initial_stdev": 0.1} | kwargs),
    "pareto_operators": lambda **kwargs: pareto_operators(**{"initial_stdev": 0.1} | kwargs),
    "Checkpointer": lambda **kwargs: Checkpointer(**{"searcher": searcher(), "path": "unwritten"} | kwargs),
    "ParetoCheckpointer": lambda **kwargs: ParetoCheckpointer("unwritten", **kwargs),
    "resume": lambda **kwargs: resume("unwritten", **kwargs),
    "remove_checkpoint": lambda **kwargs: remove_checkpoint(**kwargs),
}

BAD_ARGUMENTS = [
    ("DenseGymProblem", "initial_bounds", 3, ValueError),
    ("DenseGymProblem", "initial_bounds", (1.0,), ValueError),
    ("DenseGymProblem", "initial_bounds", (1.0, 0.0), ValueError),
    ("DenseGymProblem", "initial_bounds", (0.0, NAN), ValueError),
    ("DenseGymProblem", "initial_bounds", (-INF, 0.0), ValueError),
    ("DenseGymProblem", "initial_bounds", (-3e38, 3e38), ValueError),
    ("DenseGymProblem", "initial_bounds", ("0", 1.0), TypeError),
    ("GymTask", "env", None, TypeError),
    ("GymTask", "env", b"CartPole-v1", TypeError),
    ("GymTask", "env", lambda: 3, TypeError),
    ("GymTask", "env_config", [("continuous", True)], TypeError),
    ("GymTask", "env_config", {1: 2}, TypeError),
    ("GymTask", "episode_length", 0, ValueError),
    ("GymTask", "backend", 3, TypeError),
    ("GymTask", "num_threads", 1.5, TypeError),
    ("Threshold", "value", NAN, ValueError),
    ("Threshold", "value", 10**400, ValueError),
    ("Threshold", "value", "0", TypeError),
    ("Threshold", "rescale", 1, TypeError),
    ("TopK", "sparsity", 1.0, ValueError),
    ("TopK", "sparsity", [0.5], TypeError),
    ("TopK", "scope", "row", ValueError),
    ("TopK", "scope", None, TypeError),
    ("TopK", "rescale", None, TypeError),
    ("FrozenNetwork", "network", b"8", TypeError),
    ("FrozenNetwork", "obs_length", 4.0, TypeError),
    ("FrozenNetwork", "act_length", 0, ValueError),
    ("FrozenNetwork", "obs_shape", 3, TypeError),
    ("FrozenNetwork", "obs_shape", (5,), ValueError),
    ("FrozenNetwork", "act_shape", "2", TypeError),
    ("FrozenNetwork", "act_shape", (2, 2), ValueError),
    ("FrozenNetwork", "weight_gain", 1e39, ValueError),
    ("FrozenNetwork.to_module", "weights", None, TypeError),
    ("FrozenNetwork.to_module", "weights", torch.zeros(3), ValueError),
    ("FrozenNetwork.with_weights", "mask", X, TypeError),
    ("FrozenNetwork.with_weights", "kept", X[:3], ValueError),
    ("DiscreteActions", "n", 0, ValueError),
    ("DiscreteActions", "n", 2.0, TypeError),
    ("DiscreteActions", "n", None, TypeError),
    ("DiscreteActions", "start", 0.5, TypeError),
    ("DiscreteActions", "start", 2**70, ValueError),
    ("DiscreteActions()", "outputs", None, TypeError),
    ("DiscreteActions()", "outputs", np.zeros((1, 3), np.float32), ValueError),
    ("BoxActions", "low", (2.0,), ValueError),
    ("BoxActions", "low", (NAN,), ValueError),
    ("BoxActions", "low", ("0",), TypeError),
    ("BoxActions", "low", 0.0, TypeError),
    ("BoxActions", "high", (1.0, 2.0), ValueError),
    ("BoxActions", "high", None, TypeError),
    ("BoxActions", "shape", 1, TypeError),
    ("BoxActions", "shape", (0,), ValueError),
    ("BoxActions", "dtype", "complex64", ValueError),
    ("BoxActions", "dtype", 3, ValueError),
    ("BoxActions()", "outputs", np.zeros((1, 3), np.float32), ValueError),
    ("Normalizer", "mean", "0", TypeError),
    ("Normalizer", "mean", np.zeros(4), TypeError),
    ("Normalizer", "scale", ZEROS[:3], ValueError),
    ("Normalizer", "scale", ZEROS + np.float32(NAN), ValueError),
    ("Subnetwork", "network", nn.Linear(4, 2), TypeError),
    ("Subnetwork", "mask", X, TypeError),
    ("Subnetwork", "mask", BITS[:3], ValueError),
    ("Subnetwork", "factors", X, TypeError),
    ("Subnetwork", "factors", np.zeros(len(BITS), dtype=int), ValueError),
    ("Subnetwork", "actions", 2, TypeError),
    ("Subnetwork", "actions", DiscreteActions(3), ValueError),
    ("Subnetwork", "observations", gym.spaces.Discrete(4), TypeError),
    ("Subnetwork", "observations", observations_of(gym.spaces.Discrete(3)), ValueError),
    ("Subnetwork", "observations", observations_of(gym.spaces.Box(-1, 1, (2, 1))), ValueError),
    ("Subnetwork", "rescale", "no", TypeError),
    ("Subnetwork", "normalizer", 3, TypeError),
    ("Subnetwork", "normalizer", Normalizer(ZEROS[:3], ZEROS[:3]), ValueError),
    ("Subnetwork", "env", 3, TypeError),
    ("Subnetwork", "env_config", [("gravity", 1)], TypeError),
    ("Subnetwork", "tests", 3, TypeError),
    ("Subnetwork.act", "obs", "abcd", TypeError),
    ("Subnetwork.act", "obs", [1, 2, [3], 4], TypeError),
    ("Subnetwork.act", "obs", [1, 2, 3], ValueError),
    ("Subnetwork.act", "obs", [1, 2, 3, NAN], ValueError),
    ("Subnetwork.act of a number", "obs", 4, ValueError),
    ("Subnetwork.act of a number", "obs", 1.5, TypeError),
    ("Subnetwork.act of a number", "obs", None, TypeError),
    ("Subnetwork.to_policy", "clip_actions", "no", TypeError),
    ("Subnetwork.test", "num_episodes", 0, ValueError),
    ("Subnetwork.test", "seed", None, TypeError),
    ("Subnetwork.test", "env", 3, TypeError),
    ("Subnetwork.test", "env", "Acrobot-v1", ValueError),
    ("Subnetwork.test", "episode_length", 1.5, TypeError),
    ("Subnetwork.save", "path", None, TypeError),
    ("Subnetwork.save", "path", "", ValueError),
    ("Subnetwork.save", "path", "a\0b", ValueError),
    ("Subnetwork.load", "path", 3, TypeError),
    ("Subnetwork.load", "path", "a\0b", ValueError),
    ("mask", "scores", "abc", TypeError),
    ("mask", "scores", None, TypeError),
    ("mask", "scores", X.to(torch.complex64), TypeError),
    ("mask", "scores", [[1.0], [2.0, 3.0]], TypeError),
    ("decode", "scores", X[:3], ValueError),
    ("decode", "scores", X * NAN, ValueError),
    ("expected_solutions", "values", X[None, :3], ValueError),
    ("expected_solutions", "values", X, ValueError),
    ("expected_solutions", "center", X[:3], ValueError),
    ("confined", "center", X[:3], ValueError),
    ("confined", "center", X * NAN, ValueError),
    ("narrowed", "center", X[:3], ValueError),
    ("narrowed", "center", X * NAN, ValueError),
    ("at_level", "level", 1, ValueError),
    ("at_level", "level", -1, ValueError),
    ("at_level", "level", "0", TypeError),
    ("evaluate_masks", "mask", None, TypeError),
    ("evaluate_masks", "mask", X[None], TypeError),
    ("evaluate_masks", "mask", [[True], [True, False]], TypeError),
    ("evaluate_masks", "mask", BITS, ValueError),
    ("evaluate_masks", "mask", BITS[None, :3], ValueError),
    ("evaluate_masks", "mask", np.ones((0, 24), bool), ValueError),
    ("mask_to_subnetwork", "mask", None, TypeError),
    ("mask_to_subnetwork", "mask", BITS[:3], ValueError),
    ("to_subnetwork", "x", {}, TypeError),
    ("to_subnetwork", "x", X[:3], ValueError),
    ("to_policy", "x", None, TypeError),
    ("to_policy", "x", X * NAN, ValueError),
    ("to_policy", "clip_actions", None, TypeError),
    ("test", "x", "abc", TypeError),
    ("test", "num_episodes", 2.0, TypeError),
    ("test", "seed", -1, ValueError),
    ("run", "policy", None, TypeError),
    ("run", "policy", X[:3], ValueError),
    ("run", "policy", nn.Linear(3, 2), ValueError),
    ("run", "policy", nn.Linear(4, 5), ValueError),
    ("run", "visualize", "yes", TypeError),
    ("run", "num_episodes", 0, ValueError),
    ("run", "seed", 0.5, TypeError),
    ("visualize", "num_episodes", 1.5, TypeError),
    ("visualize", "seed", -1, ValueError),
    ("save_solution", "solution", None, TypeError),
    ("save_solution", "solution", X[:3], ValueError),
    ("save_solution", "fname", 1000, TypeError),
    ("Subnetwork", "rescale", "yes", TypeError),
    ("Subnetwork", "rescale", [1.0], ValueError),
    ("Subnetwork", "rescale", [1.0, -1.0], ValueError),
    ("Subnetwork.export_c", "folder", 3, TypeError),
    ("Subnetwork.export_c", "name", 3, TypeError),
    ("Subnetwork.export_c", "name", "two words", ValueError),
    ("Subnetwork.export_c", "form", "dense", ValueError),
    ("Subnetwork.export_onnx", "path", None, TypeError),
    ("Subnetwork.formula", "style", "html", ValueError),
    ("Subnetwork.formula", "digits", 0, ValueError),
    ("Subnetwork.formula", "max_weights", 2.5, TypeError),
    ("plot_mask", "subnet", "policy.safetensors", TypeError),
    ("plot_network", "subnet", None, TypeError),
    ("plot_network", "formula", "yes", TypeError),
    ("plot_front", "subnets", [], ValueError),
    ("plot_front", "subnets", [3], TypeError),
    ("plot_front", "seen", [1.0, 2.0], ValueError),
    ("plot_learning_curves", "names", ["b"], ValueError),
    ("plot_learning_curves", "labels", [], ValueError),
    ("record_video", "subnet", "policy.safetensors", TypeError),
    ("record_video", "env", "FrozenLake-v1", ValueError),
    ("record_video", "path", "film", ValueError),
    ("record_video", "seed", -1, ValueError),
    ("Continuation", "pop_size", 3, ValueError),
    ("Continuation", "num_levels", 0, ValueError),
    ("Continuation", "levels", [0.1, 0.2], ValueError),
    ("Continuation", "first_generations", 1, ValueError),
    ("Continuation", "first_interactions", -1, ValueError),
    ("Continuation", "generations", 1, ValueError),
    ("Continuation", "stdev", 0.0, ValueError),
    ("Continuation", "initial_stdev", NAN, ValueError),
    ("Continuation", "num_elites", 57, ValueError),
    ("Continuation", "center", [NAN], ValueError),
    ("Continuation", "popsize", 64, TypeError),
    ("sparsify", "policy", None, TypeError),
    ("sparsify", "folder", 3, TypeError),
    ("sparsify", "min_reward", NAN, ValueError),
    ("sparsify", "budget", 0, ValueError),
    ("sparsify", "test_episodes", 1, ValueError),
    ("sparsify", "env", 3, TypeError),
    ("sparsify", "max_sparsity", 1.0, ValueError),
    ("sparsify", "popsize", 2.5, TypeError),
    ("sparsify", "seed", -1, ValueError),
    ("sparsify", "resume", 1, TypeError),
    ("ParetoSparsityProblem", "problem", None, TypeError),
    ("ParetoSparsityProblem", "count", "dead", ValueError),
    ("ParetoSparsityProblem", "objectives", "live_units", TypeError),
    ("ParetoSparsityProblem", "objectives", ["return_stdev"], ValueError),
    ("ParetoSparsityProblem", "min_sparsity", NAN, ValueError),
    ("ParetoSparsityProblem", "max_sparsity", 1.0, ValueError),
    ("ParetoSparsityProblem.mask", "x", "abc", TypeError),
    ("ParetoSparsityProblem.mask", "x", np.zeros(25), ValueError),
    ("ParetoSparsityProblem.to_subnetwork", "x", [1.0, "a"], TypeError),
    ("ParetoSparsityProblem.to_subnetwork", "x", np.zeros((3, 25)), ValueError),
    ("ElitistGaussianResampling", "problem", None, TypeError),
    ("ElitistGaussianResampling", "popsize", 0, ValueError),
    ("ElitistGaussianResampling", "num_elites", 65, ValueError),
    ("ElitistGaussianResampling", "stdev", 10**400, ValueError),
    ("ElitistGaussianResampling", "clone_elites", 1, TypeError),
    ("ElitistGaussianResampling", "continuation", 1, TypeError),
    ("ElitistGaussianResampling", "recombination", np.array(["uniform", "weighted"]), ValueError),
    ("ElitistGaussianResampling", "obj_index", 0.0, ValueError),
    ("Race", "searchers", None, TypeError),
    ("Race", "searchers", [], ValueError),
    ("Race", "searchers", "ab", TypeError),
    ("Race", "steps", 0, ValueError),
    ("Race", "window", 2.0, TypeError),
    ("GaussianSampling", "stdev", 10**400, ValueError),
    ("GaussianSampling", "stdev", None, TypeError),
    ("GaussianResampling", "stdev", 0.0, ValueError),
    ("GaussianResampling", "last_stdev", "0.1", TypeError),
    ("MeanRecombination", "num_parents", 0, ValueError),
    ("NeighborSelection", "num_neighbors", None, TypeError),
    ("NicheSurvival", "num_niches", 2.0, TypeError),
    ("ReevaluatingSurvival", "survival", NicheSurvival, TypeError),
    ("ReevaluatingSurvival", "min_evaluations", 0, ValueError),
    ("evaluate_again", "problem", None, TypeError),
    ("evaluate_again", "individuals", [3], TypeError),
    ("pareto_algorithm", "algorithm", "NSGA2", TypeError),
    ("pareto_algorithm", "initial_stdev", None, TypeError),
    ("pareto_algorithm", "pop_sise", 16, TypeError),
    ("pareto_algorithm", "min_evaluations", 0, ValueError),
    ("pareto_operators", "initial_stdev", -1.0, ValueError),
    ("pareto_operators", "stdev", INF, ValueError),
    ("pareto_operators", "last_stdev", 0.0, ValueError),
    ("pareto_operators", "num_parents", True, TypeError),
    ("pareto_operators", "num_niches", 0, ValueError),
    ("pareto_operators", "num_neighbors", -4, ValueError),
    ("Checkpointer", "searcher", "searcher", TypeError),
    ("Checkpointer", "every", 0, ValueError),
    ("ParetoCheckpointer", "every", 1.5, TypeError),
    ("resume", "allow_pickle", 1, ValueError),
    ("remove_checkpoint", "path", 3, TypeError),
]

ROWS = [("MaskedGymProblem", *row) for row in BAD_OPTIONS] + BAD_ARGUMENTS
CALLS["MaskedGymProblem"] = lambda **kwargs: MaskedGymProblem("CartPole-v1", **kwargs)


@cache
def problem():
    return MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), sparsity=0.5)


def searcher():
    return ElitistGaussianResampling(problem())


def other_searcher():
    return ElitistGaussianResampling(MaskedGymProblem("CartPole-v1", hidden_sizes=(4,)))


def network():
    return problem().network


def subnetwork(**kwargs):
    return Subnetwork(**{"network": network(), "mask": BITS, "actions": DiscreteActions(2)} | kwargs)


@pytest.mark.parametrize(
    ("call", "name", "value", "error"), ROWS, ids=lambda value: re.sub(r" at 0x\w+", "", str(value))[:40]
)
def test_errors_name_the_invalid_argument_before_any_episode(call, name, value, error, monkeypatch):
    def must_not_run(*_, **__):
        raise AssertionError("it was played")

    monkeypatch.setattr(GymTask, "simulator", must_not_run)
    monkeypatch.setattr(CartPoleEnv, "reset", must_not_run)
    # A configuration that the environment rejects is reported as an error of env.
    reported_as = "env" if name == "env_config" and error is ValueError else name
    with pytest.raises(error, match=rf"^{reported_as}\b.*(expected|cannot).*"):
        CALLS[call](**{name: value})
    assert problem().interaction_count == problem().evaluation_round == 0


def test_the_table_has_all_public_names():
    public = {*subnet_problems.__all__, *algorithms.__all__} - UNCHECKED
    assert public <= {call.partition(".")[0] for call, *_ in ROWS}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mask_rule": Threshold(0.0), "sparsity": 0.5}, "sparsity"),
        ({"network": "Linear(obs_length, act_length)", "hidden_sizes": (8,)}, "network"),
        ({"num_subbatches": 2, "subbatch_size": 2}, "subbatch_size"),
    ],
    ids=str,
)
def test_conflicting_arguments_are_refused(options, named):
    with pytest.raises(ValueError, match=rf"^{named}: expected None when .* is given"):
        MaskedGymProblem("CartPole-v1", **options)


class TextEnv(gym.Env):
    """Its observations are texts."""

    observation_space, action_space = gym.spaces.Text(4), gym.spaces.Discrete(2)


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        ("NoSuchTask-v0", {}, "env: 'NoSuchTask-v0' .*cannot be made"),
        (TextEnv, {}, "env: expected an observation space Box, .*, got Text"),
        ("Blackjack-v1", {}, "episode_length: expected a whole number >= 1"),
        (OddSpaces, {"env_config": {"discrete": True}}, "episode_length: expected a whole number >= 1"),
        ("LunarLander-v3", {"env_config": {"gravity": -5.0}, "backend": "envpool"}, "backend: 'envpool' cannot serve"),
        (Echo, {"backend": "envpool"}, "backend: 'envpool' cannot serve .*a callable makes the environment"),
    ],
)
def test_an_unsupported_environment_is_refused_at_construction(env, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        MaskedGymProblem(env, **options)


@pytest.mark.parametrize("make", [MaskedGymProblem, DenseGymProblem])
@pytest.mark.parametrize("misspelled", ["num_episode", "sparcity", "Seed", "popsize"])
def test_a_misspelled_argument_is_refused(make, misspelled):
    with pytest.raises(TypeError, match=misspelled):
        make("CartPole-v1", **{misspelled: 1})


def test_arguments_after_the_network_are_keyword_only():
    with pytest.raises(TypeError):
        MaskedGymProblem("CartPole-v1", None, Threshold(0.0))


def test_nan_scores_are_refused_before_any_episode(echo_log):
    problem = MaskedGymProblem(Echo, hidden_sizes=(4,))
    values = problem.generate_batch(5).values.clone()
    values[2, 3] = NAN
    with pytest.raises(ValueError, match=r"^solutions: expected no NaN, got one at row 2, column 3"):
        problem.evaluate(batch_of(problem, values))
    assert not echo_log
    assert problem.interaction_count == problem.evaluation_round == 0
    with pytest.raises(ValueError, match=r"^scores: expected no NaN"):
        problem.mask(values)
    with pytest.raises(ValueError, match=r"^x: expected no NaN, got one at row 0, column 3"):
        problem.to_policy(values[2])


def test_infinite_scores_are_valid():
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    values = problem.generate_batch(2).values.clone()
    values[0], values[1, ::2] = -INF, INF
    assert problem.mask(values).sum(dim=1).tolist() == [0, 12 + int((values[1, 1::2] > 0).sum())]


@pytest.mark.parametrize("method", ["to_policy", "to_subnetwork", "test", "run"])
@pytest.mark.parametrize("shape", [(23,), (25,), (1, 24), (2, 24), ()])
def test_a_solution_of_a_wrong_shape_is_reported_with_both_shapes(method, shape):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    name = "policy" if method == "run" else "x"
    with pytest.raises(ValueError, match=rf"^{name}: expected .*24.* got ({re.escape(str(shape))}|\(1, 2[35]\))"):
        getattr(problem, method)(np.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 23), (24, 2), (3, 2, 24), ()])
def test_scores_of_a_wrong_shape_are_refused(shape):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    with pytest.raises(ValueError, match=r"^scores: expected shape \(N, D\) = \(N, 24\)"):
        problem.decode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("method", "option", "value", "error"),
    [
        ("test", "num_episodes", 0, ValueError),
        ("test", "num_episodes", 2.0, TypeError),
        ("test", "seed", -1, ValueError),
        ("test", "seed", None, TypeError),
        ("run", "num_episodes", 0, ValueError),
        ("run", "seed", -1, ValueError),
        ("run", "seed", 0.5, TypeError),
    ],
)
def test_errors_name_the_invalid_argument_of_test_and_run(method, option, value, error):
    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,))
    with pytest.raises(error, match=rf"^{option}: expected .* got {value!r}"):
        getattr(problem, method)(torch.zeros(24), **{option: value})


@pytest.mark.parametrize(
    "rule",
    [
        lambda scores: scores,
        lambda scores: scores[:, :-1] > 0,
        lambda scores: (scores > 0).numpy(),
        lambda scores: None,
    ],
)
def test_a_mask_rule_that_returns_an_invalid_mask_is_refused(rule):
    class Rule:
        rescale = False

        def __call__(self, scores, layers):
            return rule(scores)

    problem = MaskedGymProblem("CartPole-v1", hidden_sizes=(4,), mask_rule=Rule())
    with pytest.raises(TypeError, match=r"^mask_rule: expected the rule to return a bool tensor \(3, 24\)"):
        problem.evaluate(problem.generate_batch(3))


@pytest.mark.parametrize(("name", "value"), [("weight_gain", 0.7), ("weight_init", "gaussian")])
def test_options_without_effect_are_refused_where_the_weights_are_searched(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected no value, since the weights are searched, got "):
        DenseGymProblem("CartPole-v1", **{name: value})
