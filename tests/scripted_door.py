"""A door on the wire, full sibling of the daemon's: it attests, judges orders, and answers, signed."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from broker import PATIENCE_S
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from securesystemslib.signer import CryptoSigner, Key
from signing import Received, an_attestation, attested, new_signer

from edge.admin.model import Door
from edge.config import MqttConfig
from edge.link import dsse, orders, wire
from edge.link.client import BoundedClient
from edge.link.commands import Accepted, CommandDesk, Refused
from edge.link.counters import next_epoch
from edge.link.orders import Attestation, Reply

ADDED = "2026-11-01T00:00:00.000Z"


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class ScriptedDoor:
    """`history` has each verdict; `obey` says what becomes of an accepted order."""

    def __init__(
        self,
        folder: Path,
        port: int,
        keys: dict[str, Key],
        door: str = "front",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.door = door
        self.signer: CryptoSigner = new_signer()
        self.history: list[Accepted | Refused] = []
        self.obey: Callable[[Accepted], bool] = lambda accepted: True
        self.now_utc: Callable[[], datetime | None] = utc_now
        self.garble: Callable[[bytes], list[bytes]] = lambda reply: [reply]  # what a broker makes of it
        self._folder = folder
        self._port = port
        self._keys = keys
        self._tls = tls
        self._topics = wire.Topics("hq", door)
        self._start()

    def record(self, **changes: object) -> Door:
        key = self.signer.public_key
        public = {"keyid": key.keyid, **key.to_dict()}
        return Door(self.door, ADDED, b"k" * 32, public, 1, **changes)  # type: ignore[arg-type]

    def restart(self, attest: bool = True) -> None:
        self.stop()
        self._start()
        if attest:
            self.attest()

    def attest(self, signer: CryptoSigner | None = None, **changes: Any) -> Attestation:
        """Say what it is, as the daemon does at each change."""
        fields = {"door": self.door, "epoch": self.epoch, "at": wire.rfc3339(utc_now().timestamp())}
        said = an_attestation(**{**fields, **changes})
        self.publish(self._topics.attestation, attested(said, signer or self.signer), retain=True)
        return said

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _start(self) -> None:
        self.epoch = next_epoch(self._folder / "starts")
        self._desk = CommandDesk("hq", self.door, self.epoch, self._folder / "counters")
        subscribed = threading.Event()
        config = MqttConfig(host="127.0.0.1", port=self._port)
        self._client = BoundedClient(f"door-{self.door}", config, self._tls, None, 128 * 1024)
        self._client.on_subscribe = lambda c, u, m, r, p: subscribed.set()
        self._client.on_message = self._on_message
        self._client.open()
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        self._client.subscribe(self._topics.command, options=options)
        assert subscribed.wait(PATIENCE_S), "the door could not subscribe"

    def _on_message(self, client: Client, _data: object, message: MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        verdict = self._desk.consider(
            Received(message.payload, message.retain, correlation), self._keys, self.now_utc()
        )
        self.history.append(verdict)
        done = isinstance(verdict, Accepted) and self.obey(verdict)
        reply = self._desk.reply(verdict, done, "Accessed" if done else "not obeyed")
        if reply is not None:
            self._answer(reply, correlation)

    def _answer(self, reply: Reply, correlation: bytes | None) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        if correlation is not None:
            properties.CorrelationData = correlation
        for data in self.garble(dsse.sign(orders.encode(reply), orders.REPLY_TYPE, self.signer)):
            self._client.publish(self._topics.reply, data, qos=1, properties=properties)


def resigned(data: bytes, signer: CryptoSigner, claim: Key, **changes: object) -> bytes:
    """A reply with other content, signed by somebody who claims to be the door."""
    envelope = msgspec.json.decode(data)
    reply = orders.decode_reply(msgspec.json.decode(data, type=_Payload).payload)
    forged = dsse.sign(orders.encode(msgspec.structs.replace(reply, **changes)), orders.REPLY_TYPE, signer)
    envelope = msgspec.json.decode(forged)
    envelope["signatures"][0]["keyid"] = claim.keyid
    return msgspec.json.encode(envelope)


class _Payload(msgspec.Struct):
    payload: bytes
