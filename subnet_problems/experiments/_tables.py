"""Tables in CSV files, which people and other programs may edit."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._checks import check_path
from .._files import write_whole

Row = dict[str, Any]


def read_table(
    path: Path,
    convert: Callable[[str, str], Any],
    *,
    table: str = "a table",
    row: str = "a row",
    columns: Sequence[str] = (),
    name: str = "path",
) -> list[Row]:
    """Read a CSV file whose first line has the names of the columns.

    Args:
        path: The file.
        convert: Returns the value of a cell, given its column and its text; raises ValueError if the text is none.
        table: What the file is expected to be, for errors.
        row: What each line is expected to be, for errors.
        columns: Columns that the file must have; it may have others.
        name: Name of the argument ``path``, for errors.

    Raises:
        ValueError: The file lacks a column, or a line has too many or too few cells or a wrong one.
        OSError: The file cannot be read.
    """
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
            raise ValueError(f"{name}: expected {table}, got {path}, which has no columns {', '.join(missing)}")
        rows = []
        for cells in reader:
            try:
                if None in cells:  # where csv puts what is beyond the last column
                    raise ValueError(f"more cells than columns, {cells[None]}")
                if None in cells.values():
                    raise ValueError("fewer cells than columns")
                rows.append({column: convert(column, text) for column, text in cells.items()})
            except ValueError as error:
                raise ValueError(f"{name}: expected {row} in line {reader.line_num} of {path}: {error}") from None
        return rows


def write_table(path: str | Path, rows: Sequence[Mapping[str, Any]], fields: Sequence[str] | None = None) -> None:
    """Write rows to a CSV file atomically.

    Args:
        path: The file; missing folders are created.
        rows: Dicts from column names to values; missing values stay empty.
        fields: The columns. Default: those of the first row.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: There are neither rows nor ``fields``, or a row has a name that is not a column.
        OSError: The file cannot be written.
    """
    path = check_path("path", path)
    if fields is None and not rows:
        raise ValueError("fields: expected the columns, since there are no rows, got None")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0] if fields is None else fields), restval="")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue().encode())
