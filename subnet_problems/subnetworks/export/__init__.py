"""Policies as programs: one file for each target. To add one, write its file and add a line to ``EXPORTS``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .._parts import PolicyParts
from ._c import export_c
from ._onnx import export_onnx

__all__ = ["EXPORTS", "Export"]


@dataclass(frozen=True)
class Export:
    """One way to write a policy for another machine.

    Attributes:
        write: From the policy, a path and a name (or None) to the path of what was written.
        description: What is written, for the command's help.
        suffix: Of the file; "" where the path is a folder, and ``write`` names the file in it.
        has_name: Whether what is written has a name besides its path.
    """

    write: Callable[[PolicyParts, Path, str | None], Path]
    description: str
    suffix: str = ""
    has_name: bool = False


def _onnx(policy: PolicyParts, path: Path, name: str | None) -> Path:
    return export_onnx(policy, path)


def _c(policy: PolicyParts, folder: Path, name: str | None) -> Path:
    return export_c(policy, folder, name=name)


def _c_seed(policy: PolicyParts, folder: Path, name: str | None) -> Path:
    return export_c(policy, folder, name=name, form="seed")


#: By name, as the command takes it. The first one for a file's suffix, or for a folder, is the default.
EXPORTS: dict[str, Export] = {
    "onnx": Export(_onnx, "an ONNX model", suffix=".onnx"),
    "c": Export(_c, "C with the kept weights, row by row", has_name=True),
    "c-seed": Export(_c_seed, "C with the seed and the mask alone", has_name=True),
}
