"""Hypervolumes and attainment surfaces, compared with values computed by hand and with their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from subnet_problems.experiments import Front, attainment, hypervolume, read_front

points = st.lists(st.tuples(st.floats(-300, 300), st.floats(0, 1)), min_size=1, max_size=8).map(np.array)
#: Few distinct numbers, so that ties occur.
coarse = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=5).map(
    lambda rows: np.array(rows, dtype=float).reshape(-1, 2) / [1, 4]
)


def area(front, **options):
    return hypervolume(*np.transpose(front), worst=-100.0, **options)


@pytest.mark.parametrize(
    ("rewards", "densities", "expected"),
    [
        ([0.0], [0.1], 100.0),
        ([0.0], [0.01], 200.0),
        ([200.0, 100.0], [0.1, 0.01], 300.0 + 200.0),  # the second adds a decade of 200
        ([200.0, 100.0], [0.01, 0.1], 600.0),  # the second is dominated
        ([50.0], [1.0], 0.0),
        ([-100.0, -math.inf, -101.0], [0.01, 0.01, 0.1], 0.0),
        ([], [], 0.0),
        ([0.0], [0.0], 300.0),  # densities below least_density count as least_density
        ([0.0], [1e-5], 300.0),
    ],
)
def test_the_hypervolume_is_reward_above_worst_times_decades_of_density(rewards, densities, expected):
    assert hypervolume(rewards, densities, worst=-100.0) == pytest.approx(expected)
    tensors = torch.tensor(rewards, dtype=torch.float64), torch.tensor(densities, dtype=torch.float64)
    assert hypervolume(*tensors, worst=-100.0) == pytest.approx(expected)


def test_rewards_and_densities_are_clipped_to_best_and_least_density():
    assert hypervolume([500.0], [0.1], worst=-100.0, best=300.0) == pytest.approx(400.0)
    assert hypervolume([math.inf], [0.1], worst=-100.0, best=300.0) == pytest.approx(400.0)
    assert hypervolume([0.0], [1e-9], worst=-100.0, least_density=1e-5) == pytest.approx(500.0)


@settings(deadline=None)
@given(front=points, one=st.tuples(st.floats(-300, 300), st.floats(0, 1)))
def test_a_hypervolume_never_shrinks_when_a_policy_is_added(front, one):
    assert area(np.vstack([front, one])) >= area(front) - 1e-9
    assert 0.0 <= area(front, best=200.0) <= 900.0 + 1e-9


@settings(deadline=None)
@given(front=points, data=st.data())
def test_dominated_policies_and_order_do_not_change_the_hypervolume(front, data):
    worse = front[data.draw(st.integers(0, len(front) - 1))].copy()
    worse += [-data.draw(st.floats(0, 100)), data.draw(st.floats(0, 1 - worse[1]))]
    worse[1] = min(worse[1], 1.0)
    everyone = np.vstack([front, worse])
    order = data.draw(st.permutations(range(len(everyone))))
    assert area(everyone[order]) == pytest.approx(area(front), rel=1e-12, abs=1e-9)


def test_the_surface_of_a_single_front_is_that_front_without_dominated_policies():
    front = ([250.0, 100.0, 90.0, -math.inf, 200.0], [0.5, 0.01, 0.02, 0.001, 0.1])
    expected = [[100.0, 0.01], [200.0, 0.1], [250.0, 0.5]]
    for same in (front, Front(*map(np.array, front)), np.transpose(front), torch.tensor(front, dtype=torch.float64).T):
        surfaces = attainment([same], percentiles=[50, 100])
        assert surfaces[50].tolist() == surfaces[100].tolist() == expected


def test_half_of_the_seeds_attain_the_median_surface_and_all_attain_the_worst():
    fronts = [([300.0, 100.0], [0.5, 0.1]), ([200.0], [0.2]), ([150.0, 90.0], [0.1, 0.05]), ([-50.0], [1.0])]
    surfaces = attainment(fronts, percentiles=(25, 50, 100))
    assert list(surfaces) == [25, 50, 100]
    assert surfaces[25].tolist() == [[90.0, 0.05], [150.0, 0.1], [200.0, 0.2], [300.0, 0.5]]
    assert surfaces[50].tolist() == [[100.0, 0.1], [150.0, 0.2], [200.0, 0.5]]
    assert surfaces[100].tolist() == [[-50.0, 1.0]]


def test_an_empty_front_counts_as_a_seed():
    fronts = [([200.0], [0.1]), ([100.0], [0.1]), ([], []), ([-math.inf], [0.5])]
    surfaces = attainment(fronts, percentiles=[25, 50, 51, 100])
    assert surfaces[25].tolist() == [[200.0, 0.1]]
    assert surfaces[50].tolist() == [[100.0, 0.1]]
    assert surfaces[51].shape == surfaces[100].shape == (0, 2)
    assert attainment([np.empty((0, 2))], percentiles=[50])[50].shape == (0, 2)


@settings(deadline=None)
@given(fronts=st.lists(coarse, min_size=1, max_size=7), percentile=st.sampled_from([1, 10, 100 / 3, 50, 70, 90, 100]))
def test_a_surface_has_the_best_points_that_enough_fronts_attain(fronts, percentile):
    def count(reward, density):
        return sum(bool(((front[:, 0] >= reward) & (front[:, 1] <= density)).any()) for front in fronts)

    needed = math.ceil(percentile * len(fronts) / 100 - 1e-9)
    attained = [(r, d / 4) for r in range(5) for d in range(5) if count(r, d / 4) >= needed]
    best = [
        (r, d) for r, d in attained
        if not any((s, e) != (r, d) and s >= r and e <= d for s, e in attained)
    ]  # fmt: skip
    surface = attainment(fronts, percentiles=[percentile])[percentile]
    assert [tuple(point) for point in surface] == sorted(best)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    data=st.data(),
)
def test_the_order_of_fronts_does_not_change_surfaces(sizes, data):
    fronts = [data.draw(arrays(np.float64, (n, 2), elements=st.floats(0, 1))) for n in sizes]
    one, other = (attainment(some, percentiles=[50, 100]) for some in (fronts, fronts[::-1]))
    assert all(one[p].tolist() == other[p].tolist() for p in (50, 100))


HEAD = "sparsity,weights_kept,search_reward,search_evaluations,test_reward,test_standard_error\n"


def test_read_front_reads_the_file_of_a_search(tmp_path):
    path = tmp_path / "front.csv"
    path.write_text(HEAD + "0.99,80,250.0,44,240.5,2.0\n0.5,4000,260.0,40,255.25,1.0\n")
    front = read_front(path)
    assert front.rewards.tolist() == [240.5, 255.25]
    assert front.densities.tolist() == pytest.approx([0.01, 0.5])
    assert attainment([front], percentiles=[50])[50].tolist() == np.column_stack(front).tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,seed\n", "path: expected a front.csv, .* no columns sparsity, test_reward"),
        (HEAD + "0.99,80,1,1,x,1\n", "path: expected a policy in line 2 of"),
        (HEAD + "0.99,80\n", "path: expected a policy in line 2 of"),
        (HEAD + "1.5,80,1,1,1,1\n", r"path: .* expected densities in \[0, 1\], got -0.5 at index 0"),
        (HEAD + "0.5,80,1,1,nan,1\n", "path: .* expected finite numbers .* got nan at index 0"),
    ],
)
def test_a_file_without_a_front_is_refused(tmp_path, text, message):
    path = tmp_path / "front.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_front(path)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hypervolume([1.0], [0.5, 0.5], worst=0.0), ValueError, r"densities: expected shape \(n,\) = \(1,\)"),
        (lambda: hypervolume([[1.0]], [0.5], worst=0.0), ValueError, r"rewards: expected shape \(n,\), got \(1, 1\)"),
        (lambda: hypervolume([1.0, math.nan], [0.5, 0.5], worst=0.0), ValueError, "rewards: .* got nan at index 1"),
        (lambda: hypervolume([math.inf], [0.5], worst=0.0), ValueError, "rewards: .* got inf at index 0"),
        (lambda: hypervolume([1.0], [math.nan], worst=0.0), ValueError, "densities: .* got nan at index 0"),
        (lambda: hypervolume([1.0], [1.5], worst=0.0), ValueError, r"densities: .*in \[0, 1\], got 1.5 at index 0"),
        (lambda: hypervolume(["a"], [1.5], worst=0.0), TypeError, "rewards: expected an array of real numbers"),
        (lambda: hypervolume([1.0], [0.5], worst=math.nan), ValueError, "worst: expected a finite number"),
        (lambda: hypervolume([1.0], [0.5], worst=0.0, best=0.0), ValueError, "best: expected more than worst = 0"),
        (lambda: hypervolume([1.0], [0.5], worst=0.0, best="1"), TypeError, "best: expected a finite number"),
        (lambda: hypervolume([1.0], [0.5], worst=0.0, least_density=0.0), ValueError, "least_density: expected"),
        (lambda: hypervolume([1.0], [0.5], worst=0.0, least_density=1.0), ValueError, "least_density: expected"),
        (lambda: attainment([], percentiles=[50]), ValueError, "fronts: expected at least one, got none"),
        (lambda: attainment(3, percentiles=[50]), TypeError, "fronts: expected a sequence of fronts, got 3"),
        (lambda: attainment([np.ones(2)], percentiles=[50]), ValueError, r"fronts\[0\]: expected .* got \(2,\)"),
        (lambda: attainment([([1.0],)], percentiles=[50]), ValueError, r"fronts\[0\]: expected a tuple .* length 1"),
        (lambda: attainment([([1.0], [2.0])], percentiles=[50]), ValueError, r"fronts\[0\]\[1\]: expected densities"),
        (lambda: attainment([np.array([[1.0, 2.0]])], percentiles=[50]), ValueError, r"fronts\[0\]\[:, 1\]: expected"),
        (lambda: attainment([([math.inf], [1.0])], percentiles=[50]), ValueError, r"fronts\[0\]\[0\]: .* got inf"),
        (lambda: attainment([([1.0], [1.0])], percentiles=[]), ValueError, "percentiles: expected at least one"),
        (lambda: attainment([([1.0], [1.0])], percentiles=50), TypeError, "percentiles: expected numbers in"),
        (lambda: attainment([([1.0], [1.0])], percentiles=[0]), ValueError, r"percentiles\[0\]: expected a finite"),
        (lambda: attainment([([1.0], [1.0])], percentiles=[50, 101]), ValueError, r"percentiles\[1\]: expected a num"),
        (lambda: read_front(3), TypeError, "path: expected a path"),
    ],
)
def test_errors_name_the_invalid_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
