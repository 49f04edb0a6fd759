"""The link's words to Home Assistant, over a real Mosquitto; and what its status says of the unit."""

from __future__ import annotations

import pytest
from broker import Broker, Listener, wait_until
from test_mqtt import HEALTHY, QUICK, TOPICS, connected, details, errors, event, opened, post

from edge.config import MqttConfig
from edge.link import wire
from edge.link.broker import Login
from edge.link.discovery import announce
from edge.link.mqtt import MqttLink
from edge.link.vitals import Vitals

ANNOUNCED = announce(TOPICS, "0.1.0", 60)
CONFIG = "homeassistant/device/doord-front/config"


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "broker") as running:
        yield running


class Assistant(Listener):
    """Home Assistant's side: hears what is announced, and says that it was born."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._client.on_connect = lambda c, u, f, r, p: c.subscribe("homeassistant/#", qos=1)

    def is_born(self, word: bytes = b"online") -> None:
        self._client.publish("homeassistant/status", word, qos=1).wait_for_publish(15)

    @property
    def told(self) -> list[bytes]:
        return self.on("doord-front/config")


@pytest.fixture
def announcing(tmp_path):
    """announcing(port): a started link that announces itself; closed at the end."""
    made: list[MqttLink] = []

    def make(port: int) -> MqttLink:
        ledger, settings = opened(tmp_path / "events.db"), Login(MqttConfig(host="127.0.0.1", port=port))
        made.append(MqttLink(settings, TOPICS, ledger, True, announcement=ANNOUNCED, retry_s=QUICK))
        made[-1].start()
        return made[-1]

    yield make
    for link in made:
        link.close(1.0)


def test_home_assistant_is_told_at_each_connection_and_each_of_its_births(broker, announcing):
    with Assistant(broker.port) as home:
        link = connected(announcing(broker.port))
        wait_until(lambda: home.told == [ANNOUNCED.payload], "told at the connection")
        home.is_born(b"offline")
        home.is_born()
        wait_until(lambda: len(home.told) == 2, "told again at the birth")
        broker.stop()
        wait_until(lambda: not link.connected, "the broker is gone")
        broker.start()
        connected(link)
        wait_until(lambda: len(home.told) >= 3, "told again at the connection")
        assert set(home.told) == {ANNOUNCED.payload}
    with Assistant(broker.port) as late:
        wait_until(lambda: late.told, "what the broker keeps")
        assert late.heard[0].retained


def test_a_broker_that_does_not_let_it_be_announced_is_not_asked_again(tmp_path, announcing, caplog):
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite doord/#\n")
    with Broker(tmp_path / "b", f"acl_file {rules}") as broker:
        link = announcing(broker.port)
        wait_until(lambda: "its access rules?" in caplog.text, "the refusal is said")
        with Listener(broker.port) as heard:
            for i in range(50):
                post(link, event(str(i)))
            wait_until(lambda: len(details(heard)) == 50, "events all the same")
        broker.stop()
        wait_until(lambda: not link.connected, "the broker is gone")
        broker.start()
        connected(link)
        with Listener(broker.port) as late:
            wait_until(lambda: late.on("/status"), "the new connection's status")
        assert broker.log.count("Denied PUBLISH") == 1
    assert errors(caplog)[0].endswith(
        f"it refused {CONFIG}: Not authorized; not sent again (its access rules?)"
    )


def test_the_status_says_how_the_unit_fares_and_how_many_events_wait(broker, announcing):
    link = announcing(broker.port)
    link.set_vitals(Vitals(temperature_c=48.3, camera_fps=14.7))
    link.set_health(HEALTHY)
    with Listener(broker.port) as heard:
        wait_until(lambda: heard.on("/status"), "the status")
        vitals = wire.decode_status(heard.on("/status")[-1]).vitals
    assert vitals == Vitals(temperature_c=48.3, camera_fps=14.7, queue=0)
