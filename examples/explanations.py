"""The pictures of docs/search.md and docs/mask-rules.md: what an expected score is, and which weights a rule keeps.

    python examples/explanations.py

Writes expected_scores.png and mask_rules.png, in a few seconds.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("EVOTORCH_VERBOSE_LEVEL", "0")

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import norm

from subnet_problems import FrozenNetwork, TopK
from subnet_problems.pictures import save_figure

KEPT, REMOVED = "#1f4e79", "#bf3a2b"
#: A center this far above the threshold, in standard deviations of the noise.
CENTER = 0.6
#: Rules of the same sparsity.
RULES = {
    "TopK(0.97)": TopK(0.97),
    'TopK(0.97, scope="erdos_renyi")': TopK(0.97, scope="erdos_renyi"),
}


def expected_scores() -> Figure:
    """The distribution of a child's score with its two expected values, and the variance that disappears."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    scores = np.linspace(CENTER - 3.5, CENTER + 3.5, 701)
    density = norm.pdf(scores - CENTER)
    for kept, color, name in ((False, REMOVED, "removed"), (True, KEPT, "kept")):
        part = (scores > 0) == kept
        left.fill_between(scores[part], density[part], color=color, alpha=0.2, linewidth=0)
        share = norm.cdf(CENTER if kept else -CENTER)
        expected = CENTER + (1 if kept else -1) * norm.pdf(CENTER) / share
        left.plot([expected, expected], [0, norm.pdf(expected - CENTER)], color=color)
        left.annotate(
            f"{name}: {share:.0%}\nof the children,\nexpected score\n{expected:.2f}", (expected, 0.02),
            (2.2 if kept else -2.9, 0.28), arrowprops={"arrowstyle": "->", "color": color}, color=color,
        )  # fmt: skip
    left.plot(scores, density, color="0.2", linewidth=1)
    left.axvline(0, color="0.5", linestyle=":")
    left.text(0, 0.43, "threshold", color="0.4", ha="center")
    left.set(
        xlabel="score of a child, in standard deviations of the noise", ylabel="probability density", ylim=(0, 0.46),
        title=f"A score whose center is {CENTER} above the threshold",
    )  # fmt: skip
    away = np.linspace(0, 3, 301)
    left_over = norm.pdf(away) ** 2 / (norm.cdf(away) * norm.cdf(-away))
    right.plot(away, 100 * (1 - left_over), color=KEPT)
    right.set(
        xlabel="distance of the center from the threshold, in standard deviations", ylabel="% of the variance",
        title="Variance that expected scores remove", xlim=(0, 3), ylim=(0, 100),
    )  # fmt: skip
    return figure


def mask_rules() -> Figure:
    """The masks that two rules make of the same random scores, layer by layer."""
    network = FrozenNetwork((87, 87), obs_length=8, act_length=2, seed=0)
    scores = torch.randn(1, network.num_weights, generator=torch.Generator().manual_seed(0))
    figure, all_axes = plt.subplots(len(RULES), 3, figsize=(7, 7.6), layout="constrained", width_ratios=[0.3, 1, 0.2])
    for row, (name, rule) in zip(all_axes, RULES.items(), strict=True):
        mask = rule(scores, network.layers)[0]
        row[0].set_ylabel(f"{name}\n{int(mask.sum())} of {len(mask):,} weights", fontsize=11)
        for axes, layer in zip(row, network.layers, strict=True):
            kept = mask[layer.slice].reshape(layer.shape).numpy()
            upright = kept if kept.shape[0] >= kept.shape[1] else kept.T
            axes.imshow(~upright, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{kept.sum()} of {kept.size:,}\n{kept.mean():.1%}", fontsize=10)
    for axes, layer in zip(all_axes[-1], network.layers, strict=True):
        units, inputs = layer.shape
        axes.set_xlabel(f"{inputs} inputs\nof {units} units")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/explanations"), help="folder (%(default)s)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name, draw in (("expected_scores", expected_scores), ("mask_rules", mask_rules)):
        save_figure(draw(), args.output / f"{name}.png")
        print(args.output / f"{name}.png")


if __name__ == "__main__":
    main()
