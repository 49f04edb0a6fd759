"""Which acks of a collector move the cursor: signed ones, for events that were sent, of this very chain.

An ack deletes nothing. Forged, it could only keep events from being sent again; so a forged one is
refused, counted, and reported at most once a minute.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from enum import Enum

from securesystemslib.signer import Key

from edge.errors import LedgerError, PayloadError
from edge.link import dsse, orders
from edge.link.orders import Ack
from edge.link.port import Events

log = logging.getLogger(__name__)

_TELL_EVERY_S = 60.0


class Came(Enum):
    """What an ack came to."""

    MOVED = "moved"  # the cursor
    REPEATED = "repeated"  # the last, or of nothing: the collector lacks what is newer


class AckDesk:
    """Judges what arrives on the door's ack topic. Used by one thread.

    Args:
        site: as configured.
        door: as configured.
        ledger: whose cursor moves.
        keys: by key id, those that may ack now.
        tell: reports why one was refused.
        clock: s, monotonic; how often that is told goes by it.
    """

    def __init__(
        self,
        site: str,
        door: str,
        ledger: Events,
        keys: Callable[[], Mapping[str, Key]],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused = 0  # since the start
        self._of = (site, door)
        self._ledger = ledger
        self._keys = keys
        self._tell = tell
        self._clock = clock
        self._told_at = float("-inf")
        self._untold = 0

    def take(self, payload: bytes, sent: int) -> Came | None:
        """What an ack came to; None: nothing, or it was refused.

        Args:
            payload: foreign bytes.
            sent: the highest number that was ever sent.
        """
        try:
            ack = self._read(payload)
            if ack.seq == 0:
                return Came.REPEATED
            if ack.seq < self._ledger.cursor:
                return None  # overtaken by another
            if not self._check(ack, sent):
                return None
        except PayloadError as error:
            self._refuse(str(error))
            return None
        except LedgerError as error:  # no fault of the collector's, whose next ack says the same
            log.warning("an ack can't be judged: %s", error)
            return None
        moved = ack.seq > self._ledger.cursor
        self._ledger.delivered(ack.seq)
        return Came.MOVED if moved else Came.REPEATED

    def _read(self, payload: bytes) -> Ack:
        signed, _ = dsse.opened(payload, orders.ACK_TYPE, self._keys(), orders.MAX_ACK_BYTES)
        ack = orders.decode_ack(signed)
        if (ack.site, ack.door) != self._of:
            expected, got = "/".join(self._of), f"{ack.site}/{ack.door}"
            raise PayloadError(f"ack: expected one for {expected}, got one for {got}")
        return ack

    def _check(self, ack: Ack, sent: int) -> bool:
        """Whether the event it is for is here; one that was dropped meanwhile can't be compared."""
        if not ack.seq <= sent:
            raise PayloadError(f"ack: expected a number of at most {sent}, the last sent, got {ack.seq}")
        stored = self._ledger.find(ack.seq)
        if stored is None:
            return False
        if hashlib.sha256(stored.payload).hexdigest() != ack.prev:
            other = "has other bytes at the collector: one of the two was restored or altered"
            raise PayloadError(f"ack: number {ack.seq} {other}")
        return True

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if self._clock() - self._told_at < _TELL_EVERY_S:
            self._untold += 1
            return
        more, self._untold, self._told_at = self._untold, 0, self._clock()
        self._tell(f"{why}; {more} more since the last" if more else why)
