"""What time it is, and whether to believe it."""

from __future__ import annotations

import ctypes
from datetime import datetime, timezone

import pytest

from edge import clock as module
from edge.clock import SystemClock, kernel_synchronised, set_from_hardware

NOON_S = datetime(2026, 6, 1, 12, tzinfo=timezone.utc).timestamp()


class World:
    """The system's clock as a number."""

    def __init__(self, path, now: float = NOON_S, believed: bool = True) -> None:
        self.path, self.now, self.believed = path, now, believed

    def clock(self) -> SystemClock:
        return SystemClock(self.path, lambda: self.believed, lambda: self.now)


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path / "clock.floor")


def test_a_clock_that_the_kernel_believes_is_trusted(world):
    assert world.clock().trusted
    world.believed = False
    assert not world.clock().trusted
    assert world.clock().now_utc() == datetime(2026, 6, 1, 12, tzinfo=timezone.utc)


def test_after_a_restart_a_clock_behind_the_highest_time_seen_is_not_trusted_nor_told(world):
    world.clock().keep()
    assert world.path.read_text() == f"{int(NOON_S)}\n"
    world.now = 0.0  # the battery is empty
    again = world.clock()
    assert not again.trusted
    assert again.now_utc().timestamp() == NOON_S
    world.now = NOON_S + 60
    assert again.trusted
    assert again.now_utc().timestamp() == NOON_S + 60


def test_a_small_step_back_is_trusted_and_the_time_told_stands_still(world):
    clock = world.clock()
    clock.keep()
    world.now -= 4
    assert clock.trusted
    assert clock.now_utc().timestamp() == NOON_S
    world.now -= 2
    assert not clock.trusted


def test_time_that_is_not_trusted_is_not_remembered(world):
    """Else a wrong future would last for ever."""
    world.believed = False
    clock = world.clock()
    world.now += 1e9
    clock.keep(at_once=True)
    world.now, world.believed = NOON_S, True
    assert not world.path.exists()
    assert clock.now_utc().timestamp() == NOON_S


def test_the_card_is_written_every_ten_minutes_and_at_the_end(world):
    clock = world.clock()
    clock.keep()
    world.now += 599
    clock.keep()
    assert int(world.path.read_text()) == NOON_S
    world.now += 1
    clock.keep()
    assert int(world.path.read_text()) == NOON_S + 600
    world.now += 30
    clock.keep(at_once=True)
    assert int(world.path.read_text()) == NOON_S + 630


@pytest.mark.parametrize("content", [b"", b"soon", b"-5", b"1" * 30, b"\xff\xfe", "१".encode()])
def test_a_floor_that_is_no_number_is_said_and_left_out(world, caplog, content):
    world.path.write_bytes(content)
    assert world.clock().now_utc().timestamp() == NOON_S
    assert "clock.floor" in caplog.text


def test_a_disk_that_refuses_is_said_and_stops_nothing(world, caplog):
    world.path = world.path / "no" / "folder"
    clock = world.clock()
    clock.keep()
    assert "can't be remembered" in caplog.text
    assert clock.trusted


def test_a_hardware_clock_that_set_the_kernels_is_believed(tmp_path):
    assert not set_from_hardware(tmp_path)
    for name, text in (("rtc0", "0\n"), ("rtc1", "1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hctosys").write_text(text)
    assert set_from_hardware(tmp_path)
    (tmp_path / "rtc1" / "hctosys").write_text("0\n")
    assert not set_from_hardware(tmp_path)


@pytest.mark.parametrize(
    ("state", "status", "answer"),
    [(0, 0x0001, True), (5, 0x0041, False), (0, 0x0040, False), (-1, 0, False)],
)
def test_the_kernels_word_is_its_flag(monkeypatch, state, status, answer):
    class Libc:
        @staticmethod
        def adjtimex(timex) -> int:
            timex._obj.status = status
            return state

    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: Libc)
    assert kernel_synchronised() is answer


def test_a_system_without_the_call_is_not_believed(monkeypatch):
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: object())
    assert not kernel_synchronised()


def test_the_real_kernel_answers_with_its_own_time():
    """Not only a flag: were the layout wrong, the time would be nonsense."""
    timex = module._Timex()
    if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
        pytest.skip("the sandbox forbids adjtimex")
    assert abs(timex.time.tv_sec - datetime.now(timezone.utc).timestamp()) < 60
    assert kernel_synchronised() is not bool(timex.status & 0x40)
