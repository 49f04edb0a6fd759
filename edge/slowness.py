"""Whether the unit decides slower than it can: heat, a weak power supply, somebody else's work. Pure.

Its own best is the measure: boards and models differ, and a unit that was always slow is not ill.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge.link.vitals import Vitals

_STAGES = ("detect", "align", "embed", "search")  # what every compared frame goes through
_SLOW = 2.0  # times its best p95
_WELL = 1.5
_TELLING = 3  # measurements on end: one is chance
MIN_FRAMES = 20  # fewer have no 95th percentile


@dataclass(frozen=True, slots=True)
class Pace:
    """What is remembered. `best_ms`: the lowest p95 of a frame so far; inf: none yet."""

    best_ms: float = math.inf
    slow: bool = False
    against: int = 0  # measurements on end that say it is otherwise than `slow`


@dataclass(frozen=True, slots=True)
class Judged:
    """What a measurement led to; `words`: it has just become slow, or is no longer."""

    pace: Pace
    words: str | None = None


def frame_ms(stages_ms: Mapping[str, float]) -> float | None:
    """What a compared frame took, of its stages; None: it was not compared."""
    if "embed" not in stages_ms:
        return None
    return sum(stages_ms.get(stage, 0.0) for stage in _STAGES)


def judge(pace: Pace, p95_ms: float, vitals: Vitals) -> Judged:
    """One more measurement: the p95 of a frame, over at least MIN_FRAMES of them."""
    pace = replace(pace, best_ms=min(pace.best_ms, p95_ms))
    times = p95_ms / pace.best_ms if pace.best_ms > 0 else math.nan
    otherwise = times < _WELL if pace.slow else times >= _SLOW
    pace = replace(pace, against=pace.against + 1 if otherwise else 0)
    if pace.against < _TELLING:
        return Judged(pace)
    words = f"a frame takes {p95_ms:.0f} ms (p95), at best {pace.best_ms:.0f}{_why(vitals)}"
    return Judged(replace(pace, slow=not pace.slow, against=0), words)


def _why(vitals: Vitals) -> str:
    """What the unit says of itself."""
    heat = [] if vitals.temperature_c is None else [f"{vitals.temperature_c:.0f} degrees C"]
    return "".join(f", {words}" for words in (*heat, *(vitals.throttled or ())))
