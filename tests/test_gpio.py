"""The relay's line: one suite over the fake, gpiozero's mock and a real chip, then the driver's corners.

The real chip is there when DOORD_TEST_GPIOCHIP names it (tests/vm/run).
"""

from __future__ import annotations

import itertools
import math
import sys
import threading
import time

import gpiochip
import pytest
from broker import wait_until
from fakes_door import LOCK, UNLOCK, FakeLines
from gpiochip import SimLine

from edge.config import RelayConfig
from edge.door import gpio
from edge.door.chips import Place, simulated_chip
from edge.door.gpio import RelayLine, claim_relay
from edge.errors import LineError


class FakeRig:
    def __init__(self) -> None:
        self.lines = FakeLines()
        self.lines.lock()  # a real line is locked by its claim

    def history(self) -> list[str]:
        return self.lines.history

    def wait(self, seconds: float, until: list[str]) -> None:
        self.lines.advance(seconds)

    def outlast(self, seconds: float) -> None:
        self.lines.advance(seconds)


class MockRig:
    def __init__(self, active: str) -> None:
        chip = simulated_chip("/dev/gpiochip0", frozenset({17}))
        self.lines = RelayLine(Place(chip, 17), active, 3600)
        self.pin = chip.factory.pin("GPIO17")
        self._unlocked = active == "high"
        # MockPin begins low whatever it was; what counts is what it was driven to since the claim
        self.driven_from = len(self.pin.states) - 1

    def history(self) -> list[str]:
        levels = [bool(s.state) for s in self.pin.states[self.driven_from :]]
        return [UNLOCK if level == self._unlocked else LOCK for level in levels]

    def wait(self, seconds: float, until: list[str]) -> None:
        wait_until(lambda: self.history() == until, f"{until}, got {self.history()}")

    def outlast(self, seconds: float) -> None:
        time.sleep(seconds + 0.1)  # nothing to wait for: what is tested is that nothing happens


class ChipRig:
    """gpiod on gpio-sim: the kernel's own record of what it was told to drive, and the level it has."""

    def __init__(self, active: str) -> None:
        self._unlocked = int(active == "high")
        self.line = SimLine(17)
        self.line.pull(1 - self._unlocked)  # the resistor an installer puts there
        gpiochip.forget()
        self.lines = claim_relay(RelayConfig(17, self.line.chip, active), simulation=False)

    def history(self) -> list[str]:
        driven, level = self.line.driven(), self.line.level
        while driven != (now := self.line.driven()):  # a pulse ended between
            driven, level = now, self.line.level
        assert level == driven[-1]
        return [UNLOCK if level == self._unlocked else LOCK for level, _ in itertools.groupby(driven)]

    def wait(self, seconds: float, until: list[str]) -> None:
        wait_until(lambda: self.history() == until, f"{until}, got {self.history()}")

    def outlast(self, seconds: float) -> None:
        time.sleep(seconds + 0.1)


RIGS = {
    "fake": FakeRig,
    "mock, active high": lambda: MockRig("high"),
    "mock, active low": lambda: MockRig("low"),
}
if gpiochip.CHIP:
    RIGS["chip, active high"] = lambda: ChipRig("high")
    RIGS["chip, active low"] = lambda: ChipRig("low")


@pytest.fixture(params=RIGS)
def rig(request):
    rig = RIGS[request.param]()
    yield rig
    rig.lines.close()


def test_a_claimed_line_is_locked(rig):
    assert rig.history() == [LOCK]


def test_a_line_unlocks_and_locks(rig):
    rig.lines.unlock(for_at_most_s=30)
    assert rig.history() == [LOCK, UNLOCK]
    rig.lines.lock()
    assert rig.history() == [LOCK, UNLOCK, LOCK]


def test_locking_twice_is_locking_once(rig):
    rig.lines.unlock(30)
    rig.lines.lock()
    rig.lines.lock()
    assert rig.history() == [LOCK, UNLOCK, LOCK]


def test_the_line_locks_by_itself_when_nobody_else_does(rig):
    rig.lines.unlock(0.05)
    rig.wait(0.05, until=[LOCK, UNLOCK, LOCK])
    assert rig.history() == [LOCK, UNLOCK, LOCK]


@pytest.mark.parametrize("locked_between", [True, False])
def test_an_earlier_pulse_does_not_end_a_later_one(rig, locked_between):
    rig.lines.unlock(0.02)
    if locked_between:
        rig.lines.lock()
    rig.lines.unlock(30)
    rig.outlast(0.02)
    assert rig.history() == ([LOCK, UNLOCK, LOCK, UNLOCK] if locked_between else [LOCK, UNLOCK])


def test_a_timer_that_fires_while_it_is_cancelled_ends_no_later_pulse(monkeypatch):
    timers: list[threading.Timer] = []
    monkeypatch.setattr(threading.Timer, "start", lambda self: timers.append(self))
    rig = MockRig("high")
    rig.lines.unlock(0.02)
    rig.lines.unlock(30)
    first = timers[0]
    first.function(*first.args, **first.kwargs)  # as if it had fired just before it was cancelled
    assert rig.history() == [LOCK, UNLOCK]
    last = timers[-1]
    last.function(*last.args, **last.kwargs)
    assert rig.history() == [LOCK, UNLOCK, LOCK]
    rig.lines.close()


@pytest.mark.parametrize("seconds", [0, -1, 60.001, math.inf, math.nan])
def test_no_release_is_endless(rig, seconds):
    with pytest.raises(LineError, match="expected"):
        rig.lines.unlock(seconds)
    assert rig.history() == [LOCK]


def test_closing_locks_and_nothing_moves_after(rig):
    rig.lines.unlock(30)
    rig.lines.close()
    assert rig.history() == [LOCK, UNLOCK, LOCK]
    rig.lines.close()
    with pytest.raises(LineError, match="closed"):
        rig.lines.unlock(1)
    with pytest.raises(LineError, match="closed"):
        rig.lines.lock()
    assert rig.history() == [LOCK, UNLOCK, LOCK]


def test_a_simulated_line_keeps_its_history_with_times():
    line = claim_relay(RelayConfig(line=300), simulation=True)  # no Raspberry Pi has a line 300
    line.unlock(30)
    line.close()
    times, changes = zip(*line.history, strict=True)
    assert list(changes) == [LOCK, UNLOCK, LOCK]
    assert list(times) == sorted(times)


def test_simulation_reads_no_environment(monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nonsense")
    monkeypatch.setenv("GPIOZERO_MOCK_REVISION", "nonsense")
    monkeypatch.setenv("GPIOZERO_MOCK_PIN_CLASS", "nonsense")
    claim_relay(RelayConfig(line=17), simulation=True).close()


def test_the_door_stays_locked_where_no_timer_can_start(monkeypatch):
    rig = MockRig("high")
    rig.lines.unlock(30)

    def no_more_threads(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", no_more_threads)
    with pytest.raises(LineError, match="can't start new thread"):
        rig.lines.unlock(1)
    assert rig.history() == [LOCK, UNLOCK, LOCK]


@pytest.mark.parametrize(("active", "locked", "unlocked"), [("high", 0, 1), ("low", 1, 0)])
def test_a_real_line_is_never_driven_to_unlocked_but_by_unlock(gpiod, active, locked, unlocked):
    """A driver that claims it low first releases an active-low relay."""
    fake = gpiod()
    line = claim_relay(RelayConfig(line=106, active=active), simulation=False)
    assert fake.drives == [(106, locked)]
    line.unlock(30)
    line.lock()
    line.close()
    assert [level for _, level in fake.drives] == [locked, unlocked, locked, locked]
    assert fake.inputs == [], "never an input, which nothing holds at its level"
    assert not fake.open


def test_a_held_line_is_named_with_its_holder(gpiod):
    fake = gpiod(held={17: "w1-gpio"})
    with pytest.raises(LineError, match=r"/dev/gpiochip0 line 17: .*busy.*held by \"w1-gpio\""):
        claim_relay(RelayConfig(line=17), simulation=False)
    assert fake.drives == []
    assert not fake.open


def test_a_chip_is_found_through_a_link(gpiod, tmp_path):
    gpiod(chips=(4,))
    link = tmp_path / "doord-gpio"
    link.symlink_to("/dev/gpiochip4")
    claim_relay(RelayConfig(line=17, chip=str(link)), simulation=False).close()


@pytest.mark.parametrize("chip", ["/dev/null", "/dev/gpiochipX"])
def test_something_else_than_a_chip_is_refused(gpiod, chip):
    gpiod()
    with pytest.raises(LineError, match="expected /dev/gpiochip"):
        claim_relay(RelayConfig(line=17, chip=chip), simulation=False)


def test_a_chip_that_cannot_be_opened_says_what_to_look_at(gpiod):
    gpiod(chips=())
    with pytest.raises(LineError, match=r"/dev/gpiochip0: .*No such file.*user or group"):
        claim_relay(RelayConfig(line=17), simulation=False)


def test_a_missing_driver_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(LineError, match=r"pip install 'doord\[gpio\]'"):
        claim_relay(RelayConfig(line=17), simulation=False)


def test_a_line_that_fails_is_locked_as_soon_as_it_obeys_again(gpiod, monkeypatch, caplog):
    monkeypatch.setattr(gpio, "_RETRY_S", 0.01)
    fake = gpiod()
    line = claim_relay(RelayConfig(line=17), simulation=False)
    line.unlock(0.02)
    fake.broken = True
    with pytest.raises(LineError, match="can't be driven to locked"):
        line.lock()
    wait_until(lambda: "could not be locked" in caplog.text, "the pulse's timer has tried")
    fake.broken = False
    wait_until(lambda: [level for _, level in fake.drives] == [0, 1, 0], "the pulse's timer locks")
    line.close()
