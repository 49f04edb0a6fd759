"""What an admin's machine keeps of its site: one table, each record sealed on its own.

A record's kind is its struct's name. Every change of any record takes the next revision of all, so
that a revision never comes twice and what was derived from a record can be known by it. Who can write
the file but has no key can leave a record out or bring back an older one, not edit it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from edge.admin.model import Site
from edge.disk import (
    create_database,
    empty_log,
    make_private_folder,
    open_database,
    seal,
    sqlite_faults,
    transaction,
    unseal,
)
from edge.errors import AdminError, GalleryError

APPLICATION_ID = 0x44524543  # "DREC"
FORMAT = 1
_SCHEMA = (
    "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, "
    "revision INTEGER NOT NULL) STRICT",
    "CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, "
    "sealed BLOB NOT NULL, PRIMARY KEY (kind, id)) STRICT",
    # all that `revisions` reads: 10,000 people without their templates
    "CREATE INDEX record_revision ON record (kind, id, revision)",
)

R = TypeVar("R", bound=msgspec.Struct)


class Records:
    """All records of a site. Hold the folder's `StateLock`; for one thread."""

    def __init__(self, path: Path, data_key: bytes) -> None:
        """Open and check. Raises GalleryError: no records of doord, damaged, or another format's."""
        self._path = path
        self._key = data_key
        self._depth = 0
        self._connection = open_database(path, APPLICATION_ID)
        with sqlite_faults(path):
            row = self._connection.execute("SELECT format FROM meta").fetchone()
        if row is None or row[0] != FORMAT:
            self.close()
            raise GalleryError(
                f"{path}: expected format {FORMAT}, got {row and row[0]}: made by another doord"
            )

    @classmethod
    def create(cls, path: Path, data_key: bytes) -> Records:
        """Records of a new site; none yet. Raises GalleryError: there is a file already."""

        def fill(connection: sqlite3.Connection) -> None:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES (1, ?, 0)", (FORMAT,))

        make_private_folder(path.parent)
        create_database(path, APPLICATION_ID, fill)
        return cls(path, data_key)

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._connection.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's changes or none of them; a block inside a block belongs to the outer one."""
        with sqlite_faults(self._path), contextlib.ExitStack() as stack:
            if self._depth == 0:
                stack.callback(empty_log, self._connection)
                stack.enter_context(transaction(self._connection))
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def put(self, id: str, record: msgspec.Struct) -> int:  # noqa: A002  # the records' word
        """Keep a record in the place of the one before; its revision."""
        kind = _kind(type(record))
        with self.transaction():
            self._connection.execute("UPDATE meta SET revision = revision + 1")
            revision = int(self._connection.execute("SELECT revision FROM meta").fetchone()[0])
            sealed = seal(self._key, msgspec.msgpack.encode(record), _bound_to(kind, id, revision))
            self._connection.execute(
                "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", (kind, id, revision, sealed)
            )
        return revision

    def delete(self, kind: type[msgspec.Struct], id: str) -> bool:  # noqa: A002
        """Forget a record; whether there was one."""
        with self.transaction():
            done = self._connection.execute("DELETE FROM record WHERE kind = ? AND id = ?", (_kind(kind), id))
            return done.rowcount > 0

    def get(self, kind: type[R], id: str) -> R | None:  # noqa: A002
        """One record, or None. Raises GalleryError: altered, or another site's key."""
        return self.some(kind, [id]).get(id)

    def some(self, kind: type[R], ids: Sequence[str]) -> dict[str, R]:
        """Those of `ids` that there are, by id. Raises GalleryError."""
        rows = []
        with sqlite_faults(self._path):
            for id_ in ids:
                query = "SELECT id, revision, sealed FROM record WHERE kind = ? AND id = ?"
                rows += self._connection.execute(query, (_kind(kind), id_)).fetchall()
        return {row[0]: self._opened(kind, *row) for row in rows}

    def all(self, kind: type[R]) -> dict[str, R]:
        """Every record of a kind by id, in the ids' order. Raises GalleryError."""
        return dict(self.each(kind))

    def each(self, kind: type[R]) -> Iterator[tuple[str, R]]:
        """The same, one after another. Raises GalleryError."""
        with sqlite_faults(self._path):
            query = "SELECT id, revision, sealed FROM record WHERE kind = ? ORDER BY id"
            for row in self._connection.execute(query, (_kind(kind),)):
                yield row[0], self._opened(kind, *row)

    def revisions(self, kind: type[msgspec.Struct]) -> dict[str, int]:
        """The revision of every record of a kind by id, in the ids' order; opens none of them."""
        with sqlite_faults(self._path):
            query = "SELECT id, revision FROM record WHERE kind = ? ORDER BY id"
            return dict(self._connection.execute(query, (_kind(kind),)).fetchall())

    def site(self) -> Site:
        """The one record of what there is once. Raises GalleryError; AdminError: there is none, or more."""
        found = self.all(Site)
        if len(found) != 1:
            raise AdminError(f"{self._path}: expected the record of one site, got {len(found)}")
        return next(iter(found.values()))

    def put_site(self, site: Site) -> int:
        """Keep it in the place of the one before; its revision."""
        return self.put(site.site, site)

    def _opened(self, kind: type[R], id_: str, revision: int, sealed: bytes) -> R:
        where = f"{self._path}: {_kind(kind)} {id_!r:.60}"
        plain = unseal(self._key, sealed, _bound_to(_kind(kind), id_, revision), where)
        try:
            return msgspec.msgpack.decode(plain, type=kind)
        except msgspec.MsgspecError as error:
            raise GalleryError(f"{where}: expected a record of this doord, got: {error}") from None


def _kind(of: type[msgspec.Struct]) -> str:
    return of.__name__.lower()


def _bound_to(kind: str, id_: str, revision: int) -> bytes:
    """A kind has no newline; an id may be anything, so it stands last."""
    return f"doord record {FORMAT}\n{kind}\n{revision}\n{id_}".encode()
