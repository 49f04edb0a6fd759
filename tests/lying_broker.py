"""A broker that accepts a door and then sends it what no honest one would: a socket and a few packets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

CONNACK = bytes([0x20, 3, 0, 0, 0])
SUBSCRIBE = 0x82


def remaining(length: int) -> bytes:
    """MQTT's variable byte integer."""
    out = bytearray()
    while True:
        length, low = divmod(length, 128)
        out.append(low | (0x80 if length else 0))
        if not length:
            return bytes(out)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + remaining(len(body)) + body


def publication(topic: bytes, payload: bytes, qos: int, mid: int = 1) -> bytes:
    number = mid.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1, len(topic).to_bytes(2, "big") + topic + number + b"\0" + payload)


class LyingBroker:
    """Grants the first subscription of each connection, then does `attack(connection)`."""

    def __init__(self, attack: Callable[[socket.socket], None]) -> None:
        self._attack = attack
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> LyingBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(15)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.connections += 1
                connection.settimeout(15)
                self._greet(connection)
                self._attack(connection)
                while connection.recv(4096):
                    pass

    def _greet(self, connection: socket.socket) -> None:
        self._read(connection)
        connection.sendall(CONNACK)
        first, body = self._read(connection)
        if first != SUBSCRIBE:
            raise ConnectionError("the door said goodbye")
        connection.sendall(packet(0x90, body[:2] + b"\0" + b"\1\1\1"))

    @staticmethod
    def _read(connection: socket.socket) -> tuple[int, bytes]:
        first = _byte(connection)
        length, shift = 0, 0
        while True:
            byte = _byte(connection)
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        body = b""
        while len(body) < length:
            body += connection.recv(length - len(body))
        return first, body


def _byte(connection: socket.socket) -> int:
    got = connection.recv(1)
    if not got:
        raise ConnectionError("the door is gone")
    return got[0]
