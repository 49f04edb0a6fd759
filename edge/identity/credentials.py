"""Cards and what they prove. Pure.

A card is known by the HMAC-SHA-256 of what its reader reports, so the list of cards is no list of
numbers to copy onto blank ones; a short number could be guessed without the key.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from edge.config import AccessMode
from edge.errors import CardError
from edge.values import Deny, Reason

WEDGE = "wedge"
_FORMATS = {
    WEDGE: (re.compile(r"[0-9A-Z]{1,32}"), "1 to 32 of 0-9 and A-Z"),
    "wiegand26": (re.compile(r"([0-9]{1,3})-([0-9]{1,5})"), "FACILITY-NUMBER, up to 255-65535"),
    "wiegand34": (re.compile(r"([0-9]{1,5})-([0-9]{1,5})"), "FACILITY-NUMBER, up to 65535-65535"),
    "wiegand37": (re.compile(r"([0-9]{1,5})-([0-9]{1,6})"), "FACILITY-NUMBER, up to 65535-524287"),
}
_LARGEST = {"wiegand26": (0xFF, 0xFFFF), "wiegand34": (0xFFFF, 0xFFFF), "wiegand37": (0xFFFF, 0x7FFFF)}


@dataclass(frozen=True, slots=True)
class Credential:
    """A card that was given out."""

    digest: bytes  # 32 bytes, see `card_digest`
    subject: str
    enabled: bool = True
    expires_at_utc: datetime | None = None  # aware; from then on it opens nothing

    @property
    def id(self) -> str:
        """What an admin calls it by."""
        return card_id(self.digest)


def card_id(digest: bytes) -> str:
    """12 hex digits of a card's digest, that tell nothing of its number."""
    return digest.hex()[:12]


def card_text(format: str, number: str) -> str:  # noqa: A002  # the field's word
    """The one spelling of a card, as reader and admin must both give it: `wiegand26:12-3456`.

    Raises:
        CardError: no such format, or not a number of that format.
    """
    if format not in _FORMATS:
        raise CardError(f"card: expected a format of {', '.join(_FORMATS)}, got {format!r:.40}")
    pattern, expected = _FORMATS[format]
    found = pattern.fullmatch(number.strip().upper())
    if found is None:
        raise CardError(f"card: expected {expected}, got {len(number)} other characters")
    if format == WEDGE:
        return f"{format}:{found[0]}"
    parts = [int(part) for part in found.groups()]
    if any(part > most for part, most in zip(parts, _LARGEST[format], strict=True)):
        raise CardError(f"card: expected {expected}, got a larger one")
    return f"{format}:{parts[0]}-{parts[1]}"


def card_key(gallery_key: bytes) -> bytes:
    """The cards' own key, 32 bytes, from the gallery's: one key to keep, two that never meet."""
    return hmac.digest(gallery_key, b"doord card key 1", "sha256")


def card_digest(key: bytes, card: str) -> bytes:
    """HMAC-SHA-256, 32 bytes, of a card's text."""
    return hmac.digest(key, card.encode(), "sha256")


@dataclass(frozen=True, slots=True)
class Cards:
    """All cards given out, by digest, and the key that makes a digest of a card's text."""

    key: bytes = b""
    by_digest: Mapping[bytes, Credential] = field(default_factory=dict)


def claimed(cards: Cards, card: str, now_utc: datetime, clock_trusted: bool) -> Credential | Deny:
    """The card that was shown (its `card_text`), if it counts now.

    Deny: Unauthorized (unknown), CredentialNotEnabled, ClockNotTrusted (it expires some time),
    CredentialExpired.
    """
    found = cards.by_digest.get(card_digest(cards.key, card))
    if found is None:
        return Deny(Reason.UNAUTHORIZED)
    if not found.enabled:
        return Deny(Reason.CREDENTIAL_NOT_ENABLED)
    if found.expires_at_utc is None:
        return found
    if not clock_trusted:
        return Deny(Reason.CLOCK_NOT_TRUSTED)
    if not now_utc < found.expires_at_utc:
        return Deny(Reason.CREDENTIAL_EXPIRED)
    return found


class Evidence(str, Enum):
    """What somebody at the door can show."""

    FACE = "face"
    CARD = "card"
    BOTH = "card_and_face"  # a card, and the face of its subject


_ENOUGH: dict[AccessMode, frozenset[Evidence]] = {
    "face": frozenset({Evidence.FACE, Evidence.BOTH}),
    "card": frozenset({Evidence.CARD, Evidence.BOTH}),
    "card_or_face": frozenset(Evidence),
    "card_and_face": frozenset({Evidence.BOTH}),
}


def enough(modes: Iterable[AccessMode]) -> frozenset[Evidence]:
    """What opens by every one of `modes`; card and face together always do."""
    found = frozenset(Evidence)
    for mode in modes:
        found &= _ENOUGH[mode]
    return found
