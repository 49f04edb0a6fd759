"""The collector against a real Mosquitto: nothing lost, nothing twice, whatever is killed."""

from __future__ import annotations

import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from broker import PATIENCE_S, Broker, wait_until
from collecting import FixedRoster, Numbered, findings, rows
from events import a_notice
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from signing import AT, NOW, an_attestation, attested, in_s, keys_of, new_signer

from edge.admin.collect import Collector
from edge.admin.jsonl import JsonLines
from edge.admin.placing import read_event
from edge.admin.store import EventStore, Finding
from edge.errors import AdminError, LinkError
from edge.link import dsse, orders, outbox, wire
from edge.link.acks import AckDesk
from edge.link.broker import Login
from edge.link.ledger import Ledger
from edge.link.mqtt import MqttLink
from edge.link.orders import Ack

EVENT, ATTESTATION = "doord/hq/door/front/event", "doord/hq/door/front/attestation"


class Door:
    """Publishes with QoS 1 and keeps the acks it hears."""

    def __init__(self, port: int) -> None:
        self.acks: list[bytes] = []
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "front", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda c, u, message: self.acks.append(message.payload)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"{EVENT}/ack", qos=1)
        assert subscribed.wait(PATIENCE_S)

    def send(self, *payloads: bytes, topic: str = EVENT, retain: bool = False) -> None:
        for payload in payloads:
            self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", "persistence true", "autosave_interval 1800") as running:
        yield running


@pytest.fixture
def door(broker: Broker) -> Iterator[Door]:
    made = Door(broker.port)
    yield made
    made.close()


@contextmanager
def collecting(path: Path, roster: FixedRoster, lines: Path | None = None) -> Iterator[list[Finding]]:
    """A collector on a thread of its own; what it tells."""
    told: list[Finding] = []
    stopping = threading.Event()
    made = JsonLines(lines) if lines else None
    with EventStore(path, "hq") as store:
        collector = Collector(roster, store, told.append, made, retry_s=(0.1, 0.2))
        thread = threading.Thread(target=collector.run, args=(stopping,), daemon=True)
        thread.start()
        try:
            yield told
        finally:
            stopping.set()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def stored(path: Path) -> list[tuple[int, int, bytes]]:
    with EventStore(path, "hq") as store:
        return rows(store)


def is_stored(path: Path, count: int) -> Callable[[], bool]:
    return lambda: path.exists() and len(stored(path)) == count


def test_events_are_stored_and_then_acknowledged_by_the_sites_key(tmp_path, broker, door):
    roster, path, numbered = FixedRoster(broker.port, front=new_signer()), tmp_path / "s" / "e.db", Numbered()
    with collecting(path, roster) as told:
        wait_until(lambda: "doord/hq/door/+/event" in broker.log, "the collector subscribes")
        door.send(*numbered.some(30))
        wait_until(lambda: last_ack(door, roster) == 30, "an ack of event 30")
    assert stored(path) == [(1, seq, payload) for seq, payload in numbered.sent.items()]
    assert told == []
    payload, _ = dsse.opened(door.acks[-1], orders.ACK_TYPE, keys_of(roster.signer), orders.MAX_ACK_BYTES)
    ack = orders.decode_ack(payload)
    assert (ack.site, ack.door, ack.prev) == ("hq", "front", numbered.head.prev)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """systemd, where it listens: what was told it since it was asked last."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: listening.recv(4096).decode()


def heard(manager: Callable[[], str], *wanted: str) -> None:
    """Each of these in turn, whatever comes between."""
    for words in wanted:
        while not manager().startswith(words):
            pass


def test_systemd_hears_that_the_collector_is_ready_and_turns_with_the_broker_and_without(
    tmp_path, broker, manager
):
    where = f"STATUS=broker 127.0.0.1:{broker.port}: "
    with collecting(tmp_path / "s" / "e.db", FixedRoster(broker.port)):
        heard(manager, "READY=1", f"{where}connected", "WATCHDOG=1", "WATCHDOG=1")
        broker.stop()
        heard(manager, where, "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1")
    heard(manager, "STOPPING=1")


def last_ack(door: Door, roster: FixedRoster) -> int:
    if not door.acks:
        return 0
    payload, _ = dsse.opened(door.acks[-1], orders.ACK_TYPE, keys_of(roster.signer), orders.MAX_ACK_BYTES)
    return msgspec.json.decode(payload, type=Ack).seq


def test_what_came_while_the_collector_was_away_is_collected_when_it_is_back(tmp_path, broker, door):
    roster, path, numbered = FixedRoster(broker.port, front=new_signer()), tmp_path / "s" / "e.db", Numbered()
    with collecting(path, roster):
        wait_until(lambda: "doord/hq/door/+/event" in broker.log, "the collector subscribes")
        door.send(*numbered.some(5))
        wait_until(lambda: last_ack(door, roster) == 5, "an ack of event 5")
    door.send(*numbered.some(200))
    with collecting(path, roster):
        wait_until(lambda: last_ack(door, roster) == 205, "an ack of event 205")
    assert stored(path) == [(1, seq, payload) for seq, payload in numbered.sent.items()]


def test_the_collector_subscribes_again_after_a_broker_that_forgot_it(tmp_path, broker, door):
    roster, path, numbered = FixedRoster(broker.port, front=new_signer()), tmp_path / "s" / "e.db", Numbered()
    with collecting(path, roster) as told:
        wait_until(lambda: "doord/hq/door/+/event" in broker.log, "the collector subscribes")
        door.send(*numbered.some(5))
        wait_until(lambda: last_ack(door, roster) == 5, "an ack of event 5")
        broker.stop(signal.SIGKILL)
        before = broker.log.count("doord/hq/door/+/event")
        broker.start()
        wait_until(lambda: broker.log.count("doord/hq/door/+/event") > before, "it subscribes again")
        second = Door(broker.port)
        second.send(*numbered.some(5))
        wait_until(lambda: last_ack(second, roster) == 10, "an ack of event 10")
        second.close()
    assert told == []
    assert stored(path) == [(1, seq, payload) for seq, payload in numbered.sent.items()]


def test_an_event_that_could_not_be_stored_is_not_acknowledged_and_comes_again(tmp_path, broker, door):
    roster, path, numbered = FixedRoster(broker.port, front=new_signer()), tmp_path / "s" / "e.db", Numbered()
    real = EventStore.transaction
    failures = iter([True, True])

    @contextmanager
    def full(self):
        with real(self):
            yield
            if next(failures, False):
                raise sqlite3.OperationalError("database or disk is full")

    with pytest.MonkeyPatch.context() as patch, collecting(path, roster):
        patch.setattr(EventStore, "transaction", full)
        wait_until(lambda: "doord/hq/door/+/event" in broker.log, "the collector subscribes")
        door.send(*numbered.some(40))
        wait_until(lambda: last_ack(door, roster) == 40, "an ack of event 40")
    assert next(failures, None) is None
    assert stored(path) == [(1, seq, payload) for seq, payload in numbered.sent.items()]


def test_a_signed_head_vouches_and_a_fork_is_told(tmp_path, broker, door):
    signer = new_signer()
    roster, path, numbered = FixedRoster(broker.port, front=signer), tmp_path / "s" / "e.db", Numbered()
    with collecting(path, roster) as told:
        wait_until(lambda: "doord/hq/door/+/event" in broker.log, "the collector subscribes")
        door.send(*numbered.some(3))
        said = attested(an_attestation(seq=3, prev=numbered.head.prev, at=in_s(0)), signer)
        door.send(said, topic=ATTESTATION, retain=True)
        door.send(Numbered(grain=1).next())
        wait_until(lambda: told, "a fork is told")
    assert [(one.door, one.kind) for one in told] == [("front", "Fork")]
    assert findings(path) == [("front", "Fork")]
    with EventStore(path, "hq") as store:
        found = store.connection.execute("SELECT chain, vouched FROM chain ORDER BY chain").fetchall()
    assert found == [(1, 3), (2, 0)]


def test_once_takes_what_is_there_and_says_what_is_wrong(tmp_path, broker, door):
    signer = new_signer()
    roster, path, numbered = FixedRoster(broker.port, front=signer), tmp_path / "s" / "e.db", Numbered()
    numbered.some(9)
    door.send(
        attested(an_attestation(seq=9, prev=numbered.head.prev, at="2026-01-01T00:00:00.000Z"), signer),
        topic=ATTESTATION,
        retain=True,
    )
    told: list[Finding] = []
    with EventStore(path, "hq") as store:
        Collector(roster, store, told.append).run(threading.Event(), once=True)
    assert {one.kind for one in told} == {"Silent", "Withheld"}
    broker.stop()
    with EventStore(path, "hq") as store, pytest.raises(LinkError, match="nothing listens there"):
        Collector(roster, store, told.append).run(threading.Event(), once=True)


def test_lines_of_json_have_each_event_once_though_the_last_line_was_cut(tmp_path, broker, door):
    roster, path, numbered = FixedRoster(broker.port, front=new_signer()), tmp_path / "s" / "e.db", Numbered()
    with collecting(path, roster, tmp_path / "lines"):
        wait_until(lambda: "doord/hq/door/+/event" in broker.log, "the collector subscribes")
        door.send(*numbered.some(5))
        wait_until(lambda: last_ack(door, roster) == 5, "an ack of event 5")
        wait_until(lambda: len(written(tmp_path / "lines")) == 5, "5 lines")
    (file,) = (tmp_path / "lines").glob("*")
    with file.open("r+b") as cut:
        cut.truncate(file.stat().st_size - 10)
    with collecting(path, roster, tmp_path / "lines"):
        door.send(*numbered.some(5))
        wait_until(lambda: len(written(tmp_path / "lines")) == 10, "10 lines")
    lines = written(tmp_path / "lines")
    assert [msgspec.json.decode(line)["n"] for line in lines] == list(range(1, 11))
    assert [bytes(msgspec.json.decode(line, type=_Line).event) for line in lines] == list(
        numbered.sent.values()
    )


class _Line(msgspec.Struct):
    event: msgspec.Raw


def written(folder: Path) -> list[bytes]:
    return [line for file in sorted(folder.glob("*")) for line in file.read_bytes().splitlines()]


def test_a_folder_with_lines_of_others_is_refused(tmp_path):
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "events-2026-01-01.jsonl").write_bytes(b"hello\n")
    lines = JsonLines(tmp_path / "lines")
    with (
        EventStore(tmp_path / "s" / "e.db", "hq") as store,
        pytest.raises(AdminError, match="lines that doord"),
    ):
        lines.follow(store, NOW)


@contextmanager
def a_door_that_waits_for_acks(folder: Path, broker: Broker, roster: FixedRoster) -> Iterator[Ledger]:
    """A real link over a ledger of 100 events, of which an earlier collector has acknowledged 50."""
    ledger = Ledger(folder / "door.db")
    ledger.open()
    ledger.append_all([(a_notice(str(number)), None) for number in range(100)])
    ledger.delivered(50)
    acks = AckDesk("hq", "front", ledger, lambda: keys_of(roster.signer), print)
    link = MqttLink(Login(roster.mqtt), wire.Topics("hq", "front"), ledger, simulation=True, acks=acks)
    link.start()
    try:
        yield ledger
    finally:
        link.close(1.0)
        ledger.close()


def test_a_collector_with_an_empty_store_need_not_wait_until_the_door_is_impatient(
    tmp_path, broker, monkeypatch
):
    monkeypatch.setattr(outbox, "ASKED_AGAIN_S", 0.2)
    monkeypatch.setattr(outbox, "AGAIN_S", (3600.0, 3600.0))  # so it is the collector that asks
    roster, path = FixedRoster(broker.port, front=new_signer()), tmp_path / "s" / "e.db"
    with a_door_that_waits_for_acks(tmp_path, broker, roster) as ledger:
        wait_until(lambda: "front/event'" in broker.log, "the door has sent its events to nobody")
        with collecting(path, roster):
            wait_until(lambda: ledger.cursor == 100, "all are acknowledged")
    assert [seq for _, seq, _ in stored(path)] == list(range(51, 101))


def test_a_collector_that_is_back_says_first_what_it_has(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(outbox, "ASKED_AGAIN_S", 0.2)
    monkeypatch.setattr(outbox, "AGAIN_S", (3600.0, 3600.0))
    roster, path = FixedRoster(broker.port, front=new_signer()), tmp_path / "s" / "e.db"
    with a_door_that_waits_for_acks(tmp_path, broker, roster) as ledger:
        with EventStore(path, "hq") as store, store.transaction():
            for record in ledger.after(0, 80):
                store.book("front").take(read_event(record.payload), AT)
        with collecting(path, roster):
            wait_until(lambda: ledger.cursor == 100, "all are acknowledged")
    assert [seq for _, seq, _ in stored(path)] == list(range(1, 101))
