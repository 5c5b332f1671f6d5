"""Continuation: the pymoo algorithm, on problems that have nothing to do with networks."""

import copy
import pickle

import numpy as np
import pytest
from noisy_problems import Noisy
from pymoo.core.callback import Callback
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import ElementwiseProblem, Problem
from pymoo.core.variable import Real
from pymoo.indicators.hv import HV
from pymoo.optimize import minimize
from pymoo.problems import get_problem
from pymoo.termination.ftol import MultiObjectiveSpaceTermination
from scipy.stats import norm

from algorithms import Continuation, LeveledProblem, ParetoCheckpointer, resume

SMALL = {"num_levels": 3, "first_generations": 4, "generations": 2}


class Keys(Problem):
    """The signs of 30 values should match a hidden pattern; at a lower level, each wrong sign costs more."""

    def __init__(self, noise=1.0, seed=0, *, num_objectives=2):
        super().__init__(
            n_var=31, n_obj=num_objectives, xl=np.r_[np.full(30, -1e3), 0.0], xu=np.r_[np.full(30, 1e3), 1.0]
        )
        self.right = np.random.default_rng(9).random(30) < 0.5
        self.noise, self.rng, self.seen, self.asked = noise, np.random.default_rng(seed), [], []
        self.narrowed_at = []

    def truth(self, x):
        wrong = ((x[:, :-1] > 0.0) != self.right).mean(axis=1)
        columns = [-10.0 * np.exp(-wrong / (0.03 + 0.5 * x[:, -1])), x[:, -1], wrong]
        return np.column_stack(columns[: self.n_obj])

    def _evaluate(self, x, out, *args, **kwargs):
        out["F"] = self.truth(x)
        out["F"][:, 0] += self.noise * self.rng.normal(size=len(x))
        self.seen += list(zip(x, out["F"], strict=True))

    def expected_individuals(self, x, *, center, stdev):
        self.asked.append((center is None, stdev))
        around = np.zeros(31) if center is None else center
        ratio = around / stdev
        up, down = norm.pdf(ratio) / norm.cdf(ratio), norm.pdf(ratio) / norm.cdf(-ratio)
        return around + stdev * np.where(x > 0.0, up, -down)

    def confined(self, center):
        return np.r_[center[:-1].clip(-0.1, 0.1), center[-1]]

    def narrowed(self, center):
        self.narrowed_at.append(center[-1])
        return center


class Plain(Problem):
    """Minimize (squared distance from 1 + 1 - level, level, ...) without noise; ``change`` may alter the objectives."""

    def __init__(self, change=None, *, num_objectives=2, steps=0.0):
        super().__init__(n_var=6, n_obj=num_objectives, xl=np.r_[np.full(5, -9.0), 0.0], xu=np.r_[np.full(5, 9.0), 1.0])
        self.change, self.steps, self.num_evaluated = change, steps, 0

    def _evaluate(self, x, out, *args, **kwargs):
        values = ((x[:, :-1] - 1.0) ** 2).sum(axis=1) + 1.0 - x[:, -1]
        if self.steps:
            values = np.ceil(values / self.steps) * self.steps
        out["F"] = np.column_stack([values, x[:, -1], x[:, 0]])[:, : self.n_obj]
        if self.change is not None:
            self.change(self, out["F"])
        self.num_evaluated += len(x)


def begin(problem, pop_size=16, *, seed=0, termination=("n_gen", 15), callback=None, **settings):
    algorithm = Continuation(pop_size, **{**SMALL, **settings})
    return algorithm.setup(
        problem, termination=termination, seed=seed, **({} if callback is None else {"callback": callback})
    )


def state(algorithm):
    """Everything that determines what a search does next and what it returns."""
    center = algorithm._center
    return [
        algorithm.n_gen,
        algorithm.level,
        None if center is None else center.tobytes(),
        [[(m.x.tobytes(), np.array(m.evaluations).tobytes()) for m in level] for level in algorithm.candidates],
        None if algorithm.opt is None else (algorithm.opt.get("X").tobytes(), algorithm.opt.get("F").tobytes()),
        algorithm.evaluator.n_eval,
    ]


def ran(algorithm, generations):
    for _ in range(generations):
        algorithm.next()
    return algorithm


# Solution quality


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_easy_levels_help_to_solve_hard_ones(seed):
    problem = Keys(seed=seed)
    algorithm = begin(problem, 32, num_levels=8, first_generations=12, generations=3, seed=seed)
    ran(algorithm, 60)
    random = np.random.default_rng(seed).normal(size=(algorithm.evaluator.n_eval, 31))
    random[:, -1] = np.random.default_rng(seed).random(len(random))
    volume = HV(ref_point=np.array([0.0, 1.0]))
    found = volume(problem.truth(algorithm.opt.get("X")))
    assert found > 1.8 * volume(problem.truth(random))
    assert found > 7.5  # of 10
    sparsest = problem.truth(algorithm.opt.get("X"))[:, 1] == 0.0
    assert problem.truth(algorithm.opt.get("X"))[sparsest, 0] < -3.0  # random solutions reach -1e-5


def test_the_returned_solution_is_better_than_the_luckiest_individual():
    handed_out, luckiest = [], []
    for seed in range(5):
        problem = Keys(noise=3.0, seed=seed)
        algorithm = ran(begin(problem, 32, num_levels=1, seed=seed), 60)
        x = min(problem.seen, key=lambda pair: pair[1][0])[0]
        luckiest.append(problem.truth(x[None])[0, 0])
        handed_out.append(problem.truth(algorithm.handed_out(0).x[None])[0, 0])
    assert np.mean(handed_out) < np.mean(luckiest) - 0.5


def test_a_hard_level_alone_is_not_solved():
    problem = Keys()
    algorithm = ran(begin(problem, 32, num_levels=None, levels=[0.0], first_generations=12, generations=3), 60)
    assert problem.truth(algorithm.opt.get("X"))[0, 0] > -1.0


def test_the_search_learns_from_expected_individuals():
    problem = Keys()
    ran(begin(problem, initial_stdev=0.3, stdev=0.07), 4)
    assert problem.asked == [(True, 0.3), (False, 0.07), (False, 0.07), (False, 0.07)]
    assert isinstance(problem, LeveledProblem)
    assert not isinstance(Plain(), LeveledProblem)


def test_centers_and_candidates_are_confined():
    algorithm = ran(begin(Keys()), 12)
    members = [member for level in algorithm.candidates for member in level]
    assert members
    assert all(np.abs(member.x[:-1]).max() <= 0.1 for member in members)
    assert all(member.x[-1] == algorithm.levels[member.level] for member in members)


def test_a_center_is_narrowed_when_the_level_changes():
    problem = Keys()
    algorithm = begin(problem, num_levels=3, first_generations=4, generations=2)
    came_to = []
    for _ in range(20):
        left = algorithm._left
        algorithm.next()
        if left == 1:
            came_to.append(algorithm.levels[algorithm.level])
    assert problem.narrowed_at == came_to
    assert len(came_to) == 9


@pytest.mark.parametrize("pop_size", [8, 16])
def test_a_problem_without_noise_is_solved(pop_size):
    result = minimize(
        Plain(), Continuation(pop_size, num_levels=3, first_generations=60, generations=8), ("n_gen", 150), seed=0
    )
    np.testing.assert_allclose(result.F, [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], atol=0.05)


def test_a_level_ends_early_when_it_cannot_improve():
    def cap(problem, values):
        values[:, 0] = values[:, 0].clip(1.0)

    levels = []
    algorithm = begin(Plain(cap), 32, first_generations=200, callback=lambda a: levels.append(a.level))
    ran(algorithm, 60)
    assert 10 < levels.index(1) < 50
    assert algorithm.handed_out(0).objectives[0] == 1.0


def test_a_level_does_not_end_early_when_all_individuals_are_equal():
    def constant(problem, values):
        values[:, 0] = 7.0

    levels = []
    ran(begin(Plain(constant), first_generations=12, callback=lambda a: levels.append(a.level)), 13)
    assert levels == [0] * 11 + [1] * 2


def test_a_level_does_not_end_early_for_a_single_good_individual():
    def lucky(problem, values):
        values[:, 0] = np.arange(len(values))
        values[-2:, 0] = -5.0  # candidates, from the second generation on

    levels = []
    ran(begin(Plain(lucky), first_generations=12, callback=lambda a: levels.append(a.level)), 13)
    assert levels == [0] * 11 + [1] * 2


# The order of the levels


def test_after_the_last_level_the_search_returns_to_the_costliest_drop_of_the_front():
    def fall(problem, values):
        values[:, 0] = np.select([values[:, 1] > 0.7, values[:, 1] > 0.4], [-9.0, -8.0], 0.0)
        values[:, 0] += np.linspace(0.0, 0.5, len(values))

    levels = []
    ran(begin(Plain(fall), num_levels=5, callback=lambda a: levels.append(a.level)), 22)
    descent = [0] * 3 + [1] * 2 + [2] * 2 + [3] * 2 + [4] * 2
    assert levels == [*descent, *descent[7:], *descent[7:], 3, 3, 4]  # each retry leaves the drop at level 3


def test_repeated_returns_to_a_level_lower_its_priority():
    def falls(problem, values):  # a drop of 8 at level 1, which affects four levels, and of 3 at level 3
        values[:, 0] = np.select([values[:, 1] > 0.9, values[:, 1] > 0.3], [-11.0, -3.0], 0.0)
        values[:, 0] += np.linspace(0.0, 0.1, len(values))

    algorithm = ran(begin(Plain(falls), num_levels=5), 11)
    goals = [algorithm._where_to_go_back_to() for _ in range(12)]  # 32 / (1 + n) against 6 / (1 + m)
    assert goals[0] == 1
    assert goals.count(1) > goals.count(3) > 0


def test_a_return_starts_from_the_center_of_the_previous_level():
    def fall(problem, values):
        values[:, 0] -= 100.0 * (values[:, 1] > 0.6)

    algorithm = ran(begin(Plain(fall)), 7)
    assert (algorithm.level, algorithm._num_averaged) == (2, 7)
    ran(algorithm, 1)
    assert (algorithm.level, algorithm._num_averaged) == (1, 0)
    np.testing.assert_array_equal(algorithm._center[:-1], algorithm._centers[0][:-1])
    assert algorithm._center[-1] == 0.5


def test_a_drop_to_an_infinitely_bad_value_is_the_largest():
    def infinite(problem, values):
        values[values[:, 1] < 0.6, 0] = np.inf

    levels = []
    algorithm = begin(Plain(infinite), num_levels=3, callback=lambda a: levels.append(a.level))
    ran(algorithm, 9)
    assert levels == [0] * 3 + [1] * 2 + [2] * 2 + [1] * 2
    assert algorithm._where_to_go_back_to() == 1


def test_without_a_drop_the_last_level_is_repeated():
    def rising(problem, values):
        values[:, 0] = values[:, 1]

    assert ran(begin(Plain(rising)), 12).level == 2


def test_a_single_level_is_one_search_with_one_running_average():
    algorithm = ran(begin(Plain(), num_levels=1), 20)
    assert algorithm.levels.tolist() == [1.0]
    assert algorithm._num_averaged == 20
    assert algorithm.opt.get("F")[0, 0] < 0.5


def test_equal_bounds_make_one_level():
    problem = Plain()
    problem.xl[-1] = problem.xu[-1] = 0.5
    algorithm = ran(begin(problem), 8)
    assert algorithm.levels.tolist() == [0.5]
    assert set(algorithm.pop.get("X")[:, -1]) == {0.5}


def test_levels_may_be_given():
    algorithm = begin(Plain(), num_levels=None, levels=[0.9, 0.2])
    assert (algorithm.levels.tolist(), algorithm.num_levels) == ([0.9, 0.2], 2)
    ran(algorithm, 6)
    assert {individual.X[-1] for individual in algorithm.pop} == {0.9, 0.2}  # includes candidates of the other level
    assert algorithm.pop[0].X[-1] == 0.2


def test_levels_may_exceed_the_bounds_by_a_rounding_error():
    algorithm = begin(Plain(), num_levels=None, levels=[np.nextafter(1.0, 2.0), 0.0])
    assert algorithm.levels.tolist() == [1.0, 0.0]


def test_the_search_starts_from_the_given_center_at_the_first_level():
    center = np.full(6, 1.0)
    center[-1] = 77.0
    algorithm = begin(Plain(), center=center, stdev=0.01)
    x = algorithm.ask().get("X")
    assert np.abs(x[:, :-1] - 1.0).max() < 0.05
    assert set(x[:, -1]) == {1.0}
    assert center[-1] == 77.0


def test_individuals_stay_within_the_bounds_of_the_problem():
    problem = Plain()
    problem.xl[:-1], problem.xu[:-1] = 0.0, 0.9
    algorithm = begin(problem, stdev=0.5)
    for _ in range(12):
        algorithm.next()
        x = algorithm.pop.get("X")
        assert (x >= problem.xl).all()
        assert (x <= problem.xu).all()
    assert all((m.x[:-1] <= 0.9).all() for level in algorithm.candidates for m in level)


# Candidates and the front


@pytest.mark.parametrize("pop_size", [4, 5, 8, 9, 15, 16, 64])
def test_candidates_are_evaluated_again_in_every_population(pop_size):
    algorithm = begin(Keys(), pop_size, first_generations=8)
    ran(algorithm, 8)
    counts = sorted(len(member.evaluations) for member in algorithm.candidates[0])
    assert counts[0] == 0  # the newest
    assert counts[-1] >= 3
    assert sum(counts) == sum(min(generation, max(2, pop_size // 8)) for generation in range(8))


@pytest.mark.parametrize("pop_size", range(4, 10))
def test_small_populations_have_a_result_at_every_level(pop_size):
    algorithm = ran(begin(Keys(), pop_size), 9)
    assert all(algorithm.handed_out(level) is not None for level in range(3))


def test_the_number_of_candidates_is_limited_and_the_best_one_is_kept():
    algorithm = begin(Keys(noise=5.0), num_levels=1)
    best = None
    for _ in range(60):
        algorithm.next()
        members = algorithm.candidates[0]
        assert len(members) <= 16
        assert best is None or best in members
        best = algorithm.handed_out(0)


def test_the_result_of_a_level_is_the_candidate_with_the_best_confidence_bound():
    algorithm = ran(begin(Keys(noise=3.0), first_generations=20), 18)
    groups = [np.array(m.fitness) for m in algorithm.candidates[0] if m.evaluations]
    squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
    noise = np.sqrt(squares / sum(len(group) - 1 for group in groups))
    expected = max(group.mean() - noise / np.sqrt(len(group)) for group in groups)
    best = np.array(algorithm.handed_out(0).fitness)
    assert best.mean() - noise / np.sqrt(len(best)) == pytest.approx(expected)
    first, *others = algorithm.promising()[0]
    assert first is algorithm.handed_out(0)
    counts = [len(member.evaluations) for member in others]
    assert counts[-1] == 0
    assert 0 not in counts[:-1]


def test_the_front_has_the_mean_of_all_evaluations_and_counts_them():
    problem = Keys(noise=2.0)
    algorithm = ran(begin(problem, seed=3), 4)
    lengths = set()
    for _ in range(15):
        algorithm.next()
        lengths.add(len(algorithm.opt))
        for individual in algorithm.opt:
            rows = [row for x, row in problem.seen if np.array_equal(x, individual.X)]
            assert individual.data["num_evaluations"] == len(rows)
            np.testing.assert_allclose(individual.F, np.mean(rows, axis=0))
            assert algorithm.levels[individual.data["level"]] == individual.X[-1]
            assert np.array_equal(algorithm.handed_out(individual.data["level"]).x, individual.X)
    assert max(lengths) > 1


def test_the_front_excludes_dominated_levels():
    def rising(problem, values):
        values[:, 0] = np.abs(values[:, 1] - 0.5)

    algorithm = ran(begin(Plain(rising)), 9)
    assert algorithm.opt.get("F").tolist() == [[0.0, 0.5], [0.5, 0.0]]
    assert [individual.data["level"] for individual in algorithm.opt] == [1, 2]


def test_after_the_first_generation_the_front_is_its_best_individual():
    algorithm = ran(begin(Keys()), 1)
    assert algorithm.opt.get("F").tolist() == [min(algorithm.pop.get("F").tolist())]
    assert algorithm.opt[0].data == {"num_evaluations": 1, "level": 0}


def test_changes_to_the_front_do_not_affect_the_search():
    algorithm = ran(begin(Keys()), 8)
    before = state(algorithm)[3]
    algorithm.opt[0].X[:] = 7.0
    algorithm.opt[0].F[:] = 7.0
    assert state(algorithm)[3] == before


@pytest.mark.parametrize("num_objectives", [2, 3])
def test_two_and_three_objectives_are_supported(num_objectives):
    result = minimize(Keys(num_objectives=num_objectives), Continuation(16, **SMALL), ("n_gen", 12), seed=0)
    assert result.F.shape == (len(result.X), num_objectives)


def test_elementwise_problems_are_supported():
    class One(ElementwiseProblem):
        def __init__(self):
            super().__init__(n_var=3, n_obj=2, xl=-1.0, xu=1.0)

        def _evaluate(self, x, out, *args, **kwargs):
            out["F"] = [np.sum(x[:-1] ** 2) - x[-1], x[-1]]

    result = minimize(One(), Continuation(8, **SMALL), ("n_gen", 12), seed=0)
    assert result.X.shape[1] == 3
    assert result.algorithm.evaluator.n_eval == 8 * 12


@pytest.mark.parametrize("name", ["zdt1", "zdt4", "dtlz2"])
def test_pymoo_test_problems_are_supported(name):
    result = minimize(get_problem(name), Continuation(16, **SMALL), ("n_gen", 15), seed=0)
    assert np.isfinite(result.F).all()


# Infinite objectives


def infinite(problem, values):
    rows = np.arange(problem.num_evaluated, problem.num_evaluated + len(values))
    values[rows % 5 == 0, 0] = np.inf
    values[rows % 7 == 0, 1] = np.inf


def infinitely_good(problem, values):
    infinite(problem, values)
    rows = np.arange(problem.num_evaluated, problem.num_evaluated + len(values))
    values[rows % 11 == 0] = -np.inf


def bad(problem, values):
    values[:] = np.inf


def good(problem, values):
    values[:, 0] = -np.inf


def huge(problem, values):
    values[:] = 1.5e308 * values.clip(-1.0, 1.0)


@pytest.mark.parametrize("change", [infinite, infinitely_good, bad, good, huge])
def test_infinite_objectives_are_ranked_and_never_become_nan(change):
    algorithm = begin(Plain(change), 8)
    for _ in range(25):
        algorithm.next()
        assert not np.isnan(algorithm.opt.get("F")).any()
        assert not np.isnan(algorithm.ask().get("X")).any()
    for level in algorithm.candidates:
        for member in level:
            if member.evaluations:
                bad_ = np.isposinf(member.evaluations).any(axis=0)
                assert np.isposinf(member.objectives)[bad_].all()


def test_a_candidate_with_an_infinitely_bad_evaluation_is_not_returned():
    algorithm = ran(begin(Plain(infinite), first_generations=12), 10)
    finite = [m for m in algorithm.candidates[0] if m.evaluations and np.isfinite(m.fitness).all()]
    assert finite
    assert algorithm.handed_out(0) in finite


def test_the_mean_of_huge_values_does_not_overflow():
    algorithm = ran(begin(Plain(lambda problem, values: values.__setitem__((..., 0), 1.7e308))), 6)
    assert algorithm.opt.get("F")[0, 0] == pytest.approx(1.7e308)


# Ask and tell, and failures


def test_ask_and_tell_give_the_same_results_as_next():
    stepped, told, by_hand = (begin(Keys()) for _ in range(3))
    for _ in range(10):
        stepped.next()
        infills = told.ask()
        told.tell(infills=Evaluator().eval(told.problem, infills))
        infills = by_hand.ask()
        infills.set("F", by_hand.problem.evaluate(infills.get("X")))
        by_hand.tell(infills)
    assert state(told)[:-1] == state(by_hand)[:-1] == state(stepped)[:-1]


def test_asking_twice_returns_the_same_individuals():
    algorithm = ran(begin(Keys()), 3)
    np.testing.assert_array_equal(algorithm.ask().get("X"), algorithm.ask().get("X"))


@pytest.mark.parametrize("generations", [0, 3, 4])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, ValueError, "nan"])
def test_a_failed_generation_does_not_change_the_search(generations, fault):
    class Failing(Keys):
        fails = False

        def _evaluate(self, x, out, *args, **kwargs):
            if self.fails and fault != "nan":
                raise fault
            super()._evaluate(x, out, *args, **kwargs)
            if self.fails:
                out["F"][3, 1] = np.nan

    whole, algorithm = (ran(begin(Failing(noise=0.0)), generations) for _ in range(2))
    before, pop, opt = state(algorithm), algorithm.pop, algorithm.opt
    algorithm.problem.fails = True
    message = r"^problem: expected F without NaN, got \[.*, nan\] for individual 3" if fault == "nan" else None
    for _ in range(2):
        with pytest.raises(ValueError if fault == "nan" else fault, match=message):
            algorithm.next()
    assert state(algorithm)[1:-1] == before[1:-1]  # pymoo counts evaluations before tell
    if generations:
        assert algorithm.pop is pop
        assert algorithm.opt is opt
    algorithm.problem.fails = False
    assert state(ran(algorithm, 9))[:-1] == state(ran(whole, 9))[:-1]


def evaluate_and_change(algorithm, infills, change):
    algorithm.problem.evaluate(infills.get("X"))
    infills.set("F", algorithm.problem.truth(infills.get("X")))
    return change(infills)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda infills: None, "infills: expected the 16 individuals that ask returned, .* got None"),
        (lambda infills: infills[:-1], "infills: expected the 16 .* got 15 other individuals"),
        (lambda infills: infills[::-1], "infills: expected the 16 .* in their order"),
        (lambda infills: list(infills), "infills: expected the 16 individuals"),
        (lambda infills: Population.new("X", infills.get("X")), r"infills: .* evaluated, got F = array\(\[\].* 0"),
        (lambda infills: infills.set("F", np.zeros((16, 3))), r"infills: .* evaluated, got F = array\(\[0"),
        (
            lambda infills: infills.set("F", np.full((16, 2), np.nan)),
            r"problem: expected F without NaN, got \[nan, nan",
        ),
    ],
)
@pytest.mark.parametrize("generations", [0, 3])
def test_an_invalid_tell_does_not_change_the_search(generations, change, message):
    whole, algorithm = (ran(begin(Keys(noise=0.0)), generations) for _ in range(2))
    infills = algorithm.ask()
    before = state(algorithm)
    with pytest.raises(ValueError, match=f"^{message}"):
        algorithm.tell(infills=evaluate_and_change(algorithm, infills, change))
    assert state(algorithm) == before
    assert state(ran(algorithm, 6)) == state(ran(whole, 6))


def test_tell_accepts_only_individuals_from_ask():
    algorithm = begin(Keys())
    with pytest.raises(
        ValueError, match=r"^infills: expected individuals that ask returned, got individuals before ask"
    ):
        algorithm.tell(infills=Population.new("X", np.zeros((16, 31))))
    infills = algorithm.ask()
    infills.set("F", algorithm.problem.evaluate(infills.get("X")))
    algorithm.tell(infills=infills)
    with pytest.raises(
        ValueError, match=r"^infills: expected individuals that ask returned, got individuals before ask"
    ):
        algorithm.tell(infills=infills)


# How long the first level lasts


class Counted(Keys):
    """Each evaluation counts as ten interactions; some were made before the search."""

    def __init__(self):
        super().__init__()
        self.interaction_count = 1_000

    def _evaluate(self, x, out, *args, **kwargs):
        super()._evaluate(x, out, *args, **kwargs)
        self.interaction_count += 10 * len(x)


def test_the_first_level_lasts_for_its_generations_and_its_interactions():
    first_levels = []
    for interactions in (0, 160, 16 * 10 * 7, 16 * 10 * 7 + 1):
        levels = []
        ran(begin(Counted(), first_interactions=interactions, callback=lambda a, b=levels: b.append(a.level)), 12)
        assert levels == sorted(levels)
        first_levels.append(1 + levels.count(0))  # the callback runs after the change of level
    assert first_levels == [4, 4, 7, 8]


def test_first_interactions_requires_a_problem_that_counts_interactions():
    with pytest.raises(
        TypeError, match=r"^problem: expected one with an interaction_count, which first_interactions needs"
    ):
        begin(Keys(), first_interactions=100)


# As an algorithm of pymoo


@pytest.mark.parametrize(
    ("termination", "generations"),
    [
        (("n_gen", 7), 7),
        (("n_eval", 100), 7),
        (("time", 0.1), None),
        (None, None),
        (MultiObjectiveSpaceTermination(tol=0.1), None),
    ],
)
@pytest.mark.parametrize("problem", [Keys, Plain])
def test_every_termination_ends_the_search(termination, generations, problem):
    result = minimize(problem(), Continuation(16, **SMALL), termination, seed=1)
    if generations is not None:
        assert result.algorithm.n_gen - 1 == generations
    assert len(result.F) == len(result.X) >= 1


def test_equal_seeds_give_equal_results_and_different_seeds_do_not():
    runs = [state(ran(begin(Keys(), seed=seed), 12)) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_minimize_works_on_a_copy_or_on_the_algorithm_itself():
    algorithm = Continuation(16, **SMALL)
    first, second = (minimize(Keys(), algorithm, ("n_gen", 8), seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.X, second.X)
    assert algorithm.problem is None
    third = minimize(Keys(), algorithm, ("n_gen", 8), seed=1, copy_algorithm=False)
    assert third.algorithm is algorithm
    np.testing.assert_array_equal(first.X, third.X)


def test_a_second_setup_starts_over():
    algorithm = begin(Keys(), save_history=True)
    algorithm.run()
    history = algorithm.history
    algorithm.setup(Plain(), termination=("n_gen", 8), seed=2).run()
    fresh = begin(Plain(), termination=("n_gen", 8), seed=2)
    fresh.run()
    assert state(algorithm) == state(fresh)
    assert (len(algorithm.history), len(history)) == (8, 15)
    with pytest.raises(ValueError, match=r"^termination: expected one for a second run, got none"):
        algorithm.setup(Plain(), seed=2)


def test_history_has_each_generation():
    result = minimize(Keys(), Continuation(16, **SMALL), ("n_gen", 8), seed=1, save_history=True)
    assert [entry.n_gen for entry in result.history] == list(range(1, 9))
    assert [entry.level for entry in result.history] == [0, 0, 0, 1, 1, 2, 2, result.algorithm.level]
    counts = [sum(len(m.evaluations) for level in entry.candidates for m in level) for entry in result.history]
    assert counts == sorted(counts)
    assert counts[0] == 0


def test_a_callback_sees_each_generation():
    class Seen(Callback):
        def __init__(self):
            super().__init__()
            self.fronts = []

        def notify(self, algorithm):
            self.fronts.append(algorithm.opt.get("F"))

    seen = Seen()
    result = minimize(Keys(), Continuation(16, **SMALL), ("n_gen", 8), seed=1, callback=seen)
    assert len(seen.fronts) == 8
    np.testing.assert_array_equal(seen.fronts[-1], result.F)


def test_a_verbose_run_prints_level_and_front(capsys):
    minimize(Keys(), Continuation(16, **SMALL), ("n_gen", 5), seed=1, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    header = [word.strip() for word in lines[1].split("|")]
    assert header == ["n_gen", "n_eval", "level", "front", "f_min"]
    assert len(lines) == 3 + 5
    assert [float(word) for word in lines[-1].split("|")[:3]] == [5, 80, 0.5]
    minimize(Plain(bad), Continuation(16, **SMALL), ("n_gen", 5), seed=1, verbose=True)
    assert "INF" in capsys.readouterr().out.upper()


def test_evaluations_are_counted():
    problem = Plain()
    result = minimize(problem, Continuation(9, **SMALL), ("n_gen", 11), seed=1)
    assert result.algorithm.evaluator.n_eval == problem.num_evaluated == 99


@pytest.mark.parametrize("generations", [1, 5, 8])
def test_copies_and_pickles_continue_identically(generations):
    algorithm = ran(begin(Keys()), generations)
    algorithm.ask()  # the copies include the pending individuals
    twins = [copy.deepcopy(algorithm), pickle.loads(pickle.dumps(algorithm))]
    expected = state(ran(algorithm, 8))
    assert [state(ran(twin, 8)) for twin in twins] == [expected, expected]


def test_a_resumed_search_gives_bit_identical_results(tmp_path):
    whole = begin(Keys())
    whole.run()
    killed = begin(Keys(), callback=ParetoCheckpointer(tmp_path / "checkpoint", every=4))
    ran(killed, 10)
    killed.ask()
    resumed = resume(tmp_path / "checkpoint", allow_pickle=True)
    assert resumed.n_gen == 9
    result = resumed.run()
    assert state(resumed) == state(whole)
    np.testing.assert_array_equal(result.F, whole.opt.get("F"))
    assert len(resumed.problem.seen) == len(whole.problem.seen)


def test_the_cost_of_a_generation_does_not_grow_with_the_number_of_candidates():
    algorithm = Continuation(64, first_generations=2, generations=2).setup(
        Noisy(1.0), termination=("n_gen", 99), seed=0
    )
    calls = []
    original, algorithm._measured_noise = algorithm._measured_noise, lambda *args: calls.append(1) or original(*args)
    ran(algorithm, 60)
    assert len(calls) <= 2 * 60


# Invalid arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"pop_size": 3}, ValueError, "pop_size: expected a whole number >= 4, got 3"),
        ({"pop_size": 8.0}, TypeError, "pop_size: expected a whole number >= 4, got 8.0"),
        ({"pop_sise": 8}, TypeError, "pop_sise: expected an argument of pymoo's algorithms, .*, got 8"),
        ({"num_levels": 0}, ValueError, "num_levels: expected a whole number >= 1, got 0"),
        ({"num_levels": 2, "levels": [1.0]}, ValueError, "num_levels: expected None when levels is given, got 2"),
        ({"levels": [0.5, 0.5]}, ValueError, r"levels: expected descending numbers, got \[0.5, 0.5\]"),
        ({"levels": [0.2, 0.5]}, ValueError, "levels: expected descending numbers"),
        ({"levels": []}, ValueError, "levels: expected a vector of finite numbers"),
        ({"levels": [1.0, np.nan]}, ValueError, "levels: expected a vector of finite numbers"),
        ({"levels": [[1.0]]}, ValueError, "levels: expected a vector of finite numbers"),
        ({"levels": [[1.0], [1.0, 2.0]]}, ValueError, "levels: expected a vector of finite numbers"),
        ({"levels": "high"}, TypeError, "levels: expected real numbers, got 'high'"),
        ({"levels": [True, False]}, TypeError, "levels: expected real numbers"),
        ({"levels": [1j]}, TypeError, "levels: expected real numbers"),
        ({"first_generations": 1}, ValueError, "first_generations: expected a whole number >= 2, got 1"),
        ({"generations": 1}, ValueError, "generations: expected a whole number >= 2, got 1"),
        ({"stdev": 0.0}, ValueError, "stdev: expected a finite number > 0, got 0.0"),
        ({"initial_stdev": np.inf}, ValueError, "initial_stdev: expected a finite number > 0, got inf"),
        ({"num_elites": 15}, ValueError, "num_elites: expected a whole number >= 1 and <= 14, got 15"),
        ({"num_elites": 0}, ValueError, "num_elites: expected a whole number >= 1 and <= 14, got 0"),
        ({"center": [np.nan]}, ValueError, "center: expected a vector of finite numbers"),
        ({"center": "here"}, TypeError, "center: expected real numbers, got 'here'"),
    ],
)
def test_errors_name_the_invalid_argument(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Continuation(**{"pop_size": 16, **arguments})


def changed(**attributes):
    problem = Plain()
    for name, value in attributes.items():
        setattr(problem, name, value)
    return problem


@pytest.mark.parametrize(
    ("problem", "settings", "error", "message"),
    [
        ("zdt1", {}, TypeError, "problem: expected a pymoo Problem, got 'zdt1'"),
        (changed(n_ieq_constr=2), {}, ValueError, "problem: expected no constraints, got 2"),
        (changed(n_eq_constr=1), {}, ValueError, "problem: expected no constraints, got 1"),
        (Plain(num_objectives=1), {}, ValueError, "problem: expected at least two objectives, got 1"),
        (changed(xl=None, xu=None), {}, ValueError, "problem: expected finite bounds of the last variable"),
        (changed(xu=np.full(6, np.inf)), {}, ValueError, "problem: expected finite bounds of the last variable"),
        (
            Problem(vars={"a": Real(bounds=(0, 1))}, n_obj=2),
            {},
            ValueError,
            "problem: expected finite bounds of the last variable",
        ),
        (Plain(), {"levels": [1.1, 0.5]}, ValueError, r"levels\[0\]: expected a level in \[0, 1\], got 1.1"),
        (Plain(), {"levels": [1.0, -0.1]}, ValueError, r"levels\[1\]: expected a level in \[0, 1\], got -0.1"),
        (Plain(), {"center": np.zeros(5)}, ValueError, r"center: expected shape \(D \+ 1,\) = \(6,\), got \(5,\)"),
        (
            Plain(),
            {"center": np.array([0, 0, 10, 0, 0, 0])},
            ValueError,
            r"center\[2\]: expected a number in \[-9, 9\], got 10",
        ),
    ],
)
def test_an_unsupported_problem_raises_in_setup_and_a_valid_one_works_afterwards(problem, settings, error, message):
    algorithm = Continuation(16, **settings)
    with pytest.raises(error, match=f"^{message}"):
        algorithm.setup(problem, seed=0)
    with pytest.raises(error, match=f"^{message}"):
        minimize(problem, algorithm, ("n_gen", 2), seed=0)
    assert algorithm.problem is None
    if not settings:
        assert len(minimize(Plain(), algorithm, ("n_gen", 2), seed=0).F)


def test_setup_raises_for_unknown_arguments():
    with pytest.raises(TypeError, match=r"^pop_size: expected an argument of pymoo's algorithms"):
        Continuation(16).setup(Plain(), pop_size=8)
    with pytest.raises(TypeError, match=r"^sede: expected an argument of pymoo's algorithms"):
        minimize(Plain(), Continuation(16), ("n_gen", 2), sede=1)
