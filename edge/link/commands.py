"""Which orders the door obeys: signed ones, meant for this run of it, now, once. Deciding only.

Nothing here moves the door. The counters of the keys are on disk before an order is accepted, so
that none is obeyed twice; over a restart, and over a card restored to an earlier state, the epoch
that each order has to name sees to that.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from securesystemslib.signer import Key

from edge.errors import NotSigned, PayloadError
from edge.link import dsse, orders
from edge.link.counters import KeyCounters
from edge.link.orders import Order, Reply

log = logging.getLogger(__name__)

_TELL_EVERY_S = 60.0


class Refusal(str, Enum):
    """Why an order was not obeyed."""

    RETAINED = "Retained"  # a broker keeps it: nobody says it now
    OVERSIZED = "Oversized"
    MALFORMED = "Malformed"  # no envelope, of another type, or no order in it
    NOT_SIGNED = "NotSigned"  # by a key that may command
    FOREIGN_SITE = "ForeignSite"
    FOREIGN_DOOR = "ForeignDoor"  # this one is not named
    ANOTHER_EPOCH = "AnotherEpoch"  # meant for an earlier run, or for another door's
    REPEATED = "Repeated"  # the key's counter did not rise
    CLOCK_NOT_TRUSTED = "ClockNotTrusted"
    SITE_EXPIRED = "SiteExpired"  # nobody has said in time that the key still may
    EXPIRED = "Expired"
    TOO_FAR_AHEAD = "TooFarAhead"
    NOT_STORED = "NotStored"  # its counter can't be stored, so it could be obeyed twice


ANSWERED = frozenset(
    {
        Refusal.ANOTHER_EPOCH,
        Refusal.CLOCK_NOT_TRUSTED,
        Refusal.SITE_EXPIRED,
        Refusal.EXPIRED,
        Refusal.TOO_FAR_AHEAD,
        Refusal.NOT_STORED,
    }
)
"""Told to who ordered. Not Repeated: a broker could pass it off as the answer to the first."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """To be obeyed, now. Its counter is stored."""

    order: Order
    keyid: str

    @property
    def report(self) -> str:
        """What the event CommandObeyed says."""
        return f"{self.order.do}, counter {self.order.counter}, key {self.keyid}"


@dataclass(frozen=True, slots=True)
class Refused:
    """To be counted and forgotten."""

    reason: Refusal
    keyid: str | None  # who signed it; None: nobody who may
    order: Order | None = None  # what was signed
    report: str | None = None  # what the event CommandRefused says; None: told within the last minute


class Incoming(Protocol):
    """What arrived on the door's command topic."""

    @property
    def payload(self) -> bytes:
        """Foreign bytes."""

    @property
    def retained(self) -> bool:
        """Whether the broker had kept it."""


class _No(NamedTuple):
    """Not to be obeyed, and why in words."""

    reason: Refusal
    detail: str


class CommandDesk:
    """Judges what arrives on the door's command topic. Used by one thread.

    Args:
        site: as configured.
        door: as configured.
        epoch: of this start, `counters.next_epoch`.
        counters_path: a file of the desk's own in the state directory.
        clock: s, monotonic; how often a refusal is told goes by it.
    """

    def __init__(
        self,
        site: str,
        door: str,
        epoch: str,
        counters_path: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._door = door
        self._epoch = epoch
        self._counters = KeyCounters(counters_path)
        self._clock = clock
        self._told_at: dict[Refusal, float] = {}
        self._untold: Counter[Refusal] = Counter()
        self.refused: Counter[Refusal] = Counter()
        """How many of each since the start."""

    def consider(
        self,
        received: Incoming,
        keys: Mapping[str, Key],
        now_utc: datetime | None,
        keys_until: datetime | None = None,
    ) -> Accepted | Refused:
        """Whether to obey.

        Args:
            received: foreign bytes.
            keys: by key id, those of `commands/keys`.
            now_utc: aware; None: the clock is not trusted. Then nobody can say whether an order has
                expired, and only what restrains is obeyed.
            keys_until: aware; from then on too: the site was not heard of in time, so a key may have
                been taken back. None: the keys count for ever.
        """
        opened = _opened(received, keys)
        if isinstance(opened, _No):
            return self._refuse(opened, None, None)
        payload, keyid = opened
        try:
            order = orders.decode_order(payload)
        except PayloadError as error:
            return self._refuse(_No(Refusal.MALFORMED, str(error)), keyid, None)
        no = (
            self._not_ours(order)
            or self._not_new(order, keyid)
            or _not_in_time(order, now_utc)
            or _not_believed(order, now_utc, keys_until)
            or self._not_stored(order, keyid)  # last: what is refused raises no counter
        )
        return self._refuse(no, keyid, order) if no else Accepted(order, keyid)

    def reply(self, verdict: Accepted | Refused, done: bool = False, detail: str = "") -> Reply | None:
        """What to answer; None: nothing, as to all that nobody signed who may."""
        if isinstance(verdict, Refused):
            if verdict.reason not in ANSWERED:
                return None
            done, detail = False, verdict.reason.value
        order, keyid = verdict.order, verdict.keyid
        if order is None or keyid is None:
            return None
        return Reply(self._site, self._door, self._epoch, keyid, order.counter, done, detail)

    def _not_ours(self, order: Order) -> _No | None:
        """For this site, this door, this run."""
        if order.site != self._site:
            return _No(Refusal.FOREIGN_SITE, f"expected {self._site}, got {order.site}")
        epoch = order.doors.get(self._door)
        if epoch is None:
            return _No(Refusal.FOREIGN_DOOR, f"expected {self._door} among its doors")
        if epoch != self._epoch:
            return _No(Refusal.ANOTHER_EPOCH, f"expected {self._epoch}, got {epoch}")
        return None

    def _not_new(self, order: Order, keyid: str) -> _No | None:
        last = self._counters.last(keyid)
        if not order.counter > last:
            return _No(Refusal.REPEATED, f"expected a counter above {last}, got {order.counter}")
        return None

    def _not_stored(self, order: Order, keyid: str) -> _No | None:
        """Its counter is on disk before it is obeyed, else it could be obeyed twice.

        What restrains is obeyed without that: a worn-out card must not keep a door from being
        locked, and locked twice is as once. In memory its counter rises all the same.
        """
        try:
            self._counters.store(keyid, order.counter)
        except OSError as error:
            if order.do not in orders.RESTRAINING:
                return _No(Refusal.NOT_STORED, str(error))
            log.error("%s; %s is obeyed all the same", error, order.do)
            self._counters.remember(keyid, order.counter)
        return None

    def _refuse(self, no: _No, keyid: str | None, order: Order | None) -> Refused:
        self.refused[no.reason] += 1
        return Refused(no.reason, keyid, order, self._report(no, keyid))

    def _report(self, no: _No, keyid: str | None) -> str | None:
        """At most one a minute of each kind, so that nobody floods the log with worthless orders."""
        now = self._clock()
        told_at = self._told_at.get(no.reason)
        if told_at is not None and now - told_at < _TELL_EVERY_S:
            self._untold[no.reason] += 1
            return None
        self._told_at[no.reason] = now
        more = self._untold.pop(no.reason, 0)
        signer = f"; key {keyid}" if keyid else ""
        return f"{no.reason.value}: {no.detail}{signer}" + (f"; {more} more since the last" if more else "")


def _opened(received: Incoming, keys: Mapping[str, Key]) -> tuple[bytes, str] | _No:
    """What was signed, and the key's id."""
    if received.retained:
        return _No(Refusal.RETAINED, "expected an order of now, got one that the broker kept")
    size = len(received.payload)
    if size > orders.MAX_ORDER_BYTES:
        return _No(Refusal.OVERSIZED, f"expected at most {orders.MAX_ORDER_BYTES} bytes, got {size}")
    try:
        return dsse.opened(received.payload, orders.COMMAND_TYPE, keys, orders.MAX_ORDER_BYTES)
    except NotSigned as error:
        return _No(Refusal.NOT_SIGNED, str(error))
    except PayloadError as error:
        return _No(Refusal.MALFORMED, str(error))


def _not_in_time(order: Order, now_utc: datetime | None) -> _No | None:
    """Within its time; the times are compared so that what is neither is refused."""
    if now_utc is None:
        if order.do in orders.RESTRAINING:
            return None
        return _No(Refusal.CLOCK_NOT_TRUSTED, f"{order.do} needs a clock that is trusted")
    left_s = (orders.utc(order.expires_at) - now_utc).total_seconds()
    if not left_s > 0:
        return _No(Refusal.EXPIRED, f"came {-left_s:.1f} s after its end")
    if not left_s <= orders.MAX_AHEAD_S:
        expected = f"expected its end at most {orders.MAX_AHEAD_S:g} s ahead"
        return _No(Refusal.TOO_FAR_AHEAD, f"{expected}, got {left_s:.1f}")
    return None


def _not_believed(order: Order, now_utc: datetime | None, keys_until: datetime | None) -> _No | None:
    """Whoever jams a door must not keep it obeying a key that was taken back."""
    if order.do in orders.RESTRAINING or now_utc is None or keys_until is None or now_utc < keys_until:
        return None
    return _No(Refusal.SITE_EXPIRED, f"the site was not heard of in time, expected by {keys_until:%F %R} UTC")
