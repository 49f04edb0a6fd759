"""Contacts, button, lamp and sounder: over gpiozero's mock, a fake gpiod, and a real chip.

The real chips are there when DOORD_TEST_GPIOCHIP names the first (tests/vm/run).
"""

from __future__ import annotations

import time

import gpiochip
import pytest
from broker import wait_until
from fakes_gpiod import Bias, FakeGpiod
from gpiochip import SimLine

from edge.door.chips import Place, simulated_chip
from edge.door.duty import Duty
from edge.door.gpio import RelayLine
from edge.door.lines import claim_door
from edge.door_config import ButtonConfig, ContactConfig, DoorConfig, OutputConfig, RelayConfig
from edge.errors import DutyExceeded, LineError

DOOR = DoorConfig(
    RelayConfig(17),
    dps=ContactConfig(27),
    rex=ButtonConfig(22),
    tamper=ContactConfig(23, chip="/dev/gpiochip1", pull="off"),
    sounder=OutputConfig(5),
    led=OutputConfig(17, chip="/dev/gpiochip1", active="low"),
)


class MockRig:
    def __init__(self) -> None:
        self.lines = claim_door(DOOR, simulation=True)

    def put(self, line: int, level: int) -> None:
        pin = self.lines.pin({27: "dps", 22: "rex", 23: "tamper"}[line])
        pin.drive_high() if level else pin.drive_low()

    def level(self, role: str) -> int:
        return int(self.lines.pin(role).state)


class GpiodRig:
    def __init__(self, fake: FakeGpiod) -> None:
        self.fake = fake
        for line in (27, 22, 23):
            fake.levels[line] = 1
        self.lines = claim_door(DOOR, simulation=False)

    def put(self, line: int, level: int) -> None:
        self.fake.put(line, level)

    def level(self, role: str) -> int:
        line, chip = {"sounder": (5, 0), "led": (17, 1)}[role]
        return self.fake.settings(line, chip).output_value.value


class ChipRig:
    def __init__(self) -> None:
        self.wires = {27: SimLine(27), 22: SimLine(22), 23: SimLine(23, chip=1)}
        for wire in self.wires.values():
            wire.pull(1)
        self.lines = claim_door(DOOR, simulation=False)

    def put(self, line: int, level: int) -> None:
        self.wires[line].pull(level)
        time.sleep(0.005)  # the kernel reads the level when it handles the edge

    def level(self, role: str) -> int:
        return {"sounder": SimLine(5), "led": SimLine(17, chip=1)}[role].level


@pytest.fixture(params=["mock", "gpiod", *(["chip"] if gpiochip.CHIP else [])])
def rig(request):
    if request.param == "gpiod":
        rig = GpiodRig(request.getfixturevalue("gpiod")(chips=(0, 1)))
    else:
        rig = {"mock": MockRig, "chip": ChipRig}[request.param]()
    yield rig
    rig.lines.inputs.close()
    rig.lines.signals.close()
    rig.lines.relay.close()


def test_levels_are_read_as_what_they_mean(rig):
    rig.put(27, 0)
    rig.put(22, 1)
    rig.put(23, 1)
    assert rig.lines.inputs.read() == {"dps": False, "rex": False, "tamper": True}
    rig.put(27, 1)
    rig.put(22, 0)
    assert rig.lines.inputs.read() == {"dps": True, "rex": True, "tamper": True}
    assert rig.lines.inputs.roles == {"dps", "rex", "tamper"}


def test_each_edge_is_told_with_its_time(rig):
    edges = []
    rig.put(27, 1)
    rig.put(22, 1)
    rig.lines.inputs.watch(lambda *edge: edges.append(edge))
    rig.put(27, 0)
    rig.put(22, 0)
    rig.put(27, 1)
    wait_until(lambda: len(edges) == 3, "an edge of each")
    assert [edge[:2] for edge in edges] == [("dps", False), ("rex", True), ("dps", True)]
    times = [at for *_, at in edges]
    assert times == sorted(times)


def test_nothing_is_told_after_closing(rig):
    edges = []
    rig.lines.inputs.watch(lambda *edge: edges.append(edge))
    pins = [contact._device.pin for contact in rig.lines.inputs._contacts]
    rig.lines.inputs.close()
    rig.lines.inputs.close()
    assert all(pin.when_changed is None for pin in pins)
    assert edges == []


def test_lamp_and_sounder_follow_their_active_level_and_end_off(rig):
    assert (rig.level("led"), rig.level("sounder")) == (1, 0)
    rig.lines.signals.show(led=True, sounder=True)
    assert (rig.level("led"), rig.level("sounder")) == (0, 1)


def test_pulls_are_asked_of_the_kernel(gpiod):
    fake = gpiod(chips=(0, 1))
    claim_door(DOOR, simulation=False)
    biases = [fake.settings(line, chip).bias for line, chip in ((27, 0), (22, 0), (23, 1))]
    assert biases == [Bias.PULL_UP, Bias.PULL_UP, Bias.DISABLED]


def test_a_chip_is_opened_once_and_closed_with_its_last_line(gpiod):
    fake = gpiod(chips=(0, 1))
    lines = claim_door(DOOR, simulation=False)
    assert fake.openings == [0, 1]
    lines.inputs.close()
    assert fake.opened == {0, 1}
    lines.signals.close()
    assert fake.opened == {0}, "the relay's"
    lines.relay.close()
    assert fake.opened == set()


@pytest.mark.parametrize(("line", "role"), [(27, "dps"), (22, "rex"), (5, "sounder")])
def test_a_line_that_is_held_ends_the_start_and_nothing_stays_claimed(gpiod, line, role):
    fake = gpiod(chips=(0, 1), held={line: "w1-gpio"})
    wanted = rf'/dev/gpiochip0 line {line}: door\.{role} can\'t be claimed: .*busy.*held by "w1-gpio"'
    with pytest.raises(LineError, match=wanted):
        claim_door(DOOR, simulation=False)
    assert fake.opened == set()
    assert [level for at, level in fake.drives if at == 17][:1] == [0], "locked, and never else"


def test_a_chip_that_is_unplugged_is_a_fault_of_the_line(gpiod):
    fake = gpiod(chips=(0, 1))
    lines = claim_door(DOOR, simulation=False)
    fake.broken = True
    with pytest.raises(LineError, match=r"line 27: door\.dps can't be read"):
        lines.inputs.read()
    with pytest.raises(LineError, match=r"line 17: door\.led can't be driven"):
        lines.signals.show(True, True)


def test_a_second_chip_that_is_missing_leaves_the_first_closed(gpiod):
    fake = gpiod(chips=(0,))
    with pytest.raises(LineError, match=r"/dev/gpiochip1: .*No such file"):
        claim_door(DOOR, simulation=False)
    assert fake.opened == set()


def test_two_names_of_one_line_are_refused(gpiod, tmp_path):
    gpiod(chips=(0, 1))
    link = tmp_path / "relays"
    link.symlink_to("/dev/gpiochip0")
    door = DoorConfig(RelayConfig(17), rex=ButtonConfig(17, chip=str(link)))
    with pytest.raises(
        LineError, match=r"/dev/gpiochip0 line 17: is both door\.relay\.line and door\.rex\.line"
    ):
        claim_door(door, simulation=False)


def test_simulated_lines_may_have_names_and_labels():
    door = DoorConfig(RelayConfig("name:RELAY", chip="label:x"), rex=ButtonConfig("name:REX"))
    lines = claim_door(door, simulation=True)
    assert lines.inputs.read() == {"rex": False}
    assert lines.relay.where == "label:x line 1000"


@pytest.mark.parametrize(("active", "locked"), [("high", 0), ("low", 1)])
def test_the_relay_says_what_doord_lock_has_to_do(gpiod, active, locked):
    gpiod(chips=(0, 1))
    lines = claim_door(DoorConfig(RelayConfig(106, active=active)), simulation=False)
    assert lines.relay.spec == f"/dev/gpiochip0 106 {locked}"


# The hour's limit


def test_what_was_spent_in_the_last_hour_counts():
    duty = Duty(100)
    duty.begin(0.0)
    duty.begin(5.0)
    assert duty.left_s(30.0) == 70
    duty.end(40.0)
    duty.end(50.0)
    assert duty.left_s(60.0) == 60
    assert duty.left_s(3620.0) == 80, "half of it is more than an hour ago"
    assert duty.left_s(3640.0) == 100


def test_the_relay_is_not_unlocked_for_longer_than_the_hours_limit_but_in_free_access():
    now = [0.0]
    place = Place(simulated_chip("/dev/gpiochip0", frozenset({17})), 17)
    line = RelayLine(place, "high", 100, clock=lambda: now[0])
    line.unlock(60)
    now[0] = 50.0
    line.lock()
    line.unlock(50)
    now[0] = 90.0
    line.lock()
    with pytest.raises(DutyExceeded, match=r"max_unlocked_s_per_hour"):
        line.unlock(11)
    assert [change for _, change in line.history] == ["LOCK", "UNLOCK"] * 2 + ["LOCK"]
    line.unlock(60, free=True)
    now[0] = 2000.0
    line.unlock(60, free=True)
    line.lock()
    line.unlock(10)
    line.lock()
    now[0] = 3700.0
    line.unlock(60)
    line.close()
