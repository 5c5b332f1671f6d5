"""GymOptions: the keyword arguments that every Gymnasium problem takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import torch


class GymOptions(TypedDict, total=False):
    """Keyword arguments that every problem takes; see ``GymProblem`` for what they mean."""

    hidden_sizes: tuple[int, ...] | None
    network_args: Mapping[str, Any] | None
    bias: bool
    weight_init: str | None
    weight_gain: float
    network_seed: int
    env_config: Mapping[str, Any] | None
    observation_normalization: bool
    num_episodes: int
    episode_length: int | None
    decrease_rewards_by: float | None
    alive_bonus_schedule: tuple[int, float] | tuple[int, int, float] | None
    action_noise_stdev: float | None
    risk_aversion: float
    common_random_numbers: bool
    num_actors: int | str | None
    actor_config: dict[str, Any] | None
    num_subbatches: int | None
    subbatch_size: int | None
    seed: int | None
    backend: str
    num_threads: int | None
    device: torch.device | str
