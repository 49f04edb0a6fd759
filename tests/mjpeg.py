"""A camera on the network that misbehaves to order: MJPEG over HTTP on a free loopback port."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

import cv2
import numpy as np
from grabbing import head_of_request
from numpy.typing import NDArray

BOUNDARY = b"frame"


class MjpegServer:
    """Serves each visitor by `behave(wire, visit)`, visit counted from 0; hangs up when it returns."""

    def __init__(
        self, behave: Callable[[Wire, int], None], port: int = 0, context: ssl.SSLContext | None = None
    ) -> None:
        self.behave, self.context = behave, context
        self.requests: list[bytes] = []
        self.closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}/video"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._wires: list[Wire] = []

    def __enter__(self) -> MjpegServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for wire in self._wires:
            wire.hang_up()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self.context is not None:
                connection.settimeout(5)
                try:
                    connection = self.context.wrap_socket(connection, server_side=True)
                except OSError:  # the visitor does not believe the certificate
                    connection.close()
                    continue
                connection.settimeout(None)
            wire = Wire(connection, self.closing)
            self._wires.append(wire)
            thread = threading.Thread(target=self._serve, args=(wire, len(self._wires) - 1), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, wire: Wire, visit: int) -> None:
        try:
            self.requests.append(wire.request())
            self.behave(wire, visit)
        except OSError:
            pass  # the visitor left
        finally:
            wire.hang_up()


class Wire:
    """One visitor's connection."""

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self._connection = connection
        self._closing = closing

    def request(self) -> bytes:
        return head_of_request(self._connection)

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def head(self, status: str = "200 OK", kind: str | None = None, extra: str = "") -> None:
        kind = kind or f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
        self.send(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}\r\n".encode())

    def frame(self, pixels: NDArray[np.uint8]) -> None:
        self.send(part(jpeg(pixels)))

    def pause(self, seconds: float) -> None:
        """Send nothing for a while; ends early, as a hang-up, when the test is over."""
        if self._closing.wait(seconds):
            raise OSError

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def part(body: bytes, length: bool = True) -> bytes:
    told = f"Content-Length: {len(body)}\r\n".encode() if length else b""
    return b"--" + BOUNDARY + b"\r\nContent-Type: image/jpeg\r\n" + told + b"\r\n" + body + b"\r\n"


def steady(wire: Wire, shots: list[NDArray[np.uint8]], fps: float = 50) -> None:
    """A well-behaved camera: each picture once, then it hangs up."""
    wire.head()
    for shot in shots:
        wire.frame(shot)
        wire.pause(1 / fps)
