"""The results of a search for a front: policies are tested, saved and drawn."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from ..masks._live import is_chain
from ..pictures._plots import plot_network
from ..pictures._saving import drawn_if_possible, save_figure
from ..pictures._video import record_video
from ..problems._masked import MaskedGymProblem
from ..subnetworks._formula import MAX_WEIGHTS
from ._choosing import Found
from ._front_plots import plot_front
from ._tables import write_table

#: Files of the smallest policy that earns enough.
_SMALLEST = ("smallest.safetensors", "smallest.gif", "smallest.h", "smallest.png")
#: Files of a front, apart from its policies.
FILES = ("front.csv", "progress.csv", "front.png", *_SMALLEST)


def keep_tested(
    policies: Sequence[Found],
    masked: MaskedGymProblem,
    folder: Path,
    found: list[Found],
    *,
    replaces: bool,
    test_episodes: int,
    test_seed: int,
) -> None:
    """Test policies in order, and save each at once, then their table.

    If they replace an earlier front, its policies, its table and its pictures stay until all policies are tested. Until
    then, the new policies are in ``policies.new``.
    """
    saved = folder / ("policies.new" if replaces else "policies")
    saved.mkdir(exist_ok=True)
    earlier = set((folder / "policies").glob("*_weights.safetensors"))
    try:
        for one in policies:
            tested = one.subnet.tested(num_episodes=test_episodes, seed=test_seed, env=masked.task)
            tested.save(saved / f"{tested.num_active}_weights.safetensors")
            found.append(replace(one, subnet=tested))
    except BaseException:
        if found and not replaces:
            _write_front(found, folder)
        raise
    for one in found:
        path = folder / "policies" / f"{one.subnet.num_active}_weights.safetensors"
        if replaces:
            (saved / path.name).replace(path)
        earlier.discard(path)
    for path in earlier:
        path.unlink()
    if replaces:
        shutil.rmtree(saved)
    if found:
        _write_front(found, folder)


def has_front(folder: Path) -> bool:
    """Whether a folder has the front of an earlier search, or of its tests that were stopped."""
    return (folder / "front.csv").exists()


def _write_front(found: Sequence[Found], folder: Path) -> None:
    """Write the table of a front; the files of an earlier smallest policy do not belong to it."""
    for name in _SMALLEST:
        (folder / name).unlink(missing_ok=True)
    write_table(folder / "front.csv", [_row(one) for one in found])


def smallest(found: Sequence[Found], min_reward: float | None) -> Found | None:
    """The policy with the fewest weights that earns ``min_reward`` in its test; None if no policy does."""
    enough = [one for one in found if min_reward is not None and one.subnet.tests["mean"] >= min_reward]
    return min(enough, key=lambda one: (one.subnet.num_active, -one.subnet.tests["mean"]), default=None)


def verdict(small: Found | None, min_reward: float | None) -> str:
    """The printed sentence about the smallest policy."""
    if min_reward is None:
        return "There is no smallest policy: the task has no reward threshold, and min_reward is not given."
    if small is None:
        return f"No policy earns {min_reward:g}; a longer search (or another seed) may find one."
    tests = small.subnet.tests
    return (
        f"The smallest policy that earns {min_reward:g} has {small.subnet.num_active:,} weights: "
        f"{tests['mean']:.1f} ± {tests['standard_error']:.1f} in its test."
    )


def draw(found: Sequence[Found], small: Found | None, masked: MaskedGymProblem, folder: Path) -> None:
    """Draw the front; save the smallest policy and, if possible, its graph with formula, its video and its C header."""
    if small is not None:
        small.subnet.save(folder / "smallest.safetensors")
    with drawn_if_possible(folder / "front.png"):
        subnets, seen = [one.subnet for one in found], [one.seen for one in found]
        axes = plot_front(subnets, threshold=masked.task.reward_threshold, seen=seen)
        name = masked.task.name or "the task"
        axes.set_title(f"{name}: reward against sparsity, {masked.network.num_weights:,} random weights")
        save_figure(axes, folder / "front.png")
    if small is None:
        return
    subnet = small.subnet
    with drawn_if_possible(folder / "smallest.gif"):
        record_video(subnet, masked.task, folder / "smallest.gif")
    if not is_chain(subnet.network):  # graphs and headers exist only for chains of layers
        return
    with drawn_if_possible(folder / "smallest.h"):
        subnet.export_c(folder, name="smallest")
    with drawn_if_possible(folder / "smallest.png"):
        save_figure(plot_network(subnet, formula=subnet.num_active <= MAX_WEIGHTS), folder / "smallest.png")


def table(found: Sequence[Found], test_episodes: int) -> Table:
    """The front as a table for printing."""
    result = Table(title=f"Pareto front; tests: {test_episodes} fresh episodes on Gymnasium")
    columns = ("sparsity", "weights", "reward when chosen", "test reward", "standard error")
    for column in columns:
        result.add_column(column, justify="right")
    for one in found:
        tests = one.subnet.tests
        result.add_row(
            f"{one.subnet.sparsity:.4f}", f"{one.subnet.num_active:,}", f"{one.seen:.1f}", f"{tests['mean']:.1f}",
            f"{tests['standard_error']:.1f}",
        )  # fmt: skip
    return result


def _row(one: Found) -> dict[str, float]:
    """A policy's row in ``front.csv``."""
    return {
        "sparsity": one.subnet.sparsity,
        "weights_kept": one.subnet.num_active,
        "search_reward": one.seen,
        "search_evaluations": one.num_evaluations,
        "test_reward": one.subnet.tests["mean"],
        "test_standard_error": one.subnet.tests["standard_error"],
    }
