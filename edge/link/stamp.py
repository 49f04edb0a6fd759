"""Which and when: the identity of an event, and times as every message writes them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass(frozen=True, slots=True)
class Stamp:
    """An event's identity: UUIDv7 and time."""

    id: str
    at: str

    @classmethod
    def of(cls, unix_s: float, random: bytes) -> Stamp:
        """From UTC seconds and 10 random bytes."""
        return cls(uuid7(int(unix_s * 1000), random), rfc3339(unix_s))


def uuid7(unix_ms: int, random: bytes) -> str:
    """A UUID version 7 (RFC 9562, section 5.7) from UTC milliseconds and 10 random bytes."""
    noise = int.from_bytes(random[:10], "big")
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (noise >> 64 & 0xFFF) << 64
    value |= 0b10 << 62 | noise & (1 << 62) - 1
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def rfc3339(unix_s: float) -> str:
    """UTC seconds as `2026-01-31T12:00:00.000Z`."""
    at = datetime.fromtimestamp(int(unix_s * 1000) / 1000, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
