"""A door's ledger as `log_view` reads it; sibling of `admin.collected`."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from edge.errors import LogError
from edge.link.chain import Flaw
from edge.link.ledger_view import LedgerView
from edge.log_view import Entry, Wanted, takes

_BATCH = 500


class LedgerLog:
    """Reads beside the daemon that writes. Every method raises LedgerError."""

    def __init__(self, path: Path, door: str) -> None:
        self._path = path
        self._view = LedgerView(path)
        self._file = path.stat().st_ino
        self._door = door

    def __enter__(self) -> LedgerLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._view.close()

    @property
    def end(self) -> int:
        """Number of the newest."""
        self._follow()
        return self._view.head.seq

    def _follow(self) -> None:
        """The daemon sets a damaged ledger aside and begins another: then that one is read."""
        with contextlib.suppress(OSError):  # none there at this moment
            file = self._path.stat().st_ino
            if file != self._file:
                view, before = LedgerView(self._path), self._view
                self._view, self._file = view, file
                before.close()

    def select(self, wanted: Wanted, after: int = 0) -> Iterator[Entry]:
        """Those that are wanted, with a number above `after`, oldest first."""
        while records := self._view.after(after, _BATCH):
            after = records[-1].seq
            entries = (Entry(record.seq, self._door, 1, record.payload) for record in records)
            yield from (entry for entry in entries if takes(wanted, entry))

    def last(self, wanted: Wanted, count: int) -> list[Entry]:
        """The newest `count` of them, oldest first."""
        end, span = self._view.head.seq, max(count, _BATCH)
        found: deque[Entry] = deque()
        while len(found) < count and end > 0:  # from the end, in steps, until there are enough
            begin = max(0, end - span)
            records = self._view.after(begin, end - begin)
            entries = [
                Entry(record.seq, self._door, 1, record.payload) for record in records if record.seq <= end
            ]
            found.extendleft(entry for entry in reversed(entries) if takes(wanted, entry))
            end = begin
        return list(found)[-count:]

    def find(self, which: str | int, door: str | None) -> list[Entry]:
        """The one with this id or number."""
        record = self._view.find(which)
        if record is None or door not in (None, self._door):
            return []
        return [Entry(record.seq, self._door, 1, record.payload)]

    def details(self, which: str | int) -> bytes | None:
        """What only the door keeps of it."""
        return self._view.details(which)

    def verify(self, door: str | None) -> Iterator[tuple[str, Flaw | None]]:
        """The door's one chain."""
        if door not in (None, self._door):
            raise LogError(f"door {door!r:.60}: expected {self._door}, whose log this is, or --store")
        yield self._door, self._view.verify()
