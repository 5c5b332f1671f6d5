"""The paper's search, on plain EvoTorch problems."""

import math

import numpy as np
import pytest
import torch
from evotorch import Problem
from scipy.stats import chisquare, kstest

from algorithms import ElitistGaussianResampling


def sphere(sense="min", length=10, **options):
    """The sum of squares (its negative, where it is to be maximised)."""
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
    """The paper's own search."""
    return ElitistGaussianResampling(problem, **{"recombination": "uniform"} | options)


def elites_of(searcher, num_elites, *, obj_index=0, best=min, num_candidates=0):
    """The best ``num_elites`` solutions of a population, best first, found by plain sorting."""
    evals = searcher.population.evals[: len(searcher.population) - num_candidates, obj_index].tolist()
    order = sorted(range(len(evals)), key=evals.__getitem__, reverse=best is max)
    return searcher.population.values[torch.tensor(order[:num_elites])].as_subclass(torch.Tensor).clone()


def parents_and_noise(children, elites):
    """For each child the nearest elite's index, and what was added to it."""
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


def test_with_a_new_stdev_what_was_shown_before_no_longer_counts():
    problem = sphere(length=40)
    searcher = ElitistGaussianResampling(problem, popsize=32, num_elites=8, stdev=1e-2)
    searcher.run(10)
    before = searcher.status["center"]
    searcher.stdev = 1e-3
    assert torch.equal(searcher.status["center"], before)
    searcher.step()
    handed_out = searcher.status["center"]
    values = searcher.population.values.as_subclass(torch.Tensor)
    assert (values - handed_out).abs().max() < 6e-3  # no candidate is left, and the average is of this centre alone
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
    """Counts its evaluations; each draws new noise. The ``second`` of two objectives, where there are."""

    def __init__(self, seed=3, *, minimise=False, second=False):
        sense = "min" if minimise else "max"
        super().__init__([sense, sense] if second else sense, solution_length=6, initial_bounds=(-1.0, 1.0), seed=seed)
        self.sign = 1.0 if minimise else -1.0
        self.second = second
        self.evaluated = []

    def _evaluate_batch(self, batch):
        self.evaluated.append(batch.values.clone())
        evals = self.sign * (batch.values**2).sum(dim=1) + self.make_gaussian(len(batch), center=0.0, stdev=0.5)
        batch.set_evals(torch.stack([-evals, evals], dim=1) if self.second else evals)


@pytest.mark.parametrize("recombination", ["uniform", "weighted", "expected"])
def test_cloned_elites_come_first_from_the_best_on_and_are_evaluated_again(recombination):
    problem = Noisy()
    searcher = ElitistGaussianResampling(
        problem, popsize=12, num_elites=4, stdev=0.1, clone_elites=True, recombination=recombination
    )
    searcher.step()
    for generation in range(3):
        num_candidates = 1 if generation and recombination != "uniform" else 0
        elites = elites_of(searcher, 4, best=max, num_candidates=num_candidates)
        old_evals = searcher.population.evals[: 12 - num_candidates, 0].sort(descending=True)[0]
        searcher.step()
        assert torch.equal(searcher.population.values[:4], elites)
        assert (torch.cdist(searcher.population.values[4:], elites) > 1e-3).all()
        assert torch.equal(problem.evaluated[-1], searcher.population.values)
        assert (searcher.population.evals[:4, 0] != old_evals[:4]).all()
    assert [len(values) for values in problem.evaluated] == [12] * 4


def centers_by_hand(searcher, num_generations, *, expected=False, sign=-1.0):
    """Where the children of each generation start from, and the mean of all so far, by the docstring's formulas."""
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
def test_all_children_start_from_a_centre_that_moves_to_the_best_and_away_from_the_worst(recombination):
    searcher = ElitistGaussianResampling(
        sphere(length=40), popsize=32, num_elites=8, stdev=1e-2, recombination=recombination
    )
    *_, (center, _) = centers_by_hand(searcher, 6, expected=recombination == "expected")
    searcher.step()
    noise = searcher.population.values.numpy()[:28] - center
    assert noise.std() == pytest.approx(1e-2, rel=0.1)
    assert kstest(noise.flatten() / 1e-2, "norm").pvalue > 1e-3


class Signs(Problem):
    """The number of positive values: all solutions of the same signs are the same."""

    def __init__(self, *, perturb=False):
        super().__init__("max", solution_length=30, initial_bounds=(-1.0, 1.0), seed=3)
        self.perturb = perturb  # solutions into others of the same signs, before a search looks at them
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


def test_solutions_that_are_decoded_to_the_same_teach_the_same():
    centers = []
    for perturb in (False, True):
        searcher = ElitistGaussianResampling(Signs(perturb=perturb), popsize=32, stdev=0.1)
        searcher.step()
        centers.append(searcher.status["center"])
    assert torch.equal(*centers)
    assert centers[0].mean() > 0.05


def test_a_problem_is_asked_what_is_expected_of_the_children_around_their_centre():
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


def test_the_centre_is_what_the_problem_confines_it_to():
    searcher = ElitistGaussianResampling(Signs(), popsize=32, stdev=0.1)
    for _ in range(6):
        searcher.step()
    assert searcher._center.abs().max() == torch.tensor(0.3)
    assert searcher.status["center"].abs().max() <= torch.tensor(0.3)


def test_weighted_recombination_takes_solutions_as_they_are():
    problem = Signs()
    ElitistGaussianResampling(problem, popsize=32, stdev=0.1, recombination="weighted").run(3)
    assert problem.asked == []


@pytest.mark.parametrize("sense", ["min", "max", "second of two"])
def test_averages_of_the_centre_play_again_and_the_surest_of_them_is_handed_out(sense):
    problem = Noisy(minimise=sense == "min", second=sense == "second of two")
    index, sign = int(problem.second), -problem.sign
    searcher = ElitistGaussianResampling(problem, popsize=32, num_elites=8, stdev=1e-2, obj_index=index)
    averages, shown = [], {}
    for generation, (_, average) in enumerate(centers_by_hand(searcher, 12, expected=True, sign=sign), 1):
        played = searcher.population.values[32 - min(generation - 1, 4) :].numpy()
        # Those that play are averages of earlier generations; the newest is always there.
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


def test_a_population_too_small_for_candidates_hands_out_the_average():
    searcher = ElitistGaussianResampling(sphere(), popsize=7, stdev=0.1)
    searcher.run(5)
    assert torch.equal(searcher.status["center"], searcher._average)


def test_what_is_handed_out_is_less_noisy_than_the_centre():
    def last_distances(seed):
        problem = Noisy(seed)
        searcher = ElitistGaussianResampling(problem, popsize=16, stdev=0.1)
        searcher.run(100)
        return searcher.status["center"].square().sum(), searcher._center.square().sum()

    average, center = np.mean([last_distances(seed) for seed in range(10)], axis=0)
    assert average < 0.6 * center


def test_the_papers_search_hands_out_its_best_solution_alone():
    searcher = plain(sphere())
    searcher.step()
    assert "center" not in searcher.status


@pytest.mark.parametrize(("popsize", "num_elites"), [(1, 1), (3, 1), (8, 2), (64, 16), (66, 16)])
def test_a_quarter_of_the_population_are_elites_unless_told_otherwise(popsize, num_elites):
    default, told = (
        ElitistGaussianResampling(sphere(), popsize=popsize, **options) for options in ({}, {"num_elites": num_elites})
    )
    for searcher in (default, told):
        searcher.run(3)
    assert torch.equal(default.population.values, told.population.values)


def test_the_paper_starts_from_its_one_elite():
    searcher = plain(sphere(), popsize=10, num_elites=1, stdev=1e-3)
    searcher.step()
    best = elites_of(searcher, 1)
    searcher.step()
    assert ((searcher.population.values - best).abs() < 6e-3).all()


@pytest.mark.parametrize("obj_index", [0, 1, -1])
def test_the_objective_that_is_named_decides(obj_index):
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


@pytest.mark.parametrize("options", [{}, {"clone_elites": True}, {"recombination": "uniform"}], ids=str)
def test_the_same_seed_gives_the_same_bits(options):
    def populations(seed):
        searcher = ElitistGaussianResampling(sphere(seed=seed), popsize=8, **options)
        for _ in range(4):
            searcher.step()
            yield searcher.population.values.clone()

    for first, second, other in zip(populations(5), populations(5), populations(6), strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_a_problem_without_a_seed_of_its_own_follows_the_global_generator():
    def last_population():
        torch.manual_seed(4)
        searcher = ElitistGaussianResampling(sphere(seed=None), popsize=8)
        searcher.run(3)
        return searcher.population.values.clone()

    first = last_population()
    assert torch.equal(last_population(), first)
    assert first.unique().numel() == first.numel()


def test_the_global_generator_does_not_matter_where_the_problem_has_its_own():
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
def test_it_reaches_the_optimum_of_a_sphere(sense, options, reached):
    searcher = ElitistGaussianResampling(sphere(sense), popsize=40, stdev=0.03, **options)
    searcher.step()
    first = abs(searcher.status["mean_eval"])
    searcher.run(120)
    assert first > 2
    assert abs(searcher.status["mean_eval"]) < reached
    assert searcher.status["pop_best"].values.abs().max() < 0.15


def test_the_status_tells_what_every_search_of_evotorch_tells():
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


def test_all_solutions_may_be_elites():
    searcher = ElitistGaussianResampling(sphere(), popsize=4, num_elites=4, clone_elites=True)
    searcher.step()
    before = elites_of(searcher, 4)
    searcher.step()
    assert torch.equal(searcher.population.values, before)


class Failing(Problem):
    """Fails when it is told to."""

    def __init__(self, **options):
        super().__init__("min", solution_length=6, initial_bounds=(-1.0, 1.0), **options)
        self.fails = False

    def _evaluate_batch(self, batch):
        self.make_gaussian(3, center=0.0, stdev=1.0)
        if self.fails:
            raise KeyboardInterrupt
        batch.set_evals((batch.values**2).sum(dim=1))


@pytest.mark.parametrize("failing_step", [1, 2])
def test_a_step_that_failed_can_be_taken_again(failing_step):
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


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("popsize", 0, ValueError),
        ("popsize", -1, ValueError),
        ("popsize", 8.0, TypeError),
        ("popsize", True, TypeError),
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
def test_a_bad_argument_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=rf"^{name}: expected .* got {value!r}$"):
        ElitistGaussianResampling(sphere(), **{name: value})


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="num_elite"):
        ElitistGaussianResampling(sphere(), num_elite=3)


def test_arguments_after_the_problem_go_by_name():
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
            "problem: expected one without strict bounds",
        ),
        (
            Problem(["min", "max"], solution_length=3, initial_bounds=(0.0, 1.0)),
            ValueError,
            "obj_index: expected .* 0 to 1",
        ),
    ],
)
def test_a_problem_it_cannot_search_is_refused(problem, error, message):
    with pytest.raises(error, match=f"^{message}"):
        ElitistGaussianResampling(problem)
