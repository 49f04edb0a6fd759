"""Which events go next to the broker, and which are under way: a place in the ledger, no copy of it.

What counts as delivered is configured: that the broker has an event, or that the collector has said
so (`acks`). In the second case what was sent and not acked goes again: after each reconnect, and when
nothing was acked for a minute, then for two, and so on, since a collector that is away is no reason
to send the same for ever.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from edge.errors import LedgerError
from edge.link.port import Events, Stored

log = logging.getLogger(__name__)

WINDOW = 20  # events under way at once: what Mosquitto accepts unless told otherwise
UNACKED = 1000  # events that may be ahead of the collector
AGAIN_S = (60.0, 600.0)  # how long nothing is acked before events are sent again: first, and at most
ASKED_AGAIN_S = 2.0
_READ_AHEAD = 100
_REFUSED_ALONE = 3  # connections in which the broker refuses an event and takes a later one


class Outbox:
    """Used by one thread.

    Args:
        ledger: where the events are.
        by_collector: whether the collector's acks count, not the broker's.
        clock: s, monotonic.
    """

    def __init__(
        self, ledger: Events, by_collector: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._by_collector = by_collector
        self._clock = clock
        self._taken = ledger.cursor  # number of the last event that was taken
        self._sent = 0
        self._ahead: deque[Stored] = deque()
        self._under_way: dict[int, int] = {}  # message id -> number, oldest first
        self._refused: dict[int, bool] = {}  # number -> whether a later one was taken, in this connection
        self._alone: dict[int, int] = {}  # number -> in how many connections that was so
        self._patience_s = AGAIN_S[0]
        self._acked_at = clock()
        self._back_at = clock()  # when it last went back to what was delivered
        self._is_asked = False
        self._said: str | None = None

    @property
    def unsent(self) -> int:
        """How many events the broker has not acknowledged since this outbox sends."""
        return max(0, self._ledger.head.seq - self._taken) + len(self._under_way)

    @property
    def sent(self) -> int:
        """The highest number that was ever sent, as far as is known: by an earlier run perhaps."""
        return max(self._sent, self._ledger.inherited)

    def take(self) -> Stored | None:
        """The oldest event that may be sent now."""
        self._taken = max(self._taken, self._ledger.cursor)  # nothing before it is wanted any more
        if len(self._under_way) >= WINDOW or not self._may_go_further():
            return None
        while self._ahead and self._ahead[0].seq <= self._taken:
            self._ahead.popleft()
        if not self._ahead and self._taken < self._ledger.head.seq:
            self._ahead.extend(self._read())
        if not self._ahead:
            return None
        event = self._ahead.popleft()
        self._taken = event.seq
        self._sent = max(self._sent, event.seq)
        return event

    def under_way(self, mid: int, event: Stored) -> None:
        """It was handed to the connection as message `mid`."""
        self._under_way[mid] = event.seq

    def acknowledged(self, mid: int) -> None:
        """The broker has it. Other messages' ids are ignored."""
        seq = self._under_way.pop(mid, None)
        if seq is None:
            return
        for one in [one for one, is_alone in self._refused.items() if one < seq and not is_alone]:
            self._refuse_alone(one)
        if not self._by_collector:
            self._ledger.delivered(min(self._under_way.values(), default=self._taken + 1) - 1)

    def refused(self, mid: int) -> None:
        """The broker does not take it, in this connection. Other messages' ids are ignored."""
        if mid in self._under_way:
            self._refused[self._under_way[mid]] = False

    @property
    def is_stuck(self) -> bool:
        """Whether all that is under way was refused: only another connection can change that."""
        return bool(self._under_way) and self._refused.keys() >= set(self._under_way.values())

    def _refuse_alone(self, seq: int) -> None:
        """A later one was taken, so it is this very event that the broker does not like."""
        self._refused[seq] = True
        self._alone[seq] = self._alone.get(seq, 0) + 1
        if self._alone[seq] < _REFUSED_ALONE:
            return
        log.error("event %d is not sent any more: the broker refuses it and takes later ones", seq)
        self._under_way = {mid: number for mid, number in self._under_way.items() if number != seq}
        del self._refused[seq], self._alone[seq]

    def acked(self) -> None:
        """The collector has moved the cursor."""
        self._acked_at, self._patience_s = self._clock(), AGAIN_S[0]
        self._is_asked = False

    def asked_again(self) -> None:
        """The collector repeats its last ack: something it lacks, and what was sent since goes again.

        Not at once: what it lacks may be on its way, and an ack of it too.
        """
        self._is_asked = True

    def take_back(self) -> None:
        """The connection is gone: what was not delivered goes again, in order."""
        self._under_way.clear()
        self._refused.clear()
        self._ahead.clear()
        self._taken = self._ledger.cursor
        self._acked_at = self._back_at = self._clock()
        self._is_asked = False

    def _may_go_further(self) -> bool:
        """Whether the collector keeps up; when it has said nothing for long, from its last ack again."""
        if self._is_asked and self._clock() - self._back_at >= ASKED_AGAIN_S:
            self.take_back()
        ahead = self._taken - self._ledger.cursor
        if not self._by_collector or not ahead:
            self._acked_at = self._clock()
            return True
        if self._clock() - self._acked_at >= self._patience_s and not self._under_way:
            self._patience_s = min(AGAIN_S[1], 2 * self._patience_s)
            self.take_back()
            return True
        return ahead < UNACKED

    def _read(self) -> list[Stored]:
        try:
            found = self._ledger.after(self._taken, _READ_AHEAD)
        except LedgerError as error:
            if self._said != str(error):
                log.error("no events can be sent: %s", error)
            self._said = str(error)
            return []
        self._said = None
        return found
