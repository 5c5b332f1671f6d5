"""Exports of policies as programs, one module per target. To add a target, write a module and extend ``EXPORTS``."""

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
    """One export format.

    Attributes:
        write: Writes a policy, given the policy, a path and a name (or None). Returns the path of the written file.
        description: Short description, for the command's help.
        suffix: Suffix of the file; "" if the path is a folder in which ``write`` names the file.
        has_name: Whether the export has a name besides its path.
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


#: The formats by their names in the command. The first format for a suffix, or for a folder, is the default.
EXPORTS: dict[str, Export] = {
    "onnx": Export(_onnx, "an ONNX model", suffix=".onnx"),
    "c": Export(_c, "C with the kept weights, row by row", has_name=True),
    "c-seed": Export(_c_seed, "C with only the seed and the mask", has_name=True),
}
