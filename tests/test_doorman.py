"""The doorman: what of the schedule the door is told, and when."""

from __future__ import annotations

import threading

import pytest

from edge.disk import remove_durably
from edge.door.machine import MAX_FREE_S
from edge.door.stimuli import LockdownCommand, NormalCommand, ScheduleBegan, ScheduleEnded
from edge.doorman import Doorman, tell_doord_lock


class Orders:
    """Sibling of the controller: keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def order(self, stimulus, answer, valid_until) -> None:
        self.told.append(stimulus)


@pytest.fixture
def door() -> Orders:
    return Orders()


def keep(doorman: Doorman, door: Orders, turns: list[tuple[float, float | None]]) -> list[object]:
    for now, free_for_s in turns:
        doorman.keep_schedule(door, free_for_s, now)
    return door.told


def test_free_access_is_told_once_when_it_begins_and_once_when_it_is_over(tmp_path, door):
    turns = [(0.0, None), (1.0, 100.0), (1.2, 99.8), (2.0, 99.0), (50.0, None), (51.0, None)]
    assert keep(Doorman(tmp_path), door, turns) == [ScheduleBegan(101.0), ScheduleEnded()]


def test_an_end_that_moves_is_told_again(tmp_path, door):
    turns = [(0.0, 3600.0), (10.0, 7190.0), (20.0, 1000.0)]
    assert keep(Doorman(tmp_path), door, turns) == [
        ScheduleBegan(3600.0),
        ScheduleBegan(7200.0),
        ScheduleBegan(1020.0),
    ]


def test_free_access_without_a_near_end_is_told_in_days(tmp_path, door):
    turns = [(float(t), 1e9) for t in range(100)]
    told = keep(Doorman(tmp_path), door, turns)
    assert told[0] == ScheduleBegan(MAX_FREE_S)
    assert 2 <= len(told) <= 5


def test_no_schedule_is_never_told(tmp_path, door):
    assert keep(Doorman(tmp_path), door, [(float(t), None) for t in range(5)]) == []


class Obedient(Orders):
    def order(self, stimulus, answer, valid_until) -> None:
        super().order(stimulus, answer, valid_until)
        answer(True)


def test_a_lockdown_is_remembered_until_it_is_lifted(tmp_path):
    doorman = Doorman(tmp_path)
    assert not doorman.locked_down
    assert doorman.carry_out(Obedient(), "lockdown")
    assert Doorman(tmp_path).locked_down
    assert doorman.carry_out(Obedient(), "lock")
    assert Doorman(tmp_path).locked_down
    assert doorman.carry_out(Obedient(), "normal")
    assert not Doorman(tmp_path).locked_down


def test_a_lockdown_that_can_not_be_forgotten_is_lifted_and_said(tmp_path, caplog, monkeypatch):
    def read_only(path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("edge.doorman.remove_durably", read_only)
    assert Doorman(tmp_path).carry_out(Obedient(), "normal")
    assert "a restart will lock down again: Read-only file system" in caplog.text


def test_a_place_that_can_not_be_written_is_logged_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    tell_doord_lock(tmp_path / "file" / "lines", ["chip 1 0"])
    assert "doord-lock can't lock this door" in caplog.text


class Slow(Orders):
    """A door that gets to its orders when it is let; one that comes too late is not obeyed."""

    def __init__(self) -> None:
        super().__init__()
        self.valid_until: list[float] = []

    def order(self, stimulus, answer, valid_until) -> None:
        super().order(stimulus, answer, valid_until)
        self.valid_until.append(valid_until)
        answer(valid_until == float("inf"))


@pytest.mark.parametrize("action", ["lock", "lockdown"])
def test_to_lock_is_never_too_late(tmp_path, action):
    assert Doorman(tmp_path).carry_out(Slow(), action)


@pytest.mark.parametrize("action", ["pulse", "normal", "open"])
def test_what_opens_is_not_done_once_nobody_expects_it_any_more(tmp_path, action):
    assert not Doorman(tmp_path).carry_out(Slow(), action, 1.0)


def test_the_end_of_free_access_is_never_too_late(tmp_path):
    door = Slow()
    keep(Doorman(tmp_path), door, [(0.0, 100.0), (1.0, None)])
    assert [until == float("inf") for until in door.valid_until] == [False, True]


def test_a_lockdown_does_not_wait_for_a_slow_disk(tmp_path, monkeypatch):
    """An SD card that writes a large update keeps a file waiting for seconds."""
    door, told_while_writing = Obedient(), []
    monkeypatch.setattr(
        "edge.doorman.write_atomically", lambda path, data: told_while_writing.append(list(door.told))
    )
    Doorman(tmp_path).carry_out(door, "lockdown")
    assert told_while_writing == [[LockdownCommand()]]


def test_a_lockdown_that_comes_while_another_is_lifted_is_not_forgotten(tmp_path, monkeypatch):
    """The socket lifts one, the door has done so, and before it is forgotten a signed order comes."""
    doorman, door, second = Doorman(tmp_path), Obedient(), []
    doorman.carry_out(door, "lockdown")

    def meanwhile(path) -> None:
        second.append(threading.Thread(target=doorman.carry_out, args=(door, "lockdown"), daemon=True))
        second[0].start()
        second[0].join(0.5)  # it waits for its turn, so this is in vain
        remove_durably(path)

    monkeypatch.setattr("edge.doorman.remove_durably", meanwhile)
    doorman.carry_out(door, "normal")
    second[0].join(5)
    assert door.told == [LockdownCommand(), NormalCommand(), LockdownCommand()]
    assert Doorman(tmp_path).locked_down
