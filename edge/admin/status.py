"""Which door runs what: who lags since when, who is silent since when, and what went back.

A door's version, its events' number and its count of starts only rise. Where one is lower than
before, its card was restored, or somebody shows an old report; a report that the door did not sign
is named. An alarm stays until `accept` is called, so that it is not missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from edge.admin.conversation import Conversation
from edge.admin.model import Door, Publication, Seen
from edge.admin.records import Records
from edge.admin.reports import SILENT_S as SILENT_S
from edge.admin.reports import Reports, read_reports
from edge.errors import AdminError
from edge.link import orders
from edge.link.orders import Attestation
from edge.log_view import printable

AHEAD_S = 120.0  # a report from the future would hide that its door is silent


class DoorStatus(msgspec.Struct, frozen=True):
    """One door, as of its newest genuine report. Times are RFC 3339."""

    door: str
    alarms: list[str]  # in words
    version: int | None = None  # of the gallery in force; None: none, or no report
    lags_since: str | None = None  # when the first version was published that it lacks
    silent_since: str | None = None  # of its last report, or when it was added
    reported_at: str | None = None
    mode: str | None = None
    lock: str | None = None
    people: int | None = None
    templates: int | None = None
    expires_at: str | None = None  # of the gallery in force
    refusal: str | None = None  # why it did not take what was published


def site_status(talk: Conversation, records: Records, now: datetime) -> list[DoorStatus]:
    """Ask the broker, judge, and remember the highest that each door has reported.

    Raises:
        LinkError: the broker.
    """
    doors = records.all(Door)
    reports = read_reports(talk, records.site().site, doors)
    seen = records.all(Seen)
    rows = judged(doors, reports, seen, list(records.all(Publication).values()), now)
    for door, said in reports.genuine.items():
        highest = _highest(said, seen.get(door))
        if highest != seen.get(door):
            records.put(door, highest)
    return rows


def accept(records: Records, door: str) -> None:
    """From now on what the door reports next is the measure, however low: its card was replaced.

    Raises:
        AdminError: no such door has reported.
    """
    if not records.delete(Seen, door):
        raise AdminError(f"door {door!r}: expected one that has reported, got none of that id")


def judged(
    doors: Mapping[str, Door],
    reports: Reports,
    seen: Mapping[str, Seen],
    publications: Sequence[Publication],
    now: datetime,
) -> list[DoorStatus]:
    """A row for each door in use, and one for each other name under which something is reported."""
    rows = []
    for name, door in doors.items():
        said, forged = reports.genuine.get(name), reports.forged.get(name)
        alarms = [f"forged report: {forged}"] if forged else []
        if door.retired_at_utc is None:
            rows.append(_row(door, said, seen.get(name), publications, now, alarms))
        elif said and orders.utc(said.at) > orders.utc(door.retired_at_utc):
            rows.append(DoorStatus(name, [f"was retired on {door.retired_at_utc}, reports still", *alarms]))
    strangers = [name for name in reports.forged if name not in doors]
    return rows + [DoorStatus(name, [f"forged report: {reports.forged[name]}"]) for name in strangers]


def table(rows: Sequence[DoorStatus], newest: int | None) -> list[str]:
    """A line for each door, its alarms below it; `newest`: the version published last."""
    width = max((len(row.door) for row in rows), default=0)
    return [printable(line) for row in rows for line in _lines(row, width, newest)]


def newest_version(publications: Iterable[Publication]) -> int | None:
    """What doors should run; None: nothing was published yet."""
    return max((publication.version for publication in publications), default=None)


def _row(
    door: Door,
    said: Attestation | None,
    seen: Seen | None,
    publications: Sequence[Publication],
    now: datetime,
    alarms: list[str],
) -> DoorStatus:
    if said is None:
        since = seen.at_utc if seen else door.added_at_utc
        return DoorStatus(door.door, alarms, silent_since=since)
    version, newest = said.state.gallery, newest_version(publications)
    return DoorStatus(
        door=door.door,
        alarms=alarms + _went_back(said, seen) + _impossible(said, newest, now),
        version=version,
        lags_since=_lags_since(version or 0, publications),
        silent_since=said.at if now - orders.utc(said.at) > timedelta(seconds=SILENT_S) else None,
        reported_at=said.at,
        mode=said.state.mode.value,
        lock=said.state.lock,
        people=said.state.subjects,
        templates=said.state.templates,
        expires_at=said.state.gallery_expires_at,
        refusal=said.state.gallery_refusal,
    )


def _levels(said: Attestation) -> Seen:
    starts = orders.epoch_count(said.epoch)
    return Seen(said.door, said.at, starts, said.seq, said.state.gallery or 0)


_RISING = {"version": "gallery version", "seq": "number of events", "starts": "count of starts"}


def _went_back(said: Attestation, seen: Seen | None) -> list[str]:
    if seen is None:
        return []
    now = _levels(said)
    return [
        f"its {what} went back from {getattr(seen, name)} to {getattr(now, name)}: its card was "
        "restored, or this is an old report"
        for name, what in _RISING.items()
        if getattr(now, name) < getattr(seen, name)
    ]


def _impossible(said: Attestation, newest: int | None, now: datetime) -> list[str]:
    alarms = []
    if (said.state.gallery or 0) > (newest or 0):
        alarms.append(f"runs version {said.state.gallery}, but {newest or 'nothing'} was published last here")
    if orders.utc(said.at) - now > timedelta(seconds=AHEAD_S):
        alarms.append(f"its clock is ahead: it reports at {said.at}")
    return alarms


def _highest(said: Attestation, seen: Seen | None) -> Seen:
    now = _levels(said)
    if seen is None:
        return now
    highest = {name: max(getattr(now, name), getattr(seen, name)) for name in (*_RISING, "at_utc")}
    return msgspec.structs.replace(seen, **highest)


def _lags_since(version: int, publications: Sequence[Publication]) -> str | None:
    return min((later.at_utc for later in publications if later.version > version), default=None)


def _lines(row: DoorStatus, width: int, newest: int | None) -> list[str]:
    runs = f"{row.version or '-'} of {newest or '-'}" if row.reported_at else "no report"
    notes = [
        f"lags since {row.lags_since}" if row.lags_since and row.reported_at else "",
        f"silent since {row.silent_since}" if row.silent_since else "",
        f"refused: {row.refusal}" if row.refusal else "",
    ]
    said = ", ".join(note for note in notes if note) or ("" if row.alarms else "ok")
    what = f"{row.mode or '-'}, {row.lock or '-'}"
    first = f"{row.door:{width}}  {runs:12}  {what:22}  {said}".rstrip()
    return [first, *(f"{'':{width}}  ALARM {alarm}" for alarm in row.alarms)]
