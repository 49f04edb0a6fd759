"""What must not go back: the counter of each key that commands, and the count of this door's starts."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.disk import write_atomically
from edge.errors import PayloadError
from edge.link import orders
from edge.link.dsse import KeyId, parsed

log = logging.getLogger(__name__)

_MAX_KEYS = 4096  # that ever commanded this door; a new one each day lasts eleven years
_MAX_BYTES = 512 * 1024
_MAX_STARTS = 999_999_999


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    counters: Annotated[dict[KeyId, orders.Counter], Meta(max_length=_MAX_KEYS)]


def decode_counters(data: bytes) -> dict[str, int]:
    """Key id -> the counter of its last order. Raises PayloadError."""
    return parsed(data, _File, "counters", _MAX_BYTES).counters


class KeyCounters:
    """The counter of the last order of each key, in a file. Used by one thread.

    No file yet: nobody has commanded. A file that can't be read stays as it is, and nothing can be
    stored until it is deleted and the daemon started again: the new epoch makes old orders void.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fault: str | None = None
        self._last: dict[str, int] = {}
        try:
            with path.open("rb") as file:
                self._last = decode_counters(file.read(_MAX_BYTES + 1))
        except FileNotFoundError:
            pass
        except (OSError, PayloadError) as error:
            self._fault = str(getattr(error, "strerror", None) or error)
            log.error("%s: %s; delete it and restart, till then only lock is obeyed", path, self._fault)

    def last(self, keyid: str) -> int:
        """0: this key never commanded here."""
        return self._last.get(keyid, 0)

    def store(self, keyid: str, counter: int) -> None:
        """On disk when it returns. Raises OSError; nothing has changed then."""
        counters = {**self._last, keyid: counter}
        if self._fault is not None:
            raise OSError(f"{self._path}: can't be read: {self._fault}")
        if len(counters) > _MAX_KEYS:
            raise OSError(f"{self._path}: expected at most {_MAX_KEYS} keys, got another")
        try:
            write_atomically(self._path, msgspec.json.encode(_File(counters)))
        except OSError as error:
            raise OSError(f"{self._path}: can't be written: {error.strerror}") from error
        self._last = counters

    def remember(self, keyid: str, counter: int) -> None:
        """In memory only."""
        self._last = {**self._last, keyid: counter}


def next_epoch(path: Path) -> str:
    """The epoch of this start; the count of starts in the file `path` is raised first.

    A count that can't be read begins anew, one that can't be written is used all the same: the
    admin sees it go back or stand still, and the random half alone makes old orders void.
    """
    count = min(_starts(path) + 1, _MAX_STARTS)
    try:
        write_atomically(path, f"{count}\n".encode())
    except OSError as error:
        log.error("%s: the count of starts can't be stored: %s", path, error.strerror)
    return orders.epoch_of(count, secrets.token_bytes(8))


def _starts(path: Path) -> int:
    try:
        with path.open("rb") as file:
            text = file.read(20).strip()
    except FileNotFoundError:
        return 0
    except OSError as error:
        log.error("%s: the count of starts can't be read: %s", path, error.strerror)
        return 0
    if text.isdigit() and len(text) <= len(str(_MAX_STARTS)):
        return int(text)
    log.error("%s: expected a count of starts, got %r", path, text)
    return 0
