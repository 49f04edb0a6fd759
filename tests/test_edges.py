"""A Wiegand reader's lines: one suite over simulated ones, a fake gpiod and a real chip.

The real chip is there when DOORD_TEST_GPIOCHIP names it (tests/vm/run).
"""

from __future__ import annotations

import sys
import time

import gpiochip
import pytest
from fakes_gpiod import Bias, Direction, EdgeDetection, FakeGpiod, LineSettings
from fakes_kernel import Kernel
from gpiochip import SimLine

from edge import gpio_uapi
from edge.door import chips
from edge.door.edges import KernelEdges, SimulatedEdges
from edge.errors import LineError

DATA = (5, 6)
_WAIT_S = 0.2


def wiring(chip: str) -> dict[str, tuple[str, int | str]]:
    return {
        "door.relay.line": (chip, 17),
        "readers.wiegand.data0": (chip, DATA[0]),
        "readers.wiegand.data1": (chip, DATA[1]),
    }


class SimulatedRig:
    def __init__(self) -> None:
        self.edges = SimulatedEdges()

    def fall(self, *lines: int) -> None:
        for line in lines:
            self.edges.fall(line, time.monotonic())

    def plug(self, into: bool) -> None:
        self.edges.plug(into)


class GpiodRig:
    """Over the fake's chip, which is the only one."""

    def __init__(self, fake: FakeGpiod, lines: dict[str, tuple[str, int | str]] | None = None) -> None:
        self.fake = fake
        self.edges = KernelEdges(lines or wiring("/dev/gpiochip0"))

    def fall(self, *lines: int) -> None:
        for line in lines:
            self.fake.put(DATA[line], 0)
            self.fake.put(DATA[line], 1)

    def plug(self, into: bool) -> None:
        if into:
            self.fake.paths = {"/dev/gpiochip0": 0}
        else:
            self.fake.unplug()


class ChipRig:
    def __init__(self) -> None:
        gpiochip.plug(True)
        self._look()
        self.edges = KernelEdges(wiring(f"label:{gpiochip.LABELS[0]}"))

    def _look(self) -> None:
        self.wires = [SimLine(line) for line in DATA]
        for wire in self.wires:
            wire.pull(1)

    def fall(self, *lines: int) -> None:
        for line in lines:
            self.wires[line].pull(0)
            self.wires[line].pull(1)
            time.sleep(0.005)  # two lines' edges may overtake each other in the kernel

    def plug(self, into: bool) -> None:
        gpiochip.plug(into)
        if into:
            self._look()


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    """Behind /dev/null, which can be opened everywhere, a chip that tells names and holders."""
    kernel = Kernel(names=("",) * 8)
    monkeypatch.setattr(gpio_uapi.fcntl, "ioctl", kernel.ioctl)
    monkeypatch.setattr(chips, "chip_path", lambda chip: chip)
    return kernel


@pytest.fixture(params=["simulated", "gpiod", *(["chip"] if gpiochip.CHIP else [])])
def rig(request):
    if request.param == "gpiod":
        rig = GpiodRig(request.getfixturevalue("gpiod")())
    else:
        rig = {"simulated": SimulatedRig, "chip": ChipRig}[request.param]()
    yield rig
    rig.edges.close()
    if request.param == "chip":
        gpiochip.plug(True)


def told(rig, count: int) -> list:
    """The edges of some waits, until there are so many or none comes."""
    found: list = []
    while len(found) < count and (more := rig.edges.wait(_WAIT_S)):
        found += more
    return found


def test_each_falling_edge_is_told_once_with_its_line_time_and_number(rig):
    rig.edges.open()
    before = time.monotonic()
    rig.fall(0, 1, 1, 0)
    found = told(rig, 4)
    assert [edge.line for edge in found] == [0, 1, 1, 0]
    assert [edge.number - found[0].number for edge in found] == [0, 1, 2, 3]
    assert before <= found[0].at <= found[1].at <= found[2].at <= found[3].at <= time.monotonic()
    assert rig.edges.wait(0.02) == []


def test_lines_that_are_not_open_or_closed_again_tell_so(rig):
    with pytest.raises(LineError, match="is not open"):
        rig.edges.wait(0.01)
    rig.edges.open()
    rig.edges.close()
    rig.edges.close()
    with pytest.raises(LineError, match="is not open"):
        rig.edges.wait(0.01)


def test_what_fell_while_they_were_closed_is_not_told(rig):
    rig.edges.open()
    rig.fall(0)
    told(rig, 1)
    rig.edges.close()
    rig.fall(1)
    rig.edges.open()
    assert rig.edges.wait(0.02) == []
    rig.fall(1)
    assert [edge.line for edge in told(rig, 1)] == [1]


def test_a_chip_that_goes_is_a_fault_and_one_that_comes_back_can_be_opened(rig):
    rig.edges.open()
    rig.plug(False)
    with pytest.raises(LineError, match=r"the chip is gone|No such device"):
        rig.edges.wait(_WAIT_S)
    rig.edges.close()
    with pytest.raises(LineError):
        rig.edges.open()
    rig.plug(True)
    rig.edges.open()
    rig.fall(0, 1)
    assert [edge.line for edge in told(rig, 2)] == [0, 1]


def test_the_kernel_is_asked_for_both_lines_at_once_pulled_up_with_the_largest_buffer(gpiod):
    rig = GpiodRig(gpiod())
    rig.edges.open()
    assert rig.fake.asked == [(DATA, "doord", 1024)]
    wanted = LineSettings(Direction.INPUT, EdgeDetection.FALLING, Bias.PULL_UP)
    assert [rig.fake.settings(line) for line in DATA] == [wanted, wanted]
    rig.edges.close()
    assert not rig.fake.open


def test_more_edges_than_the_kernel_keeps_are_read_and_the_gap_is_seen(gpiod):
    rig = GpiodRig(gpiod())
    rig.edges.open()
    rig.fall(0)
    rig.fake.put(DATA[0], 0, lost=True)
    rig.fall(1)
    assert [edge.number for edge in told(rig, 2)] == [1, 3]
    rig.edges.close()


def test_a_line_that_is_held_is_named_with_its_holder(gpiod, kernel):
    rig = GpiodRig(gpiod(held={6: "w1-gpio"}), wiring("/dev/null"))
    kernel.holders = {6: "w1-gpio"}
    rig.fake.paths = {"/dev/null": 0}
    wanted = r"""/dev/null lines 5 and 6: can't be claimed: .*busy; line 6 is held by "w1-gpio"$"""
    with pytest.raises(LineError, match=wanted):
        rig.edges.open()


def test_a_missing_driver_says_how_to_install_it(gpiod, monkeypatch):
    gpiod()
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(LineError, match=r"lines 5 and 6: gpiod is missing .*pip install 'doord\[gpio\]'"):
        KernelEdges(wiring("/dev/gpiochip0")).open()


@pytest.mark.skipif(not gpiochip.CHIP, reason="no chip here: see tests/vm")
def test_the_kernel_names_the_holder():
    rig, other = ChipRig(), ChipRig()
    other.edges.open()
    with pytest.raises(LineError, match=r'busy; line 5 is held by "doord"; line 6 is held by "doord"'):
        rig.edges.open()
    other.edges.close()
    rig.edges.open()
    rig.edges.close()


def test_a_line_of_the_door_is_refused(gpiod, kernel):
    fake = gpiod()
    both = {**wiring("/dev/gpiochip0"), "door.relay.line": ("/dev/gpiochip0", 6)}
    with pytest.raises(LineError, match=r"is both door\.relay\.line and readers\.wiegand\.data1"):
        KernelEdges(both).open()
    assert fake.asked == []


def test_lines_may_have_names(gpiod, kernel):
    kernel.names = ("", "", "", "", "", "D1", "D0", "RELAY")
    named = {
        "door.relay.line": ("/dev/null", "name:RELAY"),
        "readers.wiegand.data0": ("/dev/null", "name:D0"),
        "readers.wiegand.data1": ("/dev/null", "name:D1"),
    }
    rig = GpiodRig(gpiod(), named)
    rig.fake.paths = {"/dev/null": 0}
    rig.edges.open()
    assert rig.fake.asked == [((6, 5), "doord", 1024)]
    rig.fall(1)
    assert [edge.line for edge in rig.edges.wait(_WAIT_S)] == [0]
    rig.edges.close()
