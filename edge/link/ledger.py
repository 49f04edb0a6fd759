"""The door's record of events: numbered, chained, on disk before anybody hears of them.

SQLite with a write-ahead log and synchronous=FULL: a commit is on the disk when it returns. Nothing
is read through at the start; `verify` does that when asked. Only age and size make records go, never
an acknowledgement, and an event says which went.

The number and digest of the last event also stand in a file beside it, written after each commit: a
ledger that is lost, damaged or replaced by an older one can so use no number twice.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from edge.disk import connect_to_database, create_database, make_durable, transaction
from edge.errors import LedgerDamaged, LedgerError
from edge.link import wire
from edge.link.chain import Flaw
from edge.link.kept_head import HeadFile, head_path, read_head
from edge.link.ledger_view import APPLICATION_ID, LedgerView, ledger_faults, read_chain
from edge.link.port import Stored

log = logging.getLogger(__name__)

_TABLES = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, at TEXT NOT NULL, "
    "payload BLOB NOT NULL, details BLOB)",
    "CREATE INDEX events_id ON events (id)",
    "CREATE TABLE chain (seq INTEGER NOT NULL, prev TEXT NOT NULL, cursor INTEGER NOT NULL)",
)
_ROOM = 0.8  # of its size is left when the size makes records go, so that it does so rarely
_DAY_S = 86400.0
_LEAP_DAYS = 30.0  # between two records: the door was off or idle, or its clock is wrong
_CURSOR_LAG = 500  # the cursor rides along with the next event, but is not to lag further than that
_PAGE_BYTES = 1024  # an event's commit then writes 11 kB where SQLite's 4096 make it 21 (measured)
_CHECKPOINT_ROWS = 200  # a log of some megabytes: written over and over it needs no new place on the disk

Entry: TypeAlias = "tuple[wire.Event, bytes | None]"
_Row: TypeAlias = "tuple[int, str, str, bytes, bytes | None]"  # of the table events


class Ledger:
    """Events on disk. One thread opens, appends, prunes and closes; the rest any thread may call.

    Args:
        path: of the database; `<name>.head` lies beside it.
        keep_days: records older than this go, once a day.
        max_bytes: the oldest go when the database has more.
    """

    def __init__(self, path: Path, keep_days: float = 90.0, max_bytes: int = 256 << 20) -> None:
        self._path = path
        self._keep_s = keep_days * _DAY_S
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._view: LedgerView | None = None
        self._turn = threading.Lock()  # over the two above, against close
        self._head = wire.GENESIS
        self._cursor = self._kept_cursor = 0
        self._head_file = HeadFile(path)
        self._head_told = True  # whether the last attempt to write the head's file worked
        self._in_log = 0  # rows since the last checkpoint
        self.inherited = 0  # number of the last event when it was opened
        self.damaged: str | None = None  # what a reader stumbled over; for who writes to act upon

    @property
    def head(self) -> wire.ChainHead:
        """Number and digest of the last event on disk."""
        return self._head

    @property
    def cursor(self) -> int:
        """The number up to which events were delivered. Kept on disk, at times a little behind."""
        return self._cursor

    @property
    def undelivered(self) -> int:
        """How many events wait for delivery."""
        return self._head.seq - self._cursor

    def delivered(self, seq: int) -> None:
        """Everything up to `seq` was delivered: moves the cursor, forwards only; deletes nothing."""
        self._cursor = min(self._head.seq, max(self._cursor, seq))

    # The one thread that writes

    def open(self) -> wire.Gap | None:
        """Open the ledger, or make one; what is missing from it compared with the head beside it.

        Raises:
            LedgerError: not now. LedgerDamaged: never again, `set_aside` it.
        """
        self.close()
        kept = max(self._kept_head(), self._head, key=lambda head: head.seq)
        with ledger_faults(self._path):
            if not self._path.exists():
                self._create(kept)
            self._connection = connect_to_database(self._path, APPLICATION_ID, write=True)
            self._connection.execute("PRAGMA wal_autocheckpoint=0")  # `tidy` does, while nobody waits
            head, cursor = read_chain(self._connection)
            ends = "SELECT (SELECT min(seq) FROM events), (SELECT max(seq) FROM events)"  # without a scan
            oldest, newest = self._connection.execute(ends).fetchone()
            if newest is not None and newest > head.seq:  # the next number is taken: no event would fit
                raise LedgerDamaged(f"{self._path}: expected {head.seq} to be the last record, got {newest}")
            gap = self._go_on_from(head, kept, oldest)
            view = LedgerView(self._path)
        with self._turn:
            self._view = view
        self._cursor = self._kept_cursor = min(cursor, self._head.seq)
        self.inherited = self._head.seq
        self.damaged = None
        return gap

    def _go_on_from(self, head: wire.ChainHead, kept: wire.ChainHead, oldest: int | None) -> wire.Gap | None:
        """The chain goes on from the further of the two heads, so that no number is used twice."""
        self._head = head if kept.seq <= head.seq else kept
        if kept.seq == head.seq and kept != head:
            log.error("%s: is not what %s was kept for", self._path, head_path(self._path))
        if self._head.seq > head.seq:
            first = head.seq + 1
            return wire.Gap(
                first, self._head.seq, self._head.seq - head.seq, "the ledger was cut or replaced"
            )
        if head.seq and oldest is None:
            return wire.Gap(1, head.seq, head.seq, "the ledger was lost; numbers go on")
        return None

    def append(self, event: wire.Event, details: bytes | None = None) -> Stored:
        """Number an event and commit it. Raises as `append_all`."""
        return self.append_all([(event, details)])[0]

    def append_all(self, entries: Sequence[Entry]) -> list[Stored]:
        """Number events and commit them, all or none; on the disk when it returns.

        `details` stay on the door.

        Raises:
            LedgerError: nothing has changed. PayloadError: one is too large to be sent.
        """
        with ledger_faults(self._path):
            connection = self._writable()
            head, rows = self._numbered(entries)
            with transaction(connection):
                self._insert(connection, rows)
                self._write_chain(connection, head)
        self._after_commit(head, len(rows))
        return [Stored(row[0], row[3]) for row in rows]

    def settle(self) -> None:
        """Bring onto the disk, once more, all that can be read.

        After a commit that failed it may be in the kernel's memory alone, and the next fdatasync says
        nothing of that (fsync(2), EIO). So it is written again, into the database, and the log begins anew.

        Raises:
            LedgerError: not now; nothing is sure yet.
        """
        with ledger_faults(self._path):
            busy, *_ = self._writable().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise LedgerError(f"{self._path}: somebody reads, so its log can't begin anew")
            make_durable([self._path.with_name(f"{self._path.name}-wal")])
        self._in_log = 0

    def prune(
        self, now_utc: float | None, gap_event: Callable[[wire.Gap], wire.Event], steady: bool = True
    ) -> wire.Gap | None:
        """Let go what is too old or too much; in the same commit an event says what went.

        Args:
            now_utc: s since 1970; None: the clock is not trusted, nothing is too old.
            gap_event: makes that event.
            steady: whether the clock has run evenly for long. Else nothing goes by age that is followed
                by a leap in the records' time: a clock set to 2099 makes everything old.

        Raises:
            LedgerError: nothing has changed.
        """
        with ledger_faults(self._path):
            connection = self._writable()
            gap = self._too_old(connection, now_utc, steady) or self._too_much(connection)
            if gap is None or gap.last is None:
                return None
            head, rows = self._numbered([(gap_event(gap), None)])
            with transaction(connection):
                connection.execute("DELETE FROM events WHERE seq <= ?", (gap.last,))
                self._insert(connection, rows)
                self._write_chain(connection, head)
        self._after_commit(head, len(rows))
        return gap

    def keep_head(self) -> None:
        """Write the head beside the ledger. A disk that refuses is told once."""
        try:
            self._head_file.keep(self._head)
        except OSError as error:
            if self._head_told:
                where = head_path(self._path)
                log.error("%s: %s: a ledger that is lost now uses numbers twice", where, error.strerror)
            self._head_told = False
        else:
            self._head_told = True

    def tidy(self) -> None:
        """Housekeeping that makes who appends wait; to be called when there is nothing to append.

        Raises:
            LedgerError: nothing is lost by it.
        """
        with ledger_faults(self._path):
            connection = self._writable()
            if self._cursor - self._kept_cursor >= _CURSOR_LAG:
                self._write_cursor(connection)
            if self._in_log >= _CHECKPOINT_ROWS:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._in_log = 0

    def close(self) -> None:
        """Keep the cursor, release the files; may be called twice, and before `open`."""
        with self._turn:
            connection, self._connection = self._connection, None
            view, self._view = self._view, None
        if view is not None:
            view.close()
        if connection is None:
            return
        # the cursor; without it events are delivered twice, that is all
        with contextlib.suppress(sqlite3.Error):
            self._write_cursor(connection)
        connection.close()

    def set_aside(self, name: str) -> Path:
        """Move what can't be read out of the way, under a name that ends so. Raises LedgerError."""
        self._drop_connections()
        aside = self._path.with_name(f"{self._path.name}.{name}")
        with ledger_faults(self._path):
            for end in ("-wal", "-shm", ""):  # the log first: without it the next start finds it all
                part = self._path.with_name(self._path.name + end)
                if part.exists():
                    part.rename(aside.with_name(aside.name + end))
        return aside

    def _kept_head(self) -> wire.ChainHead:
        try:
            return read_head(self._path) or wire.GENESIS
        except LedgerError as error:
            log.error("%s: what was kept of the chain's head is not believed", error)
            return wire.GENESIS

    def _create(self, head: wire.ChainHead) -> None:
        """A ledger without records, whose chain goes on from `head`."""

        def fill(connection: sqlite3.Connection) -> None:
            for table in _TABLES:
                connection.execute(table)
            chain = (head.seq, head.prev, head.seq)  # nothing from before can be delivered any more
            connection.execute("INSERT INTO chain VALUES (?, ?, ?)", chain)

        create_database(self._path, APPLICATION_ID, fill, _PAGE_BYTES)

    def _writable(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LedgerError(f"{self._path}: is not open")
        return self._connection

    def _numbered(self, entries: Sequence[Entry]) -> tuple[wire.ChainHead, list[_Row]]:
        head = self._head
        rows: list[_Row] = []
        for event, details in entries:
            payload, head = wire.number(event, head)
            rows.append((head.seq, event.id, event.at, payload, details))
        return head, rows

    @staticmethod
    def _insert(connection: sqlite3.Connection, rows: Sequence[_Row]) -> None:
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)

    def _write_chain(self, connection: sqlite3.Connection, head: wire.ChainHead) -> None:
        cursor = self._cursor
        connection.execute("UPDATE chain SET seq = ?, prev = ?, cursor = ?", (head.seq, head.prev, cursor))
        self._kept_cursor = cursor

    def _write_cursor(self, connection: sqlite3.Connection) -> None:
        """It alone: the head in the file may be newer than is known here, after a commit that failed."""
        cursor = self._cursor
        with transaction(connection):
            connection.execute("UPDATE chain SET cursor = ?", (cursor,))
        self._kept_cursor = cursor

    def _after_commit(self, head: wire.ChainHead, rows: int) -> None:
        self._head = head
        self._in_log += rows

    def _too_old(
        self, connection: sqlite3.Connection, now_utc: float | None, steady: bool
    ) -> wire.Gap | None:
        """Once a day: what is older than `keep_days`, when something is so by a day.

        A record of the future, from when the clock was wrong, is as old as those around it.
        """
        if now_utc is None or now_utc - self._keep_s - _DAY_S < 0:
            return None
        now, limit = wire.rfc3339(now_utc + _DAY_S), wire.rfc3339(now_utc - self._keep_s)
        oldest = connection.execute("SELECT at FROM events WHERE at <= ? ORDER BY seq LIMIT 1", (now,))
        if not (oldest.fetchone() or (now,))[0] < wire.rfc3339(now_utc - self._keep_s - _DAY_S):
            return None
        young = "SELECT seq, at FROM events WHERE at BETWEEN ? AND ? ORDER BY seq LIMIT 1"
        kept, kept_at = connection.execute(young, (limit, now)).fetchone() or (self._head.seq + 1, now)
        if not steady and self._leaps(connection, kept, kept_at, limit):
            return None
        first, last = connection.execute("SELECT min(seq) FROM events").fetchone()[0], kept - 1
        return wire.Gap(first, last, last - first + 1, f"older than {self._keep_s / _DAY_S:g} days")

    @staticmethod
    def _leaps(connection: sqlite3.Connection, kept: int, kept_at: str, limit: str) -> bool:
        """Whether a long time is said to lie between the last record that would go and number `kept`."""
        old = "FROM events WHERE seq < ? AND at < ? ORDER BY seq DESC LIMIT 1"
        between = f"SELECT julianday(?) - julianday(at) {old}"
        days: float = connection.execute(between, (kept_at, kept, limit)).fetchone()[0]
        return days > _LEAP_DAYS

    def _too_much(self, connection: sqlite3.Connection) -> wire.Gap | None:
        def pragma(name: str) -> int:
            value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
            return value

        used = (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
        if used <= self._max_bytes:
            return None
        first, count = connection.execute("SELECT min(seq), count(*) FROM events").fetchone()
        go = min(count - 1, round(count * (1 - _ROOM * self._max_bytes / used)))
        if go < 1:
            return None
        last = connection.execute(
            "SELECT seq FROM events ORDER BY seq LIMIT 1 OFFSET ?", (go - 1,)
        ).fetchone()[0]
        return wire.Gap(first, last, go, f"the ledger had more than {self._max_bytes >> 20} MB")

    def _drop_connections(self) -> None:
        """Without a last word to a file that is damaged."""
        with self._turn:
            for held in (self._connection, self._view):
                if held is not None:
                    held.close()
            self._connection = self._view = None

    # Any thread

    def after(self, seq: int, limit: int) -> list[Stored]:
        """The records after number `seq`, oldest first, at most `limit`. Raises LedgerError."""
        newest = self._head.seq  # a commit can be read a moment before `head` tells of it
        with self._reading() as view:
            return [stored for stored in view.after(seq, limit) if stored.seq <= newest]

    def find(self, which: str | int) -> Stored | None:
        """The record with this id or number. Raises LedgerError."""
        with self._reading() as view:
            return view.find(which)

    def details(self, which: str | int) -> bytes | None:
        """What only the door keeps of the event with this id or number. Raises LedgerError."""
        with self._reading() as view:
            return view.details(which)

    def verify(self) -> Flaw | None:
        """The first record that is broken or missing, see `LedgerView.verify`. Raises LedgerError."""
        with self._reading() as view:
            return view.verify()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[LedgerView]:
        with self._turn:
            if self._view is None:
                raise LedgerError(f"{self._path}: is not open")
            try:
                yield self._view
            except LedgerDamaged as error:
                self.damaged = str(error)
                raise
