"""The card readers' drivers: a pipe for an input device, gpiozero's mock for two lines."""

from __future__ import annotations

import sys
import threading

import gpiozero.pins.mock as mock_pins
import pytest
from broker import wait_until
from fakes_access import FakeInputs, FakeWedge
from test_wiegand import bits_of

from edge.config import Config, DoorConfig, ReadersConfig, RelayConfig, WedgeConfig, WiegandConfig
from edge.door import readers
from edge.door.readers import WedgeReader, WiegandReader, lgpio_inputs, mock_inputs, open_readers
from edge.door.wiegand import Card
from edge.errors import LineError

CONFIG = WiegandConfig(5, 6, bits=(26, 34, 37))


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
    assert [r.message.split("no card: ")[1] for r in caplog.records] == ["expected 0-9 and A-Z, got key 57"]


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
        assert reader.fault == f"card reader {cable.path}: {cable.path}: was unplugged"
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


@pytest.fixture
def lines(monkeypatch):
    """A Wiegand reader on mock lines; `send` lets edges fall at the times given."""
    now = [0.0]
    monkeypatch.setattr(mock_pins, "monotonic", lambda: now[0])
    factory = mock_inputs(CONFIG)
    told: list[str] = []
    reader = WiegandReader(CONFIG, factory, told.append)
    pins = [factory.pin("GPIO5"), factory.pin("GPIO6")]

    def send(edges) -> None:
        for at, line in edges:
            now[0] = at
            pins[line].drive_low()
            now[0] = at + 0.00005
            pins[line].drive_high()

    yield reader, send, told
    reader.close()


def at_pace(card: Card, start: float) -> list[tuple[float, int]]:
    return [(start + i * 0.001, bit) for i, bit in enumerate(bits_of(card))]


def drain(reader: WiegandReader) -> None:
    while not reader._waiting.empty():
        reader.step()
    reader.step()  # the end of the last frame


def test_edges_of_two_lines_are_cards(lines):
    reader, send, told = lines
    sent = [Card(12, 3456, 26), Card(1, 2, 34), Card(65535, 524287, 37)]
    for i, card in enumerate(sent):
        send(at_pace(card, 1.0 + i))
    drain(reader)
    assert told == ["wiegand26:12-3456", "wiegand34:1-2", "wiegand37:65535-524287"]


def test_half_a_frame_is_logged_and_the_next_is_read(lines, caplog):
    reader, send, told = lines
    send(at_pace(Card(12, 3456, 26), 1.0)[:13])
    send(at_pace(Card(12, 3456, 26), 2.0))
    with caplog.at_level("WARNING", "edge"):
        drain(reader)
    assert told == ["wiegand26:12-3456"]
    assert "expected 26, 34, 37 bits, got 13" in caplog.text


def test_edges_from_the_drivers_thread_are_read_while_they_come(lines):
    reader, send, told = lines
    done = threading.Event()

    def turn() -> None:
        while not done.is_set():
            reader.step()

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for i in range(20):
            send(at_pace(Card(9, i, 26), float(i + 1)))
        wait_until(lambda: len(told) == 20, "all frames")
    finally:
        done.set()
        thread.join(5)
    assert told == [f"wiegand26:9-{i}" for i in range(20)]


def test_a_line_that_oscillates_does_not_eat_the_memory(lines):
    reader, send, told = lines
    send((1 + i * 0.001, 0) for i in range(readers._MAX_WAITING + 100))
    assert reader._waiting.qsize() == readers._MAX_WAITING
    drain(reader)
    assert told == []


def test_after_closing_no_edge_is_taken(lines):
    reader, _, _ = lines
    pin = reader._factory.pin("GPIO5")
    reader.close()
    reader.close()
    pin.drive_low()
    assert reader._waiting.empty()


def test_a_line_that_is_not_there_is_named():
    factory = mock_inputs(CONFIG)
    with pytest.raises(LineError, match="/dev/gpiochip0 lines 5 and 7"):
        WiegandReader(WiegandConfig(5, 7), factory, lambda card: None)


def test_a_chip_that_is_no_chip_is_refused():
    with pytest.raises(LineError, match="expected /dev/gpiochip<n> or a link to one"):
        lgpio_inputs(WiegandConfig(5, 6, "/dev/null"))


def test_the_configured_readers_are_opened_and_no_others(tmp_path):
    door = DoorConfig(RelayConfig(17))
    assert open_readers(Config("hq", "front", door), lambda card: None) == []
    both = ReadersConfig(WedgeConfig(str(tmp_path / "event0")), CONFIG)
    found = open_readers(Config("hq", "front", door, simulation=True, readers=both), lambda card: None)
    assert [type(reader) for reader in found] == [WiegandReader, WedgeReader]
    for reader in found:
        reader.close()


@pytest.fixture
def lgpio(monkeypatch):
    """lgpio(...): put a FakeInputs where the real one would be imported from."""

    def install(*args, **kwargs) -> FakeInputs:
        fake = FakeInputs(*args, **kwargs)
        monkeypatch.setitem(sys.modules, "lgpio", fake)
        monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
        monkeypatch.delattr("gpiozero.pins.lgpio", raising=False)
        return fake

    yield install
    sys.modules.pop("gpiozero.pins.lgpio", None)


def test_real_lines_are_pulled_up_alert_on_falling_edges_and_go_by_the_kernels_time(lgpio):
    fake, told = lgpio(), []
    reader = WiegandReader(CONFIG, lgpio_inputs(CONFIG), told.append)
    assert (fake.flags, fake.alerts) == ({5: fake.SET_PULL_UP, 6: fake.SET_PULL_UP}, {5: 2, 6: 2})
    for at, line in at_pace(Card(12, 3456, 26), 1000.0):
        fake.edge(at, 5 + line)
    drain(reader)
    assert told == ["wiegand26:12-3456"]
    reader.close()
    assert not fake.open


def test_a_line_that_another_holds_is_named_and_the_chip_is_closed(lgpio):
    fake = lgpio(held={6})
    with pytest.raises(LineError, match="/dev/gpiochip0 lines 5 and 6: GPIO busy"):
        WiegandReader(CONFIG, lgpio_inputs(CONFIG), lambda card: None)
    assert not fake.open


def test_a_chip_that_can_not_be_opened_is_named(lgpio):
    lgpio(chips=())
    with pytest.raises(LineError, match="/dev/gpiochip0: can not open gpiochip: expected a GPIO chip"):
        lgpio_inputs(CONFIG)


def test_without_lgpio_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lgpio", None)
    with pytest.raises(LineError, match=r"pip install 'doord\[gpio\]'"):
        lgpio_inputs(CONFIG)
