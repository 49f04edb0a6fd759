"""The collected events of a site: one SQLite file. `deploy/collector.md` documents its tables.

What one batch brought is stored in one transaction with all that follows from it, so that a kill at
any moment leaves the state before or after it. Used by one thread; anybody may read beside it.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.admin.placing import Arrived, Chain, Place, Where, place, without
from edge.disk import create_database, make_private_folder, open_database, sqlite_faults, transaction
from edge.errors import GalleryError
from edge.link import wire

APPLICATION_ID = 0x44455654  # "DEVT"
FORMAT = 2
GIVEN_UP_AFTER = 3  # times that what follows a gap is sent again, and what is missing still is not
BEFORE = "not collected: from before"
"""Why the first number that came is not 1. Waited for all the same, until the door sends again without it."""
_WAITED = f"(why IS NULL OR (why = '{BEFORE}' AND resent < {GIVEN_UP_AFTER}))"
_SCHEMA = (
    "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, "
    "site TEXT NOT NULL, client TEXT NOT NULL) STRICT",
    "CREATE TABLE event (n INTEGER PRIMARY KEY AUTOINCREMENT, door TEXT NOT NULL, chain INTEGER NOT NULL, "
    "seq INTEGER NOT NULL, digest TEXT NOT NULL, prev TEXT NOT NULL, id TEXT NOT NULL, at TEXT NOT NULL, "
    "kind TEXT NOT NULL, stored_at TEXT NOT NULL, payload BLOB NOT NULL, UNIQUE (door, chain, seq)) STRICT",
    "CREATE INDEX event_id ON event (id)",
    "CREATE INDEX event_at ON event (at)",
    (_BY_NUMBER := "CREATE INDEX event_seq ON event (door, seq)"),
    "CREATE TABLE chain (door TEXT NOT NULL, chain INTEGER NOT NULL, first INTEGER NOT NULL, "
    "before TEXT NOT NULL, seq INTEGER NOT NULL, digest TEXT NOT NULL, vouched INTEGER NOT NULL, "
    "grown INTEGER NOT NULL, accepted TEXT, PRIMARY KEY (door, chain)) STRICT",
    "CREATE TABLE gap (door TEXT NOT NULL, chain INTEGER NOT NULL, first INTEGER NOT NULL, "
    "last INTEGER NOT NULL, noticed_at TEXT NOT NULL, resent INTEGER NOT NULL, why TEXT, "
    "PRIMARY KEY (door, chain, first)) STRICT",
    "CREATE TABLE door (door TEXT PRIMARY KEY, heard_at TEXT NOT NULL, starts INTEGER NOT NULL, "
    "seq INTEGER NOT NULL, prev TEXT NOT NULL, judged TEXT NOT NULL, silent INTEGER NOT NULL, "
    "retired INTEGER NOT NULL, report BLOB NOT NULL, key TEXT NOT NULL) STRICT",
    "CREATE TABLE finding (n INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, door TEXT NOT NULL, "
    "kind TEXT NOT NULL, detail TEXT NOT NULL) STRICT",
)
_UPGRADE = (_BY_NUMBER, "ALTER TABLE chain ADD COLUMN accepted TEXT")
"""From format 1."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something an admin should know."""

    at: str  # RFC 3339
    door: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """A stored event."""

    n: int  # in the order of arrival
    door: str
    chain: int
    seq: int
    payload: bytes


class EventStore:
    """Opened for writing. Every method raises GalleryError where the disk refuses."""

    def __init__(self, path: Path, site: str) -> None:
        """Open, or make one.

        Raises GalleryError: damaged, another program's or site's, of a newer doord, or not to be written
        now; where that is the disk's fault, another attempt may succeed.
        """
        self.path = path
        if not path.exists():
            _create(path, site)
        self.connection = open_database(path, APPLICATION_ID)
        try:
            with sqlite_faults(path):
                found = self.connection.execute("SELECT format, site, client FROM meta").fetchone()
            if found is None or found[0] not in (1, FORMAT) or found[1] != site:
                expected = f"expected events of site {site} in format {FORMAT}"
                raise GalleryError(f"{path}: {expected}, got {found and found[:2]}")
            with self.transaction():
                for statement in _UPGRADE if found[0] == 1 else ():
                    self.connection.execute(statement)
                # also where it says so: a disk that refuses shows now, not with the first event
                self.connection.execute("UPDATE meta SET format = ?", (FORMAT,))
        except BaseException:
            self.connection.close()
            raise
        self.client: str = found[2]
        """Names the collector at the broker: each store has a session there of its own."""

    def close(self) -> None:
        """May be called twice."""
        self.connection.close()

    def __enter__(self) -> EventStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's changes or none of them; on the disk when it is over."""
        with sqlite_faults(self.path), transaction(self.connection):
            yield

    def book(self, door: str) -> DoorBook:
        """What is stored of one door."""
        return DoorBook(self.connection, door)

    def keep(self, finding: Finding) -> None:
        """Store a finding; within a transaction."""
        self.connection.execute(
            "INSERT INTO finding (at, door, kind, detail) VALUES (?, ?, ?, ?)",
            (finding.at, finding.door, finding.kind, finding.detail),
        )

    def arrived_after(self, n: int, limit: int) -> list[Row]:
        """Events in the order of arrival."""
        query = "SELECT n, door, chain, seq, payload FROM event WHERE n > ? ORDER BY n LIMIT ?"
        with sqlite_faults(self.path):
            return [Row(*row) for row in self.connection.execute(query, (n, limit))]


class DoorBook:
    """One door's pages of the store, see `placing.Book`. To be used within a transaction."""

    def __init__(self, connection: sqlite3.Connection, door: str) -> None:
        self._connection = connection
        self.door = door

    def _one(self, query: str, *values: object) -> tuple[object, ...] | None:
        row: tuple[object, ...] | None = self._connection.execute(query, (self.door, *values)).fetchone()
        return row

    # What `placing` asks

    def current(self) -> Chain | None:
        """The chain that was signed for, or grew, last; None: there is nothing yet."""
        query = "SELECT chain, seq, digest FROM chain WHERE door = ? ORDER BY grown DESC LIMIT 1"
        row = self._connection.execute(query, (self.door,)).fetchone()
        return row and Chain(*row)

    def ending_in(self, seq: int, digest: str) -> int | None:
        """Which chain has this very event as its last."""
        query = (
            "SELECT chain.chain FROM event JOIN chain USING (door, chain, seq) "
            "WHERE event.door = ? AND event.seq = ? AND event.digest = ? ORDER BY grown DESC LIMIT 1"
        )
        row: tuple[int] | None = self._connection.execute(query, (self.door, seq, digest)).fetchone()
        return row and row[0]

    def next_number(self) -> int:
        """Of a chain that begins now."""
        query = "SELECT max(chain) + 1 FROM chain WHERE door = ?"
        return int(self._connection.execute(query, (self.door,)).fetchone()[0])

    def chain_of(self, seq: int, digest: str) -> int | None:
        """Which chain has this very event."""
        query = "SELECT chain, digest FROM event WHERE door = ? AND seq = ? ORDER BY chain DESC"
        rows = self._connection.execute(query, (self.door, seq))
        return next((chain for chain, found in rows if found == digest), None)

    def digest_at(self, chain: int, seq: int) -> str | None:
        """The digest of an event."""
        row = self._one("SELECT digest FROM event WHERE door = ? AND chain = ? AND seq = ?", chain, seq)
        return None if row is None else str(row[0])

    def prev_at(self, chain: int, seq: int) -> str | None:
        """What an event says of the digest of the one before."""
        row = self._one("SELECT prev FROM event WHERE door = ? AND chain = ? AND seq = ?", chain, seq)
        return None if row is None else str(row[0])

    def gaps_around(self, seq: int) -> Sequence[tuple[int, int, int]]:
        """The gaps that a number lies in: chain, first, last."""
        query = "SELECT chain, first, last FROM gap WHERE door = ? AND ? BETWEEN first AND last"
        return self._connection.execute(query, (self.door, seq)).fetchall()

    def _waited_for(self, chain: int) -> list[tuple[int, int]]:
        wanted = f"WHERE door = ? AND chain = ? AND {_WAITED}"
        query = f"SELECT first, last FROM gap {wanted} ORDER BY first"  # noqa: S608  # text of our own
        return self._connection.execute(query, (self.door, chain)).fetchall()

    # What the collector does

    def take(self, event: Arrived, now: str, dup: bool = False) -> tuple[int, list[Finding]]:
        """Store an event where it belongs; its chain, and what is to be told of it.

        Args:
            event: as it came.
            now: RFC 3339.
            dup: the broker sends it again, not the door.
        """
        found = place(event, self)
        if found.where is Where.AGAIN:
            return found.chain, [] if dup else self._sent_again(found.chain, event.head.seq, now)
        told = {
            Where.FIRST: self._begin,
            Where.NEXT: self._grow,
            Where.BEHIND_GAP: self._grow,
            Where.IN_GAP: self._fill,
            Where.FORK: self._begin,
        }[found.where](event, found, now)
        self._insert(event, found.chain, now)
        told += self._explain(event, found)
        return found.chain, [Finding(now, self.door, kind, detail) for kind, detail in told]

    def heads(self, chain: int, seq: int) -> list[wire.ChainHead]:
        """What to acknowledge after event `seq` of a chain came.

        The event up to which it goes on from there without a gap, and without one before that is waited
        for. Not the chain's last: somebody may have made up one with a number far ahead, and no door
        takes the acknowledgement of what it never sent. GENESIS asks for what is waited for.
        """
        ends = f"SELECT min(first) FROM gap WHERE door = ? AND chain = ? AND (first > ? OR {_WAITED})"  # noqa: S608
        end = self._connection.execute(ends, (self.door, chain, seq)).fetchone()[0]
        row = self._connection.execute(
            "SELECT seq, digest FROM event WHERE door = ? AND chain = ? AND seq < ? "
            "ORDER BY seq DESC LIMIT 1",
            (self.door, chain, 2**53 if end is None else end),
        ).fetchone()
        asks = [wire.GENESIS] if self._waited_for(chain) else []
        return asks if row is None else [wire.ChainHead(*row), *asks]

    def last_heads(self) -> list[wire.ChainHead]:
        """The same as of now, of the current chain; what came behind it is asked for."""
        current = self.current()
        found = [] if current is None else self.heads(current.chain, current.seq)
        return [*(head for head in found if head != wire.GENESIS), wire.GENESIS]

    def _insert(self, event: Arrived, chain: int, now: str) -> None:
        head = event.head
        self._connection.execute(
            "INSERT INTO event (door, chain, seq, digest, prev, id, at, kind, stored_at, payload) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.door, chain, head.seq, event.digest, head.prev, head.id, head.at, head.kind, now)
            + (event.payload,),
        )

    def _begin(self, event: Arrived, found: Place, now: str) -> list[tuple[str, str]]:
        head = event.head
        before = self.current()
        self._connection.execute(
            "INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, 0, ?, NULL)",
            # one event makes no other chain the current one: it may have been made up
            (self.door, found.chain, head.seq, head.prev, head.seq, event.digest, 0 if before else 1),
        )
        if before is None:
            if head.seq == 1:
                return []
            self._put_gap(found.chain, (1, head.seq - 1), now, BEFORE)
            return [("Began", f"collected from event {head.seq} on, unless the door sends what was before")]
        causes = "a restored backup, a swapped card, or events that somebody made up"
        return [
            (
                "Fork",
                f"event {head.seq} does not follow from what was collected, up to {before.seq}: {causes}",
            )
        ]

    def _grow(self, event: Arrived, found: Place, now: str) -> list[tuple[str, str]]:
        self._connection.execute(
            "UPDATE chain SET seq = ?, digest = ?, grown = ? WHERE door = ? AND chain = ?",
            (event.head.seq, event.digest, self._turn(), self.door, found.chain),
        )
        if found.gap is None:
            return []
        self._put_gap(found.chain, found.gap, now)
        return [("Gap", f"{_numbers(*found.gap)} missing")]

    def _fill(self, event: Arrived, found: Place, now: str) -> list[tuple[str, str]]:
        seq = event.head.seq
        gap = found.gap or (seq, seq)
        why = self._delete_gap(found.chain, gap)
        if why == BEFORE:  # the door does send what was before, from here on
            self._connection.execute(
                "UPDATE chain SET first = ?, before = ? WHERE door = ? AND chain = ?",
                (seq, event.head.prev, self.door, found.chain),
            )
        left = without(gap, (seq, seq))
        for part in left:
            self._put_gap(found.chain, part, now, why if why != BEFORE or part[1] < seq else None)
        return [] if left else [("GapFilled", f"up to {gap[1]} nothing that was missing is missing any more")]

    def _explain(self, event: Arrived, found: Place) -> list[tuple[str, str]]:
        """The door says what it no longer has: that is not waited for."""
        told = []
        out = event.explains
        if out is None:
            return []
        at, why = event.head.at, f"dropped: event {event.head.seq} says so"
        for gap in self._waited_for(found.chain):
            first, last = max(gap[0], out[0]), min(gap[1], out[1])
            if first <= last:
                before = self._delete_gap(found.chain, gap)
                for part in without(gap, (first, last)):
                    self._put_gap(found.chain, part, at, before)
                self._put_gap(found.chain, (first, last), at, why)
                told.append(("GapExplained", f"{_numbers(first, last)} not on the door any more, it says"))
        return told

    def _sent_again(self, chain: int, seq: int, now: str) -> list[Finding]:
        """The door sends all that it does not know to be acknowledged: what it leaves out it won't send."""
        wanted = f"WHERE door = ? AND chain = ? AND last = ? AND {_WAITED}"
        query = f"UPDATE gap SET resent = resent + 1 {wanted} RETURNING first, last, resent, why"  # noqa: S608
        values = (self.door, chain, seq - 1)
        row: tuple[int, int, int, str | None] | None = self._connection.execute(query, values).fetchone()
        if row is None or row[2] < GIVEN_UP_AFTER or row[3] == BEFORE:
            return []
        self._connection.execute(
            "UPDATE gap SET why = 'lost: the door no longer sends them' "
            "WHERE door = ? AND chain = ? AND first = ?",
            (self.door, chain, row[0]),
        )
        detail = f"{_numbers(row[0], row[1])} not sent any more: look on the door"
        return [Finding(now, self.door, "GapLost", detail)]

    def _delete_gap(self, chain: int, gap: tuple[int, int]) -> str | None:
        """Why it was there."""
        query = "DELETE FROM gap WHERE door = ? AND chain = ? AND first = ? RETURNING why"
        why: str | None = self._connection.execute(query, (self.door, chain, gap[0])).fetchone()[0]
        return why

    def _put_gap(self, chain: int, gap: tuple[int, int], now: str, why: str | None = None) -> None:
        self._connection.execute(
            "INSERT INTO gap VALUES (?, ?, ?, ?, ?, 0, ?)", (self.door, chain, *gap, now, why)
        )

    def _turn(self) -> int:
        row = self._one("SELECT coalesce(max(grown), 0) + 1 FROM chain WHERE door = ?")
        return int(str(row[0])) if row else 1


def _create(path: Path, site: str) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        for statement in _SCHEMA:
            connection.execute(statement)
        client = f"doord-collect-{secrets.token_hex(8)}"
        connection.execute("INSERT INTO meta VALUES (1, ?, ?, ?)", (FORMAT, site, client))

    make_private_folder(path.parent)
    create_database(path, APPLICATION_ID, fill)


def _numbers(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"
