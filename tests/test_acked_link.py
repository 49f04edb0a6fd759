"""The link where the collector's acks count, against a real Mosquitto."""

from __future__ import annotations

import hashlib
import json
import signal

import pytest
from broker import Broker, Listener, wait_until
from events import a_notice
from signing import AT, keys_of, new_signer

from edge.config import MqttConfig
from edge.link import dsse, orders, wire
from edge.link.acks import AckDesk
from edge.link.broker import Login
from edge.link.ledger import Ledger
from edge.link.mqtt import MqttLink
from edge.link.port import Health
from edge.link.vitals import Vitals

TOPICS = wire.Topics("hq", "front")
COLLECTOR, EVE = new_signer(), new_signer()


class Scene:
    """A door's link with its ledger, and somebody who listens."""

    def __init__(self, folder, broker: Broker, listener: Listener) -> None:
        self.broker, self.listener = broker, listener
        self.ledger = Ledger(folder / "events.db")
        self.ledger.open()
        self.told: list[str] = []
        desk = AckDesk("hq", "front", self.ledger, lambda: keys_of(COLLECTOR), self.told.append)
        login = Login(MqttConfig(host="127.0.0.1", port=broker.port))
        self.link = MqttLink(login, TOPICS, self.ledger, simulation=True, acks=desk, retry_s=(0.05, 0.1))
        self.link.start()
        wait_until(lambda: self.link.connected, "the link is connected")

    def add(self, *details: str) -> None:
        for detail in details:
            self.ledger.append(a_notice(detail))
        self.link.wake()

    def heard(self) -> list[str]:
        return [json.loads(payload)["detail"] for payload in self.listener.on("/event")]

    def ack(self, seq: int, signer=COLLECTOR) -> None:
        stored = self.ledger.find(seq)
        digest = hashlib.sha256(stored.payload).hexdigest() if stored else "0" * 64
        ack = orders.Ack("hq", "front", seq, digest, AT)
        self.say(TOPICS.ack, dsse.sign(orders.encode(ack), orders.ACK_TYPE, signer))

    def say(self, topic: str, payload: bytes) -> None:
        self.listener._client.publish(topic, payload, qos=1)

    def received(self) -> int:
        """How many events the broker was sent by the door, over its restarts."""
        lines = self.broker.log.splitlines()
        return sum(
            "Received PUBLISH from doord-hq-front" in line and "front/event'" in line for line in lines
        )


@pytest.fixture
def scene(tmp_path):
    with Broker(tmp_path / "broker") as broker, Listener(broker.port) as listener:
        made = Scene(tmp_path, broker, listener)
        yield made
        made.link.close(1.0)


def test_what_the_collector_has_not_acked_comes_again_after_a_reconnect(scene):
    scene.add("a", "b", "c")
    wait_until(lambda: scene.heard() == ["a", "b", "c"], "three events")
    scene.ack(2)
    wait_until(lambda: scene.ledger.cursor == 2, "the cursor moves")
    assert scene.received() == 3
    scene.broker.stop(signal.SIGKILL)
    scene.broker.start()
    wait_until(lambda: scene.received() == 4, "the third again")
    scene.add("d")
    wait_until(lambda: scene.received() == 5, "the next")
    assert scene.ledger.undelivered == 2


def test_what_the_broker_took_and_the_collector_did_not_ack_still_waits(scene):
    scene.link.set_vitals(Vitals())
    scene.add("a", "b", "c")
    wait_until(lambda: scene.heard() == ["a", "b", "c"], "three events")
    scene.ack(1)
    wait_until(lambda: scene.ledger.cursor == 1, "the cursor moves")
    scene.link.set_health(Health(armed=True))
    wait_until(lambda: queue_told(scene) == 2, "the status tells of the two that wait")


def queue_told(scene: Scene) -> int | None:
    statuses = [wire.decode_status(payload) for payload in scene.listener.on("/status")]
    return statuses[-1].vitals.queue if statuses and statuses[-1].vitals else None


def test_forged_and_future_acks_move_nothing(scene):
    scene.add("a", "b")
    wait_until(lambda: scene.heard() == ["a", "b"], "two events")
    scene.ack(1, signer=EVE)
    scene.ack(99)
    scene.say(TOPICS.ack, b"\xff" * 100)
    scene.say(TOPICS.event, b"not for the door")
    scene.ack(1)
    wait_until(lambda: scene.ledger.cursor == 1, "the genuine one")
    assert len(scene.told) == 1
    assert "one of 1 known keys" in scene.told[0]
    assert [stored.seq for stored in scene.ledger.after(0, 9)] == [1, 2]
