"""Loggers to CSV files and TensorBoard that stay correct when a search is stopped and resumed."""

from __future__ import annotations

import csv
import io
import time
import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from evotorch.algorithms import SearchAlgorithm
from evotorch.logging import ScalarLogger

from .._checks import check_count, check_path
from .._files import check_file, check_folder, write_whole


class CSVLogger(ScalarLogger):
    """Writes the numbers of each status as a row of a CSV file; a kill leaves only complete rows.

    A number that first appears in a later generation gets a new column, which is empty in earlier rows. A checkpoint
    stores the number of rows, and a resumed search continues from that row. If the file is missing or shorter then, the
    logger continues with the rows that are left, with a warning. If a row cannot be written (a full disk), the search
    continues without it, with a warning.

    Args:
        searcher: The search.
        path: The file; an existing file is overwritten, and missing folders are created.
        interval: Generations between two rows. Default: 1.

    Attributes:
        path: The file. Set it to the new path if the file was moved before ``resume``.

    Raises:
        TypeError: ``path`` is not a path, or ``interval`` is not a whole number.
        ValueError: ``interval`` is below 1.
        OSError: ``path`` is a folder, or its folder is not writable.
    """

    def __init__(self, searcher: SearchAlgorithm, path: str | Path, *, interval: int = 1) -> None:
        self.path = check_file("path", check_path("path", path).absolute())
        self._fields: list[str] = []
        self._num_rows = 0
        self._length = 0  # of the header and these rows, in bytes
        super().__init__(searcher, interval=check_count("interval", interval))  # attaches the logger

    def _log(self, status: dict[str, Any]) -> None:
        numbers = _numbers(status)
        new = sorted(numbers.keys() - set(self._fields))
        try:
            if new or not self._is_as_it_was_left():
                self._write_anew([*self._fields, *new])
            self._append(numbers)
        except OSError as error:
            warnings.warn(f"{self.path} lacks a row that could not be written: {error}", stacklevel=2)

    def _is_as_it_was_left(self) -> bool:
        """Whether the file still has the columns and at least the length that this logger wrote."""
        if not self.path.exists() or self.path.stat().st_size < self._length:
            return False
        with open(self.path, "rb") as file:
            return file.readline() == _lines(self._fields)

    def _write_anew(self, fields: list[str]) -> None:
        """Rewrite the file with these columns and the rows that are left of those written."""
        rows: list[dict[str, str]] = []
        if self._num_rows and self.path.exists():
            whole = self.path.read_bytes().rpartition(b"\n")[0]
            rows = list(csv.DictReader(whole.decode(errors="replace").splitlines()))[: self._num_rows]
        if len(rows) < self._num_rows:
            warnings.warn(f"{self.path} has lost rows: expected {self._num_rows}, got {len(rows)}", stacklevel=3)
        data = _lines(fields, rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, data)
        self._fields, self._num_rows, self._length = fields, len(rows), len(data)

    def _append(self, numbers: dict[str, float]) -> None:
        """Append a row in one write, after cutting off rows that a killed search wrote later."""
        row = _lines(self._fields, [numbers], header=False)
        with open(self.path, "r+b", buffering=0) as file:
            file.truncate(self._length)
            file.seek(self._length)
            if file.write(row) < len(row):
                raise OSError(f"{self.path} has no room for a row")
        self._num_rows += 1
        self._length += len(row)


def _lines(fields: list[str], rows: Sequence[Mapping[str, Any]] = (), *, header: bool = True) -> bytes:
    """Encode rows of a CSV file as bytes."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fields, restval="", extrasaction="ignore")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


class TensorBoardLogger(ScalarLogger):
    """Writes the numbers of each status for TensorBoard, against environment steps if the problem counts them.

    A checkpoint stores how far it was; after ``resume``, TensorBoard hides entries that were written later.

    Args:
        searcher: The search.
        folder: The log folder of TensorBoard (``tensorboard --logdir FOLDER``).
        interval: Generations between two entries. Default: 1.

    Attributes:
        folder: The log folder. Set it to the new path if it was moved before ``resume``.

    Raises:
        TypeError: ``folder`` is not a path, or ``interval`` is not a whole number.
        ValueError: ``interval`` is below 1.
        OSError: ``folder`` is a file, or is not writable.
        ImportError: The package tensorboard is not installed (``pip install subnet-problems[tensorboard]``).
    """

    def __init__(self, searcher: SearchAlgorithm, folder: str | Path, *, interval: int = 1) -> None:
        self.folder = check_folder("folder", check_path("folder", folder).absolute())
        self._step = 0
        self._writer: Any = None
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"TensorBoardLogger needs the package tensorboard (pip install subnet-problems[tensorboard]): {error}"
            ) from error
        super().__init__(searcher, interval=check_count("interval", interval))  # attaches the logger

    def _log(self, status: dict[str, Any]) -> None:
        numbers = _numbers(status)
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard reads files in the order of their names. A name starts with the second in which the file was
            # opened, so two files from the same second would be read in arbitrary order.
            while any(self.folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
                time.sleep(0.05)
            # Entries after this step were logged before the resume: hide them.
            self._writer = SummaryWriter(str(self.folder), purge_step=self._step + 1)
        self._step = int(numbers.get("total_interaction_count", numbers.get("iter", self._step + 1)))
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, self._step)
        self._writer.flush()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None}


def _numbers(status: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in status.items() if isinstance(value, Real)}
