"""The thread "recorder": every event is numbered and committed here before anybody acts on it or sends it.

Who posts never waits. A grant's caller hands in what comes next, and that runs once: when the event
is on the disk, or when it can't be, or after 200 ms, whichever is first: `waiting` sees to the last,
also while the disk hangs. What could not be committed waits in memory, up to a limit; what is beyond
that is counted, and told in the chain when the disk is back.
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
from collections.abc import Callable
from datetime import datetime, timezone

from edge import story
from edge.errors import LedgerDamaged, LedgerError, PayloadError
from edge.journal import said
from edge.link import wire
from edge.link.port import Keeper, Row
from edge.waiting import Entry, Waiting
from edge.worker import Worker

log = logging.getLogger(__name__)

PATIENCE_S = 0.2  # how long a grant waits for its event's commit
_WAITING = 1000  # events that wait for the disk; more than that are lost
_BATCH = 100  # of one commit
_IDLE_S = 0.5
_RETRY_S = 1.0
_PRUNE_EVERY_S = 600.0
_PRUNE_ROWS = 1000
_HOUSE_AGAIN_S = 60.0  # after housekeeping failed: a full disk has room for events, not for that
_ASIDE_EVERY_S = 60.0
_TELL_EVERY_S = 60.0
_STEADY_S = 7 * 86400.0  # a clock that agrees with the monotonic one for so long
_JUMP_S = 3600.0  # to within this, is believed also where it makes very much old at once
_STARTING = "starting"
_STUCK_S = 5.0
_STUCK = "the ledger's disk does not answer"


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
        self.lost = 0  # events since the start that never reached the disk
        self._fault: str | None = _STARTING
        self._turned_at = float("inf")  # s, monotonic
        self._ledger = ledger
        self._setting = setting
        self._now_utc = now_utc
        self._committed = committed
        self._clock = clock
        self._inbox: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self.waiting = Waiting(clock)
        self._pending: deque[Entry] = deque()
        self._told: set[str] = set()  # ids of those that the log has without a number
        self._counting = threading.Lock()
        self._untold = 0  # of the lost, those that no event stands for yet
        self._gap: wire.Gap | None = None  # what the ledger turned out to lack when it was opened
        self._damage: str | None = None  # why the ledger before it was set aside
        self._aside_again_at = float("-inf")
        self._retry_at = float("-inf")
        self._prune_at = float("-inf")
        self._house_at = float("-inf")
        self._clocks = (float("-inf"), 0.0)  # UTC less monotonic, s; since when, s monotonic
        self._rows = 0  # since the last look at what is too old or too much
        self._said_at = float("-inf")
        self._workers = (Worker("recorder", self.step), Worker("patience", self.waiting.be_patient))

    @property
    def fault(self) -> str | None:
        """Why nothing is committed now; also that the thread hangs, or is dead."""
        stuck = self._clock() - self._turned_at > _STUCK_S
        return self._fault or (_STUCK if stuck else None)

    @property
    def undelivered(self) -> int:
        """How many events on the disk wait for delivery."""
        return self._ledger.undelivered

    # Any thread

    def post(self, event: wire.Event, details: bytes | None = None) -> None:
        """Hand over an event. Never blocks, never raises. `details` stay on the door."""
        self._take(Entry(event, details))

    def post_then(
        self, event: wire.Event, details: bytes | None, then: Callable[[], None], by: float
    ) -> None:
        """Hand over an event; `then` runs once it is on the disk, or can't be, or it is time.

        It is time after PATIENCE_S, or at `by` (s, monotonic) when that is sooner.
        `then` is called on a thread of the recorder's and neither blocks nor raises. When it ran
        before the commit, an EventUnsynced follows in the chain.
        """
        entry = Entry(event, details, then, min(self._clock() + PATIENCE_S, by))
        self.waiting.put(entry)
        self._take(entry)

    def start(self) -> None:
        """Start both threads; the ledger is opened there."""
        self.tend()

    def tend(self) -> None:
        """Start again a thread that died; called now and then by one thread."""
        for worker in self._workers:
            worker.tend(self._clock())

    def ask_to_stop(self) -> None:
        """Both threads end soon; what comes meanwhile waits for `stop`. Returns at once."""
        for worker in self._workers:
            worker.ask_to_stop()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Commit what waits, end both threads; takes little more than `timeout_s`. It can be read still."""
        until = self._clock() + timeout_s
        self.ask_to_stop()
        for worker in self._workers:
            worker.stop(max(0.0, until - self._clock()))
        if any(worker.alive for worker in self._workers):
            log.error("the ledger's disk hangs: %d events are lost", self._inbox.qsize() + len(self._pending))
            return
        while self._gather(0) and self._usable() and self._clock() < until:
            self._commit(_BATCH)
        if self._pending:
            log.error("%d events are lost: %s", len(self._pending), self._fault or "no time to write them")

    def close(self) -> None:
        """Release the ledger, unless its disk hangs."""
        if not any(worker.alive for worker in self._workers):
            self._ledger.close()

    def _take(self, entry: Entry) -> None:
        if self._inbox.qsize() < _WAITING:
            self._inbox.put(entry)
        else:
            self._lose(entry.event)

    def _lose(self, event: wire.Event) -> None:
        if event.id not in self._told:
            story.tell(event)
        self._told.discard(event.id)
        with self._counting:
            self.lost += 1
            self._untold += 1

    # Thread "recorder"

    def step(self) -> None:
        """Wait a moment for events; commit what there is; keep house."""
        self._turned_at = self._clock()
        usable = self._usable()
        waiting = self._gather(0.0 if usable and self._pending else _IDLE_S)
        if not usable:
            self._let_go()
            return
        if waiting or self._owes:
            self._commit(_BATCH)
        if self._fault is None and (self._inbox.empty() or self._rows >= _PRUNE_ROWS):
            self._keep_house()

    def _gather(self, wait_s: float) -> bool:
        """Whether anything waits for the disk, for at most `wait_s`."""
        with contextlib.suppress(queue.Empty):
            self._hold(self._inbox.get(timeout=wait_s))
            for _ in range(_WAITING):
                self._hold(self._inbox.get_nowait())
        return bool(self._pending)

    def _hold(self, entry: Entry) -> None:
        if len(self._pending) < _WAITING:
            self._pending.append(entry)
        else:
            entry.go_on()  # it never will be on the disk
            self._lose(entry.event)  # the newest: what came first tells how it began

    def _let_go(self) -> None:
        """Nobody waits for a disk that takes nothing; the log has what it does not take."""
        for entry in self._pending:
            entry.go_on()
            if entry.event.id not in self._told:
                self._told.add(entry.event.id)
                story.tell(entry.event)

    @property
    def _owes(self) -> bool:
        """Whether the chain is to be told something that no event is."""
        return bool(self._gap or self._damage or self._untold)

    def _usable(self) -> bool:
        """Whether to try a commit, after another attempt to open the ledger where it is time.

        What failed is over when a commit works: a full disk's ledger can be opened.
        """
        if self._fault is None and self._ledger.damaged is None:
            return True
        if self._fault is not None and self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + _RETRY_S
        try:
            if self._ledger.damaged is not None:
                self._set_aside(self._ledger.damaged)
            self._gap = self._ledger.open()
            self._find_committed()
        except LedgerError as error:
            self._refused(error)
            return False
        if not (self._pending or self._owes):
            self._recover()
        return True

    def _find_committed(self) -> None:
        """A commit that failed may be in the file all the same: what is there is not written again."""
        late = []
        if self._pending and self._ledger.find(self._pending[0].event.id):
            self._ledger.settle()
        while self._pending and (stored := self._ledger.find(self._pending[0].event.id)):
            entry = self._pending.popleft()
            if not entry.go_on() and entry.has_gone_on:
                late.append(stored.seq)
        self._follow_up(late)

    def _follow_up(self, late: list[int]) -> None:
        """Say next of these numbers that the door did not wait for the disk."""
        self._pending.extendleft(Entry(self._unsynced(seq), None) for seq in reversed(late))

    def _set_aside(self, damaged: str) -> None:
        """Make room for a new ledger; once a minute at most, or a bad disk would fill with them."""
        if self._clock() < self._aside_again_at:
            raise LedgerError(damaged)
        name = f"damaged-{datetime.fromtimestamp(time.time(), timezone.utc):%Y%m%dT%H%M%SZ}"
        aside = self._ledger.set_aside(name)
        self._ledger.damaged = None
        self._damage = f"{damaged}; set aside as {aside.name}"
        self._aside_again_at = self._clock() + _ASIDE_EVERY_S
        log.critical("LedgerDamaged: %s", self._damage, extra=said("LedgerDamaged"))

    def _fail(self, error: LedgerError) -> None:
        now, self._fault = self._clock(), str(error)
        if now - self._said_at >= _TELL_EVERY_S:
            self._said_at = now
            log.error("events are not recorded, the door works on: %s", error)

    def _recover(self) -> None:
        if self._fault not in (None, _STARTING):
            log.warning(
                "events are recorded again; %d waited, %d were lost", len(self._pending), self._untold
            )
        self._fault, self._said_at = None, float("-inf")

    def _commit(self, limit: int) -> bool:
        """Commit the oldest events, at most `limit`, and let those go on that waited for them.

        False: the disk refuses.
        """
        batch = list(itertools.islice(self._pending, limit))
        rows, waiting, lost = self._rows_of(batch)
        try:
            stored = self._ledger.append_all(rows)
        except PayloadError as error:
            return self._leave_out(batch, error)
        except LedgerError as error:
            self._refused(error)
            return False
        self._recover()
        for _ in batch:
            self._pending.popleft()
        self._gap = self._damage = None
        with self._counting:
            self._untold -= lost
        self._follow_up([stored[row].seq for row, entry in waiting if not entry.go_on()])
        for (event, _), kept in zip(rows, stored, strict=True):
            self._tell(event, kept.seq)
        self._rows += len(rows)
        self._ledger.keep_head()  # after what waited for the disk, before anything is sent
        self._committed()
        return True

    def _tell(self, event: wire.Event, seq: int) -> None:
        """To the log, once: with its number, but where the disk kept it waiting."""
        if event.id in self._told:
            self._told.remove(event.id)
        else:
            story.tell(event, seq)

    def _rows_of(self, batch: list[Entry]) -> tuple[list[Row], list[tuple[int, Entry]], int]:
        """What to commit; which rows somebody waits for; how many lost events it stands for."""
        rows: list[Row] = [(event, None) for event in self._preface()]
        waiting: list[tuple[int, Entry]] = []
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
        return wire.notice("EventUnsynced", detail, _stamp(), self._setting())

    def _leave_out(self, batch: list[Entry], error: PayloadError) -> bool:
        """An event that could never be sent takes no number; its neighbours do. False: the disk refuses."""
        if len(batch) > 1:
            return all(self._commit(1) for _ in batch if self._pending)
        log.error("an event is lost: %s", error)
        entry = self._pending.popleft()
        entry.go_on()
        self._lose(entry.event)
        return True

    def _refused(self, error: LedgerError) -> None:
        if isinstance(error, LedgerDamaged):
            self._ledger.damaged = str(error)
        self._retry_at = self._clock() + _RETRY_S
        self._fail(error)
        self._let_go()

    def _keep_house(self) -> None:
        """What makes who appends wait; while nobody does, or after very many events."""
        now = self._clock()
        if now < self._house_at:
            return
        try:
            if self._rows >= _PRUNE_ROWS or now >= self._prune_at:
                self._rows, self._prune_at = 0, now + _PRUNE_EVERY_S
                self._prune()
            self._ledger.tidy()
        except LedgerDamaged as error:
            self._refused(error)
        except LedgerError as error:  # nothing is lost by it; a commit shows whether events still are taken
            self._house_at = self._prune_at = now + _HOUSE_AGAIN_S
            log.warning("the ledger can't be tidied, events are recorded: %s", error)

    def _prune(self) -> None:
        now = self._now_utc()
        gap = self._ledger.prune(
            None if now is None else now.timestamp(),
            lambda gap: wire.dropped(gap, _stamp(), self._setting()),
            now is not None and self._is_steady(now.timestamp()),
        )
        if gap is not None:
            words = f"EventsDropped: {gap.first} to {gap.last}: {gap.why}"
            log.info("%s", words, extra=said("EventsDropped", COUNT=gap.count))
            self._ledger.keep_head()
            self._committed()

    def _is_steady(self, now_utc: float) -> bool:
        now = self._clock()
        if abs(now_utc - now - self._clocks[0]) > _JUMP_S:
            self._clocks = (now_utc - now, now)
        return now - self._clocks[1] >= _STEADY_S


def _stamp() -> wire.Stamp:
    return wire.Stamp.of(time.time(), os.urandom(10))
