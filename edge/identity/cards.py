"""The cards on the door: one small file, sealed with a key derived from the gallery's.

Who can write the file but has no key can only break it. An older copy of it is not noticed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.config import Id
from edge.disk import read_sealed, write_sealed
from edge.errors import CardError, GalleryError
from edge.identity.credentials import Cards, Credential, card_digest, card_key
from edge.ports import KeyProvider

MAX_CARDS = 20_000
_BOUND_TO = b"doord cards 1"


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    subject: Id
    enabled: bool
    expires_at: Annotated[int, Meta(ge=0, le=2**35)] | None  # s since 1970


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    doord_cards: Annotated[int, Meta(ge=1, le=1)]
    cards: Annotated[list[_Row], Meta(max_length=MAX_CARDS)]


class CardFile:
    """All cards given out. One writer at a time: hold the folder's `StateLock`."""

    def __init__(self, path: Path, keys: KeyProvider) -> None:
        """Opens nothing yet."""
        self._path = path
        self._keys = keys

    def load(self) -> Cards:
        """All cards; none where there is no file. Raises GalleryError: damaged, or another key's."""
        key = cache(self._key)
        plain = read_sealed(self._path, key, _BOUND_TO, "the cards")
        if plain is None:
            return Cards()
        try:
            rows = msgspec.msgpack.decode(plain, type=_File).cards
        except msgspec.MsgspecError as error:
            raise GalleryError(f"{self._path}: expected cards of doord, got: {error}") from None
        return Cards(key(), {row.digest: _credential(row) for row in rows})

    def add(self, card: str, subject: str, enabled: bool, expires_at_utc: datetime | None) -> Credential:
        """Give a card (`credentials.card_text`) to a subject; one that was given out before is replaced.

        Raises:
            CardError: too many.
            GalleryError: the file can't be read or written.
        """
        made = Credential(card_digest(self._key(), card), subject, enabled, expires_at_utc)
        self._save({**self.load().by_digest, made.digest: made})
        return made

    def remove(self, card_id: str) -> Credential:
        """Forget a card. Raises CardError: no such card; GalleryError."""
        cards = self.load().by_digest
        gone = _by_id(cards, card_id)
        self._save({digest: card for digest, card in cards.items() if card != gone})
        return gone

    def enable(self, card_id: str, enabled: bool) -> Credential:
        """Let a card count, or not. Raises CardError: no such card; GalleryError."""
        cards = self.load().by_digest
        old = _by_id(cards, card_id)
        new = Credential(old.digest, old.subject, enabled, old.expires_at_utc)
        self._save({**cards, new.digest: new})
        return new

    def _key(self) -> bytes:
        return card_key(self._keys.key())

    def _save(self, cards: Mapping[bytes, Credential]) -> None:
        if len(cards) > MAX_CARDS:
            raise CardError(f"{self._path}: expected at most {MAX_CARDS} cards, got {len(cards)}")
        plain = msgspec.msgpack.encode(_File(1, [_row(card) for card in cards.values()]))
        write_sealed(self._path, self._key(), plain, _BOUND_TO)


def _by_id(cards: Mapping[bytes, Credential], card_id: str) -> Credential:
    for card in cards.values():
        if card.id == card_id:
            return card
    raise CardError(f"card {card_id!r:.40}: is not there: see doord card list")


def _credential(row: _Row) -> Credential:
    at = row.expires_at
    expires = None if at is None else datetime.fromtimestamp(at, timezone.utc)
    return Credential(row.digest, row.subject, row.enabled, expires)


def _row(card: Credential) -> _Row:
    at = card.expires_at_utc
    return _Row(card.digest, card.subject, card.enabled, None if at is None else int(at.timestamp()))
