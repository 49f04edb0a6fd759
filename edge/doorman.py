"""Commands to the door from the socket or the broker, and what of them must outlast this process."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from edge.disk import remove_durably, write_atomically
from edge.door.machine import MAX_FREE_S
from edge.door.stimuli import (
    Command,
    HoldOpenCommand,
    LockCommand,
    LockdownCommand,
    NormalCommand,
    Schedule,
    ScheduleBegan,
    ScheduleEnded,
    UnlockCommand,
)
from edge.link.orders import Order, utc

log = logging.getLogger(__name__)

DoorAction: TypeAlias = Literal["pulse", "lock", "lockdown", "normal", "open"]
_WAIT_S = 2.0  # for the door's thread
_FRESH_S = 1.0  # what opens is not obeyed by a door that gets to it later
_RESTRAINING = (LockCommand, LockdownCommand, ScheduleEnded)
_MOVED_S = 30.0  # an end that moved by less is the same end


def _ignore(_obeyed: bool) -> None:
    """Nobody waits for the answer."""


_COMMANDS: dict[DoorAction, Command] = {
    "pulse": UnlockCommand(),
    "lock": LockCommand(),
    "lockdown": LockdownCommand(),
    "normal": NormalCommand(),
}


_ORDERED: dict[str, Command] = {
    "unlock": UnlockCommand(),
    "lock": LockCommand(),
    "lockdown": LockdownCommand(),
    "normal": NormalCommand(),
}


class Orders(Protocol):
    """The door's controller, or its sibling in tests."""

    def order(self, stimulus: Command | Schedule, answer: Callable[[bool], None], valid_until: float) -> None:
        """Ask for it; `answer` is told whether it is in force."""


class Doorman:
    """Gives the door commands and waits for its answer; on any thread but the door's."""

    def __init__(self, state_dir: Path) -> None:
        self._marker = state_dir / "lockdown"
        self._turn = threading.Lock()  # the socket's thread and the orders' one command the door
        self._free_until: float | None = None  # what the door was told of the schedule, s monotonic

    @property
    def locked_down(self) -> bool:
        """Whether the door was locked down when it was last heard of."""
        return self._marker.exists()

    def carry_out(self, door: Orders, action: DoorAction, minutes: float = 0.0) -> bool:
        """One of an installer's actions; `minutes`: how long `open` lasts. Whether it is in force."""
        command = _COMMANDS.get(action) or HoldOpenCommand(time.monotonic() + 60 * minutes)
        return self.command(door, command)

    def obey(self, door: Orders, order: Order, now_utc: datetime) -> tuple[bool, str]:
        """One of the orders that move the door; whether it is in force, and why not."""
        command = _ORDERED.get(order.do)
        if order.do == "free-access" and order.until is not None:
            left_s = (utc(order.until) - now_utc).total_seconds()
            if not 0 < left_s <= MAX_FREE_S:
                return False, f"expected an end within {MAX_FREE_S / 3600:g} hours, got {order.until}"
            command = HoldOpenCommand(time.monotonic() + left_s)
        if command is None:
            return False, f"{order.do}: is not known here"
        done = self.command(door, command)
        return done, "" if done else "the door did not follow: see its state"

    def command(self, door: Orders, command: Command) -> bool:
        """Whether the command is in force.

        A lockdown is on disk before this returns and until it is lifted: no restart lifts it. The door
        does not wait for the disk, which may take seconds, nor be written at all: the log says so.
        """
        with self._turn:  # else a lockdown could be forgotten by the `normal` it came after
            answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
            door.order(command, answers.put, _valid_until(command))
            if isinstance(command, LockdownCommand):
                self._remember()
            try:
                obeyed = answers.get(timeout=_WAIT_S)
            except queue.Empty:
                return False
            if obeyed and isinstance(command, NormalCommand):
                self._forget()
            return obeyed

    def keep_schedule(self, door: Orders, free_for_s: float | None, now: float) -> None:
        """Tell the door when free access begins, when its end moves, and when it is over.

        `free_for_s`: how long it lasts from `now` (s, monotonic); None: there is none. Called again
        and again; if nobody calls it any more, the door ends the free access by itself.
        """
        until = None if free_for_s is None else now + min(free_for_s, MAX_FREE_S)
        told = self._free_until
        if until is None and told is not None:
            door.order(ScheduleEnded(), _ignore, _valid_until(ScheduleEnded()))
        elif until is not None and (told is None or abs(until - told) > _MOVED_S):
            door.order(ScheduleBegan(until), _ignore, _valid_until(ScheduleBegan(until)))
        else:
            return
        self._free_until = until

    def _forget(self) -> None:
        try:
            remove_durably(self._marker)
        except OSError as error:
            log.error("%s: a restart will lock down again: %s", self._marker, error.strerror or error)

    def _remember(self) -> None:
        try:
            self._marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._marker, b"")
        except OSError as error:
            log.error("%s: a restart will lift this lockdown: %s", self._marker, error.strerror or error)


def _valid_until(order: Command | Schedule) -> float:
    """s, monotonic. To lock is never too late; what opens is not done once nobody expects it any more."""
    return float("inf") if isinstance(order, _RESTRAINING) else time.monotonic() + _FRESH_S


def tell_doord_lock(path: Path, specs: Sequence[str]) -> None:
    """What doord-lock has to do when this process is gone, in this order."""
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if specs:
            write_atomically(path, "".join(f"{spec}\n" for spec in specs).encode())
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.error("%s: %s: after a kill doord-lock can't lock this door", path, error.strerror or error)
