"""A network camera that sends MJPEG over HTTP.

Written over http.client and not OpenCV's FFMPEG: each wait has one deadline, memory is bounded,
no redirect is followed, and no frame waits in a demuxer's buffer.
"""

from __future__ import annotations

import base64
import contextlib
import io
import select
import socket
import ssl
import string
import time
from http.client import BadStatusLine, HTTPException, HTTPResponse, UnknownProtocol
from typing import cast
from urllib.parse import SplitResult, quote, unquote

from edge.camera_config import camera_url, shown_source
from edge.config import CameraConfig
from edge.errors import CameraError, ImageError
from edge.values import Frame
from edge.vision.multipart import Part, PartParser, boundary_of
from edge.vision.pictures import decode_picture

_MAX_PIXELS = 4096 * 4096  # the largest width and height the config knows
_CHUNK_BYTES = 64 * 2**10
_PORTS = {"http": 80, "https": 443}
_CATCH_UP_S = 0.1  # a sender faster than us may keep read() from returning no longer than this


class MjpegCamera:
    """Port CameraSource over `http(s)://[user:password@]host[:port]/path`; https is verified, host name too.

    `taken_at` is when a frame's first byte arrived here: the protocol has no clock that could be
    trusted, so a delay inside the camera or the network stays unseen. When several frames wait,
    the newest is returned. A part that is no picture is skipped. Not bounded by `stall_s`: the
    resolver, when the host is a name (the grabber gives up on a read that never ends).
    """

    def __init__(self, config: CameraConfig) -> None:
        """Connect. Raises CameraError: unreachable, not 200, not an MJPEG stream, all in `stall_s`."""
        url, self._where = _parse(str(config.source))
        self._stall_s = config.stall_s
        self._hung_up = False
        deadline = time.monotonic() + config.stall_s
        try:
            self._wire = _Wire(_connect(url, config))
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that IDNA refuses
            raise CameraError(f"{self._where}: expected a camera, got: {_words(error)}") from None
        self._response = HTTPResponse(cast(socket.socket, self._wire), method="GET")
        try:
            self._ask(url, deadline)
            self._parser = PartParser(self._boundary(), self._where)
        except CameraError:
            self.close()
            raise

    def _ask(self, url: SplitResult, deadline: float) -> None:
        self._wire.deadline = deadline
        try:
            self._wire.send(_request(url))
            self._response.begin()
        except (OSError, HTTPException) as error:
            raise CameraError(f"{self._where}: expected an HTTP response, got: {_words(error)}") from None

    def _boundary(self) -> bytes:
        if self._response.status != 200:
            raise CameraError(f"{self._where}: expected status 200, got {self._response.status}")
        kind = self._response.getheader("Content-Type", "")
        boundary = boundary_of(kind)
        if boundary is None:
            expected = "multipart/x-mixed-replace with a boundary"
            raise CameraError(f"{self._where}: expected {expected}, got {kind[:100]!r}")
        return boundary

    def read(self) -> Frame:
        """The newest frame that has arrived, or the next. Raises CameraError within `stall_s`."""
        if self._hung_up:
            raise CameraError(f"{self._where}: expected an open camera, got a closed one")
        deadline, got = time.monotonic() + self._stall_s, "none"
        try:
            while time.monotonic() < deadline:
                part = self._newest(deadline)
                try:
                    return Frame(decode_picture(part.body, "a part", _MAX_PIXELS), part.arrived_at)
                except ImageError as error:
                    got = str(error)
        except TimeoutError:
            pass  # the next line tells it
        raise CameraError(f"{self._where}: expected a frame in {self._stall_s:g} s, got {got}")

    def _newest(self, deadline: float) -> Part:
        part = self._parser.take()
        while part is None:
            self._fill(deadline)
            part = self._parser.take()
        return self._catch_up(part, deadline)

    def _catch_up(self, part: Part, deadline: float) -> Part:
        until = min(deadline, time.monotonic() + _CATCH_UP_S)
        while time.monotonic() < until:
            try:
                newer = self._parser.take()
                if newer is None and not self._wire.ready():
                    break
                if newer is None:
                    self._fill(until)  # what is ready may be TLS's own, or half a record
            except (CameraError, TimeoutError):  # what ends the stream now ends the next read() too
                break
            part = newer or part
        return part

    def _fill(self, deadline: float) -> None:
        self._wire.deadline = deadline
        try:
            data = self._response.read1(_CHUNK_BYTES)
        except TimeoutError:
            raise
        except (OSError, HTTPException) as error:
            raise CameraError(f"{self._where}: expected more frames, got: {_words(error)}") from None
        if not data:
            raise CameraError(f"{self._where}: expected more frames, got the end of the stream")
        self._parser.feed(data, time.monotonic())

    def close(self) -> None:
        """Hang up."""
        self._hung_up = True
        with contextlib.suppress(OSError, ValueError):  # its buffer may be over a closed wire
            self._response.close()
        self._wire.close()


def _connect(url: SplitResult, config: CameraConfig) -> socket.socket:
    """Raises OSError: unreachable, or (ssl.SSLError) not who it should be."""
    address = url.hostname or "", url.port or _PORTS[url.scheme]
    if url.scheme == "http":
        return socket.create_connection(address, config.stall_s)
    context = ssl.create_default_context(cafile=config.ca_file or None)
    connection = socket.create_connection(address, config.stall_s)
    try:
        return context.wrap_socket(connection, server_hostname=url.hostname)
    except BaseException:
        connection.close()
        raise


def _parse(source: str) -> tuple[SplitResult, str]:
    """The URL, and what messages call it: without password, and query or path that may hold one."""
    url = camera_url(source)
    if url is None:
        raise CameraError("camera.source: expected http://host[:port]/path, got a malformed URL")
    if url.scheme not in _PORTS:
        raise CameraError(f"camera.source: expected http://host[:port]/path, got {url.scheme}://...")
    return url, shown_source(f"{url.scheme}://{_host(url)}:{url.port or _PORTS[url.scheme]}{url.path}")


def _host(url: SplitResult) -> str:
    name = url.hostname or ""
    return f"[{name}]" if ":" in name else name


def _request(url: SplitResult) -> bytes:
    target = quote((url.path or "/") + (f"?{url.query}" if url.query else ""), safe=string.punctuation)
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {_host(url)}:{url.port or _PORTS[url.scheme]}",
        "Connection: close",
    ]
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii", "replace")


def _words(error: Exception) -> str:
    """An exception in one line: TimeoutError and IncompleteRead say little by themselves."""
    if isinstance(error, TimeoutError):
        return "nothing in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"a certificate that can't be verified (camera.ca_file): {error.verify_message}"
    if isinstance(error, BadStatusLine | UnknownProtocol) and not isinstance(error, OSError):
        return "another protocol"  # in the server's words, which may be anything
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0][:200]


class _Wire(io.RawIOBase):
    """A socket whose every wait ends at `deadline` (s, monotonic), however slowly bytes drip."""

    def __init__(self, connection: socket.socket) -> None:
        self.deadline = 0.0
        self._socket = connection

    def send(self, data: bytes) -> None:
        self._socket.settimeout(max(0.001, self.deadline - time.monotonic()))
        self._socket.sendall(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub's name is private
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)
        return self._socket.recv_into(buffer)

    def ready(self) -> bool:
        """Whether a read would return at once. HTTPResponse closes this at the stream's end."""
        if self.closed:
            return True
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True  # decrypted already: the wire itself may be quiet
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What HTTPResponse asks a socket for."""
        return io.BufferedReader(self, _CHUNK_BYTES)

    def close(self) -> None:
        self._socket.close()
        super().close()
