"""A share of things that were counted, and its exact bounds. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

_SURE = 0.05  # two-sided: 95 %


@dataclass(frozen=True, slots=True)
class Share:
    """A count and its 95 % bounds by Clopper and Pearson (1934): exact, two-sided, never too narrow.

    They take presentations as independent; those of one person or one clip are not.
    """

    count: int
    of: int

    @property
    def rate(self) -> float:
        """0..1; NaN of none."""
        return self.count / self.of if self.of else math.nan

    @property
    def low(self) -> float:
        """Lower bound."""
        return 0.0 if self.count == 0 else 1 - _upper(self.of - self.count, self.of)

    @property
    def high(self) -> float:
        """Upper bound; 1 of none."""
        return 1.0 if self.count >= self.of else _upper(self.count, self.of)


def at_most(rate: float) -> str:
    """Per cent of errors, never rounded in our favour; `none` of a NaN."""
    return "none" if math.isnan(rate) else f"{math.ceil(round(rate * 1000, 9)) / 10:.1f} %"


def at_least(rate: float) -> str:
    """Per cent, rounded down."""
    return f"{math.floor(round(rate * 1000, 9)) / 10:.1f} %"


def _upper(count: int, of: int) -> float:
    """The rate at which so few or fewer of so many have a probability of 2.5 %."""
    low, high = count / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(count, of, middle) > _SURE / 2 else (low, middle)
    return high


def _at_most(count: int, of: int, p: float) -> float:
    """The binomial distribution's lower tail."""
    logs = [
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
        + k * math.log(p) + (of - k) * math.log1p(-p)
        for k in range(count + 1)
    ]  # fmt: skip
    return math.fsum(math.exp(v) for v in logs)
