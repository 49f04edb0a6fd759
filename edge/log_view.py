"""Events as people and machines read them: which ones, in columns, as JSON or CSV. Pure.

An event of a later doord is shown by what all events have. Text of events is foreign: it moves no
cursor of a terminal and is no formula of a spreadsheet (OWASP, CSV Injection).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Protocol

import msgspec

from edge.errors import LogError, PayloadError
from edge.link.chain import Flaw
from edge.link.wire import rfc3339, unreadable

_AGO = re.compile(r"([0-9]{1,6})\s*(s|m|min|h|d|w)")
_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001  # what some take for the same


@dataclass(frozen=True, slots=True)
class Entry:
    """An event where it lies."""

    n: int  # where it lies: rises with time, not gap-free
    door: str
    chain: int  # 1, but where a door's numbers were used twice
    payload: bytes  # as the door wrote it


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events. Times are RFC 3339 with ms, UTC, and compared as text."""

    since: str = ""
    until: str = "~"  # behind any digit
    door: str | None = None
    kinds: frozenset[str] = frozenset()  # empty: all


class Log(Protocol):
    """Where events lie: a door's ledger, or what a collector stored."""

    @property
    def end(self) -> int:
        """`n` of the newest."""

    def select(self, wanted: Wanted, after: int = 0) -> Iterator[Entry]:
        """Those that are wanted, with `n` above `after`, oldest first."""

    def last(self, wanted: Wanted, count: int) -> list[Entry]:
        """The newest `count` of them, oldest first."""

    def find(self, which: str | int, door: str | None) -> list[Entry]:
        """Those with this id or number."""

    def verify(self, door: str | None) -> Iterator[tuple[str, Flaw | None]]:
        """Each chain by name, and its first record that is broken or missing.

        Raises:
            LogError: there is no such door.
        """


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to show of an event, of whatever kind."""

    id: str
    seq: int
    at: str
    kind: str
    subject: str | None = None
    reason: str | None = None
    distance: float | None = None
    detail: str | None = None
    frames: int | None = None
    frame_age_ms: float | None = None
    repeats: int | None = None
    threshold: float | None = None
    margin: float | None = None
    model: str | None = None
    gallery: int | None = None
    simulation: bool | None = None


COLUMNS: tuple[str, ...] = (
    "at",
    "door",
    "chain",
    "seq",
    "kind",
    "subject",
    "reason",
    "distance",
    "detail",
    "frames",
)
COLUMNS += ("frame_age_ms", "repeats", "threshold", "margin", "model", "gallery", "simulation", "id")


def shown(payload: bytes) -> Shown:
    """Raises PayloadError: no event."""
    try:
        return msgspec.json.decode(payload, type=Shown)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable("event", error) from None


def takes(wanted: Wanted, entry: Entry) -> bool:
    """Whether an event is wanted; one that can't be read is, so that nothing hides."""
    if wanted.door not in (None, entry.door):
        return False
    try:
        event = shown(entry.payload)
    except PayloadError:
        return True
    return wanted.since <= event.at <= wanted.until and (not wanted.kinds or event.kind in wanted.kinds)


def moment(text: str, now: datetime) -> str:
    """A time as people type it, as RFC 3339 with ms.

    Args:
        text: `2h`, `30min`, `7d` ago; `2026-11-22`; `2026-11-22T08:30`; without a zone it is UTC.
        now: aware.

    Raises:
        LogError: none of these.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            at = now - timedelta(seconds=int(ago[1]) * _UNIT_S[ago[2]])
        else:
            at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))  # Python 3.10 knows no Z
            at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
        return rfc3339(at.timestamp())
    except (ValueError, OverflowError):
        raise LogError(f"time: expected 2h, 7d, 2026-11-22 or 2026-11-22T08:30Z, got {text!r:.60}") from None


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """For people: time, door, number, kind, and what there is to say."""
    for entry in entries:
        try:
            event = shown(entry.payload)
        except PayloadError as error:
            yield f"{'?':24}  {entry.door:12}  {entry.n:>7}  {printable(str(error))}"
            continue
        number = f"{event.seq}" if entry.chain == 1 else f"{event.seq} ({entry.chain})"
        what = printable(_said(event))
        where = f"{printable(event.at):24}  {entry.door:12}  {number:>7}"
        yield f"{where}  {printable(event.kind):18}  {what}".rstrip()


def _said(event: Shown) -> str:
    parts = [
        event.subject,
        None if event.distance is None else f"distance {event.distance:.2f}",
        event.reason,
        event.detail,
        f"and {event.repeats} more like it before" if event.repeats else None,
        "simulation" if event.simulation else None,
    ]
    return ", ".join(part for part in parts if part)


def printable(text: str) -> str:
    """The same without what would move the cursor or change the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def one_line(text: str) -> str:
    """The same JSON without what would move the cursor or change the terminal: there it is escaped."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character in "\t\n\r":  # between fields: within a string they are escaped
        return " "
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def as_json(entry: Entry) -> str:
    """A line: the event as the door sent it, and where it lies; one that is no JSON in base64."""
    where: dict[str, object] = {"door": entry.door, "chain": entry.chain}
    try:
        msgspec.json.decode(entry.payload, type=dict[str, msgspec.Raw])
        event = msgspec.Raw(one_line(entry.payload.decode()).encode())
        return msgspec.json.encode(where | {"event": event}).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.encode(where | {"unreadable": entry.payload}).decode()


def as_csv(entries: Iterable[Entry]) -> Iterator[str]:
    """Lines with a header; of one that can't be read where it lies, and why."""
    yield _csv_line(COLUMNS)
    for entry in entries:
        cells = {"door": entry.door, "chain": entry.chain} | _cells(entry)
        yield _csv_line(["" if cells.get(name) is None else cells[name] for name in COLUMNS])


def _cells(entry: Entry) -> dict[str, object]:
    try:
        return msgspec.structs.asdict(shown(entry.payload))
    except PayloadError as error:
        return {"kind": "?", "detail": str(error)}


def _csv_line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([_safe(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n")  # which has to be its, or it leaves line ends unquoted


def _safe(cell: object) -> object:
    """A number is one; text that a spreadsheet would calculate gets a ' before it."""
    if not isinstance(cell, str):
        return cell
    cell = printable(cell)
    return f"'{cell}" if cell.lstrip(" '").startswith(_FORMULA) else cell
