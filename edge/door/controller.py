"""The thread "door": the only owner of the lock's line, one inbox, locked at every exit."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge.door.machine import Door, Position, begin, due, next_deadline, obeyed, react, unlocked_until
from edge.door.notices import OnNotice, notices
from edge.door.senses import NoInputs, NoSignals, Senses
from edge.door.stimuli import (
    ADMITTING,
    EXIT_BLOCKED,
    EXIT_LOCKED_DOWN,
    FREE,
    LOCK,
    LOCKED_DOWN,
    UNLOCK,
    Command,
    Effect,
    Granted,
    LineFailed,
    ReleaseElapsed,
    RexPressed,
    Schedule,
    Stimulus,
    Stop,
)
from edge.door_config import DoorConfig
from edge.errors import DutyExceeded, LineError
from edge.journal import said
from edge.ports import DoorInputs, DoorSignals, InputRole, LockLines
from edge.values import Alarm, Deny, DoorMode, Grant, Reason

log = logging.getLogger(__name__)

BEAT_S = 0.5
"""The loop turns at least this often, so `beat` is never older while the thread is well."""
SLICE_S = 5.0
"""Free access is held in pulses of this length, each renewed half-way: a hanging thread ends it."""

_REFUSING = {
    DoorMode.LOCKED_DOWN: Deny(Reason.NOT_PERMITTED_AT_THIS_TIME),
    DoorMode.BLOCKED: Deny(Reason.OTHER),
}
SWITCH_S = 0.001
"""For sys.setswitchinterval: a thread that computes in Python lets the door's have its turn sooner."""


@dataclass(frozen=True, slots=True)
class DoorStatus:
    """What the door is now. `fault` says what failed; the lock is unknown until it locks again."""

    mode: DoorMode
    lock: Literal["locked", "unlocked", "unknown"]
    fault: str | None = None
    dps: Position = "unknown"
    alarms: tuple[Alarm, ...] = ()  # sorted


@dataclass(frozen=True, slots=True)
class _Request:
    grant: Grant
    valid_until: float  # s, monotonic
    answer: Callable[[Grant | Deny], None]


@dataclass(frozen=True, slots=True)
class _Order:
    stimulus: Command | Schedule
    valid_until: float  # s, monotonic
    answer: Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class _Edge:
    role: InputRole
    level: bool
    at: float  # s, monotonic


class DoorController:
    """Opens for a grant, the exit button, a command or a schedule; locks again in time.

    `on_state`, `on_notice` and the answers are called on the door's thread and must neither block
    nor raise: an exception there, as any other, locks the door and ends the thread.
    """

    def __init__(
        self,
        lines: LockLines,
        rules: DoorConfig,
        on_state: Callable[[DoorStatus], None],
        on_notice: OnNotice = lambda _kind, _detail: None,
        inputs: DoorInputs | None = None,
        signals: DoorSignals | None = None,
        locked_down: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rules`: the times; its lines are not looked at. `locked_down`: LockedDown from the start."""
        self.beat = clock()  # s, monotonic: when the loop last turned; for the watchdog
        self.status = DoorStatus(DoorMode.LOCKED, "unknown")
        self._lines = lines
        self._rules = rules
        self._on_state = on_state
        self._on_notice = on_notice
        self._inputs = inputs or NoInputs()
        self._signals = signals or NoSignals()
        self._locked_down = locked_down
        self._clock = clock
        self._senses = Senses(self._inputs, rules)
        self._door = Door()
        self._secured = False
        self._renew_at: float | None = None
        self._poll_at = 0.0
        self._fault: str | None = None
        self._shown: tuple[bool, bool] | None = None
        self._identify_until = float("-inf")  # s, monotonic
        self._inbox: queue.SimpleQueue[_Request | _Order | _Edge | Stop] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def start(self) -> None:
        """Lock, look at the inputs, say so, start the thread. Raises LineError: it can't be locked."""
        self._lines.lock()
        self._secured = True
        self._inputs.watch(lambda role, level, at: self._inbox.put(_Edge(role, level, at)))
        position, tampered = self._senses.begin()
        self._door = begin(position, tampered, self._clock(), self._rules, self._locked_down)
        self._tell(Door(), None)
        self._thread.start()

    def grant(self, grant: Grant, valid_until: float, answer: Callable[[Grant | Deny], None]) -> None:
        """Ask for the door, from any thread; returns at once.

        `answer` is told what became of it: the grant when the door is released, StaleFrame when
        the door got to it after `valid_until` (s, monotonic), NotPermittedAtThisTime in lockdown,
        Other when the door is Blocked or its hour's limit is spent.
        """
        self._inbox.put(_Request(grant, valid_until, answer))

    @property
    def refusal(self) -> Deny | None:
        """Why no grant would be followed now; None: none is known, and the door decides when asked."""
        return _REFUSING.get(self.status.mode)

    def order(
        self,
        stimulus: Command | Schedule,
        answer: Callable[[bool], None] = lambda _obeyed: None,
        valid_until: float = float("inf"),
    ) -> None:
        """Give a command, or say what the schedule is, from any thread; returns at once.

        The caller has made sure of who gives it. `answer` is told whether it is in force now:
        False when the door's phase forbids it, when it came after `valid_until`, when the line failed.
        """
        self._inbox.put(_Order(stimulus, valid_until, answer))

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def secure(self) -> None:
        """Lock at once, from any thread (for an excepthook). Never raises."""
        try:
            self._lines.lock()
        except LineError as error:
            log.critical("the door could not be locked: %s", error)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Lock, end the thread, release the lines; takes at most `timeout_s`. May be called twice."""
        if self.alive:
            self._inbox.put(Stop())
            self._thread.join(timeout_s)
        self.secure()  # also when the thread never started, or hangs
        self._inputs.close()
        self._signals.close()
        self._lines.close()

    def _run(self) -> None:
        try:
            while not self._turn():
                pass
        finally:
            self.secure()

    def _turn(self) -> bool:
        """One wait and what it brought; True when it brought the end."""
        self.beat = self._clock()
        try:
            item = self._inbox.get(timeout=self._patience_s())
        except queue.Empty:
            item = None
        while (elapsed := due(self._door, self._clock(), self._rules)) is not None:
            self._feed(elapsed)
        self._keep()
        if isinstance(item, _Request):
            item.answer(self._consider(item))
        elif isinstance(item, _Order):
            item.answer(self._carry_out(item))
        elif isinstance(item, _Edge):
            self._feed(*self._senses.edge(item.role, item.level, item.at))
        elif item is not None:
            self._feed(item)
        self._sense()
        self._show()
        return isinstance(item, Stop)

    def _patience_s(self) -> float:
        times = (next_deadline(self._door, self._rules), self._senses.next_at(), self._renew_at)
        until = min((at for at in times if at is not None), default=self.beat + BEAT_S)
        return min(BEAT_S, max(0.0, until - self.beat))

    def _sense(self) -> None:
        """What the inputs say, once the edges that wait in the inbox have been heard."""
        now = self._clock()
        if now >= self._poll_at:
            self._poll_at = now + BEAT_S
            self._feed(*self._senses.poll(now))
        elif self._inbox.empty():
            self._feed(*self._senses.settle(now))

    def _consider(self, request: _Request) -> Grant | Deny:
        """The frame's age is judged here, at the last moment before the line moves."""
        if not self._clock() < request.valid_until:
            return Deny(Reason.STALE_FRAME)
        self._feed(Granted(request.grant.subject, request.grant.extended))
        if self._door.phase in ADMITTING:
            return request.grant
        down = self._door.phase in (LOCKED_DOWN, EXIT_LOCKED_DOWN)
        return Deny(Reason.NOT_PERMITTED_AT_THIS_TIME if down else Reason.OTHER)

    def _carry_out(self, order: _Order) -> bool:
        if not self._clock() < order.valid_until:
            return False
        self._feed(order.stimulus)
        return obeyed(self._door, order.stimulus)

    def _feed(self, *stimuli: Stimulus) -> None:
        for stimulus in stimuli:
            before = self._door
            self._door, effect = react(before, stimulus, self._clock(), self._rules)
            self._obey(effect, egress=isinstance(stimulus, RexPressed))
            self._tell(before, stimulus)

    def _obey(self, effect: Effect | None, egress: bool = False) -> None:
        """Drive the line; what it refuses becomes the door's state. `egress`: by the exit button."""
        try:
            self._drive(effect, egress)
        except DutyExceeded as error:
            self._fault_is(error)
            self._door, effect = react(self._door, ReleaseElapsed(), self._clock(), self._rules)
            self._obey(effect)
        except LineError as error:
            self._fault_is(error)
            self._door, _ = react(self._door, LineFailed(), self._clock(), self._rules)
            self._secured = False
            self._lock_again()

    def _drive(self, effect: Effect | None, egress: bool) -> None:
        if effect is LOCK:
            self._secured, self._renew_at = False, None
            self._lines.lock()
            self._secured = True
        elif effect is UNLOCK:
            now, held = self._clock(), self._door.phase in FREE
            left_s = (unlocked_until(self._door) or now) - now
            if not left_s > 0:
                return  # over before it began: its deadline is due
            self._secured = False
            self._lines.unlock(for_at_most_s=min(left_s, SLICE_S) if held else left_s, free=held or egress)
            self._renew_at = now + SLICE_S / 2 if held else None
            if self._door.phase is not EXIT_BLOCKED:  # where the line's fault stays what it was
                self._fault = None

    def _keep(self) -> None:
        """Renew free access; lock again what did not lock. There is no way back from Blocked."""
        if unlocked_until(self._door) is None:
            if not self._secured:
                self._lock_again()
                self._report()
        elif self._renew_at is not None and not self._clock() < self._renew_at:
            before = self._door
            self._obey(UNLOCK)
            self._tell(before, None)

    def _lock_again(self) -> None:
        try:
            self._lines.lock()
        except LineError:
            return
        self._secured, self._renew_at = True, None

    def _fault_is(self, error: LineError) -> None:
        if self._fault != str(error):
            self._fault = str(error)
            log.critical("the relay's line failed: %s", error, extra=said("LineFault"))
            self._on_notice("DoorFault", self._fault)

    def _tell(self, before: Door, stimulus: Stimulus | None) -> None:
        """Alarms that came or went, the exit button, the new state."""
        self._report()
        for kind, detail in notices(before, self._door, stimulus, self._fault or self._senses.fault):
            self._on_notice(kind, detail)

    def _report(self) -> None:
        unlocked = unlocked_until(self._door) is not None
        lock: Literal["locked", "unlocked", "unknown"] = "unknown"
        if self._secured:
            lock = "locked"
        elif unlocked:
            lock = "unlocked"
        status = DoorStatus(
            self._door.phase.mode,
            lock,
            self._fault or self._senses.fault,
            self._door.position,
            tuple(sorted(self._door.alarms)),
        )
        if status != self.status:
            self.status = status
            self._show()
            self._on_state(status)

    def identify(self, for_s: float) -> None:
        """Blink the lamp for so long, so that who stands before several doors sees which this is."""
        self._identify_until = self._clock() + for_s

    def _show(self) -> None:
        """Lamp and sounder as they should be. One that fails is said once and keeps nobody out, or in."""
        now, led = self._clock(), self.status.lock == "unlocked"
        if now < self._identify_until:
            led = int(now / BEAT_S) % 2 == 0
        shown = (led, bool(self._door.alarms - {Alarm.DOOR_FAULT}))
        if shown == self._shown:
            return
        self._shown = shown
        try:
            self._signals.show(*shown)
        except LineError as error:
            log.error("%s", error)
