"""Collected events as lines of JSON, one file a day of collecting, for other programs to follow.

The store is the truth: a file is written after the commit, and where it ends tells what is still to
be written, so that a kill leaves no line out and writes none twice. Who takes files away keeps the
newest; in an empty folder all is written again.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import msgspec

from edge.admin.store import EventStore, Row
from edge.disk import make_private_folder
from edge.errors import AdminError
from edge.log_view import one_line

_BATCH = 500
_TAIL_BYTES = 128 * 1024  # more than any line: an event has at most 8,192 bytes, some escaped
_NUMBER = re.compile(rb'\{"n":([0-9]{1,16}),"door":')  # no more of a line is read: its event is foreign


class Line(msgspec.Struct, frozen=True):
    """What stands in a line."""

    n: int  # in the order of arrival
    door: str
    chain: int  # above 1: the door's numbers were used before, see collector.md
    event: msgspec.Raw  # as the door sent it, see `one_line`


class JsonLines:
    """Writes below `folder`. Raises GalleryError: it can't be made."""

    def __init__(self, folder: Path) -> None:
        make_private_folder(folder)
        self._folder = folder
        self._last: int | None = None  # n of the last line; None: look

    def follow(self, store: EventStore, now_utc: datetime) -> int:
        """Write what the store has more; how many lines. Raises AdminError: tried again the next time."""
        written = 0
        try:
            if self._last is None:
                self._last = max(map(self._end, self._folder.glob("events-*.jsonl")), default=0)
            while rows := store.arrived_after(self._last, _BATCH):
                last, self._last = rows[-1].n, None
                self._append(self._folder / f"events-{now_utc:%Y-%m-%d}.jsonl", rows)
                self._last = last
                written += len(rows)
        except OSError as error:
            raise AdminError(f"{self._folder}: {error.strerror or error}") from None
        return written

    def _append(self, path: Path, rows: list[Row]) -> None:
        lines = [msgspec.json.encode(_line(row)) + b"\n" for row in rows]
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _end(path: Path) -> int:
        """The `n` of a file's last line; a line that a kill cut short is cut off."""
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            begin = file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            number = _NUMBER.match(tail[:whole].rpartition(b"\n")[0].rpartition(b"\n")[2])
            is_first = not whole and not begin and b'{"n":'.startswith(tail[:5])
            if not number and not is_first:
                raise AdminError(f"{path}: expected lines that doord wrote, got others'")
            if whole < len(tail):
                file.truncate(begin + whole)
        return int(number[1]) if number else 0


def _line(row: Row) -> Line:
    return Line(row.n, row.door, row.chain, msgspec.Raw(one_line(row.payload.decode()).encode()))
