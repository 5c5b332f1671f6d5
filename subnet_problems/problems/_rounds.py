"""Rounds: evaluations that depend only on solutions, seed and round number, and that workers can share."""

from __future__ import annotations

import math
import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import cloudpickle
import numpy as np
import ray
import torch
from evotorch import Problem, Solution, SolutionBatch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._checks import check_choice, check_count, check_mapping, check_matrix, check_numbers, check_seed
from .._torch_threads import one_torch_thread
from ..tasks._episodes import EvaluationError
from ._errors import WorkersLostError
from ._genotypes import Genotype
from ._workers import ACTOR_OPTIONS, Workers, start_ray, unpack_in_actor


class Rounds(Problem):
    """An EvoTorch problem in which every evaluation is a round.

    The result of a round is a pure function of the payload (see ``Genotype``), the seed and the round's number. So it
    is the same for any number of actors and sub-batches. If an actor is lost, another one evaluates its share again.
    Subclasses define how a share of a round is evaluated, how shares are merged, and what a round adds to the counters.

    Args:
        genotype: What decision vectors encode.
        num_actors: See ``GymOptions``.
        actor_config: See ``GymOptions``.
        num_subbatches: See ``GymOptions``.
        subbatch_size: See ``GymOptions``.
        worker_timeout: See ``GymOptions``.
        seed: See ``GymOptions``.
        device: See ``GymOptions``.
    """

    _actors: list[Any] | None

    def __init__(
        self,
        genotype: Genotype,
        *,
        num_actors: int | str | None,
        actor_config: dict[str, Any],
        num_subbatches: int | None,
        subbatch_size: int | None,
        worker_timeout: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self._genotype = genotype
        self._problem_seed = seed
        self._round = 0
        self._workers: Workers | None = None
        self._worker_timeout = worker_timeout
        self._sent_to_actors: Any = None  # Ray's reference to this problem while actors are created from it
        self._in_evaluate: bool | None = False
        self._given: Tensor | None = None  # the payload, if it was given instead of solutions
        self._outcome: Any = None  # of the last round
        super().__init__(
            objective_sense="max",
            solution_length=genotype.network.num_weights,
            dtype=torch.float32,
            eval_dtype=torch.float64,  # sums of rewards are not rounded
            device=device,
            seed=seed,
            num_actors=num_actors,
            actor_config={**ACTOR_OPTIONS, **actor_config},
            num_subbatches=num_subbatches,
            subbatch_size=subbatch_size,
        )
        self._status: dict[str, Any] = {}
        self.after_eval_hook.append(self._evaluation_status)
        self.after_grad_hook.append(self._evaluation_status)

    # Methods that a subclass implements

    @abstractmethod
    def _evaluate_share(self, payload: Tensor) -> Any | EvaluationError:
        """Evaluate some solutions of this round. Errors are returned, so that they can cross processes."""

    @abstractmethod
    def _merged(self, shares: Sequence[Any]) -> Any:
        """Merge the results of the shares into the outcome of the round."""

    @abstractmethod
    def _fitness_of(self, outcome: Any) -> Tensor:
        """The fitness ``(N,)`` float64 of a round's solutions.

        Raises:
            EvaluationError: A fitness overflows float64.
        """

    @abstractmethod
    def _count(self, outcome: Any) -> None:
        """Add a successful round to counters and statistics."""

    @abstractmethod
    def _counts(self) -> dict[str, Any]:
        """The counters in the status."""

    @abstractmethod
    def _shared_state(self) -> tuple[Any, ...]:
        """State that actors need besides the round's number and that may change between rounds."""

    @abstractmethod
    def _use_shared_state(self, state: tuple[Any, ...]) -> None:
        """In an actor, set the state that the main process's ``_shared_state`` returned."""

    @abstractmethod
    def _report(self) -> Any:
        """In an actor in which a search samples, the counts since the last ``_use_shared_state``."""

    @abstractmethod
    def _use_report(self, report: Any) -> None:
        """In the main process, add the counts of an actor's ``_report``."""

    @property
    @abstractmethod
    def _ready(self) -> bool:
        """True. It is read in an actor as a ping, and raises an error if the actor cannot evaluate."""

    # Evaluation

    def evaluate(self, x: SolutionBatch | Solution) -> None:
        """Evaluate a solution or a batch: one round.

        Raises:
            EvaluationError: An environment raised, or returned a value that is not finite. The round is not counted.
            ValueError: A solution contains NaN, or an actor cannot make the environment.
            WorkersLostError: All actors were lost and none came back in time, or one share lost too many actors in a
                row. The round is not counted; the next evaluation makes new actors.
        """
        self._in_evaluate = True
        try:
            with one_torch_thread():
                super().evaluate(x)
        finally:
            self._in_evaluate = False

    def _evaluate_all(self, batch: SolutionBatch) -> None:
        payload = self._given
        if payload is None:
            values = check_matrix("solutions", batch.values, self.solution_length)
            payload = self._genotype.express_in_search(values)
        outcome = self._run_round(payload)
        fitness = self._fitness_of(outcome)
        self._round += 1
        self._count(outcome)
        self._status = self._genotype.describe(payload)
        self._outcome = outcome
        batch.set_evals(fitness.to(batch.device))

    def evaluate_array(self, values: Tensor | ArrayLike) -> NDArray[np.float64]:
        """Evaluate an array of solutions: for the ask-and-tell searches of other libraries.

        This is an ordinary round: it is counted and seeded, and hooks run.

        Args:
            values: ``(N, D)``, or one solution ``(D,)``.

        Returns:
            ``(N,)`` fitness; higher is better. ``()`` for one solution.

        Raises:
            EvaluationError: See ``evaluate``.
            TypeError: The values are not real numbers.
            ValueError: The values have the wrong shape, or one is NaN.
        """
        matrix = check_numbers("values", values, dtype=self.dtype, device=self.device)
        shape = matrix.shape[:-1]
        if len(shape) not in (0, 1) or matrix.shape[-1:] != (self.solution_length,) or not matrix.numel():
            length = self.solution_length
            raise ValueError(f"values: expected shape (N, D) = (N, {length}) or (D,), got {tuple(matrix.shape)}")
        matrix = check_matrix("values", matrix.reshape(-1, self.solution_length), self.solution_length)
        return self._fitness_of_values(matrix).reshape(shape)

    def _fitness_of_values(self, values: Tensor) -> NDArray[np.float64]:
        batch = SolutionBatch(self, popsize=len(values), device=self.device, empty=True)
        batch.set_values(values)
        self.evaluate(batch)
        fitness: NDArray[np.float64] = batch.evals[:, 0].as_subclass(Tensor).cpu().numpy()
        return fitness

    def _run_round(self, payload: Tensor) -> Any:
        """Run a round for this payload ``(N, D)`` and return its outcome.

        Raises:
            EvaluationError: See ``evaluate``.
            WorkersLostError: See ``evaluate``.
        """
        self._parallelize()
        try:
            size = self._share_size(len(payload))
            starts = range(0, len(payload), size)
            if self._workers is None:
                shares = [self._evaluate_share(payload[i : i + size]) for i in starts]
            else:
                tasks = [[self._genotype.pack(payload[i : i + size]), self._make_sync_data()] for i in starts]
                shares = self._workers.map("_evaluate_remote_share", tasks)
        except (ValueError, WorkersLostError):
            self.kill_actors()
            raise
        for start, share in zip(starts, shares, strict=True):
            if isinstance(share, EvaluationError):
                raise EvaluationError(start + share.solution, share.episode, share.step, share.reason) from share
        return self._merged(shares)

    def _share_size(self, popsize: int) -> int:
        """Number of solutions in a share."""
        if self._subbatch_size is not None:
            return int(self._subbatch_size)
        num_shares = self._num_subbatches
        if num_shares is None:
            num_shares = 1 if self._workers is None else self._workers.count() or self._num_actors
        return math.ceil(popsize / int(num_shares))

    def _evaluate_remote_share(self, packed: NDArray[Any], sync_data: tuple[int, tuple[Any, ...]]) -> Any:
        self._use_sync_data_from_main(sync_data)
        return self._evaluate_share(self._genotype.unpack(packed, self.device))

    def traffic(self, values: Tensor | ArrayLike) -> tuple[int, int]:
        """Bytes that one share of an evaluation sends over the network.

        The share is evaluated in this process and not counted.

        Args:
            values: The solutions of the share, ``(n, D)``.

        Returns:
            Bytes sent to an actor, and bytes sent back.
        """
        matrix = check_numbers("values", values, dtype=self.dtype, device=self.device)
        payload = self._genotype.express(check_matrix("values", matrix, self.solution_length))
        packed = self._genotype.pack(payload)
        result = self._evaluate_share(payload)
        return len(cloudpickle.dumps([packed, self._make_sync_data()])), len(cloudpickle.dumps(result))

    def _evaluation_status(self, *_: Any) -> dict[str, Any]:
        return {**self._counts(), **self._status}

    @property
    def problem_seed(self) -> int:
        """The seed of all random numbers except the frozen weights."""
        return self._problem_seed

    @property
    def evaluation_round(self) -> int:
        """Number of rounds evaluated so far, which is also the number of the next round."""
        return self._round

    # EvoTorch's interface of a problem

    def _fill(self, values: Tensor) -> None:
        self._genotype.fill(values, self.generator)

    def as_tensor(self, x: Any, dtype: Any = None, device: Any = None, use_eval_dtype: bool = False) -> Tensor:
        """EvoTorch's method, with a check for ``MAPElites``, which passes its feature grid ``(N, F, 2)``.

        Raises:
            ValueError: ``x`` is a feature grid. Solutions of this package's problems have no features.
        """
        tensor: Tensor = super().as_tensor(x, dtype, device, use_eval_dtype)
        if use_eval_dtype and tensor.ndim == 3 and tensor.shape[1] != self.eval_data_length:
            raise ValueError(
                f"problem: expected solutions with the {tensor.shape[1]} features of feature_grid, got "
                f"{type(self).__name__}, whose solutions have {self.eval_data_length}: MAPElites cannot search it"
            )
        return tensor

    # EvoTorch's interface of a problem in several processes. Actors keep no state: they receive all state that may
    # change with each share or, if a search samples in them (``distributed=True``), before each generation. In the
    # latter case they also report their counts.

    def seed(self, seed: int) -> None:
        """Seed the generator. EvoTorch calls this in each actor."""
        self.manual_seed(seed)

    def _parallelize(self) -> None:
        """Make the actors. EvoTorch draws their seeds from the problem's generator; its state is restored after."""
        if self._actors is not None or self._num_actors == 0 or self.is_remote:
            return
        start_ray()
        state, reference = self.generator.get_state(), ray.put(self)
        self._sent_to_actors = reference
        try:
            super()._parallelize()
        finally:
            self._sent_to_actors = None
            self.generator.set_state(state)
        self._workers = Workers(self._actors or [], timeout=self._worker_timeout, source=reference)

    def kill_actors(self) -> None:
        """Kill all actors; the next evaluation makes new ones."""
        if self._actors is not None:
            super().kill_actors()
        self._workers = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle for actors as a reference. Ray drops objects that it stored itself, and then cannot restart actors."""
        reference = self._sent_to_actors
        return super().__reduce_ex__(protocol) if reference is None else (unpack_in_actor, (reference, sys.path))

    def _get_cloned_state(self, *, memo: dict[int, Any]) -> dict[str, Any]:
        """State to copy or pickle. EvoTorch would query the actors for it, but some of them may be lost."""
        actors, self._actors = self._actors, None
        try:
            return dict(super()._get_cloned_state(memo=memo))
        finally:
            self._actors = actors

    @property
    def _nonserialized_attribs(self) -> list[str]:
        return ["_workers", "_sent_to_actors", "_in_evaluate", "_given", "_outcome"]

    def _make_sync_data(self) -> tuple[int, tuple[Any, ...]]:
        return self._round, self._shared_state()

    def _make_sync_data_for_actors(self) -> Any:
        return NotImplemented if self._in_evaluate else self._make_sync_data()

    def _use_sync_data_from_main(self, received: tuple[int, tuple[Any, ...]]) -> None:
        self._round, state = received
        self._use_shared_state(state)

    def _make_sync_data_for_main(self) -> Any:
        return self._round, self._report()

    def _use_sync_data_from_actors(self, received: list[Any]) -> None:
        for round_, report in received:
            self._use_report(report)
            self._round = max(self._round, round_)


def check_actors(num_actors: Any, actor_config: Any, num_subbatches: Any, subbatch_size: Any) -> dict[str, Any]:
    """Check the arguments of ``Rounds`` that concern actors.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or ``num_subbatches`` and ``subbatch_size`` are both given.
    """
    if isinstance(num_actors, str):
        check_choice("num_actors", num_actors, ("max", "num_cpus", "num_gpus", "num_devices"))
    elif num_actors is not None:
        check_count("num_actors", num_actors, minimum=0)
    for name, value in (("num_subbatches", num_subbatches), ("subbatch_size", subbatch_size)):
        if value is not None:
            check_count(name, value)
    if num_subbatches is not None and subbatch_size is not None:
        raise ValueError(f"subbatch_size: expected None when num_subbatches is given, got {subbatch_size!r}")
    return {
        "num_actors": num_actors,
        "actor_config": check_mapping("actor_config", actor_config),
        "num_subbatches": num_subbatches,
        "subbatch_size": subbatch_size,
    }


def check_device(name: str, device: Any) -> torch.device:
    """Return ``device`` as a torch device.

    Raises:
        ValueError: The device is not available.
    """
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name}: expected an available torch device, such as 'cpu' or 'cuda', got {device!r}: {error}"
        ) from error


def seed_or_drawn(name: str, seed: Any) -> int:
    """Return the seed; if it is None, one drawn by the operating system.

    Raises:
        TypeError: The seed is not a whole number.
        ValueError: The seed is out of range.
    """
    return int.from_bytes(os.urandom(6), "little") if seed is None else check_seed(name, seed)
