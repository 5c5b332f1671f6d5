"""DenseGymProblem: the decision vector is the weights themselves."""

from __future__ import annotations

from typing import Unpack

import torch

from .._checks import check_real
from ..networks._frozen_network import FrozenNetwork
from ..tasks._gym_task import EnvLike, GymTask
from ._genotypes import WeightGenotype
from ._gym_problem import GymProblem
from ._network_for import NetworkLike
from ._options import OPTIONS, GymOptions


class DenseGymProblem(GymProblem):
    """The dense baseline: the decision vector is the weights themselves.

    It is the paper's "ES benchmark (weights could be changed)" (Figure 2). Evaluation and episodes are those of
    ``MaskedGymProblem``.

    Args:
        env: See ``GymProblem``.
        network: See ``GymProblem``.
        initial_bounds: ``(low, high)``: initial weights are drawn uniformly between them. Default None: between
            -1 / sqrt(fan_in) and 1 / sqrt(fan_in), as PyTorch initializes linear layers.
        **options: See ``GymOptions``, except ``weight_init`` and ``weight_gain``. ``network_seed`` determines only what
            a module draws besides its weights.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or would have no effect.
    """

    def __init__(
        self,
        env: EnvLike,
        network: NetworkLike | None = None,
        *,
        initial_bounds: tuple[float, float] | None = None,
        **options: Unpack[GymOptions],
    ) -> None:
        for name in ("weight_init", "weight_gain"):
            value, default = options.get(name), OPTIONS[name][1].default
            if value not in (None, default) and not isinstance(network, FrozenNetwork):  # which refuses them itself
                raise ValueError(f"{name}: expected no value, since the weights are searched, got {value!r}")
        self._initial_bounds: tuple[float, float] | None = None
        if initial_bounds is not None:
            expected = "initial_bounds: expected (low, high) with low <= high"
            if not isinstance(initial_bounds, tuple | list) or len(initial_bounds) != 2:
                raise ValueError(f"{expected}, got {initial_bounds!r}")
            low, high = (check_real("initial_bounds", bound) for bound in initial_bounds)
            if low > high:
                raise ValueError(f"{expected}, got {initial_bounds!r}")
            check_real("initial_bounds", high - low)
            self._initial_bounds = (low, high)
        super().__init__(env, network, **options)

    def _make_genotype(self, task: GymTask, network: FrozenNetwork, device: torch.device) -> WeightGenotype:
        return WeightGenotype(network, self._initial_bounds)
