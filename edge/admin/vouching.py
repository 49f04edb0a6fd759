"""What doors sign of themselves against what was collected: a signed head vouches for all events before.

Events carry no signature of their own. A broker can keep them back, and who can write on a door's
topic can make some up; but not the head that the door signs every minute.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from securesystemslib.signer import Key

from edge.admin.status import SILENT_S
from edge.admin.store import EventStore, Finding
from edge.link import orders
from edge.link.orders import Attestation
from edge.link.wire import rfc3339


@dataclass(frozen=True, slots=True)
class Said:
    """A door's verified report."""

    attestation: Attestation
    envelope: bytes  # as it was signed
    key: Key  # that signed it


class Vouching:
    """The doors' last signed heads. To be used within a transaction of the store."""

    def __init__(self, store: EventStore) -> None:
        self._connection: sqlite3.Connection = store.connection
        self._behind: dict[str, tuple[list[int], datetime]] = {}  # door -> how far it was, since when

    def heard(self, said: Said, now: datetime) -> list[Finding]:
        """A report came, a new one or one that the broker has kept; what is to be told."""
        report, at = said.attestation, rfc3339(now.timestamp())
        starts = orders.epoch_count(report.epoch)
        before = self._connection.execute(
            "SELECT starts, seq, heard_at, silent FROM door WHERE door = ? AND key = ?",
            (report.door, _described(said.key)),  # one that came back with a new key counts from 1
        ).fetchone()
        heard_at = min(report.at, at)  # a clock that is ahead must not hide that its door is silent
        told = []
        if before:
            told = _went_back(report, starts, before[0], before[1])
            if starts <= before[0] and report.seq <= before[1] and heard_at <= before[2]:
                return [Finding(at, report.door, *words) for words in told]  # an old one vouches for nothing
            heard_at = max(heard_at, before[2])
            if before[3] and not _is_silent(heard_at, now):
                told.append(("Heard", f"reports again, after {before[2]}"))
        self._connection.execute(
            "INSERT OR REPLACE INTO door VALUES (?, ?, ?, ?, ?, 'pending', ?, 0, ?, ?)",
            (report.door, heard_at, starts, report.seq, report.prev)
            + (
                int(bool(before and before[3]) and _is_silent(heard_at, now)),
                said.envelope,
                _described(said.key),
            ),
        )
        return [Finding(at, report.door, *words) for words in told] + self.judge(report.door, now)

    def judge(self, door: str, now: datetime) -> list[Finding]:
        """Compare the door's last signed head with what was collected."""
        row = self._connection.execute(
            "SELECT seq, prev FROM door WHERE door = ? AND judged = 'pending'", (door,)
        ).fetchone()
        if row is None or row[0] == 0:
            return []
        seq, digest = row
        query = "SELECT chain, digest FROM event WHERE door = ? AND seq = ?"
        there = dict(self._connection.execute(query, (door, seq)).fetchall())
        if not there:
            return []  # it has not come yet
        chain = next((chain for chain, found in there.items() if found == digest), None)
        self._connection.execute(
            "UPDATE door SET judged = ? WHERE door = ?",
            ("contradicted" if chain is None else "vouched", door),
        )
        if chain is None:
            detail = f"its signed head says that its event {seq} is not the one that was collected"
            return [Finding(rfc3339(now.timestamp()), door, "Contradicted", detail)]
        self._connection.execute(
            "UPDATE chain SET vouched = max(vouched, ?1), "
            "grown = (SELECT max(grown) + 1 FROM chain AS other WHERE other.door = ?2) "
            "WHERE door = ?2 AND chain = ?3",
            (seq, door, chain),
        )
        return []

    def silent(self, doors: Mapping[str, bool], now: datetime) -> list[Finding]:
        """Doors that have become silent; one that never reported is `doord admin status`'s.

        Args:
            doors: id -> whether it was retired, and so is silent by right.
            now: aware.
        """
        rows = [(int(retired), door) for door, retired in doors.items()]
        query = "UPDATE door SET retired = ?1 WHERE door = ?2 AND retired <> ?1"
        self._connection.executemany(query, rows)
        known = {
            door: rest for door, *rest in self._connection.execute("SELECT door, heard_at, silent FROM door")
        }
        told = []
        for door in (door for door, retired in doors.items() if not retired):
            heard_at, silent = known.get(door, (None, 0))
            if heard_at is None or silent or not _is_silent(heard_at, now):
                continue
            self._connection.execute("UPDATE door SET silent = 1 WHERE door = ?", (door,))
            detail = f"no signed report since {heard_at}"
            told.append(Finding(rfc3339(now.timestamp()), door, "Silent", detail))
        return told

    def withheld(self, now: datetime, patience_s: float) -> list[Finding]:
        """Doors whose signed head is beyond what was collected, of which nothing came for `patience_s`."""
        rows = self._connection.execute(
            "SELECT door, seq, "
            "(SELECT coalesce(max(event.seq), 0) FROM event WHERE event.door = door.door "
            "AND event.seq < door.seq), "  # what is above it may be made up
            "(SELECT coalesce(max(grown), 0) FROM chain WHERE chain.door = door.door), "
            "(SELECT coalesce(sum(last - first + 1), 0) FROM gap WHERE gap.door = door.door) "
            "FROM door WHERE judged = 'pending' AND seq > 0"
        ).fetchall()
        before, self._behind = self._behind, {}
        told = []
        for door, seq, there, *progress in rows:
            known, since = before.get(door, (progress, now))
            self._behind[door] = (progress, since if known == progress else now)
            if now - self._behind[door][1] >= timedelta(seconds=patience_s):
                detail = f"it has signed that it has {seq} events; they came up to {there} only"
                told.append(Finding(rfc3339(now.timestamp()), door, "Withheld", detail))
        return told


def _described(key: Key) -> str:
    """As `dsse.decode_key` reads it."""
    return msgspec.json.encode({"keyid": key.keyid, **key.to_dict()}).decode()


def _is_silent(heard_at: str, now: datetime) -> bool:
    return now - orders.utc(heard_at) > timedelta(seconds=SILENT_S)


def _went_back(
    report: Attestation, starts: int, starts_before: int, seq_before: int
) -> list[tuple[str, str]]:
    pairs = (("number of events", seq_before, report.seq), ("count of starts", starts_before, starts))
    return [
        (
            "WentBack",
            f"its {what} went back from {before} to {now}: its card was restored, or an old report is shown",
        )
        for what, before, now in pairs
        if now < before
    ]
