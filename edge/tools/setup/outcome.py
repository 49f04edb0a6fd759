"""What became of a trial. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Result = Literal["passed", "failed", "not tested"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the commissioning report."""

    part: str
    result: Result
    words: str


def passed(part: str, words: str) -> Outcome:
    """It was tried, and does what it should."""
    return Outcome(part, "passed", words)


def failed(part: str, words: str) -> Outcome:
    """It was tried, and does not."""
    return Outcome(part, "failed", words)


def untested(part: str, why: str) -> Outcome:
    """Nobody tried it."""
    return Outcome(part, "not tested", why)
