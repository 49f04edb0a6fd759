"""A small sibling of the collector, in a process of its own, to be killed: event_collector.py FILE PORT.

It stores what follows the chain and acks it after the commit. What does not follow yet comes again.
"""

from __future__ import annotations

import queue
import sqlite3
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from securesystemslib.signer import CryptoSigner

from edge.link import dsse, orders, wire

COLLECTOR = CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
TOPICS = wire.Topics("hq", "front")
BATCH = 100


class Store:
    """Events and the chain's head, in one commit."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE IF NOT EXISTS events (n INTEGER PRIMARY KEY, seq INTEGER, id TEXT, payload BLOB)",
            "CREATE TABLE IF NOT EXISTS chain (one INTEGER PRIMARY KEY, seq INTEGER, prev TEXT)",
        ):
            self._database.execute(statement)
        row = self._database.execute("SELECT seq, prev FROM chain").fetchone()
        self.head = wire.ChainHead(*row) if row else wire.GENESIS

    def take(self, payloads: list[bytes]) -> None:
        head = self.head
        self._database.execute("BEGIN")
        for payload in payloads:
            event = wire.decode_event(payload)
            if event.seq == head.seq + 1:
                _, head = wire.follow(payload, head)
                insert = "INSERT INTO events (seq, id, payload) VALUES (?, ?, ?)"
                self._database.execute(insert, (event.seq, event.id, payload))
        self._database.execute("REPLACE INTO chain VALUES (1, ?, ?)", (head.seq, head.prev))
        self._database.execute("COMMIT")
        self.head = head


def connect(port: int, inbox: queue.SimpleQueue[MQTTMessage | None]) -> Client:
    client = Client(
        CallbackAPIVersion.VERSION2, "collector", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
    )
    client.reconnect_delay_set(1, 1)

    def on_connect(*_: object) -> None:
        client.subscribe(TOPICS.event, qos=1)
        inbox.put(None)

    client.on_connect = on_connect
    client.on_message = lambda _c, _u, message: inbox.put(message)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    client.connect_async("127.0.0.1", port, clean_start=False, properties=properties)
    client.loop_start()
    return client


def run(path: Path, port: int) -> None:
    store = Store(path)
    inbox: queue.SimpleQueue[MQTTMessage | None] = queue.SimpleQueue()
    client = connect(port, inbox)
    while True:
        batch = [inbox.get()]
        while len(batch) < BATCH and not inbox.empty():
            batch.append(inbox.get())
        messages = [message for message in batch if message is not None]
        store.take([message.payload for message in messages])
        for message in messages:
            client.ack(message.mid, 1)
        if store.head.seq:
            at = wire.rfc3339(time.time())
            ack = orders.Ack("hq", "front", store.head.seq, store.head.prev, at)
            client.publish(TOPICS.ack, dsse.sign(orders.encode(ack), orders.ACK_TYPE, COLLECTOR), qos=1)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
