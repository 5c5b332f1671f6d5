"""Figures as files."""

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
    """Return the path of a picture that is yet to be drawn if it can be written there.

    Args:
        name: What the caller calls it.
        path: Where.

    Raises:
        TypeError: It is no path.
        ValueError: Matplotlib cannot write its suffix.
        OSError: It is a folder, or in one that cannot be written to.
    """
    path, suffixes = check_path(name, path), sorted(f".{kind}" for kind in FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{name}: expected a name that ends in one of {', '.join(suffixes)}, got {str(path)!r}")
    return check_file(name, path)


def save_figure(figure: Figure | Axes, path: str | Path, *, dpi: float = 150) -> None:
    """Write a figure, and close it. The file appears whole or not at all.

    Args:
        figure: The figure, or any of its axes.
        path: Where; its suffix says in which format.
        dpi: Dots an inch.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Matplotlib cannot write the suffix.
        OSError: The file cannot be written.
    """
    if not isinstance(figure, Figure | Axes):
        raise TypeError(f"figure: expected one of matplotlib, or its Axes, got {figure!r}")
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
    """Draws a picture of what is kept elsewhere: where that fails, it is a warning that names ``path``."""
    try:
        yield
    except Exception as error:
        warnings.warn(f"{path} could not be drawn: {error!r}", stacklevel=3)
