"""Where a chain of records is broken. Pure.

Each record has the SHA-256 of the bytes before it, so each vouches for its predecessor, and the
chain's head for the last. A record whose own successor contradicts it vouches for nobody: so the
one that was altered is named, also when what was altered is the digest in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import msgspec

from edge.errors import PayloadError
from edge.link import wire

Record: TypeAlias = "tuple[int, bytes] | tuple[int, bytes, str, str] | tuple[int, bytes, str, str, str]"
"""Number and bytes as stored; then the id, time and kind that it is filed by, where it is."""
_FILED = ("id", "at", "kind")
_ALTERED = "was altered: its successor, or the chain's head, vouches for other bytes"


@dataclass(frozen=True, slots=True)
class Flaw:
    """The first record that is broken or missing, and what is wrong with it in words."""

    seq: int
    what: str


class Linked(msgspec.Struct, frozen=True):
    """What ties an event to others, and what it is found by; the same in every doord.

    A ledger may have events of a later one, whose version was taken back since.
    """

    id: wire.EventId
    seq: wire.Ordinal
    prev: wire.Digest
    at: wire.Utc
    kind: str
    first: wire.Ordinal | None = None  # of EventsDropped
    last: wire.Ordinal | None = None


M = TypeVar("M")


def decode_partly(payload: bytes, to: type[M]) -> M:
    """Of an event of this or a later doord what `to` has. Raises PayloadError."""
    if len(payload) > wire.MAX_BYTES:
        raise PayloadError(f"event: expected at most {wire.MAX_BYTES} bytes, got {len(payload)}")
    try:
        payload.decode()  # msgspec skips over the text of fields it does not know
        return msgspec.json.decode(payload, type=to)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise wire.unreadable("event", error) from None


def first_flaw(
    records: Iterable[Record],
    head: wire.ChainHead,
    witness: wire.ChainHead = wire.GENESIS,
    start: wire.ChainHead = wire.GENESIS,
    known: Iterable[tuple[int, int]] = (),
) -> Flaw | None:
    """The first record that is broken or missing; None: there is none.

    What stands in an EventsDropped of the same chain is not missing.

    Args:
        records: as stored, in order.
        head: number and digest of the last, as stored beside the records.
        witness: the same, kept or signed elsewhere, now or earlier; the records may have gone on since.
        start: what the first record is said to follow; of a record that was begun later.
        known: numbers, first to last, that are known to be missing.
    """
    walk = _Walk(witness, start, known)
    for seq, payload, *filed in records:
        walk.take(seq, payload, filed)
    walk.end(head)
    return walk.verdict()


class _Walk:
    def __init__(
        self, witness: wire.ChainHead, start: wire.ChainHead, known: Iterable[tuple[int, int]]
    ) -> None:
        self._witness = witness
        self._last = start.seq  # number of the record before
        self._digest = start.prev  # of its bytes
        self._doubted: int | None = None  # contradicted by a successor that nobody has vouched for yet
        self._found: list[Flaw] = []  # the first at most
        self._missing: list[tuple[int, int]] = []
        self._dropped = list(known)

    def take(self, seq: int, payload: bytes, filed: list[str]) -> None:
        digest = hashlib.sha256(payload).hexdigest()
        event = self._read(seq, payload)
        if seq == self._last + 1:
            self._judge(None if event is None else event.prev == self._digest)
        else:
            self._skip(self._last + 1, seq - 1)
        if seq == self._witness.seq and digest != self._witness.prev:
            self._flaw(seq, "was altered: what was kept of the chain's head says so")
        if event is not None and filed != [getattr(event, name) for name in _FILED[: len(filed)]]:
            self._flaw(seq, "lies under another id, time or kind than its own")
        if event is not None and event.kind == "EventsDropped" and event.first and event.last:
            self._dropped.append((event.first, event.last))
        self._last, self._digest = seq, digest

    def end(self, head: wire.ChainHead) -> None:
        newest = max(head.seq, self._witness.seq)
        if head.seq == self._last:
            self._judge(head.prev == self._digest)
        elif head.seq < self._last:
            self._flaw(head.seq + 1, f"was added: the chain ends at {head.seq}")
        if newest > self._last:
            self._skip(self._last + 1, newest)
        self._believe_the_doubt()

    def verdict(self) -> Flaw | None:
        gaps = [self._uncovered(first, last) for first, last in self._missing]
        found = self._found + [Flaw(seq, "is missing") for seq in gaps if seq is not None]
        return min(found, key=lambda flaw: flaw.seq, default=None)

    def _read(self, seq: int, payload: bytes) -> Linked | None:
        try:
            event = decode_partly(payload, Linked)
        except PayloadError as error:
            self._flaw(seq, f"can't be read: {error}")
            return None
        if event.seq != seq:
            self._flaw(seq, f"says that it is number {event.seq}")
        return event

    def _judge(self, vouches: bool | None) -> None:
        """What the next record, or the head, says of the last one; None: it can't be read."""
        if self._doubted is not None:
            self._flaw(self._last if vouches is False else self._doubted, _ALTERED)
            self._doubted = None
        elif vouches is False:
            self._doubted = self._last

    def _skip(self, first: int, last: int) -> None:
        self._believe_the_doubt()
        self._missing.append((first, last))

    def _believe_the_doubt(self) -> None:
        """Nobody is left who could say that the one who contradicted was altered itself."""
        if self._doubted is not None:
            self._flaw(self._doubted, _ALTERED)
            self._doubted = None

    def _flaw(self, seq: int, what: str) -> None:
        seq = max(1, seq)  # a first record that follows something else contradicts number 0
        if not self._found or seq < self._found[0].seq:
            self._found = [Flaw(seq, what)]

    def _uncovered(self, first: int, last: int) -> int | None:
        """The first number of a gap that no EventsDropped explains.

        Before the oldest record the newest suffices: those of earlier times were dropped with the rest.
        """
        oldest = first == 1
        for begin, end in sorted(self._dropped, key=lambda numbers: numbers[1]):
            if (oldest or begin <= first) and first <= end <= last:
                first = end + 1
        return first if first <= last else None
