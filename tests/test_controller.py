"""The door's thread over fake lines and over gpiozero's mock."""

from __future__ import annotations

import threading
import time

import pytest
from broker import wait_until
from fakes_door import LOCK, UNLOCK, FakeInputs, FakeLines, FakeSignals

from edge.config import DoorConfig, RelayConfig
from edge.door import controller as module
from edge.door.controller import DoorController, DoorStatus
from edge.door.gpio import claim_relay
from edge.door.stimuli import (
    HoldOpenCommand,
    LockCommand,
    LockdownCommand,
    NormalCommand,
    ScheduleBegan,
    ScheduleEnded,
    UnlockCommand,
)
from edge.door_config import ButtonConfig, ContactConfig
from edge.errors import LineError
from edge.values import Alarm, Deny, DoorMode, Grant, Reason

ADA = Grant("ada", 0.5)
LONG = 30.0
SOON = 0.05
STALE = Deny(Reason.STALE_FRAME)
LOCKED = DoorStatus(DoorMode.LOCKED, "locked")
ACCESSED = DoorStatus(DoorMode.ACCESSED, "unlocked")
BLOCKED = DoorStatus(DoorMode.BLOCKED, "locked")
FAULT = (Alarm.DOOR_FAULT,)


def rules(unlock_s: float, **times) -> DoorConfig:
    """All inputs, debounced for 20 ms."""
    return DoorConfig(
        RelayConfig(17),
        dps=ContactConfig(27, debounce_ms=20),
        rex=ButtonConfig(22, debounce_ms=20),
        tamper=ContactConfig(23, debounce_ms=20),
        unlock_s=unlock_s,
        **times,
    )


class Rig:
    def __init__(self, unlock_s: float, lines=None, inputs=None, **times) -> None:
        self.lines = lines or FakeLines()
        self.states: list[DoorStatus] = []
        self.answers: list[Grant | Deny] = []
        self.notices: list[str] = []
        self.inputs = inputs
        self.signals = FakeSignals()
        self.door = DoorController(
            self.lines,
            rules(unlock_s, **times),
            self.states.append,
            lambda kind, detail: self.notices.append(kind),
            inputs,
            self.signals,
        )

    def ask(self, valid_for_s: float = 10.0, grant: Grant = ADA) -> None:
        self.door.grant(grant, time.monotonic() + valid_for_s, self.answers.append)

    def answered(self, count: int) -> None:
        wait_until(lambda: len(self.answers) >= count, f"{count} answers, got {self.answers}")


@pytest.fixture
def rig():
    rigs: list[Rig] = []

    def make(unlock_s: float, lines=None, inputs=None, **times) -> Rig:
        rigs.append(Rig(unlock_s, lines, inputs, **times))
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
    door = DoorController(lines, rules(LONG), lambda status: None, clock=lambda: now[0])
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
    assert door.states[-1] == DoorStatus(
        DoorMode.BLOCKED, "locked", "fake line: can't be driven to UNLOCK", alarms=FAULT
    )
    assert door.notices == ["DoorFault"]


def test_a_line_that_does_not_lock_is_tried_until_it_does(rig, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    door = rig(SOON)
    door.door.start()
    door.lines.broken = {LOCK}
    door.ask()
    fault = "fake line: can't be driven to LOCK"
    wait_until(
        lambda: door.states[-1] == DoorStatus(DoorMode.BLOCKED, "unknown", fault, alarms=FAULT),
        "a fault is told",
    )
    assert door.lines.history == [LOCK, UNLOCK]
    door.lines.broken = set()
    wait_until(
        lambda: door.states[-1] == DoorStatus(DoorMode.BLOCKED, "locked", fault, alarms=FAULT), "it locks"
    )
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


# The exit button, the contacts


def at_door(rig, unlock_s: float = LONG, **kwargs) -> Rig:
    """A door with closed contacts, started."""
    door = rig(unlock_s, inputs=FakeInputs(dps=False, rex=False, tamper=False), **kwargs)
    door.door.start()
    return door


def test_the_exit_button_opens(rig):
    door = at_door(rig)
    door.inputs.put("rex", True)
    wait_until(lambda: door.lines.history == [LOCK, UNLOCK], "the door opens")
    wait_until(lambda: door.notices == ["ExitRequested"], "and says why")
    assert door.signals.history == [(False, False), (True, False)]


def test_a_button_held_down_opens_once(rig):
    door = at_door(rig, SOON)
    door.inputs.put("rex", True)
    wait_until(lambda: door.lines.history == [LOCK, UNLOCK, LOCK], "the door locks again")
    time.sleep(0.1)  # nothing to wait for: what is tested is that nothing happens
    assert door.lines.history == [LOCK, UNLOCK, LOCK]


def test_a_button_pressed_since_before_the_start_opens_nothing(rig):
    door = rig(LONG, inputs=FakeInputs(rex=True))
    door.door.start()
    door.ask(valid_for_s=-1)
    door.answered(1)
    assert door.lines.history == [LOCK]


def test_noise_on_the_button_opens_nothing(rig):
    door = at_door(rig)
    for _ in range(5):
        door.inputs.put("rex", True)
        door.inputs.put("rex", False)
        time.sleep(0.01)
    time.sleep(0.1)  # nothing to wait for
    assert door.lines.history == [LOCK]


def test_an_edge_that_was_lost_is_found(rig, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    door = at_door(rig)
    door.inputs.put("rex", True, silently=True)
    wait_until(lambda: door.lines.history == [LOCK, UNLOCK], "the press is seen without its edge")


def test_the_door_locks_when_somebody_has_passed(rig):
    door = at_door(rig)
    door.ask()
    door.answered(1)
    door.inputs.put("dps", True)
    wait_until(lambda: door.door.status.dps == "open", "the door opens")
    door.inputs.put("dps", False)
    wait_until(lambda: door.lines.history == [LOCK, UNLOCK, LOCK], "the door locks at once")
    wait_until(lambda: door.door.status == DoorStatus(DoorMode.LOCKED, "locked", dps="closed"), "and says so")
    assert door.notices == []


def test_a_door_that_is_forced_or_tampered_with_is_an_alarm_until_it_is_well_again(rig):
    door = at_door(rig)
    door.inputs.put("dps", True)
    door.inputs.put("tamper", True)
    alarms = (Alarm.DOOR_FORCED_OPEN, Alarm.DOOR_TAMPER)
    wait_until(lambda: door.door.status.alarms == alarms, "both alarms")
    assert door.signals.history[-1] == (False, True)
    door.inputs.put("tamper", False)
    door.inputs.put("dps", False)
    wait_until(lambda: door.door.status.alarms == (), "none")
    wait_until(lambda: len(door.notices) == 4, "all told")
    assert set(door.notices) == {"DoorForcedOpen", "DoorTamper", "DoorAlarmCleared"}
    assert door.lines.calls == [LOCK]


def test_a_door_that_stands_open_warns_and_alarms_once(rig):
    door = at_door(rig, 0.05, open_s=0.2, pre_alarm_s=0.1, extended_unlock_s=0.1)
    door.ask()
    door.inputs.put("dps", True)
    wait_until(lambda: door.notices == ["DoorOpenPreAlarm", "DoorOpenTooLong"], "both, in order")
    door.inputs.put("dps", False)
    wait_until(lambda: door.notices[2:] == ["DoorAlarmCleared"], "its end")
    assert door.lines.history == [LOCK, UNLOCK, LOCK]


def test_a_restart_while_the_door_is_open_raises_no_alarm(rig):
    door = rig(LONG, inputs=FakeInputs(dps=True))
    door.door.start()
    assert door.states == [DoorStatus(DoorMode.LOCKED, "locked", dps="open")]
    door.ask(valid_for_s=-1)
    door.answered(1)
    assert door.notices == []


def test_inputs_that_fail_are_a_fault_that_passes_and_the_door_goes_on(rig, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    door = at_door(rig)
    door.inputs.broken = True
    broken = DoorStatus(DoorMode.LOCKED, "locked", "fake inputs: can't be read", "unknown", FAULT)
    wait_until(lambda: door.door.status == broken, "the fault is told")
    door.ask()
    door.answered(1)
    assert door.answers == [ADA]
    door.inputs.levels["rex"] = True
    door.inputs.broken = False
    wait_until(lambda: door.door.status == DoorStatus(DoorMode.ACCESSED, "unlocked", None, "closed"), "well")
    assert door.notices == ["DoorFault", "DoorAlarmCleared"]


def test_inputs_that_fail_at_the_start_do_not_end_it(rig, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    inputs = FakeInputs(dps=True)
    inputs.broken = True
    door = rig(LONG, inputs=inputs)
    door.door.start()
    wait_until(lambda: door.notices == ["DoorFault"], "the fault is told")
    inputs.broken = False
    wait_until(lambda: door.door.status.dps == "open", "the leaf is seen")
    assert door.door.status.alarms == ()


def test_a_lamp_that_fails_keeps_nobody_out(rig):
    door = at_door(rig)
    door.signals.broken = True
    door.ask()
    door.answered(1)
    assert door.answers == [ADA]


def test_a_door_to_be_found_blinks_and_then_shows_what_it_is_again(rig):
    door = at_door(rig)
    door.door.identify(1.2)
    wait_until(lambda: (True, False) in door.signals.history, "the lamp is lit")
    wait_until(lambda: time.monotonic() >= door.door._identify_until, "the time is over")
    wait_until(lambda: door.signals.history[-1] == (False, False), "the lamp is dark")
    lit = door.signals.history.count((True, False))
    assert lit in (1, 2)
    assert door.lines.history.count(UNLOCK) == 0
    door.ask()
    wait_until(lambda: door.signals.history[-1] == (True, False), "the lamp says unlocked")


def test_rex_works_after_a_fault_of_the_line_that_has_passed(rig):
    door = at_door(rig)
    door.lines.broken = {UNLOCK}
    door.ask()
    door.answered(1)
    door.lines.broken = set()
    door.inputs.put("rex", True)
    wait_until(lambda: door.door.status.lock == "unlocked", "the exit is open")
    assert door.door.status.fault == "fake line: can't be driven to UNLOCK"
    door.ask()
    door.answered(2)
    assert door.answers[1] == Deny(Reason.OTHER)


# Commands and schedules


def order(door: Rig, stimulus, **kwargs) -> bool:
    answers: list[bool] = []
    door.door.order(stimulus, answers.append, **kwargs)
    wait_until(lambda: answers, "an answer")
    return answers[0]


def test_commands_are_obeyed_or_said_not_to_be(rig):
    door = at_door(rig)
    assert order(door, UnlockCommand())
    assert order(door, LockCommand())
    assert order(door, LockdownCommand())
    assert not order(door, UnlockCommand())
    door.ask()
    door.answered(1)
    assert door.answers == [Deny(Reason.NOT_PERMITTED_AT_THIS_TIME)]
    assert order(door, NormalCommand())
    assert door.lines.history == [LOCK, UNLOCK, LOCK]
    assert door.door.status == DoorStatus(DoorMode.LOCKED, "locked", dps="closed")


def test_a_late_command_is_not_obeyed(rig):
    door = at_door(rig)
    assert not order(door, UnlockCommand(), valid_until=time.monotonic() - 0.001)
    assert not order(door, UnlockCommand(), valid_until=float("nan"))
    assert door.lines.history == [LOCK]


def test_lockdown_outlasts_a_restart_and_the_exit_works_in_it():
    lines, inputs, answers = FakeLines(), FakeInputs(rex=False), []
    door = DoorController(lines, rules(LONG), lambda status: None, inputs=inputs, locked_down=True)
    door.start()
    door.grant(ADA, time.monotonic() + 10, answers.append)
    wait_until(lambda: answers, "an answer")
    assert door.status.mode is DoorMode.LOCKED_DOWN
    inputs.put("rex", True)
    wait_until(lambda: lines.history == [LOCK, UNLOCK], "the exit is open")
    door.stop()
    assert answers == [Deny(Reason.NOT_PERMITTED_AT_THIS_TIME)]


def test_free_access_is_held_in_slices_and_ends(rig, monkeypatch):
    monkeypatch.setattr(module, "SLICE_S", 0.1)
    door = at_door(rig)
    assert order(door, HoldOpenCommand(time.monotonic() + 0.4))
    wait_until(lambda: door.lines.history == [LOCK, UNLOCK, LOCK], "it ends by itself")
    assert all(free and s <= 0.1 for s, free in door.lines.pulses)
    assert len(door.lines.pulses) >= 4


def test_free_access_ends_when_the_doors_thread_hangs(rig, monkeypatch):
    monkeypatch.setattr(module, "SLICE_S", 0.1)
    line = claim_relay(RelayConfig(line=17), simulation=True)
    door = rig(LONG, line)
    door.door.start()
    hang = threading.Event()
    door.door.order(ScheduleBegan(time.monotonic() + 1000), lambda _: hang.wait(10))
    wait_until(lambda: [change for _, change in line.history] == [LOCK, UNLOCK, LOCK], "the adapter locks")
    hang.set()
    wait_until(lambda: [change for _, change in line.history][3:] == [UNLOCK], "and goes on when it is back")
    assert order(door, ScheduleEnded())
    assert [change for _, change in line.history] == [LOCK, UNLOCK, LOCK, UNLOCK, LOCK]


def test_a_line_that_fails_in_free_access_blocks_the_door(rig, monkeypatch):
    monkeypatch.setattr(module, "SLICE_S", 0.05)
    door = at_door(rig)
    assert order(door, ScheduleBegan(time.monotonic() + 1000))
    door.lines.broken = {UNLOCK}
    wait_until(lambda: door.door.status.mode is DoorMode.BLOCKED, "it is blocked")
    assert door.lines.history == [LOCK, UNLOCK, LOCK]


def test_the_hours_limit_refuses_and_blocks_nothing_else(rig):
    door = at_door(rig, 0.05, lines=FakeLines(max_unlocked_s_per_hour=0.12))
    for i in range(3):
        door.ask()
        door.answered(i + 1)
        wait_until(lambda: door.lines.history[-1] == LOCK, "locked again")
    assert door.answers == [ADA, ADA, Deny(Reason.OTHER)]
    assert door.door.status == DoorStatus(
        DoorMode.LOCKED, "locked", "fake line: not again in this hour", "closed"
    )
    assert door.notices == ["DoorFault"]
    assert order(door, HoldOpenCommand(time.monotonic() + 100)), "free access is not counted"
    assert door.door.status.fault is None


def test_the_hours_limit_keeps_nobody_inside(rig):
    door = at_door(rig, 0.05, lines=FakeLines(max_unlocked_s_per_hour=0.06))
    for count, answer in enumerate((ADA, Deny(Reason.OTHER)), start=1):
        door.ask()
        door.answered(count)
        assert door.answers[-1] == answer
        wait_until(lambda: door.lines.history[-1] == LOCK, "locked again")
    for presses in (1, 2):
        door.inputs.put("rex", True)
        wait_until(lambda n=presses: door.lines.history.count(UNLOCK) == n + 1, "out by the button")
        wait_until(lambda: door.lines.history[-1] == LOCK, "locked behind it")
        door.inputs.put("rex", False)
        time.sleep(0.05)  # longer than the debounce
    assert [free for _, free in door.lines.pulses] == [False, True, True]
    door.ask()
    door.answered(3)
    assert door.answers[-1] == Deny(Reason.OTHER), "the limit stands for grants"
