"""What a masked problem is made with that goes on from a policy: nothing in it may change the policy."""

from __future__ import annotations

from typing import Any

from .._checks import check_bool
from ..masks._rule import MaskRule
from ..masks._top_k import TopK
from ..subnetworks._subnetwork import Subnetwork
from ..tasks._gym_task import EnvLike, GymTask
from ..tasks._observation_stats import ObservationStats

#: As many observations a policy's statistics are taken to be of; a file does not hold their number.
NUM_OBSERVATIONS = 10**6


def policy_task(subnet: Subnetwork, env: EnvLike | None, *, env_config: Any, episode_length: int | None) -> GymTask:
    """The task on which a policy is improved: as ``Subnetwork.make_task`` gives it, of arguments of a problem.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: See ``Subnetwork.make_task``; or the policy keeps no weight.
    """
    if not isinstance(subnet, Subnetwork):
        raise TypeError(f"subnet: expected a Subnetwork, got {subnet!r}")
    if not subnet.num_active:
        raise ValueError(f"subnet: expected a policy that keeps a weight, got {subnet!r}")
    if isinstance(env, GymTask):
        raise TypeError(f"env: expected a Gymnasium id or a callable that makes an environment, got {env!r}")
    return subnet.make_task(env, env_config=env_config, episode_length=episode_length)


def policy_rule(subnet: Subnetwork, *, mask_rule: MaskRule | None, sparsity: float | None) -> MaskRule:
    """The rule by which a policy's mask is searched.

    Raises:
        TypeError: ``sparsity`` is not a number.
        ValueError: It is out of range, both are given, or a rule rescales otherwise than the policy.
    """
    if mask_rule is None:
        return TopK(subnet.sparsity if sparsity is None else sparsity, rescale=subnet.rescale)
    if sparsity is not None:
        raise ValueError(f"sparsity: expected None where mask_rule is given, got {sparsity!r}")
    rescale = getattr(mask_rule, "rescale", subnet.rescale)  # what is no rule at all the problem refuses
    if rescale != subnet.rescale:
        raise ValueError(
            f"mask_rule: expected a rule with rescale={subnet.rescale!r}, as the policy has (rescale=subnet.rescale), "
            f"since its weights would change with another, got {mask_rule!r}"
        )
    return mask_rule


def policy_stats(subnet: Subnetwork, normalize: bool | None) -> ObservationStats | None:
    """The statistics that begin with a policy's normalizer; None where it has none.

    Raises:
        TypeError: What the caller wants is no bool.
        ValueError: The caller wants the opposite, or no statistics normalize so.
    """
    if normalize is not None and check_bool("observation_normalization", normalize) == (subnet.normalizer is None):
        raise ValueError(
            f"observation_normalization: expected {subnet.normalizer is not None}, as the policy has it, got "
            f"{normalize!r}"
        )
    if subnet.normalizer is None:
        return None
    return ObservationStats.from_normalizer(subnet.normalizer, count=NUM_OBSERVATIONS)
