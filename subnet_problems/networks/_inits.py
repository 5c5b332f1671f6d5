"""The initializations of frozen weights, one line each in ``INITS``. ``FrozenNetwork`` has a table of the formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._philox import raw_words, signs, standard_normal, symmetric_uniform

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """Random numbers that are computed from Philox words.

    Attributes:
        of: Function from words to numbers.
        words_each: How many words each number uses.
    """

    of: Callable[[NDArray[np.uint64]], Floats]
    words_each: int = 1


UNIFORM, SIGN, NORMAL = Numbers(symmetric_uniform), Numbers(signs), Numbers(standard_normal, words_each=2)


@dataclass(frozen=True)
class Init:
    """One way to draw weights.

    Attributes:
        numbers: The random numbers that the weights are made of.
        divisor: Function from the fan-in of each weight to the divisor of its number, or None.
        factor: Function from the fan-in of each weight to the factor of its number, or None.
    """

    numbers: Numbers
    divisor: Callable[[Floats], Floats] | None = None
    factor: Callable[[Floats], Floats] | None = None

    def draw(self, seed: int, fan_in: Floats, gain: float) -> Floats:
        """Draw weights ``(D,)`` for a seed and the fan-in ``(D,)`` of each weight."""
        values = self.numbers.of(raw_words(seed, self.numbers.words_each * len(fan_in)))
        if self.divisor is not None:
            values = values / self.divisor(fan_in)
        if self.factor is not None:
            values = values * self.factor(fan_in)
        return gain * values

    def scale(self, fan_in: int) -> float:
        """Return the factor by which a number is multiplied at this fan-in, without the gain."""
        sizes = np.array([float(fan_in)])
        scale = 1.0 if self.factor is None else float(self.factor(sizes)[0])
        return scale if self.divisor is None else scale / float(self.divisor(sizes)[0])


def _he(fan_in: Floats) -> Floats:
    return np.sqrt(2.0 / fan_in)


#: The initializations by the names that ``weight_init`` accepts and that files contain.
INITS: dict[str, Init] = {
    "uniform": Init(UNIFORM),
    "uniform_fan_in": Init(UNIFORM, divisor=np.sqrt),
    "kaiming_normal": Init(NORMAL, factor=_he),
    "signed_constant": Init(SIGN),
    "signed_kaiming_constant": Init(SIGN, factor=_he),
}
