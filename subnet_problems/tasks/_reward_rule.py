"""Changes of rewards and actions during a search: ``GymNE``'s options, under the same names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._checks import check_count, check_real


@dataclass(frozen=True)
class RewardRule:
    """How rewards and actions are changed during a search, with ``GymNE``'s names and meanings.

    Attributes:
        decrease_rewards_by: Subtracted from each reward. Default: 0.
        alive_bonus_schedule: ``(t0, t1, bonus)``. From step t1 on, the bonus is added to each reward; between t0 and
            t1, a fraction of it that grows linearly from 0. Default: None, no bonus.
        action_noise_stdev: Standard deviation of Gaussian noise added to each output of the policy. Default: None, no
            noise.
    """

    decrease_rewards_by: float = 0.0
    alive_bonus_schedule: tuple[int, int, float] | None = None
    action_noise_stdev: float | None = None

    @classmethod
    def checked(cls, decrease_rewards_by: Any, alive_bonus_schedule: Any, action_noise_stdev: Any) -> RewardRule:
        """Make a rule from a problem's arguments. None turns an option off; a schedule ``(t, b)`` means ``(t, t, b)``.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument is out of range.
        """
        decrease = 0.0 if decrease_rewards_by is None else check_real("decrease_rewards_by", decrease_rewards_by)
        noise = action_noise_stdev
        if noise is not None:
            noise = check_real("action_noise_stdev", noise, minimum=0.0)
        return cls(decrease, _check_schedule(alive_bonus_schedule), noise)

    def bonus(self, step: int) -> float:
        """Return what is added to the reward of this step (from 1)."""
        bonus = -self.decrease_rewards_by
        if self.alive_bonus_schedule is not None:
            start, full, amount = self.alive_bonus_schedule
            if step >= full:
                bonus += amount
            elif step >= start:
                bonus += (step - start) / (full - start) * amount
        return bonus


def _check_schedule(schedule: Any) -> tuple[int, int, float] | None:
    if schedule is None:
        return None
    expected = "alive_bonus_schedule: expected (t, bonus) or (t0, t1, bonus) with whole steps 0 <= t0 <= t1"
    if not isinstance(schedule, tuple | list) or len(schedule) not in (2, 3):
        raise ValueError(f"{expected}, got {schedule!r}")
    steps = [check_count("alive_bonus_schedule", step, minimum=0) for step in schedule[:-1]]
    if steps[0] > steps[-1]:
        raise ValueError(f"{expected}, got {schedule!r}")
    return steps[0], steps[-1], check_real("alive_bonus_schedule", schedule[-1])
