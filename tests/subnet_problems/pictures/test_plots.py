"""Plots show the correct numbers, which the tests read back from the drawn artists."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from disks import full_disk
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from small_subnetworks import PATHS, RNN, STRING, lander, make, smallest

from subnet_problems import Normalizer, Subnetwork
from subnet_problems.experiments import plot_attainment, plot_front, plot_learning_curves
from subnet_problems.pictures import plot_mask, plot_network, save_figure
from subnet_problems.pictures._network_picture import _PLACES
from subnet_problems.subnetworks._pruning import masked_layers


@pytest.fixture(autouse=True)
def no_open_figures():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def policy(sparsity, mean, error):
    tests = {"mean": mean, "standard_error": error, "num_episodes": 10, "seed": 0}
    return replace(make((20,), sparsity=sparsity), tests=tests)


def test_a_mask_plot_distinguishes_live_dead_and_removed_weights():
    subnet = lander()
    *images, graph = plot_mask(subnet)
    alive = subnet.prune().mask
    for axes, tensor in zip(images, subnet.network.layers, strict=True):
        drawn = np.asarray(axes.images[0].get_array())
        assert (drawn > 0).tolist() == subnet.mask[tensor.slice].view(tensor.shape).tolist()
        assert (drawn == 2).tolist() == alive[tensor.slice].view(tensor.shape).tolist()
    dead = [int((~units).sum()) for units in subnet.live_units()]
    assert images[0].get_title() == f"layer 1: 84 of 696\n{dead[1]} of 87 units dead"
    assert images[2].get_title() == "layer 3: 13 of 174"
    lines = [c for c in graph.collections if isinstance(c, LineCollection)]
    assert sum(len(c.get_segments()) for c in lines) == int(alive.sum())
    assert graph.get_title() == "8 of 8 inputs reach an output"


def test_lines_of_the_graph_go_from_input_to_unit():
    subnet = make((3,), sparsity=0.7)
    graph = plot_mask(subnet)[-1]
    drawn = {tuple(map(tuple, segment)) for c in graph.collections for segment in c.get_segments()}
    layer, last = masked_layers(subnet)
    alive = np.flatnonzero(subnet.live_units()[1])
    expected = set()
    for place, unit in enumerate(alive):
        x = (place + 0.5) / len(alive)
        expected |= {(((i + 0.5) / 4, 0.0), (x, 1.0)) for i in range(4) if layer.mask[unit, i]}
        expected |= {((x, 1.0), ((o + 0.5) / 2, 2.0)) for o in range(2) if last.mask[o, unit]}
    assert drawn == expected
    assert drawn


def test_networks_that_are_not_chains_are_drawn_without_a_graph():
    all_axes = plot_mask(make(RNN))
    assert len(all_axes) == 3
    assert not any(axes.collections for axes in all_axes)


def numbers_on_lines(axes):
    """For each line in a network's picture: its ends, its width, and the number drawn on it in the same color."""
    (lines,) = axes.collections
    texts = {tuple(np.round(text.get_position(), 9)): text for text in axes.texts}
    found = []
    for (start, end), width, color in zip(
        lines.get_segments(), lines.get_linewidths(), lines.get_edgecolors(), strict=True
    ):
        places = [start * (1 - place) + end * place for place in _PLACES]
        on = [texts[at] for at in (tuple(np.round(place, 9)) for place in places) if at in texts]
        (text,) = [text for text in on if to_rgb(text.get_color()) == tuple(color[:3])]
        found.append((start, end, width, float(text.get_text().replace("−", "-"))))
    return found


def test_a_small_network_is_drawn_with_the_number_of_each_connection():
    normalizer = Normalizer(np.full(8, 0.25, dtype=np.float32), np.arange(2, 10, dtype=np.float32))
    subnet = smallest(normalizer=normalizer)
    axes = plot_network(subnet)
    found = numbers_on_lines(axes)
    first, *others = masked_layers(subnet)
    weights = [first.weight * normalizer.scale, *(layer.weight for layer in others)]
    alive = [np.abs(weights[layer][unit, number]) for layer, unit, number in PATHS]
    signed = [weights[layer][unit, number] for layer, unit, number in PATHS]
    assert sorted(number for *_, number in found) == sorted(float(f"{weight:.3g}") for weight in signed)
    for _, _, width, number in found:
        assert (width - 0.7) / 2.3 == pytest.approx(abs(number) / max(alive), rel=0.01)
    names = {round(text.get_position()[1], 9): text.get_text() for text in axes.texts if text.get_ha() == "right"}
    drawn = {(names[round(start[1], 9)], number) for start, _, _, number in found if round(start[1], 9) in names}
    assert ("$y - 0.25$", float(f"{weights[0][3, 1]:.3g}")) in drawn
    assert (r"$\mathrm{angle}\;\ \theta - 0.25$", float(f"{weights[0][40, 4]:.3g}")) in drawn
    assert len(names) == 7


def test_biases_activations_and_disconnected_outputs_are_drawn():
    axes = plot_network(make(STRING, options={"network_args": {"width": 3}}, sparsity=0.3))
    texts = [text.get_text() for text in axes.texts]
    assert {"ReLU", "tanh"} <= set(texts)
    assert any(text.startswith("+") for text in texts)
    nothing = smallest(paths=[])
    axes = plot_network(nothing, formula=True)
    texts = [text.get_text() for text in axes.texts]
    assert texts.count(r"$\mathrm{main} = 0$") == 2
    assert axes.collections[0].get_segments() == []


@pytest.mark.parametrize("formula", [False, True])
def test_texts_of_a_small_network_are_not_cut_and_do_not_overlap(formula):
    axes = plot_network(smallest(), formula=formula)
    axes.figure.canvas.draw()
    texts = [text for text in axes.texts if text.get_text()]
    assert ("$h_{1}$" in [text.get_text() for text in texts]) == formula
    assert (r"$\mathrm{side} = 4.1\,h_{4} - 5.79\,\tanh(-26\,h_{3})$" in [t.get_text() for t in texts]) == formula
    boxes = [text.get_window_extent() for text in texts]
    whole = axes.figure.bbox
    for number, box in enumerate(boxes):
        assert box.x0 > 0
        assert box.y0 > 0
        assert box.x1 < whole.x1
        assert box.y1 < whole.y1
        assert not any(box.overlaps(other) for other in boxes[:number]), texts[number]


def test_a_long_formula_is_broken_into_lines_that_fit():
    axes = plot_network(make((6,), sparsity=0.1), formula=True)
    axes.figure.canvas.draw()
    lines = [text for text in axes.texts if "out" in text.get_text() and "=" in text.get_text()]
    assert any(text.get_text().startswith(r"$\qquad") for text in axes.texts)
    assert len(lines) >= 3
    assert max(text.get_window_extent().x1 for text in axes.texts) < axes.figure.bbox.x1


def test_a_network_is_scaled_to_the_axes_and_large_ones_have_no_numbers():
    figure = plt.figure(figsize=(4, 3))
    mine = figure.subplots()
    assert plot_network(smallest(), ax=mine) is mine
    assert len(numbers_on_lines(mine)) == 21
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in mine.texts if text.get_text()]
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])
    (lines,) = plot_network(lander()).collections
    assert len(lines.get_segments()) == lander().prune().num_active
    for large in (lander(), make((12, 12), options={"bias": True}, sparsity=0.3, env="Own-v0")):  # nor at biases
        assert large.prune().num_active > 60
        assert not [text for text in plot_network(large).texts if text.get_text()[:1] in tuple("−+0123456789")]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plot_network("lander"), TypeError, "subnet: expected a Subnetwork, got 'lander'"),
        (lambda: plot_network(make(), formula=1), TypeError, "formula: expected True or False, got 1"),
        (lambda: plot_network(make(RNN)), ValueError, "network: expected a chain of linear layers, tanh and ReLU"),
        (
            lambda: plot_network(lander(), formula=True),
            ValueError,
            "formula: expected False for more than 60 live weights, got 157",
        ),
        (
            lambda: plot_network(make((400,), sparsity=0.0)),
            ValueError,
            "subnet: expected a network of at most 300 live units, got 406",
        ),
    ],
)
def test_a_network_that_cannot_be_drawn_is_refused(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
    assert not plt.get_fignums()


def test_a_front_is_drawn_over_the_percentage_of_kept_weights():
    axes = plot_front([policy(0.9, 50.0, 1.0), policy(0.5, 200.0, 3.0)], threshold=195.0, seen=[60.0, 210.0])
    seen, line = axes.lines[0], axes.containers[0].lines[0]
    assert line.get_xdata() == pytest.approx([50.0, 10.0])
    assert line.get_ydata().tolist() == [200.0, 50.0]
    assert seen.get_ydata().tolist() == [210.0, 60.0]
    segments = axes.containers[0].lines[2][0].get_segments()
    assert segments[0][:, 1].tolist() == [197.0, 203.0]
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    assert "solved (195)" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_ticks_of_a_front_are_in_range_and_spaced():
    axes = plot_front([policy(sparsity, 50.0, 1.0) for sparsity in np.linspace(0.9, 0.995, 18)])
    ticks, (high, low) = axes.get_xticks(), axes.get_xlim()
    assert low <= ticks.min() < ticks.max() <= high <= 20
    assert (ticks[:-1] / ticks[1:]).min() >= (high / low) ** (1 / 12)
    assert len(ticks) > 4
    alone = plot_front([policy(0.9, 50.0, 1.0)])
    assert alone.get_xlim() == pytest.approx((15.0, 10.0 / 1.5))
    assert 10 in alone.get_xticks()


def test_a_policy_without_weights_appears_in_the_front():
    nothing = policy(0.5, 9.0, 1.0)
    nothing = Subnetwork(nothing.network, torch.zeros_like(nothing.mask), actions=nothing.actions, tests=nothing.tests)
    for others, at in (([], [0.5]), ([policy(0.5, 200.0, 3.0), policy(0.9, 50.0, 1.0)], [50.0, 10.0, 5.0])):
        axes = plot_front([nothing, *others])
        assert axes.containers[0].lines[0].get_xdata() == pytest.approx(at)
        assert axes.containers[0].lines[0].get_ydata()[-1] == 9.0
        assert axes.get_xticklabels()[-1].get_text() == "0 %\n0"
        assert axes.get_xticks()[-1] == pytest.approx(at[-1])


def test_attainment_is_drawn_as_steps_over_the_percentage_of_weights():
    groups = {
        "a": [([300.0, 100.0], [0.5, 0.1]), ([200.0], [0.2]), ([150.0, 90.0], [0.1, 0.05]), ([-50.0], [0.8])],
        "b": [([10.0], [0.4])],
    }
    axes = plot_attainment(groups, threshold=200.0)
    median, worst, single = axes.lines[:3]
    assert median.get_drawstyle() == worst.get_drawstyle() == "steps-post"
    assert median.get_xdata() == pytest.approx([10.0, 20.0, 40.0, 50.0, 80.0, 100.0])
    # a step extends from a point toward denser policies, up to the next point
    assert median.get_ydata().tolist() == [100.0, 150.0, 150.0, 200.0, 200.0, 200.0]
    assert worst.get_ydata()[-2:].tolist() == [-50.0, -50.0]
    assert np.isnan(worst.get_ydata()[:-2]).all()
    assert single.get_ydata()[2:].tolist() == [10.0] * 4
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["a (4 seeds)", "b (1 seed)", "at least half of the seeds", "all seeds", "solved (200)"]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (-50.0, 200.0)
    mine = plt.figure().subplots()
    assert plot_attainment(groups, ax=mine) is mine


def test_attainment_includes_policies_without_weights():
    axes = plot_attainment({"a": [([50.0, 10.0], [0.1, 0.0])]})
    assert axes.lines[0].get_xdata() == pytest.approx([5.0, 10.0, 12.5])
    assert axes.lines[0].get_ydata().tolist() == [10.0, 50.0, 50.0]
    assert axes.get_xticklabels()[-1].get_text() == "0 %"


def test_tick_labels_of_percentages_do_not_overlap():
    wide = plot_attainment({"a": [([0.0, 300.0], [0.001, 1.0])]})
    labels = "100 %,50 %,20 %,10 %,5 %,2 %,1 %,0.5 %,0.2 %,0.1 %"
    assert [label.get_text() for label in wide.get_xticklabels()] == labels.split(",")
    narrow = plot_attainment({"a": [([0.0, 300.0], [0.014, 0.03])]})
    assert [label.get_text() for label in narrow.get_xticklabels()] == ["3 %", "2 %", "1.5 %"]


def rows():
    return [
        {"name": name, "seed": seed, "steps": steps, "test_mean": rate * steps * seed}
        for name, rate in (("b", 1.0), ("a", 2.0)) for seed in (1, 2, 3) for steps in (0, 1_000_000)
    ]  # fmt: skip


def test_learning_curves_are_medians_over_seeds_with_the_interquartile_range():
    axes = plot_learning_curves(rows(), threshold=5.0)
    assert [line.get_label() for line in axes.lines[:2]] == ["b (3 seeds)", "a (3 seeds)"]
    assert axes.lines[1].get_xdata()[[0, -1]].tolist() == [0.0, 1.0]
    assert axes.lines[1].get_ydata()[-1] == 4e6
    band = axes.collections[1].get_paths()[0].vertices[:, 1]
    assert band.max() == 5e6
    assert 3e6 in band
    mine = plt.figure().subplots()
    assert plot_learning_curves(rows(), ["a"], labels=["ours"], ax=mine) is mine
    assert [line.get_label() for line in mine.lines] == ["ours (3 seeds)"]


@pytest.mark.parametrize("suffix", [".png", ".PDF", ".svg"])
def test_a_figure_is_written_completely_or_not_at_all_and_closed(suffix, tmp_path):
    path = tmp_path / "new" / f"curves{suffix}"
    save_figure(plot_learning_curves(rows()).get_figure(), path)
    before = path.read_bytes()
    assert len(before) > 1000
    axes = plot_learning_curves(rows())
    axes.set_title("$no such \\word$")  # the error occurs only at drawing time
    with pytest.raises(ValueError, match="word"):
        save_figure(axes, path)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        save_figure(plot_learning_curves(rows()), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", ["curves", "curves.xyz", "curves.csv"])
def test_an_unknown_suffix_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=rf"^path: expected a name that ends in one of .*\.png, .*, got '.*{name}'$"):
        save_figure(plot_learning_curves(rows()), tmp_path / name)
    with pytest.raises(TypeError, match=r"^figure: expected a matplotlib Figure or Axes, got "):
        save_figure(rows(), tmp_path / "curves.png")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_front([]), "subnets: expected at least one, all tested"),
        (lambda: plot_front([make()]), "subnets: expected at least one, all tested"),
        (
            lambda: plot_front([policy(0.5, 1.0, 1.0)], seen=[]),
            "seen: expected a reward for each of 1",
        ),
        (lambda: plot_attainment({}), "groups: expected one with a policy from at least half"),
        (lambda: plot_attainment({"a": [([], [])]}), "groups: expected one with a policy from at least half"),
        (lambda: plot_attainment({"a": []}), r"groups\['a'\]: expected at least one"),
        (lambda: plot_attainment({"a": [([1.0], [2.0])]}), r"groups\['a'\]\[0\]\[1\]: expected densities"),
        (lambda: plot_learning_curves([]), "names: expected some of"),
        (lambda: plot_learning_curves(rows(), ["c"]), r"names: expected some of \['b', 'a'\], got \['c'\]"),
        (lambda: plot_learning_curves(rows(), labels=["x"]), "labels: expected one per name of"),
    ],
)
def test_invalid_arguments_of_plots_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()
