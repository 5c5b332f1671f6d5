"""Runs that are killed and resumed: helpers for the tests of checkpoints, and a script that kills many runs.

PYTHONPATH=. python tests/support/killing.py --kills 100
"""

import argparse
import contextlib
import io
import os
import random
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from evotorch.algorithms import (
    CEM,
    CMAES,
    PGPE,
    SNES,
    Cosyne,
    GeneticAlgorithm,
    PyCMAES,
    SearchAlgorithm,
    SteadyStateGA,
)
from evotorch.operators import GaussianMutation, OnePointCrossOver
from pymoo.algorithms.moo.nsga2 import NSGA2

from algorithms import Checkpointer, ElitistGaussianResampling, ParetoCheckpointer, pareto_operators, resume
from subnet_problems import MaskedGymProblem, ParetoSparsityProblem, TopK

ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
GENERATIONS = 12
EVERY = 3


def problem(**options) -> MaskedGymProblem:
    options = {"hidden_sizes": (64, 64), "num_episodes": 2, "episode_length": 40, "seed": 3, **options}
    return MaskedGymProblem("CartPole-v1", observation_normalization=True, **options)


def steady_state(p: MaskedGymProblem) -> SteadyStateGA:
    searcher = SteadyStateGA(p, popsize=16)
    searcher.use(OnePointCrossOver(p, tournament_size=2))
    searcher.use(GaussianMutation(p, stdev=0.05))
    return searcher


def genetic(p: MaskedGymProblem) -> GeneticAlgorithm:
    operators = [OnePointCrossOver(p, tournament_size=2), GaussianMutation(p, stdev=0.05)]
    return GeneticAlgorithm(p, popsize=16, operators=operators)


def pycmaes(p: MaskedGymProblem) -> PyCMAES:
    return PyCMAES(p, popsize=16, stdev_init=0.1, separable=True, cma_options={"verbose": -9})


SEARCHES: dict[str, Callable[[MaskedGymProblem], SearchAlgorithm]] = {
    "ElitistGaussian": lambda p: ElitistGaussianResampling(p, popsize=16),
    "ElitistGaussian, the paper's": lambda p: ElitistGaussianResampling(
        p, popsize=16, num_elites=4, recombination="uniform"
    ),
    "PGPE": lambda p: PGPE(p, popsize=16, center_learning_rate=0.1, stdev_learning_rate=0.1, stdev_init=0.1),
    "SNES": lambda p: SNES(p, popsize=16, stdev_init=0.1),
    "CEM": lambda p: CEM(p, popsize=16, parenthood_ratio=0.5, stdev_init=0.1),
    "CMAES": lambda p: CMAES(p, popsize=16, stdev_init=0.1, separable=True),
    "PyCMAES": pycmaes,
    "GeneticAlgorithm": genetic,
    "SteadyStateGA": steady_state,
    "Cosyne": lambda p: Cosyne(p, popsize=16, tournament_size=2, mutation_stdev=0.1),
}


class Run:
    """A search of this package, EvoTorch or pymoo that writes checkpoints, selected by name."""

    def __init__(self, name: str, path: Path | None, *, num_actors: int = 0, resumed: bool = False) -> None:
        self.is_pymoo = name == "NSGA2"
        if resumed:
            self.search = resume(path, allow_pickle=True)
        elif self.is_pymoo:
            self.search = NSGA2(8, n_offsprings=8, **pareto_operators(0.1))
            task = ParetoSparsityProblem(problem(mask_rule=TopK(0.5), num_actors=num_actors))
            callback = {} if path is None else {"callback": ParetoCheckpointer(path, every=EVERY)}
            self.search.setup(task, termination=("n_gen", GENERATIONS), seed=1, **callback)
        else:
            self.search = SEARCHES[name](problem(num_actors=num_actors))
            if path is not None:
                Checkpointer(self.search, path, every=EVERY)

    @property
    def generation(self) -> int:
        if self.is_pymoo:
            return (self.search.n_iter or 1) - 1
        return self.search.step_count

    def step(self) -> None:
        self.search.next() if self.is_pymoo else self.search.step()

    def finish(self, after_step: Callable[[int], None] = lambda generation: None) -> dict[str, object]:
        """Run to the end, and return everything that a user can see there."""
        while self.generation < GENERATIONS:
            self.step()
            after_step(self.generation)
        return self.outcome()

    def outcome(self) -> dict[str, object]:
        if self.is_pymoo:
            population = self.search.pop
            data = {key: population.get(key).tobytes() for key in ("X", "F")}
            evaluations = [individual.data["num_evaluations"] for individual in population]
            return data | {
                "evaluations": evaluations,
                "steps": self.search.problem.interaction_count,
                "n_eval": self.search.evaluator.n_eval,
                "random": self.search.random_state.bit_generator.state,
            }
        searcher, p = self.search, self.search.problem
        status = {key: float(value) for key, value in searcher.status.items() if isinstance(value, int | float)}
        best = searcher.status["best"]
        stats = p.get_observation_stats()
        return {
            "values": bits(searcher.population.values),
            "evals": bits(searcher.population.evals),
            "best": (bits(best.values), bits(best.evals)),
            "status": status,
            "counts": (p.interaction_count, p.episode_count, p.evaluation_round),
            "normalizer": (stats.count, bits(stats.mean), bits(stats.stdev)),
            "random": bits(p.generator.get_state()),
        }


def bits(values: torch.Tensor | np.ndarray) -> bytes:
    return np.asarray(values.as_subclass(torch.Tensor) if isinstance(values, torch.Tensor) else values).tobytes()


def in_a_child(work: Callable[[], None]) -> int:
    """Fork a process that calls ``work``, and return its id. Torch must not have used threads before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # warns about forks in processes with threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def wait(pid: int) -> int:
    """Wait for a child, and return its exit code or its negative signal number."""
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def run_in_a_child(
    name: str, folder: Path, seconds: float | None, *, generation: int = 0, while_writing: bool = False
) -> bool:
    """Run or resume in a child process that is killed after ``seconds``; return whether the run finished.

    Args:
        name: The search.
        folder: The folder of its files.
        seconds: Seconds until the kill; None lets the run finish.
        generation: The seconds count from the time when the log reaches this generation.
        while_writing: Kill while a checkpoint is being written.
    """
    path, log, result = folder / "checkpoint", folder / "log", folder / "result"

    def work() -> None:
        resumed = path.exists() or path.with_name("checkpoint.previous").exists()
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            run = Run(name, path, resumed=resumed)
            started = run.generation
            with open(log, "a") as file:
                file.write(f"start {started}\n")

                def note(generation: int) -> None:
                    file.write(f"{generation}\n")
                    file.flush()

                file.flush()
                outcome = run.finish(note)
        result.write_text(repr(outcome))

    pid = in_a_child(work)
    if seconds is None:
        assert wait(pid) == 0, "the run ended by itself, and not well"
        return True
    while not has_reached(generation, log) and os.waitid(os.P_PID, pid, ENDED) is None:
        time.sleep(0.001)
    time.sleep(seconds)
    while while_writing and not unfinished_in(folder) and os.waitid(os.P_PID, pid, ENDED) is None:
        pass
    os.kill(pid, signal.SIGKILL)
    return wait(pid) == 0


def unfinished_in(folder: Path) -> bool:
    return (folder / "checkpoint.unfinished").exists()


def has_reached(generation: int, log: Path) -> bool:
    return generation == 0 or (log.exists() and f"\n{generation}\n" in log.read_text())


def runs_in(log: Path) -> list[list[int]]:
    """The generations of each run: the one at which it started, and those that it reached."""
    runs: list[list[int]] = []
    for line in log.read_text().splitlines():
        if line.startswith("start "):
            runs.append([int(line.removeprefix("start "))])
        else:
            runs[-1].append(int(line))
    return runs


def most_generations_lost(log: Path) -> int:
    """The largest number of generations that had to be repeated after a kill."""
    return max([0, *(before[-1] - after[0] for before, after in pairwise(runs_in(log)))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    names = [*SEARCHES, "NSGA2"]
    kills, runs, differ, lost, where = 0, 0, 0, 0, Counter[str]()
    expected: dict[str, tuple[str, float]] = {}
    while kills < args.kills:
        name = names[runs % len(names)]
        runs += 1
        if name not in expected:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                run_in_a_child(name, Path(folder), None)
                expected[name] = (Path(folder, "result").read_text(), time.perf_counter() - start)
        reference, seconds = expected[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for _ in range(rng.randint(1, 4)):
                if run_in_a_child(name, folder, rng.uniform(0.0, seconds), while_writing=rng.random() < 0.5):
                    break
                kills += 1
                where["while writing" if unfinished_in(folder) else "elsewhere"] += 1
            if not (folder / "result").exists():
                run_in_a_child(name, folder, None)
            same = (folder / "result").read_text() == reference
            differ += not same
            lost = max(lost, most_generations_lost(folder / "log"))
            print(f"{kills} kills; {name}: {'the same bits' if same else 'DIFFERENT'}", flush=True)
    print(f"{kills} kills ({dict(where)}), {differ} runs with other bits, at most {lost} generations played again")


if __name__ == "__main__":
    main()
