"""The card readers' drivers: a pipe for an input device, simulated edges for two lines."""

from __future__ import annotations

import threading

import pytest
from broker import wait_until
from fakes_access import FakeWedge
from test_wiegand import bits_of

from edge.config import Config, DoorConfig, ReadersConfig, RelayConfig, WedgeConfig, WiegandConfig
from edge.door.edges import SimulatedEdges
from edge.door.readers import WedgeReader, WiegandReader, open_readers
from edge.door.wiegand import Card
from edge.errors import LineError


@pytest.fixture
def cable(tmp_path):
    cable = FakeWedge(tmp_path / "event0")
    cable.plug()
    return cable


def wedge(cable: FakeWedge, **more) -> tuple[WedgeReader, list[str]]:
    told: list[str] = []
    return WedgeReader(WedgeConfig(str(cable.path)), told.append, simulation=True, **more), told


def test_a_typed_card_is_told_once(cable):
    reader, told = wedge(cable)
    reader.step()
    cable.type("0012345678")
    reader.step()
    assert told == ["wedge:0012345678"]
    reader.step()
    assert told == ["wedge:0012345678"]
    reader.close()
    reader.close()


def test_an_event_that_comes_in_two_pieces_is_one_event(cable):
    reader, told = wedge(cable)
    reader.step()
    import struct

    content = b"".join(struct.pack("@llHHi", 0, 0, 1, code, 1) for code in (2, 3, 28))
    for byte in content:
        cable.send_raw(bytes([byte]))
        reader.step()
    assert told == ["wedge:12"]


def test_what_is_no_card_is_logged_without_its_digits(cable, caplog):
    reader, told = wedge(cable)
    reader.step()
    with caplog.at_level("WARNING", "edge"):
        cable.send([(1, code, 1) for code in (2, 3, 57, 28)])
        reader.step()
    assert told == []
    warned = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert [message.split("no card: ")[1] for message in warned] == ["expected 0-9 and A-Z, got key 57"]


def test_a_reader_that_is_unplugged_is_said_once_and_comes_back(tmp_path, caplog):
    now = [0.0]
    cable = FakeWedge(tmp_path / "event0")
    cable.plug()
    reader, told = wedge(cable, clock=lambda: now[0])
    reader.step()
    assert reader.fault is None
    with caplog.at_level("INFO", "edge"):
        cable.unplug()
        reader.step()
        assert reader.fault == f"card reader {cable.path}: was unplugged"
        cable.path.unlink()
        for _ in range(3):
            now[0] += 10
            reader.step()
    assert reader.fault.endswith("No such file or directory")
    assert sum("No such file" in r.message for r in caplog.records) == 1
    again = FakeWedge(cable.path)
    again.plug()
    now[0] += 10
    reader.step()
    again.type("77")
    reader.step()
    assert (told, reader.fault) == (["wedge:77"], None)


def test_a_reader_is_not_tried_again_at_once(tmp_path):
    reader, _ = wedge(FakeWedge(tmp_path / "event0"), clock=lambda: 0.0)
    (tmp_path / "event0").unlink()
    reader.step()
    cable = FakeWedge(tmp_path / "event0")
    cable.plug()
    reader.step()
    assert reader.fault is not None


def test_a_real_reader_must_let_itself_be_grabbed(cable):
    """Else what it types goes to the console as well; a pipe can't be grabbed."""
    reader = WedgeReader(WedgeConfig(str(cable.path)), lambda card: None)
    reader.step()
    assert "Inappropriate ioctl" in reader.fault


def at_pace(card: Card, start: float) -> list[tuple[float, int]]:
    return [(start + i * 0.001, bit) for i, bit in enumerate(bits_of(card))]


class Wiegand:
    """A reader on simulated lines; the clock stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.lines = SimulatedEdges()
        self.reader = WiegandReader(self.lines, (26, 34, 37), self.told.append, lambda: self.now)

    def send(self, edges, lost: int | None = None) -> None:
        """Let edges fall at the times given, all but the one that is `lost`."""
        for i, (at, line) in enumerate(edges):
            self.lines.fall(line, at, lost=i == lost)

    def drain(self) -> None:
        while not self.lines._waiting.empty():
            self.reader.step()
        self.reader.step()  # the end of the last frame


@pytest.fixture
def wiegand():
    wiegand = Wiegand()
    yield wiegand
    wiegand.reader.close()


def test_edges_of_two_lines_are_cards(wiegand):
    sent = [Card(12, 3456, 26), Card(1, 2, 34), Card(65535, 524287, 37)]
    for i, card in enumerate(sent):
        wiegand.send(at_pace(card, 1.0 + i))
    wiegand.drain()
    assert wiegand.told == ["wiegand26:12-3456", "wiegand34:1-2", "wiegand37:65535-524287"]


def test_half_a_frame_is_logged_and_the_next_is_read(wiegand, caplog):
    wiegand.send(at_pace(Card(12, 3456, 26), 1.0)[:13])
    wiegand.send(at_pace(Card(12, 3456, 26), 2.0))
    with caplog.at_level("WARNING", "edge"):
        wiegand.drain()
    assert wiegand.told == ["wiegand26:12-3456"]
    assert "expected 26, 34, 37 bits, got 13" in caplog.text


@pytest.mark.parametrize("lost", [0, 12, 25])
def test_a_frame_of_which_an_edge_was_lost_is_refused_with_that_reason_and_the_next_is_read(
    wiegand, caplog, lost
):
    cards = [Card(12, number, 26) for number in (1, 2, 3)]
    wiegand.send(at_pace(cards[0], 1.0))
    wiegand.send([*at_pace(cards[1], 2.0), (2.026, 0)], lost=lost)
    wiegand.send(at_pace(cards[2], 3.0))
    with caplog.at_level("WARNING", "edge"):
        wiegand.drain()
    assert wiegand.told == ["wiegand26:12-1", "wiegand26:12-3"]
    assert "no card: edges were lost on the way from the lines" in caplog.text


def test_a_frame_behind_a_pause_is_read(wiegand):
    for number in (1, 2):
        wiegand.send(at_pace(Card(12, number, 26), float(number)))
        wiegand.drain()
        wiegand.reader.step()
    assert wiegand.told == ["wiegand26:12-1", "wiegand26:12-2"]


def test_edges_from_another_thread_are_read_while_they_come(wiegand):
    done = threading.Event()

    def turn() -> None:
        while not done.is_set():
            wiegand.reader.step()

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for i in range(20):
            wiegand.send(at_pace(Card(9, i, 26), float(i + 1)))
        wait_until(lambda: len(wiegand.told) == 20, "all frames")
    finally:
        done.set()
        thread.join(5)
    assert wiegand.told == [f"wiegand26:9-{i}" for i in range(20)]


def test_lines_that_go_are_said_once_are_tried_every_two_seconds_and_come_back(wiegand, caplog):
    with caplog.at_level("INFO", "edge"):
        wiegand.send(at_pace(Card(9, 1, 26), 1.0)[:13])
        wiegand.drain()
        wiegand.lines.plug(False)
        wiegand.reader.step()
        assert wiegand.reader.fault == "card reader simulated lines: the chip is gone"
        for _ in range(3):
            wiegand.now += 2.0
            wiegand.reader.step()
        assert wiegand.reader.fault == "card reader simulated lines: can't be claimed: no such chip"
        wiegand.lines.plug(True)
        wiegand.now += 1.9
        wiegand.reader.step()
        assert wiegand.reader.fault is not None, "not before its time"
        wiegand.now += 0.1
        wiegand.reader.step()
    assert wiegand.reader.fault is None
    assert [r.levelname for r in caplog.records if "simulated lines" in r.message][-3:] == [
        "ERROR",
        "ERROR",
        "INFO",
    ]
    wiegand.send(at_pace(Card(9, 2, 26), 9.0))
    wiegand.drain()
    assert wiegand.told == ["wiegand26:9-2"]


def test_a_line_that_can_not_be_claimed_ends_the_start():
    lines = SimulatedEdges()
    lines.plug(False)
    with pytest.raises(LineError, match="simulated lines: can't be claimed"):
        WiegandReader(lines, (26,), lambda card: None)


def test_after_closing_no_edge_is_taken(wiegand):
    wiegand.reader.close()
    wiegand.reader.close()
    wiegand.send(at_pace(Card(9, 2, 26), 9.0))
    wiegand.reader.step()
    assert wiegand.told == []


def test_the_configured_readers_are_opened_and_no_others(tmp_path):
    door = DoorConfig(RelayConfig(17))
    assert open_readers(Config("hq", "front", door), lambda card: None) == []
    both = ReadersConfig(WedgeConfig(str(tmp_path / "event0")), WiegandConfig(5, 6))
    found = open_readers(Config("hq", "front", door, simulation=True, readers=both), lambda card: None)
    assert [type(reader) for reader in found] == [WiegandReader, WedgeReader]
    for reader in found:
        reader.close()


def test_a_real_readers_line_that_is_the_doors_by_another_name_is_refused(monkeypatch):
    """gpiochip0 and its label are one chip; that shows when both are looked for."""
    monkeypatch.setattr("edge.door.chips._chip_labelled", lambda label: "/dev/gpiochip0")
    door = DoorConfig(RelayConfig(17))
    readers = ReadersConfig(wiegand=WiegandConfig(5, 17, "label:pinctrl-rp1"))
    with pytest.raises(
        LineError, match=r"gpiochip0 line 17: is both door\.relay\.line and readers\.wiegand\.data1"
    ):
        open_readers(Config("hq", "front", door, readers=readers), lambda card: None)
