"""pymoo's multi-objective algorithms: each gets the operators it accepts, and evaluates survivors again."""

import importlib
import inspect
import pkgutil
from importlib.util import find_spec

import numpy as np
import pymoo.algorithms.moo
import pytest
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsde import NSDE
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.rnsga2 import RNSGA2
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.algorithm import Algorithm
from pymoo.core.mating import Mating
from pymoo.core.problem import Problem
from pymoo.operators.mutation.pm import PM
from pymoo.operators.selection.rnd import RandomSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions

from algorithms import (
    GaussianResampling,
    GaussianSampling,
    MeanRecombination,
    NeighborSelection,
    NicheSurvival,
    ParetoCheckpointer,
    ReevaluatingSurvival,
    pareto_algorithm,
    pareto_operators,
    resume,
)
from algorithms._pareto_algorithms import TAKEN

#: Modules that need an optional package.
OPTIONAL = {"kgb": "sklearn"}
WITHOUT_SURVIVAL = {"MOEAD", "ParallelMOEAD", "MOPSO_CD"}
#: Algorithms with an archive, which pickling leaves incomplete.
WITH_ARCHIVE = {"CMOPSO": "elites", "MOPSO_CD": "archive"}
UNCONSTRAINED = {"DNSGA2", "KGB", "MOEAD", "ParallelMOEAD"}
#: A limit of pymoo: the classifier of KGB needs distinct points in each class.
NO_TIES = {"KGB"}
#: Its 2NN crowding raises IndexError for fronts with few distinct points, such as fronts of sparse policies.
REFUSED = {"GDE32NN"}
OPERATORS = {
    "sampling": GaussianSampling,
    "crossover": MeanRecombination,
    "mutation": GaussianResampling,
    "selection": NeighborSelection,
    "survival": NicheSurvival,
}


def found():
    """The classes of pymoo.algorithms.moo by name."""
    classes = {}
    for module in pkgutil.iter_modules(pymoo.algorithms.moo.__path__):
        if find_spec(OPTIONAL.get(module.name, "pymoo")) is None:
            continue
        members = vars(importlib.import_module(f"pymoo.algorithms.moo.{module.name}"))
        classes.update(
            (name, value)
            for name, value in members.items()
            if inspect.isclass(value) and issubclass(value, Algorithm) and value.__module__.endswith(f".{module.name}")
        )
    return classes


CLASSES = found()


def each(names):
    def marks(name):
        if name not in CLASSES:
            return pytest.mark.skip(reason="not in this pymoo, or its module needs what is not installed")
        return pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered") if name == "KGB" else ()

    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in sorted(names)])


class Noisy(Problem):
    """Minimize (|x| + noise, last variable, ...); ``seen`` has all evaluations of each individual."""

    def __init__(self, num_objectives=2, *, constrained=False, infinite=0.0):
        super().__init__(
            n_var=6, n_obj=num_objectives, n_ieq_constr=int(constrained), xl=np.full(6, -2.0), xu=np.full(6, 3.0)
        )
        self.rng, self.infinite = np.random.default_rng(0), infinite
        self.seen = {}
        self.num_evaluated = 0

    def _evaluate(self, x, out, *args, **kwargs):
        objectives = np.column_stack([np.linalg.norm(x[:, :-1], axis=1), x[:, -1], np.abs(x[:, 0] - 1.0)])
        objectives[:, 0] += self.rng.normal(size=len(x))
        objectives[self.rng.random(len(x)) < self.infinite, 0] = np.inf
        out["F"] = objectives[:, : self.n_obj]
        values = out["F"]
        if self.n_ieq_constr:
            out["G"] = x[:, :1] + self.rng.normal(size=(len(x), 1))
            values = np.column_stack([values, out["G"]])
        self.num_evaluated += len(x)
        for row, seen in zip(x, values, strict=True):
            self.seen.setdefault(row.tobytes(), []).append(seen)


def make(name, num_objectives=2):
    directions = get_reference_directions("das-dennis", num_objectives, n_partitions=9 if num_objectives == 2 else 3)
    if name in ("CTAEA", "MOEAD", "NSDER", "NSGA3", "ParallelMOEAD", "RVEA", "UNSGA3"):
        needed = {"ref_dirs": directions}
    elif name == "RNSGA3":
        needed = {"ref_points": np.full((1, num_objectives), 0.5), "pop_per_ref_point": 6}
    else:
        needed = {"pop_size": 10}
        needed |= {"ref_points": np.full((1, num_objectives), 0.5)} if name == "RNSGA2" else {}
        needed |= {"pop_size": 16, "c_size": 3} if name == "KGB" else {}
    return pareto_algorithm(CLASSES[name], 0.5, **needed)


def set_up(name, problem, **options):
    return make(name, problem.n_obj).setup(problem, termination=("n_gen", 4), seed=3, **options)


def objectives_of(algorithm):
    return algorithm.pop.get("X"), algorithm.pop.get("F"), algorithm.evaluator.n_eval


def test_every_multi_objective_algorithm_of_pymoo_is_supported():
    assert len(CLASSES) >= 15
    assert CLASSES.keys() - TAKEN.keys() == REFUSED


@each(TAKEN)
def test_an_algorithm_uses_only_the_operators_it_accepts(name, monkeypatch):
    calls = dict.fromkeys(OPERATORS, 0)
    for operator, cls in OPERATORS.items():

        def counted(self, *args, _operator=operator, _do=cls._do, **kwargs):
            calls[_operator] += 1
            return _do(self, *args, **kwargs)

        monkeypatch.setattr(cls, "_do", counted)
    algorithm = make(name)
    algorithm.setup(Noisy(), termination=("n_gen", 3), seed=0)
    algorithm.next()
    first = algorithm.pop.get("X") if name in WITHOUT_SURVIVAL | {"CMOPSO", "RVEA"} else algorithm.off.get("X")
    assert 0.3 < first[:, :-1].std() < 0.7  # uniform samples have 1.4
    assert np.ptp(first[:, -1]) > 3.0
    algorithm.run()
    assert {operator for operator, count in calls.items() if count} == set(TAKEN[name]) & OPERATORS.keys()


@each(TAKEN.keys() - WITHOUT_SURVIVAL)
@pytest.mark.parametrize("num_objectives", [2, 3])
def test_objectives_of_survivors_are_means_of_at_least_four_evaluations(name, num_objectives):
    problem = Noisy(num_objectives)
    algorithm = set_up(name, problem)
    algorithm.run()
    survivors = [*algorithm.pop, *(algorithm.da if name == "CTAEA" else ())]
    for one in survivors:
        count = one.data["num_evaluations"]
        assert count >= 4
        # DNSGA2 and KGB create an individual again if they detect a change
        np.testing.assert_allclose(one.F, np.mean(problem.seen[one.X.tobytes()][-count:], axis=0), atol=1e-12)
        assert count == len(problem.seen[one.X.tobytes()]) or name in ("DNSGA2", "KGB")
    assert algorithm.evaluator.n_eval == problem.num_evaluated


@each(WITHOUT_SURVIVAL)
def test_without_a_survival_nothing_is_evaluated_again(name):
    problem = Noisy()
    algorithm = set_up(name, problem)
    algorithm.run()
    assert all("num_evaluations" not in one.data for one in algorithm.pop)
    assert {len(values) for values in problem.seen.values()} == {1}


@each(TAKEN)
def test_a_resumed_run_is_bit_identical_or_checkpoints_are_refused(name, tmp_path):
    whole = set_up(name, Noisy())
    whole.run()
    killed = set_up(name, Noisy(), callback=ParetoCheckpointer(tmp_path / "checkpoint", every=2))
    if name in WITH_ARCHIVE:
        with pytest.raises(
            TypeError, match=f"^algorithm: expected one that can be pickled .*{name}, which loses {WITH_ARCHIVE[name]}"
        ):
            killed.run()
        again = set_up(name, Noisy())
        again.run()
    else:
        while not killed.is_initialized or killed.n_gen < 4:
            killed.next()
        again = resume(tmp_path / "checkpoint", allow_pickle=True)
        assert again.n_gen == 3
        again.run()
    for expected, got in zip(objectives_of(whole), objectives_of(again), strict=True):
        np.testing.assert_array_equal(got, expected)


@each(TAKEN.keys() - WITHOUT_SURVIVAL - NO_TIES)
def test_infinite_objectives_rank_last_and_do_not_affect_other_individuals(name):
    problem = Noisy(infinite=0.1)
    algorithm = set_up(name, problem)
    algorithm.run()
    values = algorithm.pop.get("F")
    assert not np.isnan(values).any()
    assert np.isfinite(values).all(axis=1).sum() >= 3
    for one in algorithm.pop:
        if name != "DNSGA2":
            assert one.F[0] == pytest.approx(np.mean([seen[0] for seen in problem.seen[one.X.tobytes()]]))


@each(TAKEN.keys() - UNCONSTRAINED - WITHOUT_SURVIVAL)
def test_feasibility_is_that_of_the_mean_constraint(name):
    problem = Noisy(constrained=True)
    algorithm = set_up(name, problem)
    algorithm.run()
    for one in algorithm.pop:
        assert one.data["num_evaluations"] == len(problem.seen[one.X.tobytes()]) >= 4
        assert one.G[0] == pytest.approx(np.mean(problem.seen[one.X.tobytes()], axis=0)[-1])
        assert bool(one.FEAS[0]) == (one.G[0] <= 0.0)


def test_pareto_algorithm_equals_an_algorithm_made_from_pareto_operators():
    made = pareto_algorithm(NSGA2, 0.5, pop_size=8, n_offsprings=12, last_stdev=0.1)
    plain = NSGA2(8, n_offsprings=12, **pareto_operators(0.5, last_stdev=0.1))
    results = [minimize(Noisy(), algorithm, ("n_gen", 4), seed=2).pop for algorithm in (made, plain)]
    np.testing.assert_array_equal(results[0].get("F"), results[1].get("F"))


def test_options_are_passed_to_the_operators():
    algorithm = pareto_algorithm(
        NSGA2, 0.5, stdev=0.2, last_stdev=0.1, num_parents=3, num_niches=5, num_neighbors=7, min_evaluations=2
    )
    mutation = algorithm.mating.mutation
    assert (algorithm.initialization.sampling.stdev, mutation.stdev, mutation.last_stdev) == (0.5, 0.2, 0.1)
    assert (algorithm.mating.crossover.n_parents, algorithm.mating.selection.num_neighbors) == (3, 7)
    assert (algorithm.survival.survival.num_niches, algorithm.survival.min_evaluations) == (5, 2)


def test_a_given_operator_replaces_the_default():
    mutation, survival = PM(), RankAndCrowding()
    algorithm = pareto_algorithm(NSGA2, 0.5, pop_size=8, mutation=mutation, survival=survival)
    assert algorithm.mating.mutation is mutation
    assert isinstance(algorithm.mating.crossover, MeanRecombination)
    assert isinstance(algorithm.survival, ReevaluatingSurvival)
    assert algorithm.survival.survival is survival
    wrapped = ReevaluatingSurvival(survival, min_evaluations=2)
    assert pareto_algorithm(NSGA2, 0.5, survival=wrapped).survival is wrapped


def test_a_subclass_gets_the_operators_of_its_base_class():
    class Mine(NSGA3):
        def __init__(self, ref_dirs, *, mine, **kwargs):
            super().__init__(ref_dirs, **kwargs)
            self.mine = mine

    algorithm = pareto_algorithm(Mine, 0.5, ref_dirs=np.eye(2), mine=3, pop_size=8)
    assert (type(algorithm), algorithm.mine, type(algorithm.mating.mutation)) == (Mine, 3, GaussianResampling)
    assert isinstance(algorithm.survival, ReevaluatingSurvival)


def test_runs_share_no_mutable_defaults_of_pymoo():
    def front():
        algorithm = pareto_algorithm(SPEA2, 0.5, pop_size=8)
        algorithm.setup(Noisy(), termination=("n_gen", 3), seed=1).run()  # without the copy that ``minimize`` makes
        return algorithm.pop.get("F")

    np.testing.assert_array_equal(front(), front())


DIRECTIONS = {"ref_dirs": np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])}


@pytest.mark.parametrize(
    ("algorithm", "arguments", "error", "message"),
    [
        (GA, {}, TypeError, "algorithm: expected one of pymoo's classes AGEMOEA, .*, UNSGA3, got <class .*GA'>"),
        ("NSGA3", {}, TypeError, "algorithm: expected one of pymoo's classes .*, got 'NSGA3'"),
        (NSGA2(8), {}, TypeError, "algorithm: expected one of pymoo's classes .*, got <pymoo"),
        (NSGA2, {"pop_sise": 8}, TypeError, "pop_sise: expected an argument of NSGA2, one of .*pop_size.*, got 8"),
        (NSGA3, {"num_parent": 2, **DIRECTIONS}, TypeError, "num_parent: expected an argument of NSGA3"),
        (NSGA2, {"initial_stdev": 0.0}, ValueError, "initial_stdev: expected a finite number > 0"),
        (NSGA2, {"min_evaluations": 0}, ValueError, "min_evaluations: expected a whole number >= 1"),
        (NSGA2, {"num_niches": 2.0}, TypeError, "num_niches: expected a whole number >= 1"),
        (NSGA2, {"mating": Mating(None, None, None)}, ValueError, "mating: expected none, since crossover"),
        (NSGA2, {"mutation": PM(), "stdev": 0.1}, ValueError, "stdev: expected None when mutation is given"),
        (NSGA3, {"num_niches": 3, **DIRECTIONS}, ValueError, "num_niches: expected None when NSGA3 has its own surv"),
        (NSDE, {"last_stdev": 0.1}, ValueError, "last_stdev: expected None when NSDE has its own mutation, got 0.1"),
        (NSDE, {"mutation": PM()}, ValueError, "mutation: expected none when NSDE has its own"),
        (MOEAD, {"selection": RandomSelection(), **DIRECTIONS}, ValueError, "selection: expected none when MOEAD"),
        (MOEAD, {"min_evaluations": 4, "num_parents": 2, **DIRECTIONS}, ValueError, "min_evaluations: .*no survival"),
        (MOEAD, DIRECTIONS, ValueError, "num_parents: expected a whole number <= 3, the number of MOEAD's neighbors"),
        (CLASSES["CTAEA"], {"num_parents": 1, **DIRECTIONS}, ValueError, "num_parents: expected a whole number >= 2"),
        (
            RNSGA2,
            {"ref_points": np.ones((1, 2)), "survival": RankAndCrowding()},
            ValueError,
            "survival: expected none when RNSGA2 has its own",
        ),
        (NSGA2, {"pop_size": 0}, ValueError, "pop_size: expected a whole number >= 1, got 0"),
        (NSGA2, {"n_offsprings": 2.5}, TypeError, "n_offsprings: expected a whole number >= 1, got 2.5"),
        (CLASSES["GDE32NN"], {}, TypeError, "algorithm: expected one of pymoo's classes"),
        (MOEAD, {"survival": RankAndCrowding(), **DIRECTIONS}, ValueError, "survival: expected none when MOEAD has"),
        (MOEAD, {"pop_size": 8, **DIRECTIONS}, ValueError, "pop_size: expected none when MOEAD has its own, got 8"),
        (CLASSES["AGEMOEA"], {"survival": RankAndCrowding()}, ValueError, "survival: expected none when AGEMOEA has"),
        (
            NSGA2,
            {"survival": ReevaluatingSurvival(), "min_evaluations": 3},
            ValueError,
            "min_evaluations: expected None when survival is a ReevaluatingSurvival, got 3",
        ),
    ],
)
def test_unsupported_or_ineffective_arguments_are_refused(algorithm, arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        pareto_algorithm(algorithm, **{"initial_stdev": 0.5, **arguments})


def test_pareto_operators_in_an_algorithm_with_its_own_survival_raise_an_error_with_a_remedy():
    algorithm = NSGA3(np.eye(2), pop_size=8, **pareto_operators(0.5))
    with pytest.raises(AttributeError, match=r"survival: expected one with 'opt', .* with pareto_algorithm"):
        minimize(Noisy(), algorithm, ("n_gen", 2), seed=0)
