"""A door's ledger as it is read, also beside the daemon that writes it. Safe to use from several threads.

events  seq, id, at, payload (the bytes that the chain is of), details (stay on the door)
chain   one row: number and digest of the last event; the number of the last one delivered
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from edge.disk import connect_to_database
from edge.errors import GalleryError, LedgerDamaged, LedgerError, PayloadError
from edge.link import wire
from edge.link.chain import Flaw, Linked, Record, decode_partly, first_flaw
from edge.link.kept_head import read_head
from edge.link.port import Stored

APPLICATION_ID = 0x646F6C31  # "dol1"
R = TypeVar("R", bound="tuple[object, ...]")


@contextlib.contextmanager
def ledger_faults(path: Path) -> Iterator[None]:
    """Turns SQLite's and the file system's errors into LedgerErrors that name the file."""
    try:
        yield
    except LedgerError:
        raise
    except sqlite3.OperationalError as error:  # full, read-only, busy, input/output
        raise LedgerError(f"{path}: {error}") from error
    except sqlite3.IntegrityError as error:  # a number is taken: another process writes here too
        raise LedgerError(f"{path}: {error}") from error
    except (sqlite3.Error, GalleryError) as error:
        if isinstance(error.__cause__, (OSError, sqlite3.OperationalError)):  # where a new one is made
            raise LedgerError(str(error)) from error
        raise LedgerDamaged(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror or error}") from error


class LedgerView:
    """Reads a ledger; never writes."""

    def __init__(self, path: Path) -> None:
        """Raises LedgerError: there is none, or it can't be read; LedgerDamaged: it is no ledger."""
        self._path = path
        self._turn = threading.Lock()
        with ledger_faults(path):
            if not path.is_file():
                raise LedgerError(f"{path}: expected a ledger, got none")
            self._connection = connect_to_database(path, APPLICATION_ID, write=False)

    def close(self) -> None:
        """Release the file; may be called twice."""
        with self._turn:
            self._connection.close()

    def after(self, seq: int, limit: int) -> list[Stored]:
        """The records after number `seq`, oldest first, at most `limit`. Raises LedgerError."""
        wanted = "SELECT seq, payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._turn, ledger_faults(self._path):
            rows = self._whole(self._connection.execute(wanted, (seq, limit)))
            return [Stored(*row) for row in rows]

    def find(self, which: str | int) -> Stored | None:
        """The record with this id or number. Raises LedgerError."""
        row = self._one("payload", which)
        with ledger_faults(self._path):
            return next((Stored(*whole) for whole in self._whole([row] if row else [])), None)

    def details(self, which: str | int) -> bytes | None:
        """What only the door keeps of the event with this id or number, see `details`. Raises LedgerError."""
        row = self._one("details", which)
        return None if row is None else row[1]

    @property
    def head(self) -> wire.ChainHead:
        """Number and digest of the last event. Raises LedgerError."""
        with self._turn, ledger_faults(self._path):
            return read_chain(self._connection)[0]

    @property
    def undelivered(self) -> int:
        """How many events wait for delivery. Raises LedgerError."""
        with self._turn, ledger_faults(self._path):
            head, cursor = read_chain(self._connection)
            return max(0, head.seq - cursor)

    def verify(self, newest: int | None = None) -> Flaw | None:
        """The first record that is broken or missing, against the head inside and the one beside it.

        What was appended by who could write both heads is found only where the head was signed to:
        at the collector. `newest`: only so many of the newest are looked at. Raises LedgerError.
        """
        witness = read_head(self._path) or wire.GENESIS
        with self._turn, ledger_faults(self._path):
            self._connection.execute("BEGIN")  # one moment of a ledger that grows meanwhile
            try:
                head, _ = read_chain(self._connection)
                # as bytes, whatever somebody has made of its type
                wanted = "SELECT seq, CAST(payload AS BLOB), id, at FROM events WHERE seq > ? ORDER BY seq"
                if newest is None or newest >= head.seq:
                    every = self._whole(self._connection.execute(wanted, (-1,)))
                    return first_flaw(every, head, witness)
                rows = list(self._whole(self._connection.execute(wanted, (head.seq - newest,))))
                return first_flaw(rows, head, witness, _before(rows, head.seq - newest))
            finally:
                self._connection.rollback()

    def _whole(self, rows: Iterable[R]) -> Iterator[R]:
        """Number, bytes and more. A rotted page reads as records without bytes, which no ledger has."""
        for row in rows:
            if not isinstance(row[1], bytes):
                raise LedgerDamaged(f"{self._path}: malformed: record {row[0]} has no bytes")
            yield row

    def _one(self, column: str, which: str | int) -> tuple[int, bytes] | None:
        key = "seq" if isinstance(which, int) else "id"
        wanted = f"SELECT seq, {column} FROM events WHERE {key} = ?"  # noqa: S608  # names of our own
        with self._turn, ledger_faults(self._path):
            row: tuple[int, bytes] | None = self._connection.execute(wanted, (which,)).fetchone()
            return row


def _before(rows: list[Record], seq: int) -> wire.ChainHead:
    """What the first of some records says that it follows; number `seq` where it is unreadable or none."""
    try:
        return wire.ChainHead(seq, decode_partly(rows[0][1], Linked).prev)
    except (PayloadError, IndexError):
        return wire.ChainHead(seq, wire.GENESIS.prev)


def read_chain(connection: sqlite3.Connection) -> tuple[wire.ChainHead, int]:
    """Head and cursor as they stand in the file. Raises sqlite3.DatabaseError: there are none."""
    try:
        rows = connection.execute("SELECT seq, prev, cursor FROM chain").fetchall()
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):
            raise
        rows = []
    if len(rows) != 1 or [type(cell) for cell in rows[0]] != [int, str, int]:
        raise sqlite3.DatabaseError("expected one chain, got none")
    seq, prev, cursor = rows[0]
    return wire.ChainHead(seq, prev), cursor
