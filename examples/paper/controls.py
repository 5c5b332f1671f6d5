"""Control experiments: does the reward come from the mask, or from the network, the sparsity or lucky draws?

For each seed a mask is searched, with free sparsity and with 90 % of the weights removed. The mask is compared with:

* the best of random masks of the same sparsity at the same budget of environment steps (the best masks are evaluated
  again, and ranked by the mean of all their evaluations);
* the found mask with its bits permuted within each layer, so that each layer keeps the same number of weights;
* the found mask on the weights of another network seed.

    python examples/paper/controls.py --seeds 10

Writes controls.csv (every test of every run), controls_masks.csv (tests of the altered masks), controls.md and
controls.png.
"""

from __future__ import annotations

import csv
from functools import partial
from hashlib import blake2b
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from evotorch import Problem, SolutionBatch
from evotorch.algorithms.searchalgorithm import SearchAlgorithm, SinglePopulationAlgorithmMixin
from protocol import OURS, TASKS, markdown, masked, parser, perform, report

from subnet_problems import FrozenNetwork, MaskedGymProblem, Subnetwork
from subnet_problems.experiments import Row, Run, outcome, write_table
from subnet_problems.pictures import save_figure

TASK, HIDDEN, SOLVED, BUDGET = "LunarLanderContinuous", (87, 87), 200.0, 1_000_000
SPARSITIES = {"free": None, "0.9": 0.9}
#: Number of altered masks of each kind per found mask.
NUM_ALTERED = 5


class RandomMasks(SearchAlgorithm, SinglePopulationAlgorithmMixin):
    """Draw new solutions each generation; the best so far are evaluated again and ranked by their means."""

    def __init__(self, problem: Problem, *, popsize: int = 64, num_kept: int = 16) -> None:
        SearchAlgorithm.__init__(self, problem)
        self._num_kept = num_kept
        self._population = problem.generate_batch(popsize)
        self._shown = torch.zeros(popsize)
        self._times = torch.zeros(popsize)
        SinglePopulationAlgorithmMixin.__init__(self)
        self.add_status_getters({"center": self._get_best})

    @property
    def population(self) -> SolutionBatch:
        """The best so far, then the solutions that were drawn last."""
        return self._population

    def _step(self) -> None:
        if self.step_count > 0:
            kept = self._order()[: self._num_kept]
            best, shown, times = self._population.values[kept].clone(), self._shown[kept], self._times[kept]
            self._population = self.problem.generate_batch(len(self._population))
            self._population.access_values()[: len(kept)] = best
            self._shown, self._times = torch.zeros(len(self._population)), torch.zeros(len(self._population))
            self._shown[: len(kept)], self._times[: len(kept)] = shown, times
        self.problem.evaluate(self._population)
        self._shown += self._population.evals[:, 0]
        self._times += 1

    def _order(self) -> torch.Tensor:
        return torch.argsort(self._shown / self._times, descending=True, stable=True)

    def _get_best(self) -> torch.Tensor:
        """The best of all solutions with at least five evaluations, or the best of all if there are none."""
        order = self._order()
        tried = order[self._times[order] >= 5]
        return self._population.values[int(tried[0] if len(tried) else order[0])].as_subclass(torch.Tensor)


def random_masks(seed: int, num_threads: int, *, sparsity: float | None) -> SearchAlgorithm:
    """The search by random masks at an equal budget."""
    return RandomMasks(
        MaskedGymProblem(
            **TASKS[TASK], hidden_sizes=HIDDEN, sparsity=sparsity, **OURS.problem,
            network_seed=seed, seed=seed, num_threads=num_threads,
        )
    )  # fmt: skip


def permuted(subnet: Subnetwork, seed: int) -> Subnetwork:
    """Permute the bits of each layer."""
    generator = torch.Generator().manual_seed(seed)
    mask = subnet.mask.clone()
    for layer in subnet.network.layers:
        mask[layer.slice] = mask[layer.slice][torch.randperm(layer.size, generator=generator)]
    return Subnetwork(
        subnet.network, mask, actions=subnet.actions, rescale=subnet.rescale, env=subnet.env,
        env_config=subnet.env_config,
    )  # fmt: skip


def transplanted(subnet: Subnetwork, seed: int) -> Subnetwork:
    """Move the mask to the weights of another seed."""
    network = FrozenNetwork(
        HIDDEN, obs_length=subnet.network.obs_length, act_length=subnet.network.act_length,
        weight_gain=subnet.network.weight_gain, seed=1_000_000 + seed,
    )  # fmt: skip
    return Subnetwork(
        network, subnet.mask, actions=subnet.actions, rescale=subnet.rescale, env=subnet.env,
        env_config=subnet.env_config,
    )  # fmt: skip


def altered(folder: Path, path: Path, num_seeds: int, test_episodes: int) -> list[Row]:
    """Test the altered masks, except those whose found mask has been tested before. Return all tests."""
    rows: list[Row] = []
    if path.exists():
        with open(path, newline="") as file:
            rows = [{**row, "test_mean": float(row["test_mean"])} for row in csv.DictReader(file)]
    for sparsity in SPARSITIES:
        for seed in range(num_seeds):
            file = folder / f"{sparsity} {seed}.safetensors"
            if not file.exists():
                continue
            subnet = Subnetwork.load(file)
            mask = blake2b(np.packbits(subnet.mask.numpy()), digest_size=8).hexdigest()
            before = [row for row in rows if row["name"].startswith(f"{sparsity} ") and row["seed"] == str(seed)]
            if before and all(row["mask"] == mask for row in before):
                continue
            rows = [row for row in rows if row not in before]
            for kind, alter in (("permuted", permuted), ("other network", transplanted)):
                for i in range(NUM_ALTERED):
                    returns = alter(subnet, 100 * seed + i).test(num_episodes=test_episodes, seed=i)
                    row = {"name": f"{sparsity} {kind}", "seed": str(seed), "mask": mask}
                    rows.append({**row, "test_mean": float(returns.mean())})
            write_table(path, rows, ["name", "seed", "mask", "test_mean"])
    return rows


def rewards(rows: list[Row], changed: list[Row], sparsity: str) -> dict[str, np.ndarray]:
    """Test rewards by kind of policy."""
    result = {
        "found mask": outcome(rows, f"{sparsity} search", solved=SOLVED).again,
        "best of random masks": outcome(rows, f"{sparsity} random masks", solved=SOLVED).again,
    }
    for kind in ("permuted", "other network"):
        tests = [row["test_mean"] for row in changed if row["name"] == f"{sparsity} {kind}"]
        result[f"found mask, {kind}"] = np.array(tests)
    return result


def table(rows: list[Row], *, changed: list[Row]) -> str:
    """A table of median and range of the test rewards."""
    lines = [
        [sparsity, what, str(len(values)), *(f"{x:.0f}" for x in (np.median(values), values.min(), values.max()))]
        for sparsity in SPARSITIES for what, values in rewards(rows, changed, sparsity).items() if len(values)
    ]  # fmt: skip
    return markdown(["sparsity", "policy", "tested", "test reward: median", "least", "most"], lines)


def plot(rows: list[Row], path: Path, *, changed: list[Row]) -> None:
    """Plot every test reward."""
    figure, all_axes = plt.subplots(1, len(SPARSITIES), figsize=(11, 3.6), layout="constrained", sharex=True)
    for axes, sparsity in zip(all_axes, SPARSITIES, strict=True):
        for y, (what, values) in enumerate(reversed(rewards(rows, changed, sparsity).items())):
            axes.plot(values, np.full(len(values), y), "o", alpha=0.4, color="C0" if what == "found mask" else "0.4")
        axes.set_yticks(range(4), reversed(rewards(rows, changed, sparsity)))
        axes.axvline(SOLVED, color="0.5", linestyle=":")
        axes.set(title=f"sparsity {sparsity}", xlabel="test reward (100 fresh episodes)")
    save_figure(figure, path)


def main() -> None:
    args = parser(__doc__, seeds=10).parse_args()
    folder = args.output / "controls"
    runs = []
    for seed in range(args.seeds):
        for name, sparsity in SPARSITIES.items():
            search = partial(masked, task=TASK, hidden_sizes=HIDDEN, sparsity=sparsity)
            keep = folder / f"{name} {seed}.safetensors"
            budget = args.budget or BUDGET
            runs.append(Run(f"{name} search", seed, search, budget, keep=keep))
            runs.append(Run(f"{name} random masks", seed, partial(random_masks, sparsity=sparsity), budget))
    rows = perform(runs, args, "controls")
    if rows:
        changed = altered(folder, args.output / "controls_masks.csv", args.seeds, runs[0].test_episodes)
        report(rows, args.output / "controls", partial(table, changed=changed), partial(plot, changed=changed))


if __name__ == "__main__":
    main()
