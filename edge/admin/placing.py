"""Where an event that arrived belongs among those that were stored. Pure.

A door numbers its events without gaps, and each has the digest of the one before. So an event is the
next one, or comes behind a gap, or fills one, or was there before; all else is another chain under
the same numbers: a restored backup, a swapped card, or somebody who makes events up. Such a chain is
kept beside the first: nothing that arrived is thrown away, and none is preferred.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from edge.config import Id
from edge.link.chain import decode_partly
from edge.link.wire import Digest, EventId, Ordinal, Utc


class Head(msgspec.Struct, frozen=True):
    """What every event has, whatever else a later doord puts into it."""

    id: EventId
    seq: Ordinal
    prev: Digest
    at: Utc
    kind: Annotated[str, Meta(pattern=r"^[A-Za-z]{1,40}\Z")]
    subject: Id | None = None
    reason: Annotated[str, Meta(max_length=40)] | None = None
    first: Ordinal | None = None  # of EventsDropped: what the door no longer has
    last: Ordinal | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event as it came."""

    head: Head
    payload: bytes
    digest: str  # SHA-256 of the payload, hex

    @property
    def explains(self) -> tuple[int, int] | None:
        """The numbers that the door says it dropped."""
        head = self.head
        if head.kind != "EventsDropped" or head.first is None or head.last is None:
            return None
        return head.first, head.last


def read_event(payload: bytes) -> Arrived:
    """An event of this or a later doord: what is not known is kept, not judged. Raises PayloadError."""
    head = decode_partly(payload, Head)
    return Arrived(head, payload, hashlib.sha256(payload).hexdigest())


@dataclass(frozen=True, slots=True)
class Chain:
    """A run of stored events of one door."""

    chain: int  # 1 is the first
    seq: int  # of its last event
    digest: str  # of its last event


class Book(Protocol):
    """What is stored of one door."""

    def current(self) -> Chain | None:
        """The chain that was signed for, or grew, last; None: there is nothing yet."""

    def ending_in(self, seq: int, digest: str) -> int | None:
        """Which chain has this very event as its last."""

    def next_number(self) -> int:
        """Of a chain that begins now."""

    def chain_of(self, seq: int, digest: str) -> int | None:
        """Which chain has this very event."""

    def digest_at(self, chain: int, seq: int) -> str | None:
        """The digest of an event."""

    def prev_at(self, chain: int, seq: int) -> str | None:
        """What an event says of the digest of the one before."""

    def gaps_around(self, seq: int) -> Sequence[tuple[int, int, int]]:
        """The gaps that a number lies in: chain, first, last."""


class Where(Enum):
    """How an event stands to what is stored."""

    FIRST = "of a door of which there was nothing"
    NEXT = "the next of its chain"
    BEHIND_GAP = "some are missing before it"
    IN_GAP = "was missing"
    AGAIN = "is there already"
    FORK = "begins another chain"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to store an event. `gap`: the one that it makes, or lies in."""

    where: Where
    chain: int
    gap: tuple[int, int] | None = None


def place(event: Arrived, book: Book) -> Place:
    """Where an event belongs."""
    seq = event.head.seq
    current = book.current()
    if current is None:
        return Place(Where.FIRST, 1)
    known = book.chain_of(seq, event.digest)
    if known is not None:
        return Place(Where.AGAIN, known)
    follows = book.ending_in(seq - 1, event.head.prev)
    if follows is not None:
        return Place(Where.NEXT, follows)
    found = {chain: (first, last) for chain, first, last in book.gaps_around(seq)}
    agreeing = {chain: _agreeing(event, chain, book) for chain in found}
    fitting = next((chain for chain in found if agreeing[chain]), current.chain)
    if fitting in found and agreeing[fitting] is not False:
        return Place(Where.IN_GAP, fitting, found[fitting])
    if seq > current.seq + 1:
        return Place(Where.BEHIND_GAP, current.chain, (current.seq + 1, seq - 1))
    return Place(Where.FORK, book.next_number())


def _agreeing(event: Arrived, chain: int, book: Book) -> bool | None:
    """Whether its neighbours in the chain agree with it; None: there are none."""
    before = book.digest_at(chain, event.head.seq - 1)
    behind = book.prev_at(chain, event.head.seq + 1)
    if before is None and behind is None:
        return None
    return before in (None, event.head.prev) and behind in (None, event.digest)


def without(gap: tuple[int, int], out: tuple[int, int]) -> list[tuple[int, int]]:
    """What is left of a gap when the numbers `out` are taken out of it."""
    first, last = gap
    parts = [(first, min(last, out[0] - 1)), (max(first, out[1] + 1), last)]
    return [part for part in parts if part[0] <= part[1]]
