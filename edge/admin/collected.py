"""Collected events, read beside the collector that stores them; and what is the matter with each door."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from edge.admin.reports import opened_attestation
from edge.admin.status import SILENT_S
from edge.admin.store import APPLICATION_ID, FORMAT
from edge.disk import connect_to_database, sqlite_faults
from edge.errors import AdminError, LogError, PayloadError
from edge.link import dsse, orders, wire
from edge.link.chain import Flaw, first_flaw
from edge.log_view import Entry, Wanted

_COLUMNS = "SELECT n, door, chain, payload FROM event WHERE "


@dataclass(frozen=True, slots=True)
class DoorCollected:
    """One door, as far as it was collected. `first` to `vouched`: of the current chain."""

    door: str
    chain: int
    first: int
    last: int
    vouched: int  # up to here the door has signed what was collected
    missing: int
    explained: int  # what the door says it dropped
    accepted: int  # what is missing, and somebody has accepted that
    forks: int  # that nobody has accepted
    silent_since: str | None


class Collected:
    """A store, read only. Raises AdminError: none there; GalleryError: it can't be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise AdminError(f"{path}: expected collected events, got no file: doord admin collect")
        with sqlite_faults(path):
            self._connection: sqlite3.Connection = connect_to_database(path, APPLICATION_ID, write=False)
            (found,) = self._connection.execute("SELECT format FROM meta").fetchone() or (None,)
        if found != FORMAT:
            self._connection.close()
            hint = ": doord admin collect brings it up to date" if found == 1 else ""
            raise AdminError(f"{path}: expected events in format {FORMAT}, got {found}{hint}")

    def __enter__(self) -> Collected:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def site(self) -> str:
        """Whose events these are."""
        with sqlite_faults(self._path):
            return str(self._connection.execute("SELECT site FROM meta").fetchone()[0])

    @property
    def end(self) -> int:
        """`n` of the newest."""
        with sqlite_faults(self._path):
            return int(self._connection.execute("SELECT coalesce(max(n), 0) FROM event").fetchone()[0])

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

        Witness is the last head that the door signed, of the chain that has that event, else of the one
        that grew last. A signature that does not hold is a flaw by itself.
        """
        query = "SELECT door, chain, first, before, seq, digest FROM chain WHERE door = coalesce(?, door) "
        with sqlite_faults(self._path):
            chains = self._connection.execute(f"{query}ORDER BY door, chain", (door,)).fetchall()
            query = "SELECT door FROM door WHERE seq > 0 AND door = coalesce(?, door) ORDER BY door"
            signed_for = {name for (name,) in self._connection.execute(query, (door,))}
            if door is not None and not chains and not signed_for:
                raise LogError(f"door {door!r:.60}: expected one that was collected, got none of that name")
            for name in sorted(signed_for - {chain[0] for chain in chains}):
                yield name, Flaw(1, "is missing, and all that the door has signed for")
            for name, group in itertools.groupby(chains, key=lambda row: row[0]):
                (of_chain, signed), flaw = self._witness(name)
                if flaw:
                    yield f"{name}, signed head", flaw
                for _, chain, first, before, seq, digest in group:
                    start, head = wire.ChainHead(first - 1, before), wire.ChainHead(seq, digest)
                    witness = signed if of_chain == chain else wire.GENESIS
                    known = self._accepted(name, chain)
                    where = f"{name} ({chain})" if first == 1 else f"{name} ({chain}) from event {first} on"
                    where += "".join(f" without {begin} to {end}, as accepted" for begin, end in known)
                    yield where, first_flaw(self._records(name, chain), head, witness, start, known)

    def _records(self, door: str, chain: int) -> sqlite3.Cursor:
        query = "SELECT seq, payload, id, at, kind FROM event WHERE door = ? AND chain = ? ORDER BY seq"
        return self._connection.execute(query, (door, chain))

    def _accepted(self, door: str, chain: int) -> list[tuple[int, int]]:
        wanted = "WHERE door = ? AND chain = ? AND why LIKE 'accepted %' ORDER BY first"
        query = f"SELECT first, last FROM gap {wanted}"  # noqa: S608  # text of our own
        return self._connection.execute(query, (door, chain)).fetchall()

    def _witness(self, door: str) -> tuple[tuple[int, wire.ChainHead], Flaw | None]:
        """What the door signed last, and of which chain."""
        query = "SELECT chain FROM chain WHERE door = ? ORDER BY grown DESC LIMIT 1"
        current: int = self._connection.execute(query, (door,)).fetchone()[0]
        row = self._connection.execute("SELECT report, key, seq FROM door WHERE door = ?", (door,)).fetchone()
        if row is None:
            return (current, wire.GENESIS), None
        try:
            key = dsse.decode_key(msgspec.json.decode(row[1], type=dict[str, object]))
            said = opened_attestation(row[0], self.site, door, {key.keyid: key})
        except (PayloadError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return (current, wire.GENESIS), Flaw(row[2], f"is not signed for: {error}")
        query = "SELECT chain FROM event WHERE door = ? AND seq = ? AND digest = ?"
        found = self._connection.execute(query, (door, said.seq, said.prev)).fetchone()
        return (found[0] if found else current, wire.ChainHead(said.seq, said.prev)), None

    def status(self, now: datetime) -> list[DoorCollected]:
        """A row for each door of which there is anything."""
        query = (
            "SELECT chain.door, chain, first, chain.seq, vouched, "
            "(SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.door = chain.door "
            "AND (why IS NULL OR why LIKE 'lost:%')), "
            "(SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.door = chain.door "
            "AND why LIKE 'dropped:%'), "
            "(SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.door = chain.door "
            "AND why LIKE 'accepted %'), "
            "(SELECT count(*) FROM chain AS other WHERE other.door = chain.door "
            "AND other.chain > 1 AND other.accepted IS NULL), "
            "iif(retired, NULL, heard_at) FROM chain LEFT JOIN door USING (door) "
            "WHERE grown = (SELECT max(grown) FROM chain AS other WHERE other.door = chain.door) "
            "ORDER BY chain.door"
        )
        with sqlite_faults(self._path):
            rows = self._connection.execute(query).fetchall()
        return [_judged(DoorCollected(*row), now) for row in rows]

    def _entries(self, query: str, values: tuple[object, ...]) -> Iterator[Entry]:
        with sqlite_faults(self._path), contextlib.closing(self._connection.execute(query, values)) as rows:
            for row in rows:
                yield Entry(*row)


def _query(wanted: Wanted, end: str, last: int) -> tuple[str, tuple[object, ...]]:
    kinds = sorted(wanted.kinds)
    among = f"AND kind IN ({', '.join('?' for _ in kinds)}) " if kinds else ""
    where = "at >= ? AND at <= ? AND door = coalesce(?, door) "
    return f"{_COLUMNS}{where}{among}AND {end}", (wanted.since, wanted.until, wanted.door, *kinds, last)


def _judged(row: DoorCollected, now: datetime) -> DoorCollected:
    """With when it was heard last only where that is too long ago."""
    heard_at = row.silent_since
    is_silent = heard_at is not None and now - orders.utc(heard_at) > timedelta(seconds=SILENT_S)
    return row if is_silent else replace(row, silent_since=None)
