"""Checkpoints, from which a killed search resumes identically: EvoTorch searches by a hook, pymoo's by a callback."""

from __future__ import annotations

import io
import pickle
import platform
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from types import MethodType
from typing import Any

import cloudpickle
import numpy as np
import torch
from evotorch.algorithms import SearchAlgorithm
from evotorch.algorithms.restarter import Restart
from evotorch.tools.hook import Hook

from ._checkpoint_file import CheckpointError, previous_of, read, remove, write
from ._checks import check_path, check_whole_number
from ._race import Race

#: Packages that can change the bits of a run, and the distributions in which different builders publish each one.
_PACKAGES = {
    **{name: (name,) for name in ("subnet-problems", "evotorch", "pymoo", "torch", "numpy", "numba", "llvmlite")},
    **{name: (name,) for name in ("scipy", "moocore", "cma", "gymnasium", "envpool", "mujoco", "ale-py")},
    "Box2D": ("Box2D", "box2d-py", "box2d-kengz"),
}


class Checkpointer:
    """Writes a searcher to a file every few generations, so that ``resume`` can continue from there.

    It works for any EvoTorch ``SearchAlgorithm``, including restarters (``Restart``, ``IPOP``) and races, together with
    the searches that they contain at that time. A resumed run equals the uninterrupted run to the last bit:
    populations, evaluations, statuses and counters. With ``num_actors`` this holds only for this package's problems:
    others draw random numbers when actors are created, and ``resume`` creates the actors again.

    The first checkpoint is written immediately. Later ones are written before a generation starts, after hooks and
    loggers have processed the one before, and at the end of ``run``. Writing is atomic: a kill at any instant leaves a
    complete checkpoint, and the previous one is kept as ``<path>.previous``. If writing fails (a full disk), the search
    continues with a warning. Loggers that cannot be pickled are left out, with a warning: attach them again after
    ``resume``. The resumed searcher still has its checkpointer.

    (EvoTorch's ``IPOP`` of ``PGPE``, ``SNES``, ``CEM`` or ``XNES`` has no status just after a restart: a ``run`` that
    ends there raises EvoTorch's AttributeError, without a last checkpoint. Call ``step`` instead, or put it in a race.)

    Example:
        >>> from algorithms import Checkpointer, resume
        >>> Checkpointer(searcher, "run.checkpoint", every=10)
        >>> searcher.run(1000)
        >>> # after a kill, in a new process:
        >>> searcher = resume("run.checkpoint", allow_pickle=True)
        >>> searcher.run(1000 - searcher.step_count)

    Args:
        searcher: The search to save.
        path: The file. Its folder must exist; the file must not exist.
        every: Generations between two checkpoints. Default: 10.

    Raises:
        OSError: The file cannot be written.
        TypeError: An argument has the wrong type, or a part of the searcher or its problem cannot be pickled (the
            message names it).
        ValueError: ``every`` is below 1, or the searcher samples in actors (``distributed=True``), whose random
            number generators a checkpoint cannot save.
        FileExistsError: A checkpoint exists already: resume or remove it.
        FileNotFoundError: The folder does not exist.
    """

    def __init__(self, searcher: SearchAlgorithm, path: str | PathLike[str], *, every: int = 10) -> None:
        if not isinstance(searcher, SearchAlgorithm):
            raise TypeError(f"searcher: expected an EvoTorch SearchAlgorithm, got {searcher!r}")
        parts = _parts(searcher)
        if any(part._step.__name__ == "_step_distributed" and part.problem._num_actors for part in parts):  # noqa: SLF001
            raise ValueError(
                "searcher: expected one that samples in the main process (distributed=False), got one whose actors "
                "sample, with random number generators that a checkpoint cannot save"
            )
        self.path = new_path(path)
        self.every = check_whole_number("every", every)
        self._searcher = searcher
        self._loggers: list[tuple[Any, bool]] = []  # loggers and whether they can be pickled
        searcher.before_step_hook.insert(0, self._before_step)
        searcher.end_of_run_hook.append(self._at_end_of_run)
        try:
            pickle.loads(self._pickled())  # fail now if the pickle cannot be read back
            self.save()
        except BaseException:
            searcher.before_step_hook.remove(self._before_step)
            searcher.end_of_run_hook.remove(self._at_end_of_run)
            raise

    def save(self) -> None:
        """Write a checkpoint now. Call it between steps.

        Raises:
            OSError: It could not be written; the older one is kept.
        """
        self._written_at: int | None = self._searcher.step_count
        try:
            write(self.path, header(self._searcher.step_count), self._pickled())
        except BaseException:
            self._written_at = None
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loggers": []}

    def _before_step(self) -> None:
        if self._searcher.step_count % self.every == 0:
            self._save_or_warn()

    def _at_end_of_run(self, status: dict[str, Any]) -> None:
        self._save_or_warn()

    def _save_or_warn(self) -> None:
        if self._written_at != self._searcher.step_count:
            with warning_of_failure(self.path):
                self.save()

    def _pickled(self) -> bytes:
        try:
            return self._pickled_without_some_loggers()
        except TypeError:
            if not self._loggers:
                raise
            self._loggers.clear()  # a logger may have opened its file since it was checked
            return self._pickled_without_some_loggers()

    def _pickled_without_some_loggers(self) -> bytes:
        hooks = [hook for part in _parts(self._searcher) for hook in (part.log_hook, part.end_of_run_hook)]
        before = [list(hook) for hook in hooks]
        for hook in hooks:
            hook[:] = [logger for logger in hook if logger == self._at_end_of_run or self._is_kept(logger)]
        try:
            return dumps(self._searcher, self)
        finally:
            for hook, loggers in zip(hooks, before, strict=True):
                hook[:] = loggers

    def _is_kept(self, logger: Any) -> bool:
        for seen, kept in self._loggers:
            if seen is logger:
                return kept
        try:
            cloudpickle.dumps(logger)
        except Exception as error:
            kept = False
            warnings.warn(f"{logger!r} is left out of checkpoints, because it cannot be pickled: {error}", stacklevel=5)
        else:
            kept = True
        self._loggers.append((logger, kept))
        return kept


def resume(path: str | PathLike[str], *, allow_pickle: bool = False) -> Any:
    """Load the EvoTorch searcher or pymoo algorithm of a checkpoint, ready for its next generation.

    It continues to write checkpoints to this path. The states of the global random number generators of Python, NumPy
    and PyTorch are restored, since some searches draw from them (``PyCMAES`` from NumPy's).

    Args:
        path: The checkpoint. If it is damaged, the previous one is loaded, with a warning.
        allow_pickle: Must be True. **A checkpoint is a pickle, and loading a pickle can run any code**: load only
            files that you trust. (Files of ``subnet_problems.Subnetwork`` are not pickles and can be shared.)

    Raises:
        ValueError: ``allow_pickle`` is not True.
        FileNotFoundError: There is no checkpoint.
        CheckpointError: It and the previous one are damaged, or it was written by incompatible package versions.
    """
    if allow_pickle is not True:
        raise ValueError(
            "allow_pickle: expected True, since a checkpoint is a pickle and loading one can run any code, so that "
            f"only trusted files should be loaded, got {allow_pickle!r}"
        )
    path = check_path("path", path).absolute()
    info, payload = read(path)
    theirs, here = info["versions"], versions()
    others = {name: (theirs.get(name), here.get(name)) for name in here | theirs if theirs.get(name) != here.get(name)}
    try:
        content = pickle.loads(payload)
    except Exception as error:
        reason = f"written by other versions (theirs, ours): {others}" if others else "of the same versions"
        raise CheckpointError(f"{path} is undamaged, {reason}, but cannot be unpickled: {error!r}") from error
    if others:
        warnings.warn(f"{path} was written by other versions (theirs, ours): {others}; bits may differ", stacklevel=2)
    content["checkpointer"].path = path
    random.setstate(content["python"])
    np.random.set_state(content["numpy"])  # noqa: NPY002
    torch.set_rng_state(content["torch"])
    cuda = content.get("cuda", [])  # older checkpoints have none
    if cuda and torch.cuda.device_count() >= len(cuda):
        torch.cuda.set_rng_state_all(cuda)
    return content["search"]


def remove_checkpoint(path: str | PathLike[str]) -> None:
    """Remove the checkpoint of a finished run and the previous one; do nothing if there is no checkpoint.

    Args:
        path: The checkpoint.

    Raises:
        OSError: A file cannot be removed.
        TypeError: ``path`` is not a path.
    """
    remove(check_path("path", path).absolute())


def _parts(searcher: SearchAlgorithm) -> list[SearchAlgorithm]:
    """A search and all searches within it."""
    within: list[SearchAlgorithm] = []
    if isinstance(searcher, Race):
        within = searcher.searchers
    elif isinstance(searcher, Restart):
        within = [searcher.search_algorithm]
    return [searcher, *(part for inner in within for part in _parts(inner))]


# Shared with the pymoo callback


def new_path(path: str | PathLike[str]) -> Path:
    """Return the absolute path of a new checkpoint.

    Raises:
        FileExistsError: A checkpoint exists already.
        FileNotFoundError: The folder does not exist.
    """
    path = check_path("path", path).absolute()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in an existing folder, got {path}")
    for existing in (path, previous_of(path)):
        if existing.exists():
            raise FileExistsError(f"path: expected a file that does not exist, got {existing}: resume or remove it")
    return path


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages among ``_PACKAGES``."""
    result = {"python": platform.python_version()}
    for name, distributions in _PACKAGES.items():
        found = []
        for distribution in distributions:
            with suppress(PackageNotFoundError):  # another builder's build of the same version may differ
                found.append(version(distribution) + ("" if distribution == name else f" ({distribution})"))
        if found:
            result[name] = ", ".join(found)
    return result


def header(generation: int) -> dict[str, Any]:
    """The header of a checkpoint, which is readable without unpickling."""
    return {"generation": generation, "versions": versions()}


def dumps(search: Any, checkpointer: Any) -> bytes:
    """Pickle a searcher together with the global random number generators.

    Raises:
        TypeError: A part cannot be pickled; the message names it.
    """
    content = {
        "search": search,
        "checkpointer": checkpointer,
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(content)
        return buffer.getvalue()
    except Exception as error:
        name = "searcher" if isinstance(search, SearchAlgorithm) else "algorithm"
        culprits = ", ".join(_unpicklable(search, "")) or type(search).__name__
        raise TypeError(
            f"{name}: expected one that can be pickled, got one whose {culprits} cannot: {error}. Give environments "
            "as an id, a function or a class, and hooks without open files, locks or connections"
        ) from error


class _Pickler(cloudpickle.Pickler):
    """Pickles the global generators by reference: a copy (``PyCMAES`` holds NumPy's) would be independent of them."""

    def reducer_override(self, obj: Any) -> Any:
        """Called by ``pickle`` for each object: how to reconstruct it."""
        for index, generator in enumerate(_GLOBAL_GENERATORS):
            if obj is generator:
                return _global_generator, (index,)
        return super().reducer_override(obj)


#: NumPy's and Python's: the functions of their modules are bound methods of these generators.
_GLOBAL_GENERATORS: tuple[Any, ...] = (np.random.rand.__self__, random.random.__self__)  # type: ignore[attr-defined]


def _global_generator(index: int) -> Any:
    return _GLOBAL_GENERATORS[index]


def _unpicklable(value: Any, name: str, depth: int = 3) -> list[str]:
    """Names of the innermost attributes that cannot be pickled; methods are skipped, their owner counts."""
    try:
        cloudpickle.dumps(value)
    except Exception:
        if isinstance(value, Hook):
            parts = {f"[{i}]": function for i, function in enumerate(value)}
        else:
            parts = dict(value) if isinstance(value, dict) else dict(getattr(value, "__dict__", {}))
        parts = {key: part for key, part in parts.items() if not isinstance(part, MethodType)}
        if not parts and isinstance(value, Hook | dict):
            return []
        found = []
        for key, part in parts.items():
            if depth:
                found += _unpicklable(part, f"{name}.{key}".lstrip("."), depth - 1)
        return found or [name]
    return []


@contextmanager
def warning_of_failure(path: Path) -> Iterator[None]:
    """Context that turns an OSError into a warning, so that the search continues."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"the checkpoint {path} could not be written, the older one is kept: {error}", stacklevel=4)
