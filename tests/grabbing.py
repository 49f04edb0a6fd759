"""What tests of network cameras share: grabbers that are stopped, and the head of a request."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

from edge.config import CameraConfig
from edge.vision.camera import open_camera
from edge.vision.grabber import Grabber


@contextlib.contextmanager
def grabbing() -> Iterator[Callable[..., Grabber]]:
    """start(source, **more of the camera's configuration): a started grabber, stopped at the end."""
    grabbers: list[Grabber] = []

    def start(source: str, **options: object) -> Grabber:
        camera = CameraConfig(source=source, **({"stall_s": 1} | options))
        grabbers.append(Grabber(lambda: open_camera(camera), camera))
        grabbers[-1].start()
        return grabbers[-1]

    try:
        yield start
    finally:
        for grabber in grabbers:
            grabber.stop()


def head_of_request(connection: socket.socket) -> bytes:
    """Bytes to the empty line. Raises OSError: the visitor went before."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        more = connection.recv(4096)
        if not more:
            raise OSError
        heard += more
    return heard
