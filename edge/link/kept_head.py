"""Number and digest of a door's last event, beside its ledger, so that they outlive it: `events.head`.

Two places of a page each, written in turn and in place: a power cut spoils one of them at most, and a card
has to write one page for an event. A file made anew and renamed has it write 73 kB of an event's 100
(inode, folder and their journal; measured on ext4).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from edge.disk import write_atomically
from edge.errors import LedgerError, PayloadError
from edge.link import wire

_PLACE_BYTES = 4096
_WORDS_BYTES = 1024  # of it; then their SHA-256, hex. An older doord reads so many bytes, and of place 0 only


def head_path(path: Path) -> Path:
    """Where the head of the ledger `path` is kept."""
    return path.with_suffix(".head")


def read_head(path: Path) -> wire.ChainHead | None:
    """What was kept last of the ledger `path`; None: no such file. Raises LedgerError: it can't be read."""
    kept = head_path(path)
    found, why = [], ""
    try:
        with kept.open("rb", buffering=0) as file:
            for number in (1, 0):
                try:
                    found.append(_read(os.pread(file.fileno(), _PLACE_BYTES, number * _PLACE_BYTES)))
                except PayloadError as error:
                    why = str(error)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"{kept}: {error.strerror}") from error
    if not found:
        raise LedgerError(f"{kept}: {why}")
    return max(found, key=lambda head: head.seq)


def _read(place: bytes) -> wire.ChainHead:
    """Raises PayloadError. A file of an older doord has no digest."""
    words, digest = place[:_WORDS_BYTES], place[_WORDS_BYTES : _WORDS_BYTES + 64]
    if digest and digest != _digest(words):
        raise PayloadError("chain head: expected its own SHA-256 behind it, got another")
    return wire.decode_head(words)


def _digest(words: bytes) -> bytes:
    return hashlib.sha256(words).hexdigest().encode()


class HeadFile:
    """Writes the head of the ledger `path`. Used by one thread."""

    def __init__(self, path: Path) -> None:
        self._path = head_path(path)
        self._next: int | None = None  # place; None: the file is to be made

    def keep(self, head: wire.ChainHead) -> None:
        """On the disk when it returns. Raises OSError: what was kept before is there still."""
        words = wire.encode(head).ljust(_WORDS_BYTES)
        place = (words + _digest(words)).ljust(_PLACE_BYTES)
        number, self._next = self._next, None  # after a failure nothing in the file is relied on
        if number is None or not self._path.exists():
            write_atomically(self._path, place)  # the other place comes with the next head
            self._next = 1
            return
        handle = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(handle, place, number * _PLACE_BYTES)
            os.fdatasync(handle)
        finally:
            os.close(handle)
        self._next = 1 - number
