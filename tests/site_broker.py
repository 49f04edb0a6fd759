"""The shipped Mosquitto configuration on a loopback port, and a client with a certificate of the site."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import msgspec
from admin_site import NOW
from broker import PATIENCE_S, Broker, wait_until
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.admin.broker_files import write_broker_files
from edge.admin.folder import OpenSite


def site_broker(site: OpenSite, folder: Path) -> Broker:
    """Not started; the site's record names its port from here on."""
    write_broker_files(site, folder / "files", NOW, ["127.0.0.1", "localhost"], at=str(folder / "files"))
    lines = [
        line
        for line in (folder / "files" / "mosquitto.conf").read_text().splitlines()
        if not line.startswith(("#", "listener"))
    ]
    made = Broker(folder / "run", *lines)
    settings = site.records.site()
    site.records.put_site(msgspec.structs.replace(settings, broker_port=made.port))
    return made


class Guest:
    """A client over TLS; keeps what it hears and how its messages were answered."""

    def __init__(self, port: int, folder: Path, ca: str, certificate: str, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("ca.pem", ca), ("guest.pem", certificate), ("guest.key", key)):
            (folder / name).write_text(text)
        self.kept: dict[str, bytes] = {}
        self.heard: list[str] = []
        self.answers: dict[int, int] = {}
        self.connected = threading.Event()
        self.over = threading.Event()
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
        context.load_cert_chain(folder / "guest.pem", folder / "guest.key")
        self._client.tls_set_context(context)
        self._client.on_connect = lambda c, u, f, reason, p: (
            None if reason.is_failure else self.connected.set()
        )
        self._client.on_disconnect = lambda *_: self.over.set()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_publish = lambda c, u, mid, reason, p: self.answers.__setitem__(mid, reason.value)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: object, _userdata: object, message: object) -> None:
        self.heard.append(message.topic)
        if message.payload:
            self.kept[message.topic] = message.payload
        else:
            self.kept.pop(message.topic, None)

    def subscribe(self, topics: str) -> None:
        self._subscribed.clear()
        self._client.subscribe(topics, qos=1)
        assert self._subscribed.wait(PATIENCE_S)

    def say(self, topic: str, payload: bytes = b"x", retain: bool = False) -> int:
        """The broker's answer: below 128 it took the message."""
        mid = self._client.publish(topic, payload, qos=1, retain=retain).mid
        wait_until(lambda: mid in self.answers or self.over.is_set(), f"an answer on {topic}")
        return self.answers.get(mid, 255)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Guest:
        assert self.connected.wait(PATIENCE_S), "the guest was not let in"
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
