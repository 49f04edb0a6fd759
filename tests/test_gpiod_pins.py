"""gpiozero's pins over gpiod: one suite over a fake gpiod and a real chip.

The real chip is there when DOORD_TEST_GPIOCHIP names it (tests/vm/run).
"""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gpiochip
import pytest
from broker import wait_until
from fakes_gpiod import Bias, EdgeDetection, FakeGpiod
from gpiochip import SimLine
from gpiozero import PinInvalidEdges, PinInvalidFunction, PinInvalidPull, PinSetInput

from edge.door.chips import Chip, _real_chip

FIRST, SECOND, RELAY = 27, 22, 17
LINES = frozenset({FIRST, SECOND, RELAY})


class FakeWorld:
    def __init__(self, fake: FakeGpiod) -> None:
        self.fake = fake
        fake.levels = {FIRST: 1, SECOND: 1}
        self.path = "/dev/gpiochip0"

    def put(self, line: int, level: int) -> None:
        self.fake.put(line, level)

    def driven(self) -> list[int]:
        return [level for line, level in self.fake.drives if line == RELAY]

    def unplug(self) -> None:
        self.fake.unplug()


class ChipWorld:
    def __init__(self) -> None:
        gpiochip.plug(True)
        self.wires = {line: SimLine(line) for line in LINES}
        for wire in self.wires.values():
            wire.pull(1)
        self.path = self.wires[FIRST].chip
        gpiochip.forget()

    def put(self, line: int, level: int) -> None:
        self.wires[line].pull(level)
        time.sleep(0.005)  # the kernel reads the level when it handles the edge

    def driven(self) -> list[int]:
        return self.wires[RELAY].driven()

    def unplug(self) -> None:
        gpiochip.plug(False)


@pytest.fixture(params=["gpiod", *(["chip"] if gpiochip.CHIP else [])])
def world(request):
    yield FakeWorld(request.getfixturevalue("gpiod")()) if request.param == "gpiod" else ChipWorld()
    if request.param == "chip":
        gpiochip.plug(True)


class Watched:
    """A chip of which two lines are watched; `told` has (line, s monotonic, level) of each edge."""

    def __init__(self, path: str) -> None:
        self.chip: Chip = _real_chip(path, LINES)
        self.told: list[tuple[int, float, int]] = []
        self.pins = {line: self.chip.factory.pin(f"GPIO{line}") for line in (FIRST, SECOND)}
        self.hears = {line: self._hears(line) for line in self.pins}  # the pins keep weak references
        for line, pin in self.pins.items():
            pin.input_with_pull("floating")
            pin.when_changed = self.hears[line]

    def _hears(self, line: int) -> Callable[[float, int], None]:
        return lambda at, level: self.told.append((line, at, level))


@pytest.fixture
def watched(world):
    watched = Watched(world.path)
    yield watched
    watched.chip.close()
    wait_until(lambda: edge_threads() == [], "the thread has ended")


@pytest.fixture
def deaths(monkeypatch):
    """What threads died of."""
    found: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda death: found.append(str(death.exc_value)))
    return found


def edge_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("edges of gpiochip")]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def levels(watched: Watched) -> list[tuple[int, int]]:
    return [(line, level) for line, _, level in watched.told]


def test_edges_of_two_lines_are_told_with_the_kernels_time_in_their_order(world, watched):
    before = time.monotonic()
    moved = [(FIRST, 0), (SECOND, 0), (FIRST, 1), (SECOND, 1)]
    for line, level in moved:
        world.put(line, level)
    wait_until(lambda: len(watched.told) == 4, "each edge")
    assert levels(watched) == moved
    times = [at for _, at, _ in watched.told]
    assert before < times[0]
    assert times == sorted(times)
    assert times[-1] < watched.chip.factory.ticks()


@pytest.mark.parametrize(("edges", "level"), [("rising", 1), ("falling", 0)])
def test_only_the_edges_that_are_wanted_are_told(world, watched, edges, level):
    watched.pins[FIRST].edges = edges
    for _ in range(2):
        world.put(FIRST, 0)
        world.put(FIRST, 1)
    wait_until(lambda: len(watched.told) == 2, "two of four")
    world.put(SECOND, 0)
    wait_until(lambda: len(watched.told) == 3, "and no third")
    assert levels(watched) == [(FIRST, level), (FIRST, level), (SECOND, 0)]


def test_one_thread_serves_a_chip_and_ends_with_the_last_watched_line(watched):
    assert len(edge_threads()) == 1
    watched.pins[FIRST].when_changed = None
    assert len(edge_threads()) == 1
    watched.pins[SECOND].when_changed = None
    wait_until(lambda: edge_threads() == [], "nobody is watched")


def test_a_chip_that_is_unplugged_ends_the_thread_and_its_lines_fault(world, watched):
    (thread,) = edge_threads()
    world.unplug()
    wait_until(lambda: not thread.is_alive(), "it ends by itself")
    with pytest.raises(watched.chip.faults, match="No such device"):
        _ = watched.pins[FIRST].state
    watched.chip.close()
    watched.chip.close()


def test_who_is_told_of_an_edge_may_close_the_chip(world, watched):
    closed = []

    def close(_at: float, _level: int) -> None:
        watched.chip.factory.close()
        watched.chip.factory.close()
        closed.append(True)

    watched.pins[FIRST].when_changed = close
    world.put(FIRST, 0)
    wait_until(lambda: closed, "closed from within")
    world.put(SECOND, 0)
    wait_until(lambda: edge_threads() == [], "the thread has ended")
    assert watched.told == []
    with pytest.raises(watched.chip.faults, match="released"):
        _ = watched.pins[FIRST].state
    with pytest.raises(watched.chip.faults, match="closed chip"):
        watched.pins[FIRST].input_with_pull("up")


def test_a_chip_may_be_closed_while_somebody_is_told(world, watched):
    told, free = threading.Event(), threading.Event()

    def hang(_at: float, _level: int) -> None:
        told.set()
        free.wait(10)

    watched.pins[FIRST].when_changed = hang
    world.put(FIRST, 0)
    assert told.wait(10)
    watched.chip.close()  # does not wait for who hangs
    free.set()


def test_who_raises_ends_the_thread_loudly_and_the_lines_can_be_read_and_watched_again(
    world, watched, deaths
):
    def raises(_at: float, _level: int) -> None:
        raise RuntimeError("who is told")

    watched.pins[FIRST].when_changed = raises
    world.put(FIRST, 0)
    wait_until(lambda: deaths == ["who is told"] and edge_threads() == [], "the thread dies")
    assert watched.pins[FIRST].state == 0
    watched.pins[FIRST].when_changed = None
    watched.pins[FIRST].when_changed = watched.hears[FIRST]
    world.put(FIRST, 1)
    wait_until(lambda: levels(watched)[-1:] == [(FIRST, 1)], "watched again")


def test_a_line_that_moves_is_watched_and_forgotten_a_thousand_times(world, watched, deaths):
    pin, enough = watched.pins[FIRST], threading.Event()

    def move() -> None:
        for level in itertools.cycle((0, 1)):
            if enough.is_set():
                return
            world.put(FIRST, level)
            time.sleep(0.0005)

    before = open_files()
    mover = threading.Thread(target=move)
    mover.start()
    for _ in range(1000):
        pin.when_changed = None
        pin.when_changed = watched.hears[FIRST]
    enough.set()
    mover.join(10)
    assert open_files() == before
    world.put(FIRST, 1)
    world.put(SECOND, 0)
    wait_until(lambda: (SECOND, 0) in levels(watched), "what came before is told")
    world.put(FIRST, 0)
    wait_until(lambda: levels(watched)[-1] == (FIRST, 0), "the last edge is told")
    assert deaths == []


def test_a_process_that_may_start_no_more_threads_can_watch_nothing(world, monkeypatch):
    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    before = open_files()
    chip = _real_chip(world.path, LINES)
    pin = chip.factory.pin(f"GPIO{FIRST}")
    with pytest.raises(OSError, match="can't start new thread") as caught:
        pin.when_changed = lambda at, level: None
    assert caught.value.errno == errno.EAGAIN
    chip.close()
    assert open_files() == before


@pytest.mark.parametrize("level", [0, 1])
def test_an_output_has_its_level_from_its_claim_till_its_chip_closes(world, level):
    chip = _real_chip(world.path, LINES)
    pin = chip.factory.pin(f"GPIO{RELAY}")
    assert world.driven() == []
    pin.output_with_state(bool(level))
    assert (pin.function, pin.state) == ("output", level)
    pin.state = not level
    pin.state = bool(level)
    pin.close()
    assert set(world.driven()[:1]) == {level}
    assert pin.state == level, "closed, and driven still"
    chip.close()
    assert world.driven() == [level, 1 - level, level]


def test_a_pin_that_nobody_claimed_is_nobodys(world):
    chip = _real_chip(world.path, LINES)
    pin = chip.factory.pin(f"GPIO{RELAY}")
    assert chip.factory.holder(RELAY) == ""
    with pytest.raises(chip.faults):
        _ = pin.state
    with pytest.raises(PinSetInput):
        pin.state = True
    with pytest.raises(PinInvalidFunction, match='got "output"'):
        pin.function = "output"
    with pytest.raises(PinInvalidPull, match="expected a pull of floating, up, down"):
        pin.pull = "sideways"
    with pytest.raises(PinInvalidEdges, match="expected edges of"):
        pin.edges = "all"
    assert world.driven() == []
    pin.function = "input"
    assert chip.factory.holder(RELAY) == "doord"
    chip.close()


def test_the_kernel_is_asked_for_pull_and_edges(gpiod):
    fake = gpiod()
    chip = _real_chip("/dev/gpiochip0", LINES)
    pin = chip.factory.pin(f"GPIO{FIRST}")
    pin.function = "input"
    assert (pin.pull, fake.settings(FIRST).bias) == ("floating", Bias.DISABLED)
    for pull, bias in (("up", Bias.PULL_UP), ("down", Bias.PULL_DOWN), ("floating", Bias.DISABLED)):
        pin.pull = pull
        assert (pin.pull, fake.settings(FIRST).bias) == (pull, bias)
    assert fake.settings(FIRST).edge_detection is EdgeDetection.NONE

    def hear(_at: float, _level: int) -> None:
        pass

    pin.when_changed = hear
    assert fake.settings(FIRST).edge_detection is EdgeDetection.BOTH
    pin.when_changed = None
    assert fake.settings(FIRST).edge_detection is EdgeDetection.NONE
    chip.close()
    assert not fake.open
