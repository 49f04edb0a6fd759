"""The door's thread over fake lines and over gpiozero's mock."""

from __future__ import annotations

import threading
import time

import pytest
from broker import wait_until
from fakes_door import LOCK, UNLOCK, FakeLines

from edge.config import RelayConfig
from edge.door import controller as module
from edge.door.controller import DoorController, DoorStatus
from edge.door.gpio import claim_relay
from edge.errors import LineError
from edge.values import Deny, DoorMode, Grant, Reason

ADA = Grant("ada", 0.5)
LONG = 30.0
SOON = 0.05
STALE = Deny(Reason.STALE_FRAME)
LOCKED = DoorStatus(DoorMode.LOCKED, "locked")
ACCESSED = DoorStatus(DoorMode.ACCESSED, "unlocked")
BLOCKED = DoorStatus(DoorMode.BLOCKED, "locked")


class Rig:
    def __init__(self, unlock_s: float, lines=None) -> None:
        self.lines = lines or FakeLines()
        self.states: list[DoorStatus] = []
        self.answers: list[Grant | Deny] = []
        self.door = DoorController(self.lines, unlock_s, self.states.append)

    def ask(self, valid_for_s: float = 10.0, grant: Grant = ADA) -> None:
        self.door.grant(grant, time.monotonic() + valid_for_s, self.answers.append)

    def answered(self, count: int) -> None:
        wait_until(lambda: len(self.answers) >= count, f"{count} answers, got {self.answers}")


@pytest.fixture
def rig():
    rigs: list[Rig] = []

    def make(unlock_s: float, lines=None) -> Rig:
        rigs.append(Rig(unlock_s, lines))
        return rigs[-1]

    yield make
    for made in rigs:
        made.door.stop()


def test_the_door_is_locked_before_anything_else(rig):
    door = rig(LONG)
    door.door.start()
    assert door.lines.calls == [LOCK]
    assert door.states == [LOCKED]


def test_a_line_that_cannot_be_locked_ends_the_start(rig):
    door = rig(LONG)
    door.lines.broken = {LOCK}
    with pytest.raises(LineError):
        door.door.start()
    assert not door.door.alive


def test_a_grant_opens_and_the_door_locks_again(rig):
    door = rig(SOON)
    door.door.start()
    door.ask()
    wait_until(lambda: door.lines.history == [LOCK, UNLOCK, LOCK], "the door locks again")
    wait_until(lambda: len(door.states) == 3, "its states are told")
    assert door.answers == [ADA]
    assert door.states == [LOCKED, ACCESSED, LOCKED]


def test_a_second_grant_at_an_open_door_is_granted_and_moves_nothing(rig):
    door = rig(LONG)
    door.door.start()
    door.ask()
    door.ask()
    door.answered(2)
    assert door.answers == [ADA, ADA]
    assert door.lines.calls == [LOCK, UNLOCK]


def test_a_late_grant_never_unlocks(rig):
    door = rig(LONG)
    door.door.start()
    door.ask(valid_for_s=-0.001)
    door.ask(valid_for_s=float("nan"))
    door.answered(2)
    assert door.answers == [STALE, STALE]
    assert door.lines.calls == [LOCK]


def test_a_grant_that_grew_late_in_the_inbox_never_unlocks():
    """The clock is read when the door gets to it, not when it was asked."""
    now = [0.0]
    lines, answers = FakeLines(), []
    door = DoorController(lines, LONG, lambda status: None, clock=lambda: now[0])
    door.grant(ADA, 0.5, answers.append)
    now[0] = 0.6
    door.start()
    wait_until(lambda: answers, "an answer")
    door.stop()
    assert answers == [STALE]
    assert lines.history == [LOCK]


def test_stopping_locks_and_closes_the_line(rig):
    door = rig(LONG)
    door.door.start()
    door.ask()
    door.answered(1)
    door.door.stop()
    assert door.lines.history == [LOCK, UNLOCK, LOCK]
    assert door.lines.closed
    assert not door.door.alive
    assert door.states[-1] == BLOCKED
    door.door.stop()


def test_stopping_a_door_that_never_started_locks(rig):
    door = rig(LONG)
    door.door.stop()
    assert door.lines.calls == [LOCK, "CLOSE"]


def test_an_exception_on_the_doors_thread_locks_and_ends_it(rig, monkeypatch):
    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    door = rig(LONG)
    door.door.start()
    door.ask()
    door.answered(1)

    def broken(*_):
        raise ZeroDivisionError("machine")

    monkeypatch.setattr(module, "react", broken)
    door.ask()
    wait_until(lambda: not door.door.alive, "the thread ends")
    assert door.lines.history == [LOCK, UNLOCK, LOCK]
    assert [hook.exc_type for hook in seen] == [ZeroDivisionError]


def test_an_answer_that_raises_locks(rig, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    door = rig(LONG)
    door.door.start()

    def broken(_):
        raise ValueError("listener")

    door.door.grant(ADA, time.monotonic() + 10, broken)
    wait_until(lambda: not door.door.alive, "the thread ends")
    assert door.lines.history == [LOCK, UNLOCK, LOCK]


def test_a_line_that_does_not_unlock_blocks_the_door(rig):
    door = rig(LONG)
    door.door.start()
    door.lines.broken = {UNLOCK}
    door.ask()
    door.answered(1)
    door.lines.broken = set()
    door.ask()
    door.answered(2)
    assert door.answers == [Deny(Reason.OTHER), Deny(Reason.OTHER)]
    assert door.lines.history == [LOCK]
    assert door.states[-1] == DoorStatus(DoorMode.BLOCKED, "locked", "fake line: can't be driven to UNLOCK")


def test_a_line_that_does_not_lock_is_tried_until_it_does(rig, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    door = rig(SOON)
    door.door.start()
    door.lines.broken = {LOCK}
    door.ask()
    fault = "fake line: can't be driven to LOCK"
    wait_until(lambda: door.states[-1] == DoorStatus(DoorMode.BLOCKED, "unknown", fault), "a fault is told")
    assert door.lines.history == [LOCK, UNLOCK]
    door.lines.broken = set()
    wait_until(lambda: door.states[-1] == DoorStatus(DoorMode.BLOCKED, "locked", fault), "it locks")
    assert door.lines.history == [LOCK, UNLOCK, LOCK]


def test_the_heart_beats_while_nothing_happens(rig, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    door = rig(LONG)
    door.door.start()
    before = door.door.beat
    wait_until(lambda: door.door.beat > before, "the loop turns")


def test_the_line_locks_by_itself_while_the_doors_thread_hangs(rig):
    line = claim_relay(RelayConfig(line=17), simulation=True)
    door = rig(SOON, line)
    door.door.start()
    hang = threading.Event()
    door.door.grant(ADA, time.monotonic() + 10, lambda _: hang.wait(10))
    wait_until(lambda: [change for _, change in line.history] == [LOCK, UNLOCK, LOCK], "the adapter locks")
    assert door.door.status == ACCESSED, "the controller has not got to it"
    hang.set()


def test_grants_from_many_threads_never_leave_the_door_open(rig):
    door = rig(0.001)
    door.door.start()
    threads = [threading.Thread(target=lambda: [door.ask() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    door.answered(200)
    wait_until(lambda: door.door.status == LOCKED, "locked at last")
    pairs = [UNLOCK, LOCK] * (len(door.lines.history) // 2)
    assert door.lines.history == [LOCK, *pairs]
