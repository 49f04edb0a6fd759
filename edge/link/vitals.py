"""How the unit itself fares: the part of `status` for who looks after many doors. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Strain = Literal["under-voltage", "frequency capped", "throttled", "soft temperature limit"]
_Figure = Annotated[float, Meta(ge=0)]


class Vitals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None: this unit can't tell, or there was nothing to measure yet."""

    temperature_c: float | None = None  # of the processor
    throttled: list[Strain] | None = None  # now; only a Raspberry Pi says so
    latency_p50_ms: _Figure | None = None  # of the last grants by face: from the frame to the decision
    latency_p95_ms: _Figure | None = None
    camera_fps: _Figure | None = None  # frames that came, looked at or not
    rss_mb: _Figure | None = None  # memory of the daemon
    queue: Annotated[int, Meta(ge=0)] = 0  # events that are not delivered yet, to the broker or the collector
