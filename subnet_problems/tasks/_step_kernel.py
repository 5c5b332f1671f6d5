"""Compiled helpers for a step: add up rewards, drop ended episodes, check numbers."""

from __future__ import annotations

import numpy as np

from .._compile import compiled


@compiled()
def settle(step, last, bonus, rows, obs, rewards, ended, returns, lengths, live_rows, live_obs):  # type: ignore[no-untyped-def]
    """Account for one step of the episodes ``rows``, and gather the episodes that continue.

    Args:
        step: The step's number, from 1.
        last: True if this is the last step, which ends all episodes.
        bonus: Added to each reward.
        rows: ``(n,)`` int32.
        obs: ``(n, obs_length)`` float32, the observations after the step.
        rewards: ``(n,)`` floats.
        ended: ``(n,)`` bool.
        returns: ``(B,)`` float64; rewards are added to it.
        lengths: ``(B,)`` int64; set where an episode ended.
        live_rows: ``(n,)`` int32, output.
        live_obs: ``(n, obs_length)`` float32, output.

    Returns:
        How many episodes continue; or -1 if a reward or an observation is not finite.
    """
    count = 0
    for i in range(rows.shape[0]):
        row = rows[i]
        reward = np.float64(rewards[i])
        finite = np.isfinite(reward)
        for j in range(obs.shape[1]):
            finite &= np.isfinite(obs[i, j])
        if not finite:
            return -1
        returns[row] += reward + bonus
        if last or ended[i]:
            lengths[row] = step
        else:
            live_rows[count] = row
            live_obs[count] = obs[i]
            count += 1
    return count


@compiled()
def is_safe(rows, actions, num_envs, low, high):  # type: ignore[no-untyped-def]
    """Return True if ``rows`` ``(n,)`` ascend in [0, num_envs) and ``actions`` ``(n, length)`` lie in [low, high]."""
    previous = -1
    for row in rows:
        if row <= previous or row >= num_envs:
            return False
        previous = row
    for i in range(actions.shape[0]):
        for j in range(actions.shape[1]):
            if not low <= actions[i, j] <= high:  # also true for NaN
                return False
    return True


@compiled()
def all_finite(values):  # type: ignore[no-untyped-def]
    """Return True if ``values`` ``(n, m)`` contain neither NaN nor infinity."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if not np.isfinite(values[i, j]):
                return False
    return True
