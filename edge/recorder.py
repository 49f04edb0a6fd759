"""The thread "recorder": every event is numbered and committed here before anybody acts on it or sends it.

Who posts never waits. A grant's caller hands in what comes next, and that runs once: when the event
is on the disk, or when it can't be, or after 200 ms, whichever is first. A second thread, "patience",
sees to the last, also while the disk hangs. What could not be committed waits in memory, up to a
limit; what is beyond that is counted, and told in the chain when the disk is back.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol, TypeAlias

from edge.errors import LedgerDamaged, LedgerError, PayloadError
from edge.link import wire
from edge.link.port import Stored
from edge.worker import Worker

log = logging.getLogger(__name__)

PATIENCE_S = 0.2  # how long a grant waits for its event's commit
_WAITING = 1000  # events that wait for the disk; more than that are lost
_BATCH = 100  # of one commit
_IDLE_S = 0.5
_RETRY_S = 1.0
_PRUNE_EVERY_S = 600.0
_PRUNE_ROWS = 1000
_ASIDE_EVERY_S = 60.0
_TELL_EVERY_S = 60.0
_STARTING = "starting"


class Keeper(Protocol):
    """The ledger, or its sibling in tests."""

    damaged: str | None

    @property
    def head(self) -> wire.ChainHead:
        """Number and digest of the last event."""

    @property
    def undelivered(self) -> int:
        """How many events wait for delivery."""

    def open(self) -> wire.Gap | None:
        """Raises LedgerError."""

    def append_all(self, entries: Sequence[_Row]) -> list[Stored]:
        """Raises LedgerError, PayloadError."""

    def prune(self, now_utc: float | None, gap_event: Callable[[wire.Gap], wire.Event]) -> wire.Gap | None:
        """Raises LedgerError."""

    def keep_head(self) -> None:
        """Write the head beside the ledger."""

    def tidy(self) -> None:
        """Raises LedgerError."""

    def close(self) -> None:
        """Release the files."""

    def set_aside(self, name: str) -> Path:
        """Raises LedgerError."""


_Row: TypeAlias = "tuple[wire.Event, bytes | None]"


class _Entry:
    """An event on its way to the disk, and what comes after it: once, whoever comes first to it."""

    def __init__(
        self,
        event: wire.Event,
        details: bytes | None,
        then: Callable[[], None] | None = None,
        until: float = 0.0,
    ) -> None:
        self.event = event
        self.details = details
        self.then = then
        self.until = until  # s, monotonic: when it goes on without the disk
        self._token = threading.Lock()  # taken by who goes on, and never given back
        self._over = threading.Event()

    @property
    def has_gone_on(self) -> bool:
        return self._token.locked()

    def go_on(self) -> bool:
        """Whether this call did it."""
        if self.then is None or not self._token.acquire(blocking=False):
            return False
        self.then()
        self._over.set()
        return True

    def wait(self, seconds: float) -> None:
        self._over.wait(seconds)


class Recorder:
    """Takes events from any thread, in order; see the module.

    Args:
        ledger: owned by the recorder from here on; others may read it.
        setting: what is in force, for the recorder's own events.
        now_utc: None while the clock is not trusted: then nothing is too old to be kept.
        committed: called after each commit, on the recorder's thread; neither blocks nor raises.
        clock: s, monotonic.
    """

    def __init__(
        self,
        ledger: Keeper,
        setting: Callable[[], wire.Setting],
        now_utc: Callable[[], datetime | None],
        committed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault: str | None = _STARTING  # why nothing is committed now
        self.lost = 0  # events since the start that never reached the disk
        self._ledger = ledger
        self._setting = setting
        self._now_utc = now_utc
        self._committed = committed
        self._clock = clock
        self._inbox: queue.SimpleQueue[_Entry] = queue.SimpleQueue()
        self._grants: queue.SimpleQueue[_Entry] = queue.SimpleQueue()  # in order of their time
        self._pending: deque[_Entry] = deque()
        self._counting = threading.Lock()
        self._untold = 0  # of the lost, those that no event stands for yet
        self._gap: wire.Gap | None = None  # what the ledger turned out to lack when it was opened
        self._damage: str | None = None  # why the ledger before it was set aside
        self._aside_again_at = float("-inf")
        self._retry_at = float("-inf")
        self._prune_at = float("-inf")
        self._rows = 0  # since the last look at what is too old or too much
        self._said_at = float("-inf")
        self._workers = (Worker("recorder", self.step), Worker("patience", self.be_patient))

    @property
    def undelivered(self) -> int:
        """How many events on the disk wait for delivery."""
        return self._ledger.undelivered

    # Any thread

    def post(self, event: wire.Event, details: bytes | None = None) -> None:
        """Hand over an event. Never blocks, never raises. `details` stay on the door."""
        self._take(_Entry(event, details))

    def post_then(self, event: wire.Event, details: bytes | None, then: Callable[[], None]) -> None:
        """Hand over an event; `then` runs once it is on the disk, or can't be, or after PATIENCE_S.

        `then` is called on a thread of the recorder's and neither blocks nor raises. When it ran
        before the commit, an EventUnsynced follows in the chain.
        """
        entry = _Entry(event, details, then, self._clock() + PATIENCE_S)
        self._grants.put(entry)
        self._take(entry)

    def start(self) -> None:
        """Start both threads; the ledger is opened there."""
        self.tend()

    def tend(self) -> None:
        """Start again a thread that died; called now and then by one thread."""
        for worker in self._workers:
            worker.tend(self._clock())

    def stop(self, timeout_s: float = 2.0) -> None:
        """Commit what waits, end both threads; takes little more than `timeout_s`. It can be read still."""
        until = self._clock() + timeout_s
        for worker in self._workers:
            worker.stop(timeout_s)
        if any(worker.alive for worker in self._workers):
            log.error("the ledger's disk hangs: %d events are lost", self._inbox.qsize() + len(self._pending))
            return
        while self._gather(0) and self._usable() and self._clock() < until:
            self._commit(_BATCH)
        if self._pending:
            log.error("%d events are lost: %s", len(self._pending), self.fault or "no time to write them")

    def close(self) -> None:
        """Release the ledger, unless its disk hangs."""
        if not any(worker.alive for worker in self._workers):
            self._ledger.close()

    def _take(self, entry: _Entry) -> None:
        if self._inbox.qsize() < _WAITING:
            self._inbox.put(entry)
        else:
            self._lose()

    def _lose(self) -> None:
        with self._counting:
            self.lost += 1
            self._untold += 1

    # Thread "patience"

    def be_patient(self) -> None:
        """Wait a moment for a grant; let it go on when its time is over. They come in order of time."""
        try:
            entry = self._grants.get(timeout=_IDLE_S)
        except queue.Empty:
            return
        entry.wait(max(0.0, entry.until - self._clock()))
        entry.go_on()

    # Thread "recorder"

    def step(self) -> None:
        """Wait a moment for events; commit what there is; keep house."""
        usable = self._usable()
        waiting = self._gather(0.0 if usable and self._pending else _IDLE_S)
        if not usable:
            self._let_go()
            return
        if waiting or self._gap or self._damage or self._untold:
            self._commit(_BATCH)
        if self.fault is None and (self._inbox.empty() or self._rows >= _PRUNE_ROWS):
            self._keep_house()

    def _gather(self, wait_s: float) -> bool:
        """Whether anything waits for the disk, for at most `wait_s`."""
        with contextlib.suppress(queue.Empty):
            self._hold(self._inbox.get(timeout=wait_s))
            for _ in range(_WAITING):
                self._hold(self._inbox.get_nowait())
        return bool(self._pending)

    def _hold(self, entry: _Entry) -> None:
        if len(self._pending) < _WAITING:
            self._pending.append(entry)
        else:
            self._lose()  # the newest: what came first tells how it began

    def _let_go(self) -> None:
        """Nobody waits for a disk that takes nothing."""
        for entry in self._pending:
            entry.go_on()

    def _usable(self) -> bool:
        """Whether the ledger takes events, after another attempt to open it where it is time."""
        if self.fault is None and self._ledger.damaged is None:
            return True
        if self.fault is not None and self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + _RETRY_S
        try:
            if self._ledger.damaged is not None:
                self._set_aside(self._ledger.damaged)
            self._gap = self._ledger.open()
        except LedgerError as error:
            self._refused(error)
        else:
            self._recover()
        return self.fault is None

    def _set_aside(self, damaged: str) -> None:
        """Make room for a new ledger; once a minute at most, or a bad disk would fill with them."""
        if self._clock() < self._aside_again_at:
            raise LedgerError(damaged)
        name = f"damaged-{datetime.fromtimestamp(time.time(), timezone.utc):%Y%m%dT%H%M%SZ}"
        aside = self._ledger.set_aside(name)
        self._ledger.damaged = None
        self._damage = f"{damaged}; set aside as {aside.name}"
        self._aside_again_at = self._clock() + _ASIDE_EVERY_S
        log.critical("LedgerDamaged: %s", self._damage)

    def _fail(self, error: LedgerError) -> None:
        now, self.fault = self._clock(), str(error)
        if now - self._said_at >= _TELL_EVERY_S:
            self._said_at = now
            log.error("events are not recorded, the door works on: %s", error)

    def _recover(self) -> None:
        if self.fault != _STARTING:
            log.warning(
                "events are recorded again; %d waited, %d were lost", len(self._pending), self._untold
            )
        self.fault, self._said_at = None, float("-inf")

    def _commit(self, limit: int) -> None:
        """Commit the oldest events, at most `limit`, and let those go on that waited for them."""
        batch = list(itertools.islice(self._pending, limit))
        rows, waiting, lost = self._rows_of(batch)
        try:
            stored = self._ledger.append_all(rows)
        except PayloadError as error:
            self._leave_out(batch, error)
            return
        except LedgerError as error:
            self._refused(error)
            return
        for _ in batch:
            self._pending.popleft()
        self._gap = self._damage = None
        with self._counting:
            self._untold -= lost
        late = [self._unsynced(stored[row].seq) for row, entry in waiting if not entry.go_on()]
        self._pending.extendleft(_Entry(event, None) for event in reversed(late))
        self._rows += len(rows)
        self._ledger.keep_head()  # after what waited for the disk, before anything is sent
        self._committed()

    def _rows_of(self, batch: list[_Entry]) -> tuple[list[_Row], list[tuple[int, _Entry]], int]:
        """What to commit; which rows somebody waits for; how many lost events it stands for."""
        rows: list[_Row] = [(event, None) for event in self._preface()]
        waiting: list[tuple[int, _Entry]] = []
        for entry in batch:
            rows.append((entry.event, entry.details))
            if entry.has_gone_on:
                number = self._ledger.head.seq + len(rows)
                rows.append((self._unsynced(number), None))
            elif entry.then is not None:
                waiting.append((len(rows) - 1, entry))
        lost = self._untold if len(batch) == len(self._pending) else 0
        if lost:
            gap = wire.Gap(None, None, lost, "the ledger took no events")
            rows.append((wire.dropped(gap, _stamp(), self._setting()), None))
        return rows, waiting, lost

    def _preface(self) -> list[wire.Event]:
        """What a ledger that was opened anew begins with."""
        found: list[wire.Event] = []
        if self._damage is not None:
            found.append(wire.notice("LedgerDamaged", self._damage, _stamp(), self._setting()))
        if self._gap is not None:
            found.append(wire.dropped(self._gap, _stamp(), self._setting()))
        return found

    def _unsynced(self, seq: int) -> wire.Event:
        detail = f"number {seq}: the door was asked before this was on the disk"
        log.warning("EventUnsynced: %s", detail)
        return wire.notice("EventUnsynced", detail, _stamp(), self._setting())

    def _leave_out(self, batch: list[_Entry], error: PayloadError) -> None:
        """An event that could never be sent takes no number; its neighbours do."""
        if len(batch) > 1:
            for _ in batch:
                if self.fault is None and self._pending:
                    self._commit(1)
            return
        log.error("an event is lost: %s", error)
        self._pending.popleft().go_on()
        self._lose()

    def _refused(self, error: LedgerError) -> None:
        if isinstance(error, LedgerDamaged):
            self._ledger.damaged = str(error)
        self._retry_at = self._clock() + _RETRY_S
        self._fail(error)
        self._let_go()

    def _keep_house(self) -> None:
        """What makes who appends wait; while nobody does, or after very many events."""
        try:
            if self._rows >= _PRUNE_ROWS or self._clock() >= self._prune_at:
                self._rows, self._prune_at = 0, self._clock() + _PRUNE_EVERY_S
                self._prune()
            self._ledger.tidy()
        except LedgerError as error:
            self._refused(error)

    def _prune(self) -> None:
        now = self._now_utc()
        gap = self._ledger.prune(
            None if now is None else now.timestamp(),
            lambda gap: wire.dropped(gap, _stamp(), self._setting()),
        )
        if gap is not None:
            log.info("EventsDropped: %s to %s: %s", gap.first, gap.last, gap.why)
            self._ledger.keep_head()
            self._committed()


def _stamp() -> wire.Stamp:
    return wire.Stamp.of(time.time(), os.urandom(10))
