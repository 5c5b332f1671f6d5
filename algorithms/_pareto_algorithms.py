"""pymoo's multi-objective algorithms with the operators of ``_pareto``."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pymoo.algorithms.moo.spea2 import SPEA2Survival
from pymoo.core.algorithm import Algorithm

from ._checks import check_whole_number
from ._pareto import pareto_operators
from ._reevaluation import ReevaluatingSurvival

_BASIC = ("sampling", "crossover", "mutation")
_DECOMPOSITION = ("MOEAD", "ParallelMOEAD")
_DIFFERENTIAL_EVOLUTION = ("GDE3", "GDE3MNN", "GDE3PCD", "NSDE", "NSDER")
#: The operators of ours that each algorithm accepts. An algorithm that is defined by its own selection or survival
#: keeps it; differential evolution and particle swarms create children in their own way.
TAKEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("NSGA2", "DNSGA2", "KGB"), (*_BASIC, "eliminate_duplicates", "selection", "survival")),
    **dict.fromkeys(
        ("AGEMOEA", "AGEMOEA2", "NSGA3", "PINSGA2", "RNSGA2", "RNSGA3", "RVEA", "SMSEMOA", "SPEA2"),
        (*_BASIC, "eliminate_duplicates", "selection"),
    ),
    **dict.fromkeys(("CTAEA", "OmniOptimizer", "UNSGA3"), (*_BASIC, "eliminate_duplicates")),
    **dict.fromkeys(_DECOMPOSITION, _BASIC),
    **dict.fromkeys((*_DIFFERENTIAL_EVOLUTION, "CMOPSO", "MOPSO_CD"), ("sampling",)),
}
#: Arguments that pymoo accepts but silently ignores.
_IGNORED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_DECOMPOSITION, ("selection", "survival")),
    **dict.fromkeys(_DIFFERENTIAL_EVOLUTION, ("crossover", "mutation", "selection")),
}
#: Options of ``pareto_algorithm``, and the operator that each one configures.
_OPTIONS = {
    "stdev": "mutation",
    "last_stdev": "mutation",
    "num_parents": "crossover",
    "num_niches": "survival",
    "num_neighbors": "selection",
}


def pareto_algorithm(
    algorithm: type[Algorithm],
    initial_stdev: float,
    *,
    stdev: float | None = None,
    last_stdev: float | None = None,
    num_parents: int | None = None,
    num_niches: int | None = None,
    num_neighbors: int | None = None,
    min_evaluations: int | None = None,
    **arguments: Any,
) -> Any:
    """Create a pymoo multi-objective algorithm with our operators, whose survivors are evaluated again.

    The operators are those of ``pareto_operators``. ``ReevaluatingSurvival`` wraps the algorithm's survival. Each
    algorithm uses these operators:

    - ``NSGA2``, ``DNSGA2`` and ``KGB``: all operators; niches replace rank and crowding. (``DNSGA2`` and ``KGB``
      mistake noise for a change of the problem, and then evaluate all individuals again, unless their ``eps`` is
      large.)
    - ``AGEMOEA``, ``AGEMOEA2``, ``NSGA3``, ``PINSGA2``, ``RNSGA2``, ``RNSGA3``, ``RVEA``, ``SMSEMOA``, ``SPEA2``: all
      operators except the survival; they keep their own.
    - ``CTAEA``, ``OmniOptimizer``, ``UNSGA3``: all operators except survival and selection; they keep their own.
    - ``CMOPSO``, ``GDE3`` (and ``GDE3MNN``, ``GDE3PCD``), ``NSDE``, ``NSDER``: only the sampling. They create children
      in their own way. The leaders of ``CMOPSO`` are not evaluated again.
    - ``MOEAD``, ``ParallelMOEAD``: sampling, crossover and mutation. ``MOPSO_CD``: only the sampling. These three have
      no survival, so **nothing is evaluated again**: under noise, they keep lucky individuals.

    Example:
        >>> from pymoo.algorithms.moo.nsga3 import NSGA3
        >>> algorithm = pareto_algorithm(NSGA3, 0.1, ref_dirs=ref_dirs, pop_size=24)

    Args:
        algorithm: The class of the algorithm.
        initial_stdev: Standard deviation of the initial vectors.
        stdev: Standard deviation of the noise. Default: half of ``initial_stdev``.
        last_stdev: Standard deviation of the noise on the last variable. Default: 0.3.
        num_parents: Number of parents whose mean is a child. Default: 4.
        num_niches: Number of niches in the last variable's range. Default: 6.
        num_neighbors: Number of neighbors in the last variable among which parents are selected. Default: 4.
        min_evaluations: Minimum number of evaluations of a survivor. Default: 4.
        **arguments: Arguments of the algorithm, such as ``pop_size``. An operator among them replaces ours.

    Returns:
        The algorithm, ready for ``minimize``.

    Raises:
        TypeError: An argument has the wrong type or is unknown, or the algorithm is not listed above.
        ValueError: An argument is out of range, or would have no effect.
    """
    kind = _kind_of(algorithm)
    taken = TAKEN[kind]
    options = {
        "stdev": stdev,
        "last_stdev": last_stdev,
        "num_parents": num_parents,
        "num_niches": num_niches,
        "num_neighbors": num_neighbors,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        operator = _OPTIONS[name]
        if operator in arguments or operator not in taken:
            why = f"{operator} is given" if operator in arguments else f"{kind} has its own {operator}"
            raise ValueError(f"{name}: expected None when {why}, got {value!r}")
    _check_arguments(algorithm, kind, arguments)
    operators = {name: operator for name, operator in pareto_operators(initial_stdev, **given).items() if name in taken}
    if "survival" in operators:
        operators["survival"] = operators["survival"].survival  # every survival is wrapped below
    result = _constructed(algorithm, kind, {**operators, **_unshared_defaults(kind)}, arguments)
    _check_parents(kind, result)
    _evaluate_survivors_again(kind, result, min_evaluations)
    return result


def _kind_of(algorithm: Any) -> str:
    """Name of the pymoo algorithm that a class is or is derived from.

    Raises:
        TypeError: The class is not supported.
    """
    for parent in algorithm.__mro__ if isinstance(algorithm, type) else ():
        if parent.__module__.startswith("pymoo.algorithms.moo."):
            if parent.__name__ in TAKEN:
                return parent.__name__
            break
    raise TypeError(f"algorithm: expected one of pymoo's classes {', '.join(sorted(TAKEN))}, got {algorithm!r}")


def _check_arguments(algorithm: type, kind: str, arguments: dict[str, Any]) -> None:
    """Refuse what pymoo would silently ignore: unknown names, and operators without effect.

    Raises:
        TypeError: An argument is unknown.
        ValueError: An operator would have no effect.
    """
    constructors = [vars(parent)["__init__"] for parent in algorithm.__mro__[:-1] if "__init__" in vars(parent)]
    parameters = [one for make in constructors for one in list(inspect.signature(make).parameters.values())[1:]]
    known = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    for name, value in arguments.items():
        if name not in known:
            raise TypeError(f"{name}: expected an argument of {kind}, one of {', '.join(sorted(known))}, got {value!r}")
        if name == "mating":
            raise ValueError(f"mating: expected none, since crossover and mutation would have no effect, got {value!r}")
        if name in ("pop_size", "n_offsprings") and value is not None:
            check_whole_number(name, value)
        if name in _IGNORED.get(kind, ()):
            raise ValueError(f"{name}: expected none when {kind} has its own, got {value!r}")


def _constructed(algorithm: type, kind: str, operators: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Construct the algorithm.

    Raises:
        ValueError: The algorithm sets one of the arguments itself.
    """
    try:
        result = algorithm(**{**operators, **arguments})
    except TypeError as error:
        twice = re.search(r"multiple values for keyword argument '(\w+)'", str(error))
        if twice is None or twice[1] not in arguments:
            raise
        raise ValueError(f"{twice[1]}: expected none when {kind} has its own, got {arguments[twice[1]]!r}") from error
    if "survival" in arguments and result.survival is not arguments["survival"]:
        raise ValueError(f"survival: expected none when {kind} has its own, got {arguments['survival']!r}")
    return result


def _unshared_defaults(kind: str) -> dict[str, Any]:
    """New instances of defaults that pymoo shares among all algorithms of a process, so that runs are independent."""
    if kind == "SPEA2":
        return {"survival": SPEA2Survival(normalize=True)}
    return {"ps": {}} if kind == "KGB" else {}


def _check_parents(kind: str, algorithm: Any) -> None:
    """Raise ``ValueError`` early if the number of parents would make the first generation fail."""
    if kind == "CTAEA" and algorithm.mating.crossover.n_parents < 2:
        raise ValueError("num_parents: expected a whole number >= 2 for CTAEA, which mates two archives, got 1")
    if kind in _DECOMPOSITION:
        num_parents, most = algorithm.mating.crossover.n_parents, min(algorithm.n_neighbors, len(algorithm.ref_dirs))
        if num_parents > most:
            raise ValueError(
                f"num_parents: expected a whole number <= {most}, the number of {kind}'s neighbors, got {num_parents}"
            )


def _evaluate_survivors_again(kind: str, algorithm: Any, min_evaluations: int | None) -> None:
    """Wrap the survival, if the algorithm has one.

    Raises:
        TypeError: ``min_evaluations`` is not a whole number.
        ValueError: It is below 1, or has no effect.
    """
    survival = getattr(algorithm, "survival", None)
    if survival is None or isinstance(survival, ReevaluatingSurvival):
        if min_evaluations is not None:
            why = f"{kind} has no survival" if survival is None else "survival is a ReevaluatingSurvival"
            raise ValueError(f"min_evaluations: expected None when {why}, got {min_evaluations!r}")
    else:
        survival = ReevaluatingSurvival(survival, min_evaluations=4 if min_evaluations is None else min_evaluations)
        algorithm.survival = survival
    if survival is not None:
        survival.owner = algorithm
