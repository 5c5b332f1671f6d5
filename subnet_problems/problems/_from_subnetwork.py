"""Task, mask rule and observation statistics for a masked problem that continues from a policy.

None of them may change what the policy computes.
"""

from __future__ import annotations

from typing import Any

import torch

from .._checks import check_bool
from ..masks._rule import MaskRule
from ..masks._top_k import TopK
from ..networks._frozen_network import FrozenNetwork
from ..subnetworks._subnetwork import Subnetwork
from ..tasks._gym_task import EnvLike, GymTask
from ..tasks._observation_stats import ObservationStats

#: Assumed number of observations behind a policy's normalizer. The file does not hold the true number.
NUM_OBSERVATIONS = 10**6


def policy_task(subnet: Subnetwork, env: EnvLike | None, *, env_config: Any, episode_length: int | None) -> GymTask:
    """The task on which a policy is improved, made by ``Subnetwork.make_task`` from a problem's arguments.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: See ``Subnetwork.make_task``; or the policy keeps no weights.
    """
    if not isinstance(subnet, Subnetwork):
        raise TypeError(f"subnet: expected a Subnetwork, got {subnet!r}")
    if not subnet.num_active:
        raise ValueError(f"subnet: expected a policy that keeps at least one weight, got {subnet!r}")
    if isinstance(env, GymTask):
        raise TypeError(f"env: expected a Gymnasium id or a callable that makes an environment, got {env!r}")
    return subnet.make_task(env, env_config=env_config, episode_length=episode_length)


def policy_network(subnet: Subnetwork) -> FrozenNetwork:
    """The policy's network. If the policy has factors on its kept weights, they are part of the network's weights."""
    if subnet.factors is None:
        return subnet.network
    everything = torch.ones_like(subnet.mask)
    return subnet.network.with_weights(everything, subnet.network.weights * subnet.factors)


def policy_rule(subnet: Subnetwork, *, mask_rule: MaskRule | None, sparsity: float | None) -> MaskRule:
    """The mask rule for a search that starts at a policy.

    Raises:
        TypeError: ``sparsity`` is not a number.
        ValueError: ``sparsity`` is out of range, both arguments are given, or the rule's ``rescale`` differs from the
            policy's.
    """
    if mask_rule is None:
        return TopK(subnet.sparsity if sparsity is None else sparsity, rescale=subnet.rescale)
    if sparsity is not None:
        raise ValueError(f"sparsity: expected None when mask_rule is given, got {sparsity!r}")
    rescale = getattr(mask_rule, "rescale", subnet.rescale)  # the problem itself rejects anything that is not a rule
    if rescale != subnet.rescale:
        raise ValueError(
            f"mask_rule: expected a rule with the policy's own rescale={subnet.rescale!r} (rescale=subnet.rescale), "
            f"because another value would change its weights, got {mask_rule!r}"
        )
    return mask_rule


def policy_stats(subnet: Subnetwork, normalize: bool | None) -> ObservationStats | None:
    """Observation statistics that start from a policy's normalizer; None if the policy has no normalizer.

    Raises:
        TypeError: ``normalize`` is neither None nor a bool.
        ValueError: ``normalize`` contradicts the policy, or no statistics can reproduce its normalizer.
    """
    if normalize is not None and check_bool("observation_normalization", normalize) == (subnet.normalizer is None):
        raise ValueError(
            f"observation_normalization: expected {subnet.normalizer is not None}, as for the policy, got {normalize!r}"
        )
    if subnet.normalizer is None:
        return None
    return ObservationStats.from_normalizer(subnet.normalizer, count=NUM_OBSERVATIONS)
