"""Loggers beside EvoTorch's own: a CSV file, and TensorBoard. They stay true when a search is stopped and resumed."""

from __future__ import annotations

import csv
import time
import warnings
from numbers import Real
from pathlib import Path
from typing import Any

from evotorch.algorithms import SearchAlgorithm
from evotorch.logging import ScalarLogger

from ._checks import check_count, check_path


class CSVLogger(ScalarLogger):
    """Writes the numbers of each status as a row of a CSV file.

    As part of a checkpoint it knows how long the file was then: once resumed, it goes on from there. Where the file is
    gone or shorter by then, it goes on with what is left, with a warning.

    Args:
        searcher: The search.
        path: The file; one that is there is overwritten.
        interval: Generations between two rows.

    Attributes:
        path: The file. Set it anew where the file was moved before ``resume``.

    Raises:
        TypeError: ``path`` is not one, or ``interval`` no whole number.
        ValueError: ``interval`` is below 1.
    """

    def __init__(self, searcher: SearchAlgorithm, path: str | Path, *, interval: int = 1) -> None:
        self.path = check_path("path", path).absolute()
        self._fields: list[str] = []
        self._length = 0
        super().__init__(searcher, interval=check_count("interval", interval))  # it is attached now

    def _log(self, status: dict[str, Any]) -> None:
        numbers = _numbers(status)
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self._length:
            warnings.warn(f"{self.path} has lost rows: expected {self._length} bytes, got {size}", stacklevel=2)
            self._length = self.path.read_bytes().rfind(b"\n") + 1 if size else 0  # whole rows
        with open(self.path, "r+" if self._length else "w", newline="") as file:
            file.seek(self._length)
            file.truncate()
            self._fields = self._fields or sorted(numbers)
            writer = csv.DictWriter(file, self._fields, restval="", extrasaction="ignore")
            if not self._length:
                writer.writeheader()
            writer.writerow(numbers)
            self._length = file.tell()


class TensorBoardLogger(ScalarLogger):
    """Writes the numbers of each status for TensorBoard, against environment steps where the problem counts them.

    As part of a checkpoint it knows what was written: once resumed, what had come after is hidden.

    Args:
        searcher: The search.
        folder: Where TensorBoard looks (``tensorboard --logdir FOLDER``).
        interval: Generations between two entries.

    Attributes:
        folder: The same. Set it anew where it was moved before ``resume``.

    Raises:
        TypeError: ``folder`` is no path, or ``interval`` no whole number.
        ValueError: ``interval`` is below 1.
        ImportError: The package tensorboard is not installed.
    """

    def __init__(self, searcher: SearchAlgorithm, folder: str | Path, *, interval: int = 1) -> None:
        self.folder = check_path("folder", folder).absolute()
        self._step = 0
        self._writer: Any = None
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"TensorBoardLogger needs the package tensorboard (the extra of that name): {error}"
            ) from error
        super().__init__(searcher, interval=check_count("interval", interval))  # it is attached now

    def _log(self, status: dict[str, Any]) -> None:
        numbers = _numbers(status)
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard reads files in the order of their names: they begin with the second in which they were
            # opened, and two of one second would be read in any order.
            while any(self.folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
                time.sleep(0.05)
            # What was logged after this step was so before a resume.
            self._writer = SummaryWriter(str(self.folder), purge_step=self._step + 1)
        self._step = int(numbers.get("total_interaction_count", numbers.get("iter", self._step + 1)))
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, self._step)
        self._writer.flush()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None}


def _numbers(status: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in status.items() if isinstance(value, Real)}
