"""FrozenNetwork: an architecture with frozen random weights, and the forward pass of a whole population."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._checks import (
    check_bool,
    check_choice,
    check_count,
    check_mapping,
    check_mask,
    check_numbers,
    check_real,
    check_seed,
    check_shape,
    reason_of,
)
from ._inits import INITS
from ._layer import list_layers
from ._probe import agree, buffers_of, impurity, probe, probe_inputs, rounding, seeded, set_buffers
from ._weights import PopulationWeights, as_weights
from .forward._chain import as_chain
from .forward._population import make_population
from .forward._way import Population, PopulationPolicy

Network = Sequence[int] | str | nn.Module | Callable[..., nn.Module]


class FrozenNetwork:
    """A network whose weights are drawn once from a seed and never change.

    Weight ``i`` (in the order of the module's ``parameters()``) is made from word ``i`` of
    ``numpy.random.Philox(key=[seed, 0]).random_raw(D)`` (words ``2 i`` and ``2 i + 1`` for ``kaiming_normal``). A
    word gives ``u`` in (-1, 1) by ``subnet_problems.networks._philox.symmetric_uniform`` or ``s`` in {-1, 1} by its top
    bit; two words give a standard normal ``z``. A weight is computed in float64 and rounded once to float32:

    | name | weight |
    |---|---|
    | ``uniform`` | gain * u (the paper's) |
    | ``uniform_fan_in`` | gain * u / sqrt(fan_in) |
    | ``kaiming_normal`` | gain * z * sqrt(2 / fan_in) (He et al. 2015) |
    | ``signed_constant`` | gain * s (Zhou et al. 2020) |
    | ``signed_kaiming_constant`` | gain * s * sqrt(2 / fan_in) (Ramanujan et al. 2020) |

    Example:
        >>> network = FrozenNetwork((87, 87), obs_length=8, act_length=2, seed=0)
        >>> network.num_weights
        8439

    Args:
        network: The sizes of the hidden layers (tanh between fully connected layers, the paper's model), an EvoTorch
            network string, an ``nn.Module``, or a callable that returns one, as for ``GymNE``. Default: (64, 64).
        obs_length: Length of the flat observation vector.
        act_length: Length of the output vector.
        obs_shape: Shape of an observation, available to strings and callables. Default: ``(obs_length,)``.
        act_shape: Shape of the output, available to strings and callables. Default: ``(act_length,)``.
        network_args: Keyword arguments for a callable, or constants for a string.
        bias: True gives the fully connected layers biases. Only for hidden sizes. Default: False.
        weight_init: A name from the table. Default: ``"uniform"``, but an ``nn.Module`` keeps its own weights.
        weight_gain: The gain in the table. Default: 1.
        seed: Seed of the weights, and of what the module of a string or callable draws itself, such as buffers.
            Default: 0.

    Raises:
        TypeError: An argument has the wrong type, or a callable does not return an ``nn.Module``.
        ValueError: A size is not positive, an initialization is unknown, the network has no parameters, cannot be
            vectorized over a population, does not turn ``(obs_length,)`` into ``(act_length,)``, or its output depends
            on random numbers or on something kept between calls.
    """

    def __init__(
        self,
        network: Network = (64, 64),
        *,
        obs_length: int,
        act_length: int,
        obs_shape: tuple[int, ...] | None = None,
        act_shape: tuple[int, ...] | None = None,
        network_args: Mapping[str, Any] | None = None,
        bias: bool = False,
        weight_init: str | None = None,
        weight_gain: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.obs_length = check_count("obs_length", obs_length)
        self.act_length = check_count("act_length", act_length)
        self.seed = check_seed("seed", seed)
        self.bias = check_bool("bias", bias)
        self.weight_gain = check_real("weight_gain", weight_gain, above=0.0)
        if weight_init is None:
            weight_init = None if isinstance(network, nn.Module) else "uniform"
        else:
            check_choice("weight_init", weight_init, INITS)
        self.weight_init = weight_init

        by_sizes = isinstance(network, Sequence) and not isinstance(network, str | bytes)
        if self.bias and not by_sizes:
            raise ValueError(f"bias: expected False for a network that is not given by hidden sizes, got {bias!r}")
        self.obs_shape = _shape_of("obs_shape", obs_shape, self.obs_length)
        self.act_shape = _shape_of("act_shape", act_shape, self.act_length)
        self.network_args = check_mapping("network_args", network_args)
        if self.network_args and (by_sizes or isinstance(network, nn.Module)):
            raise ValueError(
                f"network_args: expected None for hidden sizes and for an nn.Module, got {self.network_args}"
            )
        self.architecture: tuple[int, ...] | str | None = None
        with seeded(self.seed):  # so that what a module draws itself also depends on the network's seed
            self._module = self._materialized(self._build(network).float().cpu().eval())
        self.layers = list_layers(self._module)
        self._weights = self._draw_weights()
        self._check_forward()

    def _build(self, network: Network) -> nn.Module:
        constants = {
            "obs_length": self.obs_length,
            "act_length": self.act_length,
            "obs_shape": self.obs_shape,
            "act_shape": self.act_shape,
        }
        if isinstance(network, nn.Module):
            return _copied(network)
        if isinstance(network, str):
            constants |= self.network_args
            names = set(re.findall(r"\w+", network))
            # The values of the string's constants are kept, so that string and constants define the network.
            self.architecture, self.architecture_args = network, {k: v for k, v in constants.items() if k in names}
            from evotorch.neuroevolution.net import str_to_net

            try:
                module: nn.Module = str_to_net(network, **constants)
            except Exception as error:
                raise ValueError(
                    f"network: EvoTorch cannot read the network string {network!r}: {reason_of(error)}"
                ) from error
            return module
        if isinstance(network, Sequence) and not isinstance(network, bytes):
            sizes = self.architecture = check_shape("network", network)
            try:
                return _tanh_network((self.obs_length, *sizes, self.act_length), bias=self.bias)
            except RuntimeError as error:
                raise ValueError(f"network: expected sizes that fit into memory, got {sizes}: {error}") from error
        if not callable(network):
            raise TypeError(
                "network: expected hidden sizes, an EvoTorch network string, an nn.Module or a callable that "
                f"returns one, got {network!r}"
            )
        from evotorch.tools.misc import pass_info_if_needed

        try:
            module = pass_info_if_needed(network, constants)(**self.network_args)
        except Exception as error:
            raise ValueError(f"network: expected a callable that returns a module, but it raised {error!r}") from error
        if not isinstance(module, nn.Module):
            raise TypeError(f"network: expected the callable to return an nn.Module, got {module!r}")
        return _copied(module)

    def _materialized(self, module: nn.Module) -> nn.Module:
        """Give lazy layers, such as ``nn.LazyLinear``, their sizes."""
        tensors = [*module.parameters(), *module.buffers()]
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            try:
                with torch.no_grad():
                    module(torch.zeros(self.obs_length, dtype=torch.float32))
            except Exception as error:
                raise ValueError(
                    f"network: expected a module that turns an observation of shape ({self.obs_length},) into an "
                    f"output, but it failed with: {reason_of(error)}"
                ) from error
        return module

    def _draw_weights(self) -> Tensor:
        if not self.layers:
            raise ValueError("network: expected a module with parameters, got one without")
        for layer, parameter in zip(self.layers, self._module.parameters(), strict=True):
            if parameter.dtype != torch.float32 or not parameter.numel():
                came = f"{parameter.dtype} {layer.shape}"
                raise ValueError(f"network: expected non-empty parameters of real numbers, got {came}")
        if self.weight_init is None:
            weights = torch.cat([p.detach().reshape(-1) for p in self._module.parameters()])
            if not weights.isfinite().all():
                raise ValueError("network: expected a module whose weights are finite, got one with NaN or infinity")
            return weights
        fan_in = np.repeat([float(layer.fan_in) for layer in self.layers], [layer.size for layer in self.layers])
        with np.errstate(over="ignore"):
            drawn: NDArray[np.float32] = (
                INITS[self.weight_init].draw(self.seed, fan_in, self.weight_gain).astype(np.float32)
            )
        if not np.isfinite(drawn).all():
            raise ValueError(f"weight_gain: expected weights that float32 can hold, got {self.weight_gain!r}")
        return torch.from_numpy(drawn)

    def _check_forward(self) -> None:
        inputs = probe_inputs(self.obs_length)
        try:
            module = self.to_module(self._weights)
            outputs = probe(module, inputs)  # PyTorch checks sizes; the kernel does not
            found = "" if as_chain(module) is not None else impurity(module, inputs, seed=self.seed + 1)
        except Exception as error:
            raise self._not_a_policy(error) from error
        if found:
            raise ValueError(
                "network: expected a module that computes only with its weights, its buffers, the observation and the "
                f"state that it returned before, but {found}"
            )
        try:
            played = self._computed_here(inputs)
        except Exception as error:
            raise self._not_a_policy(error) from error
        if played.shape[1:] != (self.act_length,):
            raise ValueError(
                f"network: expected an output of shape (act_length,) = ({self.act_length},), got {played.shape[1:]}"
            )
        if not agree(played, outputs, rtol=1e-3, rounding=lambda: rounding(module, inputs)):
            raise ValueError(
                "network: expected a module that gives the same outputs for one observation as for a population, got "
                f"{outputs[0].tolist()} and {played[0].tolist()} (does a hook or a replaced forward method change "
                "the output?)"
            )

    def _computed_here(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute outputs by the forward pass of a search.

        For hidden sizes NumPy is used: the compiled kernel of a search gives the same but takes a while to load.
        """
        if not isinstance(self.architecture, tuple):
            policy = self.population(self._weights[None], num_episodes=1)
            return np.concatenate([policy.act(np.zeros(1, dtype=np.int32), obs[None]) for obs in inputs])
        values, weights = inputs, self._weights.numpy()
        for number, layer in enumerate(self.layers):
            tensor = weights[layer.slice].reshape(layer.shape)
            if len(layer.shape) == 1:
                values = values + tensor
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                values = (values if number == 0 else np.tanh(values)) @ tensor.T
        return values

    def _not_a_policy(self, error: Exception) -> ValueError:
        return ValueError(
            f"network: expected a module that turns an observation of shape ({self.obs_length},) into an output of "
            f"shape ({self.act_length},) and that torch.func.vmap can vectorize, but it failed with: {reason_of(error)}"
        )

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Copies of the module's buffers, by name: what it computes with besides its weights."""
        return buffers_of(self._module)

    def with_buffers(self, buffers: Mapping[str, Tensor]) -> FrozenNetwork:
        """Return this network with other values in its buffers.

        Args:
            buffers: Tensors by name. Names, shapes and dtypes must be among those of the property ``buffers``.

        Raises:
            ValueError: A name is unknown, or a shape or dtype is wrong.
        """
        known = self.buffers
        for name, buffer in buffers.items():
            expected = None if name not in known else (tuple(known[name].shape), known[name].dtype)
            if (tuple(buffer.shape), buffer.dtype) != expected:
                came = (tuple(buffer.shape), buffer.dtype)
                raise ValueError(
                    f"network: expected a module with a buffer {name!r} of {came}, got {expected or 'none'}"
                )
        network = copy(self)
        network._module = deepcopy(self._module)  # noqa: SLF001
        set_buffers(network._module, dict(buffers))  # noqa: SLF001
        return network

    @property
    def num_weights(self) -> int:
        """D, the number of weights. Every parameter of the module counts, including biases."""
        last = self.layers[-1]
        return last.start + last.size

    @property
    def weights(self) -> Tensor:
        """A copy of the frozen weights, ``(D,)`` float32."""
        return self._weights.clone()

    def with_weights(self, mask: Tensor, kept: Tensor) -> FrozenNetwork:
        """Return this architecture with the given weights where the mask is True, and 0 elsewhere.

        Args:
            mask: ``(D,)`` bool.
            kept: ``(mask.sum(),)``, the weights that the mask keeps, in order.

        Raises:
            TypeError: The mask is not made of bools, or the weights are not real numbers.
            ValueError: A shape is wrong.
        """
        mask, kept = check_mask("mask", mask, self.num_weights), check_numbers("kept", kept)
        if kept.shape != (int(mask.sum()),):
            raise ValueError(f"kept: expected shape (mask.sum(),) = ({int(mask.sum())},), got {tuple(kept.shape)}")
        network = copy(self)
        network.weight_init = None
        network._weights = torch.zeros_like(self._weights).masked_scatter(mask, kept)  # noqa: SLF001
        return network

    def to_module(self, weights: Tensor) -> nn.Module:
        """Return a new module of this architecture with the given weights.

        Args:
            weights: ``(D,)``.

        Raises:
            TypeError: The weights are not real numbers.
            ValueError: The shape is wrong.
        """
        weights = check_numbers("weights", weights)
        if weights.shape != (self.num_weights,):
            raise ValueError(f"weights: expected shape (D,) = ({self.num_weights},), got {tuple(weights.shape)}")
        module = deepcopy(self._module)
        with torch.no_grad():
            for layer, parameter in zip(self.layers, module.parameters(), strict=True):
                parameter.copy_(weights[layer.slice].view(layer.shape))
        return module

    def population(
        self, weights: PopulationWeights | Tensor, *, num_episodes: int, device: torch.device | str = "cpu"
    ) -> PopulationPolicy:
        """Return the forward pass of N networks of this architecture.

        Args:
            weights: The weights of the N networks; or a tensor ``(N, D)``.
            num_episodes: E, the number of episodes of each network. Network ``r // E`` plays episode row ``r``.
            device: Device of the forward pass. Default: the CPU.
        """
        population = Population(self._module, self.layers, as_weights(weights), num_episodes, torch.device(device))
        return make_population(population)

    def __repr__(self) -> str:
        architecture = self.architecture if self.architecture is not None else type(self._module).__name__
        return (
            f"<FrozenNetwork {architecture!r}, {self.num_weights} weights, "
            f"weight_init={self.weight_init!r}, seed={self.seed}>"
        )


def _shape_of(name: str, shape: tuple[int, ...] | None, length: int) -> tuple[int, ...]:
    shape = check_shape(name, shape) if shape is not None else ()
    if prod(shape or (length,)) != length:
        raise ValueError(f"{name}: expected a shape of {length} numbers in all, got {shape}")
    return shape or (length,)


def _tanh_network(sizes: tuple[int, ...], *, bias: bool) -> nn.Sequential:
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        modules += [nn.Linear(n_in, n_out, bias=bias), nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def _copied(module: nn.Module) -> nn.Module:
    try:
        return deepcopy(module)
    except Exception as error:
        raise ValueError(f"network: expected a module that can be copied, got {module!r}: {error}") from error
