"""How often this door was refused lately, and what that asks of the next attempt. Pure.

After `throttle_attempts` refused attempts in `throttle_window_s` every frame must confirm and
the margin doubles, until the refusals are older than the window. That is about the door; `Lockout`
is about one claimed identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.config import DecisionConfig

_RAISED_CONFIRM = 3


@dataclass(frozen=True, slots=True)
class Throttle:
    """When attempts were refused: s of the monotonic clock, oldest first."""

    refused_at: tuple[float, ...] = ()

    def refused(self, now: float, config: DecisionConfig) -> Throttle:
        """One more refused attempt."""
        recent = tuple(t for t in self.refused_at if now - t < config.throttle_window_s)
        return Throttle((*recent, now)[-config.throttle_attempts :])

    def raised(self, now: float, config: DecisionConfig) -> bool:
        """Whether the stricter rule holds."""
        recent = sum(now - t < config.throttle_window_s for t in self.refused_at)
        return recent >= config.throttle_attempts


@dataclass(frozen=True, slots=True)
class Rule:
    """What a grant needs: `confirm` of the last `confirm_of` frames, and the margin."""

    confirm: int
    confirm_of: int
    margin: float


def rule(throttle: Throttle, now: float, config: DecisionConfig) -> Rule:
    """The rule in force."""
    if not throttle.raised(now, config):
        return Rule(config.confirm, config.confirm_of, config.margin)
    frames = max(_RAISED_CONFIRM, config.confirm_of)
    return Rule(frames, frames, 2 * config.margin)


# What one claimed identity may fail at, NIST SP 800-63B-4 section 3.2.3: at most 5 failed attempts in
# a row, 10 with presentation-attack detection, then a delay of at least 30 s that grows each time.

FAILURES, FAILURES_WITH_PAD = 5, 10
_FIRST_DELAY_S, _LONGEST_DELAY_S = 30.0, 3600.0
_DOUBLINGS = 10  # the longest delay is reached long before


@dataclass(frozen=True, slots=True)
class Failed:
    """Failed attempts in a row. `blocked_until`: s of the monotonic clock."""

    count: int
    blocked_until: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Lockout:
    """Who failed how often. A stranger without a card claims nobody, so he locks nobody out."""

    failed: Mapping[str, Failed] = field(default_factory=dict)

    def blocked(self, subject: str, now: float) -> bool:
        """Whether a claim of this identity is refused unheard at `now` (s, monotonic)."""
        record = self.failed.get(subject)
        return record is not None and not now >= record.blocked_until

    def after_failure(self, subject: str, now: float, allowed: int) -> Lockout:
        """One more failure in a row; from the `allowed`th on the subject is blocked for a while.

        One while the subject is blocked anyway costs nobody anything: else who holds up a photograph for
        a quarter of a minute would block its owner, with a card too, for an hour.
        """
        if self.blocked(subject, now):
            return self
        before = self.failed.get(subject)
        count = 1 + (before.count if before else 0)
        until = now + delay_s(count, allowed) if count >= allowed else float("-inf")
        return Lockout({**self.failed, subject: Failed(count, until)})

    def after_success(self, subject: str) -> Lockout:
        """The row of failures is over."""
        return Lockout({s: record for s, record in self.failed.items() if s != subject})

    def remaining(self, now: float) -> dict[str, tuple[int, float]]:
        """To be kept over a restart: count, and s of the delay that are left."""
        return {s: (r.count, max(0.0, r.blocked_until - now)) for s, r in self.failed.items()}

    @classmethod
    def resumed(cls, kept: Mapping[str, tuple[int, float]], now: float) -> Lockout:
        """From what was kept: the time the door was off does not count as waited."""
        return cls({s: Failed(count, now + left_s) for s, (count, left_s) in kept.items()})


def delay_s(count: int, allowed: int) -> float:
    """30 s after the last allowed failure, twice as long after each further one, at most an hour."""
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * float(2 ** min(count - allowed, _DOUBLINGS)))
