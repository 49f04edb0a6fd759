"""Collected events, read beside the collector that stores them; and what is the matter with each door."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from edge.admin.reports import opened_attestation
from edge.admin.status import SILENT_S
from edge.admin.store import APPLICATION_ID
from edge.disk import connect_to_database, sqlite_faults
from edge.errors import AdminError, PayloadError
from edge.link import dsse, orders, wire
from edge.link.chain import Flaw, first_flaw
from edge.log_view import Entry, Wanted

_COLUMNS = "SELECT n, door, chain, payload FROM event WHERE "


@dataclass(frozen=True, slots=True)
class DoorCollected:
    """One door, as far as it was collected. Numbers are of the chain that grew last."""

    door: str
    chain: int
    first: int
    last: int
    vouched: int  # up to here the door has signed what was collected
    missing: int
    explained: int  # what the door says it dropped
    forks: int
    silent_since: str | None


class Collected:
    """A store, read only. Raises AdminError: none there; GalleryError: it can't be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise AdminError(f"{path}: expected collected events, got no file: doord admin collect")
        with sqlite_faults(path):
            self._connection: sqlite3.Connection = connect_to_database(path, APPLICATION_ID, write=False)

    def __enter__(self) -> Collected:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def select(self, wanted: Wanted, after: int = 0) -> Iterator[Entry]:
        """Those that are wanted, with `n` above `after`, in the order of arrival."""
        return self._entries(*_query(wanted, "n > ? ORDER BY n", after))

    def last(self, wanted: Wanted, count: int) -> list[Entry]:
        """The `count` that arrived last, oldest first."""
        return list(self._entries(*_query(wanted, "n > 0 ORDER BY n DESC LIMIT ?", count)))[::-1]

    def find(self, which: str | int, door: str | None) -> list[Entry]:
        """Those with this id or number."""
        key = "seq" if isinstance(which, int) else "id"
        query = f"{_COLUMNS}{key} = ?1 AND (?2 IS NULL OR door = ?2) ORDER BY door, chain"
        return list(self._entries(query, (which, door)))

    def verify(self, door: str | None) -> Iterator[tuple[str, Flaw | None]]:
        """Each chain by name, and its first record that is broken or missing.

        The last head that the door signed is a witness of the chain that it vouches for.
        """
        query = "SELECT door, chain, first, before, seq, digest FROM chain WHERE ?1 IS NULL OR door = ?1"
        with sqlite_faults(self._path):
            for name, chain, first, before, seq, digest in self._connection.execute(
                f"{query} ORDER BY door, chain", (door,)
            ).fetchall():
                rows = self._connection.execute(
                    "SELECT seq, payload FROM event WHERE door = ? AND chain = ? ORDER BY seq", (name, chain)
                )
                start, head = wire.ChainHead(first - 1, before), wire.ChainHead(seq, digest)
                yield f"{name} ({chain})", first_flaw(rows, head, self._witness(name, chain), start)

    def _witness(self, door: str, chain: int) -> wire.ChainHead:
        """What the door signed last, where the collector found that it is of this chain."""
        row = self._connection.execute(
            "SELECT report, key FROM door JOIN chain USING (door) WHERE door = ? AND chain = ? "
            "AND vouched = door.seq AND judged = 'vouched'",
            (door, chain),
        ).fetchone()
        if row is None:
            return wire.GENESIS
        try:
            key = dsse.decode_key(msgspec.json.decode(row[1], type=dict[str, object]))
            site = self._connection.execute("SELECT site FROM meta").fetchone()[0]
            said = opened_attestation(row[0], site, door, {key.keyid: key})
        except (PayloadError, msgspec.MsgspecError):
            return wire.GENESIS  # what was altered in the store is no witness
        return wire.ChainHead(said.seq, said.prev)

    def status(self, now: datetime) -> list[DoorCollected]:
        """A row for each door of which there is anything."""
        query = (
            "SELECT chain.door, chain, first, chain.seq, vouched, "
            "(SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.door = chain.door "
            "AND gap.chain = chain.chain AND (why IS NULL OR why NOT LIKE 'dropped:%')), "
            "(SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.door = chain.door "
            "AND gap.chain = chain.chain AND why LIKE 'dropped:%'), "
            "(SELECT count(*) - 1 FROM chain AS other WHERE other.door = chain.door), heard_at "
            "FROM chain LEFT JOIN door USING (door) "
            "WHERE grown = (SELECT max(grown) FROM chain AS other WHERE other.door = chain.door) "
            "ORDER BY chain.door"
        )
        with sqlite_faults(self._path):
            rows = self._connection.execute(query).fetchall()
        return [DoorCollected(*found, silent_since=_silent_since(heard_at, now)) for *found, heard_at in rows]

    def _entries(self, query: str, values: tuple[object, ...]) -> Iterator[Entry]:
        with sqlite_faults(self._path), contextlib.closing(self._connection.execute(query, values)) as rows:
            for row in rows:
                yield Entry(*row)


def _query(wanted: Wanted, end: str, last: int) -> tuple[str, tuple[object, ...]]:
    kinds = sorted(wanted.kinds)
    among = f"AND kind IN ({', '.join('?' for _ in kinds)}) " if kinds else ""
    where = "at >= ? AND at <= ? AND door = coalesce(?, door) "
    return f"{_COLUMNS}{where}{among}AND {end}", (wanted.since, wanted.until, wanted.door, *kinds, last)


def _silent_since(heard_at: str | None, now: datetime) -> str | None:
    if heard_at is None:
        return None
    return heard_at if now - orders.utc(heard_at) > timedelta(seconds=SILENT_S) else None
