"""GymOptions: the keyword arguments that every Gymnasium problem takes, with their defaults and checks."""

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
    """What is known of one keyword argument.

    Attributes:
        default: Its default.
        check: From the argument's name and value to the value that is used. None leaves the check to what takes it.
    """

    default: Any
    check: Callable[[str, Any], Any] | None = None


class GymOptions(TypedDict, total=False):
    """Keyword arguments of the masked and the dense problem. Those that ``GymNE`` has, too, mean the same there.

    Attributes:
        hidden_sizes: Sizes of the hidden layers of a fully connected tanh network. Default (64, 64).
        network_args: Keyword arguments for a network that is a callable, or constants for a string.
        bias: Whether the network of ``hidden_sizes`` has biases. Without them it is an odd function (tanh is): its
            outputs at -x are the opposite of those at x, which suits tasks that are the same in a mirror.
        weight_init: How weights are drawn; see ``FrozenNetwork``. Default ``"uniform"``, U(-1, 1); an ``nn.Module``
            keeps the weights it has.
        weight_gain: A factor on the drawn weights.
        network_seed: Seed of the weights.
        env_config: Keyword arguments for the environment's maker.
        observation_normalization: Normalize observations by the mean and standard deviation of all observations of
            earlier rounds. Both are fixed within a round.
        num_episodes: Episodes each solution plays in a round (3 to 10 in the paper).
        episode_length: The most steps of an episode; None leaves it to the environment. Tests play whole episodes. It
            may be changed between evaluations, by ``problem.episode_length = 1600``.
        decrease_rewards_by: Subtracted from each reward.
        alive_bonus_schedule: ``(t, b)`` or ``(t0, t1, b)``: b added to each reward from step t (t1) on, and a growing
            share of it between t0 and t1.
        action_noise_stdev: Standard deviation of Gaussian noise on the policy's outputs.
        risk_aversion: Fitness is the mean of the episodes' returns minus this times their standard deviation: the
            paper's rewards that are "weighted and scored" (section 4.1). Default 0, the mean.
        common_random_numbers: Whether all solutions of a round play the same episodes. If not, a solution's episodes
            follow from the solution itself, so that fitness stays a pure function.
        num_actors: Number of Ray actors that share an evaluation, or ``"max"``, on this machine or on its Ray cluster.
            When one is lost, another evaluates its share again, so that results and counts stay what they
            would have been (but not where a search samples in the actors, with ``distributed=True``).
        actor_config: Options of the Ray actors. Default: restarted when lost, spread evenly over machines.
        worker_timeout: How many seconds an evaluation waits for an actor when there is none.
        num_subbatches: Into how many pieces a population is split.
        subbatch_size: Or, how large a piece is.
        seed: Seed of the initial solutions, of the search's own random numbers and of the episodes. None draws one;
            ``problem_seed`` has it.
        backend: ``"auto"``, ``"envpool"`` or ``"gymnasium"``; see ``GymTask``. It may be changed between evaluations,
            by ``problem.backend = "gymnasium"``.
        num_threads: EnvPool's threads for each half of the population; see ``GymTask``.
        device: Where solutions are held and the forward pass runs. A GPU is slower at 100,000 weights, and faster at a
            million. It draws other random numbers than a CPU does.
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


#: Each option's type and what is known of it.
OPTIONS: dict[str, tuple[Any, Option]] = {
    name: (hint.__origin__, hint.__metadata__[0])
    for name, hint in get_type_hints(GymOptions, include_extras=True).items()
}


def completed(owner: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options: those given, checked, and the defaults of the others.

    Args:
        owner: The class whose arguments they are.
        options: Those given.

    Raises:
        TypeError: There is no such option, or one has the wrong type.
        ValueError: One is out of range.
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
    """The signature of a constructor; where it takes ``**options``, with all of them in their place."""
    _self, *parameters = inspect.signature(function).parameters.values()
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        parameters[-1:] = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hint)
            for name, (hint, option) in OPTIONS.items()
        ]
    return inspect.Signature(parameters)
