"""How often this door was refused lately, and what that asks of the next attempt. Pure.

After `throttle_attempts` refused attempts in `throttle_window_s` every frame must confirm and
the margin doubles, until the refusals are older than the window.
"""

from __future__ import annotations

from dataclasses import dataclass

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
