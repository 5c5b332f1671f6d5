"""Writing of figures to files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from .._checks import check_path
from .._files import check_file, write_whole


def check_picture(name: str, path: str | Path) -> Path:
    """Check that a picture can be written to a path, before it is drawn, and return the path.

    Args:
        name: Name of the argument, for error messages.
        path: Path of the picture.

    Raises:
        TypeError: ``path`` is not a path.
        ValueError: Matplotlib does not support the suffix.
        OSError: The path is a folder, or lies in a folder that is not writable.
    """
    path, suffixes = check_path(name, path), sorted(f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{name}: expected a name that ends in one of {', '.join(suffixes)}, got {str(path)!r}")
    return check_file(name, path)


def save_figure(figure: Figure | Axes, path: str | Path, *, dpi: float = 150) -> None:
    """Write a figure to a file, atomically, and close the figure.

    Args:
        figure: The figure, or any of its axes.
        path: The file to write. Its suffix determines the format.
        dpi: Dots per inch. Default: 150.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Matplotlib does not support the suffix.
        OSError: The file cannot be written.
    """
    if not isinstance(figure, Figure | Axes):
        raise TypeError(f"figure: expected a matplotlib Figure or Axes, got {figure!r}")
    path = check_picture("path", path)
    if isinstance(figure, Axes):
        whole = figure.get_figure(root=True)
        assert whole is not None
        figure = whole
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format=path.suffix[1:].lower(), dpi=dpi)
    finally:
        plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, drawn.getvalue())


@contextmanager
def drawn_if_possible(path: Path) -> Iterator[None]:
    """Context manager that turns errors into a warning that names ``path``, for pictures of data stored elsewhere."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{path} could not be drawn: {error!r}", stacklevel=3)
