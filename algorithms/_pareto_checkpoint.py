"""Checkpoints of pymoo algorithms."""

from __future__ import annotations

import pickle
from os import PathLike
from typing import Any

from pymoo.core.callback import Callback
from pymoo.util.archive import Archive

from ._checkpoint import dumps, header, new_path, warning_of_failure
from ._checkpoint_file import write
from ._checks import check_whole_number


class ParetoCheckpointer(Callback):
    """Writes a pymoo algorithm to a file every few generations, so that ``resume`` can continue from there.

    The guarantees of ``Checkpointer`` hold here too. The first and the last generation are always written, whatever
    ``every`` is, so that an algorithm that cannot be pickled is found at once. Algorithms of which a pickle loses
    a part are refused after the first generation, because they would stop or continue differently: pymoo's CMAES, and
    algorithms with an archive (``MOPSO_CD`` and ``CMOPSO`` always have one).

    Example:
        >>> algorithm.setup(problem, callback=ParetoCheckpointer("front.checkpoint", every=10), seed=0)
        >>> algorithm.run()
        >>> # after a kill, in a new process:
        >>> result = resume("front.checkpoint", allow_pickle=True).run()

    Args:
        path: The file. Its folder must exist; the file must not exist.
        every: Generations between two checkpoints. Default: 10.

    Raises:
        TypeError: An argument has the wrong type, or (after the first generation) the algorithm cannot be pickled
            completely.
        ValueError: ``every`` is below 1.
        FileExistsError: A checkpoint exists already: resume or remove it.
        FileNotFoundError: The folder does not exist.
    """

    def __init__(self, path: str | PathLike[str], *, every: int = 10) -> None:
        super().__init__()
        self.path = new_path(path)
        self.every = check_whole_number("every", every)

    def _update(self, algorithm: Any) -> None:
        generation = algorithm.n_iter
        if generation != 1 and generation % self.every and not algorithm.termination.has_terminated():
            return
        # pymoo calls back before a generation is over. A resumed run does not do the rest, so do it here.
        archive = algorithm.archive
        algorithm.n_iter = generation + 1
        if archive is not None and algorithm.off is not None:
            algorithm.archive = archive.add(algorithm.off)
        try:
            payload = dumps(algorithm, self)
        finally:
            algorithm.n_iter, algorithm.archive = generation, archive
        if generation == 1:
            _check_whole(algorithm, pickle.loads(payload)["search"])
        with warning_of_failure(self.path):
            write(self.path, header(generation), payload)


def _check_whole(algorithm: Any, copy: Any) -> None:
    """Check that pymoo left nothing out of a pickle.

    Raises:
        TypeError: Something is missing from the copy.
    """
    lost = sorted(vars(algorithm).keys() - vars(copy).keys())
    for part, value in vars(algorithm).items():
        if isinstance(value, Archive) and part not in lost:
            lost += [f"{part}.{name}" for name in sorted(vars(value).keys() - vars(getattr(copy, part)).keys())]
    if lost:
        raise TypeError(
            f"algorithm: expected one that can be pickled completely, got {type(algorithm).__name__}, which loses "
            f"{', '.join(lost)}"
        )
