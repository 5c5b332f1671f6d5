"""GymOptions: keyword arguments of every Gymnasium problem, with their defaults and checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any, TypedDict, get_type_hints

import torch

from .._checks import check_bool, check_count, check_real
from ._rounds import check_device, seed_or_drawn


@dataclass(frozen=True)
class Option:
    """Default and check of one keyword argument.

    Attributes:
        default: The default.
        check: Maps the argument's name and value to the checked value. None leaves the check to the consumer.
    """

    default: Any
    check: Callable[[str, Any], Any] | None = None


class GymOptions(TypedDict, total=False):
    """Keyword arguments of the masked and the dense problem. Names shared with EvoTorch's ``GymNE`` mean the same.

    Attributes:
        hidden_sizes: Sizes of the hidden layers of a fully connected tanh network. Default: (64, 64).
        network_args: Keyword arguments for a ``network`` that is a callable, or constants for a network string.
        bias: Whether the network of ``hidden_sizes`` has biases. Without them it is an odd function, f(-x) = -f(x),
            which suits mirror-symmetric tasks. Default: False.
        weight_init: Distribution of the weights; see ``FrozenNetwork``. Default: ``"uniform"``, U(-1, 1); but an
            ``nn.Module`` keeps its own weights.
        weight_gain: Factor on the drawn weights. Default: 1.
        network_seed: Seed of the weights. Default: 0.
        env_config: Keyword arguments for the environment's constructor.
        observation_normalization: Normalize observations by the mean and standard deviation of all observations of
            earlier rounds. Both are fixed within a round. Default: False.
        num_episodes: Episodes each solution plays in a round (3 to 10 in the paper). Default: 1.
        episode_length: Maximum steps of an episode. Default: None, the environment's own limit. Tests play whole
            episodes. It may be changed between evaluations: ``problem.episode_length = 1600``.
        decrease_rewards_by: Subtracted from each reward.
        alive_bonus_schedule: ``(t, b)`` or ``(t0, t1, b)``: b is added to each reward from step t (or t1) on. Between
            t0 and t1 the bonus grows linearly from 0 to b.
        action_noise_stdev: Standard deviation of Gaussian noise on the policy's outputs.
        risk_aversion: Factor c in fitness = mean - c * standard deviation, both over the returns of a solution's
            episodes: the paper's rewards that are "weighted and scored" (section 4.1). Default: 0, the mean.
        common_random_numbers: Whether all solutions of a round play the same episodes. If False, a solution's episode
            seeds are derived from the solution itself, so that fitness stays a pure function. Default: True.
        num_actors: Number of Ray actors that share an evaluation, or ``"max"``, on this machine or on its Ray cluster.
            When an actor is lost, another one evaluates its share again, so that results and counts do not change. This
            does not hold for a search that samples in the actors (``distributed=True``). EvoTorch starts no actor for 0
            and 1. Default: None, no actors.
        actor_config: Options of the Ray actors. By default, lost actors are restarted, and actors are spread evenly
            over machines.
        worker_timeout: Seconds that an evaluation waits for an actor when none is available. Default: 300.
        num_subbatches: Number of shares into which a population is split.
        subbatch_size: Number of solutions in a share. Give this or ``num_subbatches``.
        seed: Seed of the initial solutions, of the search's random numbers and of the episodes. Default: None, a random
            seed, which ``problem_seed`` returns.
        backend: ``"auto"``, ``"envpool"`` or ``"gymnasium"``; see ``GymTask``. Default: ``"auto"``. It may be changed
            between evaluations: ``problem.backend = "gymnasium"``.
        num_threads: EnvPool's threads for each half of the population; see ``GymTask``.
        device: Device of the solutions and the forward pass. Default: ``"cpu"``. The random numbers of a GPU differ
            from those of a CPU.
    """

    hidden_sizes: Annotated[tuple[int, ...] | None, Option(None)]
    network_args: Annotated[Mapping[str, Any] | None, Option(None)]
    bias: Annotated[bool, Option(False)]
    weight_init: Annotated[str | None, Option(None)]
    weight_gain: Annotated[float, Option(1.0)]
    network_seed: Annotated[int, Option(0)]
    env_config: Annotated[Mapping[str, Any] | None, Option(None)]
    observation_normalization: Annotated[bool, Option(False, check_bool)]
    num_episodes: Annotated[int, Option(1, check_count)]
    episode_length: Annotated[int | None, Option(None)]
    decrease_rewards_by: Annotated[float | None, Option(None)]
    alive_bonus_schedule: Annotated[tuple[int, float] | tuple[int, int, float] | None, Option(None)]
    action_noise_stdev: Annotated[float | None, Option(None)]
    risk_aversion: Annotated[float, Option(0.0, partial(check_real, minimum=0.0))]
    common_random_numbers: Annotated[bool, Option(True, check_bool)]
    num_actors: Annotated[int | str | None, Option(None)]
    actor_config: Annotated[dict[str, Any] | None, Option(None)]
    worker_timeout: Annotated[float, Option(300.0, partial(check_real, above=0.0))]
    num_subbatches: Annotated[int | None, Option(None)]
    subbatch_size: Annotated[int | None, Option(None)]
    seed: Annotated[int | None, Option(None, seed_or_drawn)]
    backend: Annotated[str, Option("auto")]
    num_threads: Annotated[int | None, Option(None)]
    device: Annotated[torch.device | str, Option("cpu", check_device)]


#: For each option, its type and its ``Option``.
OPTIONS: dict[str, tuple[Any, Option]] = {
    name: (hint.__origin__, hint.__metadata__[0])
    for name, hint in get_type_hints(GymOptions, include_extras=True).items()
}


def completed(owner: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check the given options and add the defaults of all others.

    Args:
        owner: The problem class, for error messages.
        options: The given options.

    Raises:
        TypeError: An option is unknown or has the wrong type.
        ValueError: An option is out of range.
    """
    for name in options:
        if name not in OPTIONS:
            near = get_close_matches(name, inspect.signature(owner).parameters, n=1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{owner.__name__}() got an unexpected keyword argument {name!r}{hint}")
    result = {name: options.get(name, option.default) for name, (_, option) in OPTIONS.items()}
    return result | {
        name: option.check(name, result[name]) for name, (_, option) in OPTIONS.items() if option.check is not None
    }


def signature_with_options(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a constructor, with ``**options`` replaced by all options."""
    _self, *parameters = inspect.signature(function).parameters.values()
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        parameters[-1:] = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hint)
            for name, (hint, option) in OPTIONS.items()
        ]
    return inspect.Signature(parameters)
