"""ElitistGaussianResampling on plain EvoTorch problems."""

import math

import numpy as np
import pytest
import torch
from evotorch import Problem
from scipy.stats import chisquare, kstest

from algorithms import ElitistGaussianResampling


def sphere(sense="min", length=10, **options):
    """The sum of squares, or its negative for maximization."""
    sign = 1.0 if sense == "min" else -1.0
    return Problem(
        sense,
        lambda x: sign * (x**2).sum(dim=-1),
        solution_length=length,
        initial_bounds=(-1.0, 1.0),
        vectorized=True,
        **{"seed": 1} | options,
    )


def plain(problem, **options):
    """The paper's search."""
    return ElitistGaussianResampling(problem, **{"recombination": "uniform"} | options)


def elites_of(searcher, num_elites, *, obj_index=0, best=min):
    """The best ``num_elites`` solutions of a population, best first, found by plain sorting."""
    evals = searcher.population.evals[:, obj_index].tolist()
    order = sorted(range(len(evals)), key=evals.__getitem__, reverse=best is max)
    return searcher.population.values[torch.tensor(order[:num_elites])].as_subclass(torch.Tensor).clone()


def parents_and_noise(children, elites):
    """For each child the index of the nearest elite, and the difference from it."""
    parents = torch.cdist(children, elites).argmin(dim=1)
    return parents, children - elites[parents]


@pytest.mark.parametrize("sense", ["min", "max"])
def test_children_are_elites_plus_gaussian_noise(sense):
    searcher = plain(sphere(sense, 300), popsize=40, num_elites=4, stdev=0.03)
    searcher.step()
    for _ in range(5):
        elites = elites_of(searcher, 4, best=min if sense == "min" else max)
        searcher.step()
        _, noise = parents_and_noise(searcher.population.values.as_subclass(torch.Tensor), elites)
        assert noise.mean().item() == pytest.approx(0.0, abs=5 * 0.03 / math.sqrt(noise.numel()))
        assert noise.std().item() == pytest.approx(0.03, rel=0.03)
        assert kstest(noise.flatten()[:2000].numpy() / 0.03, "norm").pvalue > 1e-3
        correlations = np.corrcoef(noise.numpy())[~np.eye(40, dtype=bool)]
        assert abs(correlations).max() < 0.35  # no two children share their noise


@pytest.mark.parametrize("recombination", ["uniform", "weighted", "expected"])
def test_the_noise_changes_with_stdev(recombination):
    searcher = ElitistGaussianResampling(
        sphere(length=2000), popsize=7, num_elites=1, stdev=0.08, recombination=recombination
    )
    searcher.step()
    for stdev in (0.08, 0.02, 0.3):
        searcher.stdev = stdev
        assert searcher.stdev == stdev
        searcher.step()
        children = searcher.population.values.as_subclass(torch.Tensor)
        noise = children - children.mean(dim=0)  # all start from the same parent
        assert noise.std().item() == pytest.approx(stdev * math.sqrt(6 / 7), rel=0.05)
    with pytest.raises(ValueError, match=r"^stdev: expected .* got 0\.0$"):
        searcher.stdev = 0.0
    assert searcher.stdev == 0.3


def test_a_new_stdev_discards_candidates_and_the_average():
    problem = sphere(length=40)
    searcher = ElitistGaussianResampling(problem, popsize=32, num_elites=8, stdev=1e-2)
    searcher.run(10)
    before = searcher.status["center"]
    searcher.stdev = 1e-3
    assert torch.equal(searcher.status["center"], before)
    searcher.step()
    handed_out = searcher.status["center"]
    values = searcher.population.values.as_subclass(torch.Tensor)
    assert (values - handed_out).abs().max() < 6e-3  # no candidate is left, and the average is of this center alone
    searcher.run(3)
    assert searcher.status["center"].square().sum() < handed_out.square().sum()


def test_each_elite_is_drawn_equally_often():
    searcher = plain(sphere(length=50), popsize=1000, num_elites=5, stdev=0.001)
    searcher.step()
    counts = torch.zeros(5)
    for _ in range(3):
        elites = elites_of(searcher, 5)
        searcher.step()
        parents, noise = parents_and_noise(searcher.population.values.as_subclass(torch.Tensor), elites)
        assert noise.abs().max() < 0.01
        counts += torch.bincount(parents, minlength=5)
    assert counts.sum() == 3000
    assert chisquare(counts.numpy()).pvalue > 0.01


def test_no_elite_is_cloned():
    searcher = plain(sphere(), popsize=20, num_elites=5, stdev=0.05)
    searcher.step()
    for _ in range(3):
        before = searcher.population.values.clone()
        searcher.step()
        assert (torch.cdist(searcher.population.values, before) > 1e-3).all()


class Noisy(Problem):
    """Records its evaluations; each draws new noise. With ``second``, fitness is the second of two objectives."""

    def __init__(self, seed=3, *, minimize=False, second=False):
        sense = "min" if minimize else "max"
        super().__init__([sense, sense] if second else sense, solution_length=6, initial_bounds=(-1.0, 1.0), seed=seed)
        self.sign = 1.0 if minimize else -1.0
        self.second = second
        self.evaluated = []

    def _evaluate_batch(self, batch):
        self.evaluated.append(batch.values.clone())
        evals = self.sign * (batch.values**2).sum(dim=1) + self.make_gaussian(len(batch), center=0.0, stdev=0.5)
        batch.set_evals(torch.stack([-evals, evals], dim=1) if self.second else evals)


def test_cloned_elites_come_first_in_order_of_fitness_and_are_evaluated_again():
    problem = Noisy()
    searcher = plain(problem, popsize=12, num_elites=4, stdev=0.1, clone_elites=True)
    searcher.step()
    for _ in range(3):
        elites = elites_of(searcher, 4, best=max)
        old_evals = searcher.population.evals[:, 0].sort(descending=True)[0]
        searcher.step()
        assert torch.equal(searcher.population.values[:4], elites)
        assert (torch.cdist(searcher.population.values[4:], elites) > 1e-3).all()
        assert torch.equal(problem.evaluated[-1], searcher.population.values)
        assert (searcher.population.evals[:4, 0] != old_evals[:4]).all()
    assert [len(values) for values in problem.evaluated] == [12] * 4


@pytest.mark.parametrize("recombination", ["weighted", "expected"])
def test_clones_are_refused_if_recombination_uses_a_center(recombination):
    with pytest.raises(ValueError, match=f"^clone_elites: expected False with recombination='{recombination}', .*True"):
        ElitistGaussianResampling(sphere(), clone_elites=True, recombination=recombination)


@pytest.mark.parametrize("recombination", ["weighted", "expected"])
def test_with_random_fitness_the_steps_of_the_center_are_uncorrelated(recombination):
    """With clones, the correlation of a step with the previous step would be -0.08 and -0.26."""
    noise = torch.Generator().manual_seed(7)
    problem = Problem(
        "max", lambda x: torch.randn(len(x), generator=noise), solution_length=400, initial_bounds=(-1, 1),
        vectorized=True, seed=7,
    )  # fmt: skip
    searcher = ElitistGaussianResampling(problem, popsize=32, stdev=0.1, recombination=recombination)
    centers = []
    for _ in range(40):
        searcher.step()
        centers.append(searcher._center.clone())
    steps = torch.stack(centers[1:]).diff(dim=0)
    correlations = torch.cosine_similarity(steps[1:], steps[:-1])
    assert correlations.mean().item() == pytest.approx(0.0, abs=4 / math.sqrt(400 * len(correlations)))


def centers_by_hand(searcher, num_generations, *, expected=False, sign=-1.0):
    """The center of each generation and the running mean of all centers, from the formulas in the docstring."""
    center = average = None
    for generation in range(1, num_generations + 1):
        searcher.step()
        num_children = 32 - min(generation - 1, 4)
        values = searcher.population.values.numpy().astype(np.float64)[:num_children]
        ranked = values[np.argsort(-sign * searcher.population.evals[:num_children, searcher.obj_index].numpy())]
        weights = np.log(8 + 0.5) - np.log(np.arange(1, 9))
        weights /= weights.sum()
        if expected:
            before = values.mean(axis=0) if center is None else center
            step = weights @ (ranked[:8] - before) - 0.3 * weights @ (ranked[::-1][:8] - before)
            center = before + 2 * step
        elif center is None:
            center = weights @ ranked[:8]
        else:
            center = center + weights @ (ranked[:8] - center) - 0.3 * weights @ (ranked[::-1][:8] - center)
        if average is None:
            average = center
        else:
            share = (3 + 1) / (generation + 3)
            average = (1 - share) * average + share * center
        yield center, average


@pytest.mark.parametrize("recombination", ["weighted", "expected"])
def test_children_start_from_a_center_that_moves_toward_the_best_and_away_from_the_worst(recombination):
    searcher = ElitistGaussianResampling(
        sphere(length=40), popsize=32, num_elites=8, stdev=1e-2, recombination=recombination
    )
    *_, (center, _) = centers_by_hand(searcher, 6, expected=recombination == "expected")
    searcher.step()
    noise = searcher.population.values.numpy()[:28] - center
    assert noise.std() == pytest.approx(1e-2, rel=0.1)
    assert kstest(noise.flatten() / 1e-2, "norm").pvalue > 1e-3


class Signs(Problem):
    """The number of positive values: solutions with equal signs are equivalent."""

    def __init__(self, *, perturb=False):
        super().__init__("max", solution_length=30, initial_bounds=(-1.0, 1.0), seed=3)
        self.perturb = perturb  # rescales solutions, with unchanged signs, before the search reads them
        self.asked = []

    def _evaluate_batch(self, batch):
        batch.set_evals((batch.values > 0).sum(dim=1).float())
        if self.perturb:
            batch.access_values(keep_evals=True).mul_(3)

    def expected_solutions(self, values, *, center, stdev):
        self.asked.append((len(values), None if center is None else center.clone(), stdev))
        return torch.where(values > 0, 0.5, -0.5)

    def confined(self, center):
        return center.clamp(-0.3, 0.3)


def test_solutions_with_equal_phenotypes_have_the_same_effect_on_the_center():
    centers = []
    for perturb in (False, True):
        searcher = ElitistGaussianResampling(Signs(perturb=perturb), popsize=32, stdev=0.1)
        searcher.step()
        centers.append(searcher.status["center"])
    assert torch.equal(*centers)
    assert centers[0].mean() > 0.05


def test_expected_solutions_is_called_with_the_center_of_the_children():
    problem = Signs()
    searcher = ElitistGaussianResampling(problem, popsize=32, stdev=0.1)
    centers = [None]
    for _ in range(3):
        searcher.step()
        centers.append(searcher._center.clone())
    (first, none, _), (second, at_first, stdev), (third, at_second, _) = problem.asked
    assert (first, second, third) == (32, 31, 30)  # of the population without its candidates
    assert none is None
    assert stdev == 0.1
    assert torch.equal(at_first, centers[1])
    assert torch.equal(at_second, centers[2])


def test_the_problem_confines_the_center():
    searcher = ElitistGaussianResampling(Signs(), popsize=32, stdev=0.1)
    for _ in range(6):
        searcher.step()
    assert searcher._center.abs().max() == torch.tensor(0.3)
    assert searcher.status["center"].abs().max() <= torch.tensor(0.3)


def test_weighted_recombination_does_not_use_expected_solutions():
    problem = Signs()
    ElitistGaussianResampling(problem, popsize=32, stdev=0.1, recombination="weighted").run(3)
    assert problem.asked == []


@pytest.mark.parametrize("sense", ["min", "max", "second of two"])
def test_the_candidate_with_the_best_confidence_bound_is_returned(sense):
    problem = Noisy(minimize=sense == "min", second=sense == "second of two")
    index, sign = int(problem.second), -problem.sign
    searcher = ElitistGaussianResampling(problem, popsize=32, num_elites=8, stdev=1e-2, obj_index=index)
    averages, shown = [], {}
    for generation, (_, average) in enumerate(centers_by_hand(searcher, 12, expected=True, sign=sign), 1):
        played = searcher.population.values[32 - min(generation - 1, 4) :].numpy()
        # The candidates are averages of earlier generations; the newest is always among them.
        sources = [int(np.abs(np.array(averages) - row).max(axis=1).argmin()) for row in played]
        assert all(np.abs(averages[i] - row).max() < 1e-6 for i, row in zip(sources, played, strict=True))
        assert generation == 1 or sources[-1] == generation - 2
        for i, value in zip(sources, searcher.population.evals[32 - len(played) :, index].tolist(), strict=True):
            shown.setdefault(i, []).append(value)
        groups = [shown[i] for i in sources if len(shown[i]) > 1]
        if groups:
            squares = sum(np.var(group) * len(group) for group in groups)
            stdev = math.sqrt(squares / sum(len(group) - 1 for group in groups))
            best = max(sources, key=lambda i: sign * np.mean(shown[i]) - stdev / math.sqrt(len(shown[i])))
            np.testing.assert_allclose(searcher.status["center"].numpy(), averages[best], atol=1e-6)
        averages.append(average)
    assert len(shown) == 11


def test_without_room_for_candidates_the_average_is_returned():
    searcher = ElitistGaussianResampling(sphere(), popsize=7, stdev=0.1)
    searcher.run(5)
    assert torch.equal(searcher.status["center"], searcher._average)


def test_the_returned_solution_is_less_noisy_than_the_center():
    def last_distances(seed):
        problem = Noisy(seed)
        searcher = ElitistGaussianResampling(problem, popsize=16, stdev=0.1)
        searcher.run(100)
        return searcher.status["center"].square().sum(), searcher._center.square().sum()

    average, center = np.mean([last_distances(seed) for seed in range(10)], axis=0)
    assert average < 0.6 * center


@pytest.mark.parametrize(("popsize", "num_elites"), [(1, 1), (3, 1), (8, 2), (64, 16), (66, 16)])
def test_a_quarter_of_the_population_are_elites_by_default(popsize, num_elites):
    default, told = (
        ElitistGaussianResampling(sphere(), popsize=popsize, **options) for options in ({}, {"num_elites": num_elites})
    )
    for searcher in (default, told):
        searcher.run(3)
    assert torch.equal(default.population.values, told.population.values)


def test_with_one_elite_all_children_start_from_it():
    searcher = plain(sphere(), popsize=10, num_elites=1, stdev=1e-3)
    searcher.step()
    best = elites_of(searcher, 1)
    searcher.step()
    assert ((searcher.population.values - best).abs() < 6e-3).all()


@pytest.mark.parametrize("obj_index", [0, 1, -1])
def test_obj_index_selects_the_objective(obj_index):
    problem = Problem(
        ["min", "max"],
        lambda x: torch.stack([(x - 1).square().sum(dim=-1), x[:, 0]], dim=-1),
        solution_length=5,
        initial_bounds=(-1.0, 1.0),
        vectorized=True,
        seed=0,
    )
    searcher = plain(problem, popsize=20, num_elites=3, stdev=1e-3, obj_index=obj_index)
    assert searcher.obj_index == obj_index % 2
    searcher.step()
    elites = elites_of(searcher, 3, obj_index=obj_index, best=max if obj_index else min)
    searcher.step()
    _, noise = parents_and_noise(searcher.population.values.as_subclass(torch.Tensor), elites)
    assert noise.abs().max() < 0.01


@pytest.mark.parametrize(
    "options", [{}, {"recombination": "uniform", "clone_elites": True}, {"recombination": "uniform"}], ids=str
)
def test_equal_seeds_give_bit_identical_results(options):
    def populations(seed):
        searcher = ElitistGaussianResampling(sphere(seed=seed), popsize=8, **options)
        for _ in range(4):
            searcher.step()
            yield searcher.population.values.clone()

    for first, second, other in zip(populations(5), populations(5), populations(6), strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_a_problem_without_a_seed_uses_the_global_generator():
    def last_population():
        torch.manual_seed(4)
        searcher = ElitistGaussianResampling(sphere(seed=None), popsize=8)
        searcher.run(3)
        return searcher.population.values.clone()

    first = last_population()
    assert torch.equal(last_population(), first)
    assert first.unique().numel() == first.numel()


def test_a_problem_with_a_seed_ignores_the_global_generator():
    searchers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        searchers.append(ElitistGaussianResampling(sphere(), popsize=8))
        searchers[-1].run(3)
    assert torch.equal(searchers[0].population.values, searchers[1].population.values)


@pytest.mark.parametrize("sense", ["min", "max"])
@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({"recombination": "uniform", "num_elites": 3}, 0.05),
        ({"recombination": "uniform", "num_elites": 3, "clone_elites": True}, 0.05),
        ({}, 0.01),
    ],
    ids=str,
)
def test_the_search_reaches_the_optimum_of_a_sphere(sense, options, reached):
    searcher = ElitistGaussianResampling(sphere(sense), popsize=40, stdev=0.03, **options)
    searcher.step()
    first = abs(searcher.status["mean_eval"])
    searcher.run(120)
    assert first > 2
    assert abs(searcher.status["mean_eval"]) < reached
    assert searcher.status["pop_best"].values.abs().max() < 0.15


def test_the_status_has_the_usual_entries_of_evotorch_searches():
    searcher = ElitistGaussianResampling(sphere("max"), popsize=9)
    initial = searcher.population.values.clone()
    searcher.step()
    assert torch.equal(searcher.population.values, initial)
    searcher.step()
    assert not torch.equal(searcher.population.values, initial)
    status, evals = searcher.status, searcher.population.evals
    assert status["iter"] == searcher.step_count == 2
    assert status["pop_best_eval"] == pytest.approx(evals.max().item())
    assert status["mean_eval"] == pytest.approx(evals.mean().item())
    assert status["median_eval"] == pytest.approx(evals.median().item())
    assert status["best_eval"] >= status["pop_best_eval"]


def test_all_children_may_be_elites():
    searcher = plain(sphere(), popsize=4, num_elites=4, stdev=1e-3)
    searcher.step()
    before = elites_of(searcher, 4)
    searcher.step()
    assert (torch.cdist(searcher.population.values, before).min(dim=1).values < 0.01).all()
    for options in ({"popsize": 7, "num_elites": 7}, {"popsize": 64, "num_elites": 56}):
        ElitistGaussianResampling(sphere(), **options).run(12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"popsize": 64, "num_elites": 57}, "num_elites: expected a whole number >= 1 and <= 56, got 57"),
        (
            {"popsize": 4, "num_elites": 4, "clone_elites": True, "recombination": "uniform"},
            "num_elites: expected a whole number >= 1 and <= 3, got 4",
        ),
        (
            {"popsize": 1, "clone_elites": True, "recombination": "uniform"},
            "clone_elites: expected False with popsize=1, which leaves no children, got True",
        ),
    ],
)
def test_more_elites_than_children_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        ElitistGaussianResampling(sphere(), **options)


class Failing(Problem):
    """Raises when ``fails`` is set."""

    def __init__(self, **options):
        super().__init__("min", solution_length=6, initial_bounds=(-1.0, 1.0), **options)
        self.fails = False

    def _evaluate_batch(self, batch):
        self.make_gaussian(3, center=0.0, stdev=1.0)
        if self.fails:
            raise KeyboardInterrupt
        batch.set_evals((batch.values**2).sum(dim=1))


@pytest.mark.parametrize("failing_step", [1, 2])
def test_a_failed_step_can_be_repeated(failing_step):
    def search():
        return ElitistGaussianResampling(Failing(seed=2), popsize=8)

    whole, disturbed = search(), search()
    whole.run(4)
    disturbed.run(failing_step - 1)
    before = disturbed.population.values.clone()
    disturbed.problem.fails = True
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            disturbed.step()
        assert torch.equal(disturbed.population.values, before)
        assert disturbed.step_count == failing_step - 1
    disturbed.problem.fails = False
    disturbed.run(4 - disturbed.step_count)
    assert torch.equal(disturbed.population.values, whole.population.values)
    assert torch.equal(disturbed.population.evals, whole.population.evals)


def test_a_failed_step_does_not_change_the_status():
    searcher = ElitistGaussianResampling(Failing(seed=2), popsize=8)
    searcher.run(3)
    before = {name: searcher.status[name] for name in ("iter", "best_eval", "mean_eval", "median_eval")}
    center = searcher.status["center"]
    searcher.problem.fails = True
    with pytest.raises(KeyboardInterrupt):
        searcher.step()
    assert {name: searcher.status[name] for name in before} == before
    assert before["iter"] == 3
    assert torch.equal(searcher.status["center"], center)


class Stopped(Signs):
    """Raises KeyboardInterrupt while the search learns from a population."""

    stops = False

    def expected_solutions(self, values, *, center, stdev):
        if self.stops:
            raise KeyboardInterrupt
        return super().expected_solutions(values, center=center, stdev=stdev)


@pytest.mark.parametrize("failing_step", [1, 2, 5])
def test_a_step_interrupted_after_evaluation_can_be_repeated(failing_step):
    def search():
        return ElitistGaussianResampling(Stopped(), popsize=16, stdev=0.1)

    whole, disturbed = search(), search()
    whole.run(6)
    disturbed.run(failing_step - 1)
    disturbed.problem.stops = True
    with pytest.raises(KeyboardInterrupt):
        disturbed.step()
    assert disturbed.step_count == failing_step - 1
    disturbed.problem.stops = False
    disturbed.run(7 - failing_step)
    assert torch.equal(disturbed.population.values, whole.population.values)
    assert torch.equal(disturbed.status["center"], whole.status["center"])


# Fitness that is infinite or NaN


def penalized(sense, penalty, *, good=False, seed=1):
    """A sphere; on one side of it, fitness is the penalty: the worst possible value, or the best."""
    worse = 1.0 if sense == "min" else -1.0

    def fitness(x):
        return torch.where(x[:, 0] > 0.3, (-worse if good else worse) * penalty, worse * (x**2).sum(dim=-1))

    return Problem(sense, fitness, solution_length=6, initial_bounds=(-1.0, 1.0), vectorized=True, seed=seed)


RECOMBINATIONS = [
    {"recombination": "expected"},
    {"recombination": "weighted"},
    {"recombination": "uniform"},
    {"recombination": "uniform", "clone_elites": True},
]


@pytest.mark.parametrize("good", [False, True], ids=["bad", "good"])
@pytest.mark.parametrize("sense", ["min", "max"])
@pytest.mark.parametrize("options", RECOMBINATIONS, ids=str)
def test_infinite_fitness_ranks_like_a_very_large_penalty(options, sense, good):
    infinite, huge = (
        ElitistGaussianResampling(penalized(sense, penalty, good=good), popsize=32, stdev=0.1, **options)
        for penalty in (math.inf, 1e9)
    )
    seen = 0
    for _ in range(12):
        infinite.step(), huge.step()
        num_children = infinite._num_children
        assert torch.equal(infinite.population.values[:num_children], huge.population.values[:num_children])
        evals = infinite.population.evals[:num_children, 0].as_subclass(torch.Tensor)
        seen += evals.isinf().sum().item()
        assert infinite.status["pop_best_eval"] == (min if sense == "min" else max)(infinite.population.evals[:, 0])
        assert math.isinf(infinite.status["mean_eval"]) == infinite.population.evals.isinf().any()
    assert seen > 12
    if not good and options["recombination"] != "uniform":
        assert infinite.status["center"][0] < 0.3
        assert infinite.status["center"].square().sum() < 1.0


class Unsafe(Problem):
    """A noisy sphere as the last objective; one evaluation in ten is infinitely bad."""

    def __init__(self, sense, *, num_objectives=1, dtype="float32"):
        senses = ["min"] * (num_objectives - 1) + [sense]
        super().__init__(senses if num_objectives > 1 else sense, solution_length=6, initial_bounds=(-1.0, 1.0), seed=3,
                         eval_dtype=dtype)  # fmt: skip
        self.worse = 1.0 if sense == "min" else -1.0
        self.bad = []  # solutions with an infinitely bad evaluation

    def _evaluate_batch(self, batch):
        drawn = self.make_uniform(len(batch))
        noise = self.make_gaussian(len(batch))
        evals = self.worse * torch.where(drawn < 0.1, math.inf, (batch.values**2).sum(dim=1) + noise)
        self.bad += batch.values[drawn < 0.1].tolist()
        batch.set_evals(torch.stack([torch.zeros(len(batch))] * (len(self.senses) - 1) + [evals], dim=1))


@pytest.mark.parametrize("num_objectives", [1, 2])
@pytest.mark.parametrize("sense", ["min", "max"])
def test_a_candidate_with_an_infinitely_bad_evaluation_is_not_returned(sense, num_objectives):
    problem = Unsafe(sense, num_objectives=num_objectives)
    searcher = ElitistGaussianResampling(problem, popsize=64, stdev=0.1, obj_index=num_objectives - 1)
    for generation in range(1, 41):
        searcher.step()
        played = searcher.population.values[searcher._num_children :].tolist()
        if any(values not in problem.bad for values in played):
            assert searcher.status["center"].tolist() not in problem.bad
            assert generation == 2 or searcher.status["center"].tolist() in played
    assert searcher.status["center"].square().sum() < 0.5


@pytest.mark.parametrize("fitness", [math.inf, -math.inf])
@pytest.mark.parametrize("sense", ["min", "max"])
@pytest.mark.parametrize("options", RECOMBINATIONS, ids=str)
def test_generations_of_infinite_fitness_act_like_generations_of_constant_fitness(options, sense, fitness):
    """This includes the first generation, in which EvoTorch finds no best or no worst solution."""
    constants = {}

    def search(constant):
        constants[constant] = constant
        problem = Problem(
            sense, lambda x: (x**2).sum(dim=-1) if constants[constant] is None else torch.full((len(x),), constant),
            solution_length=5, initial_bounds=(-1.0, 1.0), vectorized=True, seed=1,
        )  # fmt: skip
        return ElitistGaussianResampling(problem, popsize=16, stdev=0.1, **options)

    infinite, constant = search(fitness), search(0.0)
    for generation in range(1, 5):
        infinite.step(), constant.step()
        assert infinite.status["iter"] == generation
        assert infinite.status["mean_eval"] == infinite.status["median_eval"] == fitness
        assert torch.equal(infinite.population.values, constant.population.values)
    constants[fitness] = None
    infinite.run(2)
    best = (min if sense == "min" else max)(infinite.status["pop_best_eval"], infinite.status["best_eval"])
    assert infinite.status["best_eval"] == best
    assert math.isfinite(infinite.status["mean_eval"])


def test_fitness_near_the_largest_float_does_not_overflow():
    huge = torch.tensor(1.7e308, dtype=torch.float64)
    problem = Problem(
        "min", lambda x: torch.where(x[:, 0] > 0, huge, -huge), solution_length=5, initial_bounds=(-1.0, 1.0),
        eval_dtype="float64", vectorized=True, seed=1,
    )  # fmt: skip
    searcher = ElitistGaussianResampling(problem, popsize=16, stdev=0.1)
    searcher.run(15)
    assert searcher.status["center"][0] < 0


@pytest.mark.parametrize("failing_step", [1, 2, 4])
@pytest.mark.parametrize("options", RECOMBINATIONS, ids=str)
def test_nan_fitness_is_an_error_that_names_the_solution_and_the_step_can_be_repeated(options, failing_step):
    broken = []

    def fitness(x):
        evals = (x**2).sum(dim=-1).as_subclass(torch.Tensor)
        evals[broken] = math.nan
        return evals

    def search():
        problem = Problem("min", fitness, solution_length=5, initial_bounds=(-1.0, 1.0), vectorized=True, seed=1)
        return ElitistGaussianResampling(problem, popsize=8, **options)

    whole, disturbed = search(), search()
    whole.run(5)
    disturbed.run(failing_step - 1)
    before = disturbed.population.values.clone(), disturbed.population.evals.clone()
    for broken[:], named in (
        ([5], "solution 5 of the 8 in the population$"),
        ([2, 7], "solution 2 .*, and for 1 more"),
    ):
        with pytest.raises(ValueError, match=f"^problem: expected a fitness that is a number .* got NaN for {named}"):
            disturbed.step()
        assert disturbed.step_count == failing_step - 1
        assert torch.equal(disturbed.population.values, before[0])
        torch.testing.assert_close(disturbed.population.evals, before[1], rtol=0, atol=0, equal_nan=True)
    broken.clear()
    disturbed.run(6 - failing_step)
    assert torch.equal(disturbed.population.values, whole.population.values)
    assert torch.equal(disturbed.population.evals, whole.population.evals)


def test_nan_is_an_error_only_in_the_selected_objective():
    def search(obj_index):
        problem = Problem(
            ["min", "max"], lambda x: torch.stack([x[:, 0], torch.full_like(x[:, 0], math.nan)], dim=1),
            solution_length=5, initial_bounds=(-1.0, 1.0), vectorized=True, seed=1,
        )  # fmt: skip
        return ElitistGaussianResampling(problem, popsize=8, obj_index=obj_index)

    search(0).run(3)
    with pytest.raises(
        ValueError, match="got NaN for solution 0 of the 8 in the population, and for 7 more in objectiv"
    ):
        search(1).step()


# Settings


def test_all_settings_can_be_read():
    searcher = ElitistGaussianResampling(sphere(), popsize=20)
    settings = {"popsize": 20, "num_elites": 5, "stdev": 0.05, "clone_elites": False, "recombination": "expected"}
    assert {name: getattr(searcher, name) for name in settings} == settings
    assert searcher.obj_index == 0


@pytest.mark.parametrize("name", ["popsize", "num_elites", "clone_elites", "recombination", "obj_index", "population"])
def test_setting_a_read_only_property_raises(name):
    searcher = ElitistGaussianResampling(sphere(), popsize=20)
    before = getattr(searcher, name)
    with pytest.raises(AttributeError, match=f"'{name}' of 'ElitistGaussianResampling' object has no setter"):
        setattr(searcher, name, before)


@pytest.mark.parametrize("stdev", [1e-50, 1e39])
def test_a_stdev_outside_the_range_of_the_dtype_is_refused(stdev):
    searcher = ElitistGaussianResampling(sphere())
    message = "^stdev: expected a finite number > 0 that torch.float32 can hold, got "
    with pytest.raises(ValueError, match=message):
        ElitistGaussianResampling(sphere(), stdev=stdev)
    with pytest.raises(ValueError, match=message):
        searcher.stdev = stdev
    assert searcher.stdev == 0.05
    ElitistGaussianResampling(sphere(dtype="float64"), stdev=stdev)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("popsize", 0, ValueError),
        ("popsize", -1, ValueError),
        ("popsize", 8.0, TypeError),
        ("popsize", True, TypeError),
        ("popsize", 10**400, ValueError),
        ("popsize", None, TypeError),
        ("num_elites", 0, ValueError),
        ("num_elites", 65, ValueError),
        ("num_elites", 2.5, TypeError),
        ("stdev", 0.0, ValueError),
        ("stdev", -0.1, ValueError),
        ("stdev", math.nan, ValueError),
        ("stdev", math.inf, ValueError),
        ("stdev", "0.1", TypeError),
        ("stdev", True, TypeError),
        ("clone_elites", 1, TypeError),
        ("recombination", "average", ValueError),
        ("recombination", None, ValueError),
        ("obj_index", 1, ValueError),
        ("obj_index", -2, ValueError),
        ("obj_index", "first", ValueError),
        ("obj_index", 0.5, ValueError),
    ],
)
def test_errors_name_the_invalid_argument(name, value, error):
    with pytest.raises(error, match=rf"^{name}: expected .* got {value!r}$"):
        ElitistGaussianResampling(sphere(), **{name: value})


def test_a_misspelled_argument_is_refused():
    with pytest.raises(TypeError, match="num_elite"):
        ElitistGaussianResampling(sphere(), num_elite=3)


def test_arguments_after_the_problem_are_keyword_only():
    with pytest.raises(TypeError):
        ElitistGaussianResampling(sphere(), 32)


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        (None, TypeError, "problem: expected an evotorch.Problem"),
        (Problem, TypeError, "problem: expected an evotorch.Problem"),
        (Problem("min", dtype=torch.int64, solution_length=3, initial_bounds=(0, 3)), ValueError, "problem: .*int64"),
        (Problem("min", dtype=object), ValueError, "problem: expected real-valued solutions"),
        (
            Problem("min", solution_length=3, bounds=(0.0, 1.0)),
            ValueError,
            "problem: expected no strict bounds",
        ),
        (
            Problem(["min", "max"], solution_length=3, initial_bounds=(0.0, 1.0)),
            ValueError,
            "obj_index: expected .* 0 to 1",
        ),
    ],
)
def test_an_unsupported_problem_is_refused(problem, error, message):
    with pytest.raises(error, match=f"^{message}"):
        ElitistGaussianResampling(problem)


def test_the_center_of_the_papers_search_is_the_best_of_its_population():
    searcher = ElitistGaussianResampling.paper(Noisy())
    assert (searcher.popsize, searcher.num_elites, searcher.stdev) == (32, 3, 0.05)
    assert searcher.status["center"] is None
    for _ in range(3):
        searcher.step()
        best = searcher.population.evals[:, 0].argmax()
        assert torch.equal(searcher.status["center"], searcher.population.values[best].as_subclass(torch.Tensor))
