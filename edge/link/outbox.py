"""Events on their way to the broker: numbered, chained, in order. In memory.

A restart loses what was not sent yet; the chain's head is on disk, so the collector sees the gap.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

from edge.disk import write_atomically
from edge.errors import PayloadError
from edge.link import wire

log = logging.getLogger(__name__)

MAX_WAITING = 1000
WINDOW = 20  # events under way at once


class MemoryOutbox:
    """What the broker has not acknowledged. Used by one thread.

    Beyond `limit` waiting events the oldest go: they leave a gap in `seq` that nobody can hide,
    and the door's journal has them.
    """

    def __init__(self, chain_path: Path, limit: int = MAX_WAITING) -> None:
        """`chain_path` keeps number and digest of the last event; unreadable, the chain begins anew."""
        self.dropped = 0
        self._path = chain_path
        self._limit = limit
        self._head = _load(chain_path)
        self._stored = True
        self._waiting: deque[bytes] = deque()
        self._under_way: dict[int, bytes] = {}  # message id -> event, oldest first

    @property
    def head(self) -> wire.ChainHead:
        """Number and digest of the last event."""
        return self._head

    @property
    def unsent(self) -> int:
        """How many events the broker has not acknowledged."""
        return len(self._waiting) + len(self._under_way)

    def add(self, event: wire.Event) -> None:
        """Number an event and let it wait."""
        try:
            payload, self._head = wire.number(event, self._head)
        except PayloadError as error:
            self.dropped += 1
            log.error("an event was lost: %s", error)
            return
        self._store_head()  # first: no number may be used twice
        self._waiting.append(payload)
        if len(self._waiting) > self._limit:
            self._waiting.popleft()
            self.dropped += 1

    def take(self) -> bytes | None:
        """The oldest event that may be sent now."""
        return self._waiting.popleft() if self._waiting and len(self._under_way) < WINDOW else None

    def under_way(self, mid: int, payload: bytes) -> None:
        """It was handed to the connection as message `mid`."""
        self._under_way[mid] = payload

    def acknowledged(self, mid: int) -> None:
        """The broker has it. Other messages' ids are ignored."""
        self._under_way.pop(mid, None)

    def take_back(self) -> None:
        """The connection is gone: what was under way waits again, before the rest."""
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()

    def _store_head(self) -> None:
        try:
            write_atomically(self._path, wire.encode(self._head))
        except OSError as error:
            if self._stored:
                log.error("%s: %s: a restart will break the chain of events", self._path, error.strerror)
            self._stored = False
        else:
            self._stored = True


def _load(path: Path) -> wire.ChainHead:
    try:
        return wire.decode_head(path.read_bytes())
    except FileNotFoundError:
        return wire.GENESIS
    except (OSError, PayloadError) as error:
        log.error("%s: %s: the chain of events begins anew", path, error)
        return wire.GENESIS
