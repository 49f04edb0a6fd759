"""What becomes of a batch of messages: stored, judged, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from edge.admin.collector import KnownDoor
from edge.admin.keeping import prune
from edge.admin.placing import read_event
from edge.admin.reports import door_of, opened_attestation
from edge.admin.store import EventStore, Finding
from edge.admin.vouching import Said, Vouching
from edge.errors import PayloadError
from edge.link.wire import ChainHead, rfc3339

_MAX_SAID = 10_000  # findings that are remembered, so as not to tell them twice
_AGAIN = timedelta(hours=1)  # what goes on without end is told as often
_FOREIGN = frozenset({"Unreadable", "Forged", "UnknownDoor"})  # whoever varies their words is told once
_MAX_STRANGERS = 100  # names of doors that are none


class Incoming(Protocol):
    """What came on a door's topic."""

    @property
    def topic(self) -> str:
        """Below `doord/<site>/door/`."""

    @property
    def payload(self) -> bytes:
        """Foreign bytes."""

    @property
    def dup(self) -> bool:
        """Whether the broker sends it again, not the door."""


@dataclass(slots=True)
class Taken:
    """What a batch led to. `acks`: door -> what to acknowledge, see DoorBook.heads."""

    stored: int = 0
    acks: dict[str, list[ChainHead]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class Intake:
    """Stores what comes, within a transaction of the store that the caller begins and ends."""

    def __init__(self, store: EventStore, site: str, keep_days: int | None = None) -> None:
        self._store = store
        self._keep_days = keep_days
        self._site = site
        self._vouching = Vouching(store)
        self._said: dict[tuple[str, str, str], datetime] = {}
        self._placed: dict[tuple[str, int], int] = {}  # door, chain -> of this batch the last number

    def take(self, batch: Sequence[Incoming], doors: Mapping[str, KnownDoor], now: datetime) -> Taken:
        """Store a batch. What can't be read, or is of no door of the site, is told and left out."""
        taken = Taken()
        before = self._count()
        touched = set()
        self._placed = {}
        for message in batch:
            door = door_of(message.topic)
            handle = _HANDLERS.get(message.topic.rpartition("/")[2])
            if handle is None:
                continue
            if door not in doors:
                detail = "is no door of this site: what is sent under its name is not stored"
                taken.findings += [Finding(rfc3339(now.timestamp()), door, "UnknownDoor", detail)]
                continue
            try:
                taken.findings += handle(self, message, door, doors[door], now)
                touched.add(door)
            except PayloadError as error:
                kind = "Unreadable" if handle is Intake._event else "Forged"
                taken.findings += [Finding(rfc3339(now.timestamp()), door, kind, str(error))]
        for door in sorted(touched):
            taken.findings += self._vouching.judge(door, now)
        for (door, chain), seq in self._placed.items():
            taken.acks.setdefault(door, []).extend(self._store.book(door).heads(chain, seq))
        taken.stored = self._count() - before
        taken.findings = self._kept(taken.findings, now)
        return taken

    def look(self, doors: Mapping[str, KnownDoor], now: datetime, patience_s: float) -> list[Finding]:
        """Doors that are silent, or whose signed events don't come for `patience_s`; what is too old goes."""
        retired = {name: door.retired for name, door in doors.items()}
        found = self._vouching.silent(retired, now) + self._vouching.withheld(now, patience_s)
        if self._keep_days is not None:
            found += prune(self._store, self._keep_days, now)
        return self._kept(found, now)

    def told(self, findings: Sequence[Finding], now: datetime) -> None:
        """They are stored for good: the same is not told again within the hour."""
        if len(self._said) > _MAX_SAID:
            self._said.clear()
        self._said.update((_same(one), now) for one in findings)

    def _event(self, message: Incoming, door: str, _known: KnownDoor, now: datetime) -> list[Finding]:
        event = read_event(message.payload)
        chain, told = self._store.book(door).take(event, rfc3339(now.timestamp()), message.dup)
        self._placed[door, chain] = event.head.seq
        return told

    def _attestation(self, message: Incoming, door: str, known: KnownDoor, now: datetime) -> list[Finding]:
        if not message.payload:
            return []  # the broker was told to forget it: the door was retired
        report = opened_attestation(message.payload, self._site, door, known.keys)
        told = self._vouching.heard(Said(report, message.payload, next(iter(known.keys.values()))), now)
        if known.retired:
            detail = "it was retired and reports: it was not switched off, or somebody has its key"
            told.append(Finding(rfc3339(now.timestamp()), door, "Retired", detail))
        return told

    def _count(self) -> int:
        row = self._store.connection.execute("SELECT coalesce(max(n), 0) FROM event").fetchone()
        return int(row[0])

    def _kept(self, findings: Sequence[Finding], now: datetime) -> list[Finding]:
        """Those that were not told within the hour, stored."""
        self._said = {what: at for what, at in self._said.items() if timedelta() <= now - at < _AGAIN}
        strangers = sum(kind == "UnknownDoor" for _, kind, _ in self._said)
        kept = []
        for what, one in {_same(one): one for one in findings}.items():
            strangers += one.kind == "UnknownDoor"
            if what in self._said or (one.kind == "UnknownDoor" and strangers > _MAX_STRANGERS):
                continue
            self._store.keep(one)
            kept.append(one)
        return kept


def _same(finding: Finding) -> tuple[str, str, str]:
    """What makes two findings the same."""
    return finding.door, finding.kind, "" if finding.kind in _FOREIGN else finding.detail


_Handler = Callable[[Intake, Incoming, str, KnownDoor, datetime], list[Finding]]
_HANDLERS: dict[str, _Handler] = {"event": Intake._event, "attestation": Intake._attestation}
