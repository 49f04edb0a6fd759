"""A network camera that speaks RTSP and misbehaves to order: RFC 2326, RTP with H.264 as in RFC 6184."""

from __future__ import annotations

import base64
import contextlib
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable

from clip import Clip
from grabbing import head_of_request

_MTU = 1400
_CLOCK_HZ = 90_000  # of RTP for video


class RtspServer:
    """Serves each visitor by `behave(visitor, visit)` once it plays; hangs up when that returns.

    Several visits may run at once. `kill` closes port and connections; `start` opens the same port again.
    """

    def __init__(
        self,
        behave: Callable[[Visitor, int], None],
        clip: Clip,
        login: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.behave, self.clip, self.login, self.context = behave, clip, login, context
        self.requests: list[str] = []
        self.answer: Callable[[str], str | None] = lambda _method: None  # a status of its own, or None
        self.describe: Callable[[Clip], str] = sdp
        self.closing = threading.Event()
        self.visits = 0
        self.port = 0
        self._threads: list[threading.Thread] = []
        self._visitors: list[Visitor] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        scheme = "rtsps" if self.context else "rtsp"
        return f"{scheme}://{self.login + '@' if self.login else ''}127.0.0.1:{self.port}/live"

    def start(self) -> RtspServer:
        self.closing.clear()
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, args=(self._socket,), daemon=True)]
        self._threads[0].start()
        return self

    def kill(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            visitors, self._visitors = self._visitors, []
        for visitor in visitors:
            visitor.hang_up()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection, self.visits), daemon=True)
            self.visits += 1
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket, visit: int) -> None:
        with contextlib.suppress(OSError):
            if self.context:
                connection.settimeout(5)
                connection = self.context.wrap_socket(connection, server_side=True)
                connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        visitor = Visitor(connection, self)
        with self._lock:
            if self.closing.is_set():
                visitor.hang_up()
            self._visitors.append(visitor)
        try:
            visitor.negotiate()
            self.behave(visitor, visit)
        except OSError:
            pass  # the visitor left
        finally:
            visitor.hang_up()
            with self._lock, contextlib.suppress(ValueError):
                self._visitors.remove(visitor)


class Visitor:
    """One connection: its session and its stream."""

    def __init__(self, connection: socket.socket, server: RtspServer) -> None:
        self._connection, self._server = connection, server
        self._datagrams: socket.socket | None = None
        self._sequence, self._stamp = 0, 0

    def negotiate(self) -> None:
        """Answer requests until PLAY."""
        method = ""
        while method != "PLAY":
            request = self._request()
            method = request.split(" ", 1)[0]
            self._server.requests.append(request)
            self._connection.sendall(self._answer(method, request).encode())

    def _request(self) -> str:
        return head_of_request(self._connection).decode()

    def _answer(self, method: str, request: str) -> str:
        number = re.search(r"CSeq: *(\d+)", request)[1]
        status = self._server.answer(method) or self._refusal(request) or "200 OK"
        head, body = f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n", ""
        if status.startswith("401"):
            head += 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif method == "OPTIONS":
            head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE" and status.startswith("200"):
            body = self._server.describe(self._server.clip)
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP" and status.startswith("200"):
            head += f"Session: 1\r\nTransport: {self._transport(request)}\r\n"
        elif method == "PLAY":
            head += "Session: 1\r\n"
        return f"{head}\r\n{body}"

    def _refusal(self, request: str) -> str | None:
        login = self._server.login
        if login is None or request.startswith("OPTIONS"):
            return None
        told = re.search(r"Authorization: Basic (\S+)", request)
        right = told and base64.b64decode(told[1]).decode() == login
        return None if right else "401 Unauthorized"

    def _transport(self, request: str) -> str:
        ports = re.search(r"client_port=(\d+)-(\d+)", request)
        if ports is None:
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(("127.0.0.1", 0))
        self._datagrams.connect(("127.0.0.1", int(ports[1])))
        own = self._datagrams.getsockname()[1]
        return f"RTP/AVP;unicast;client_port={ports[1]}-{ports[2]};server_port={own}-{own + 1}"

    def play(self, clip: Clip | None = None, times: int = 1, pace: float = 1.0) -> None:
        """A clip from its first key frame, `times` over, at its rate times `pace`."""
        clip = clip or self._server.clip
        due = time.monotonic()
        for _ in range(times):
            for unit in clip.units:
                self.send(unit, clip.fps)
                due += 1 / clip.fps / pace
                self.pause(max(0.0, due - time.monotonic()))

    def send(self, unit: list[bytes], fps: int) -> None:
        """One access unit."""
        self._stamp = (self._stamp + _CLOCK_HZ // fps) % 2**32
        payloads = [payload for nal in unit for payload in packets(nal)]
        for number, payload in enumerate(payloads, 1):
            self.rtp(payload, marker=number == len(payloads))

    def rtp(self, payload: bytes, marker: bool = False) -> None:
        """One RTP packet, RFC 3550 section 5.1."""
        self._sequence = (self._sequence + 1) % 2**16
        second = 96 | 0x80 * marker
        head = struct.pack(">BBHII", 0x80, second, self._sequence, self._stamp, 0x1234)
        if self._datagrams is not None:
            self._datagrams.send(head + payload)
            return
        packet = head + payload
        self.raw(struct.pack(">cBH", b"$", 0, len(packet)) + packet)  # RFC 2326 section 10.12

    def raw(self, data: bytes) -> None:
        """Any bytes into the control connection."""
        self._connection.sendall(data)

    def pause(self, seconds: float) -> None:
        """Send nothing for a while; ends early, as a hang-up, when the server is killed."""
        if self._server.closing.wait(seconds):
            raise OSError

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        if self._datagrams is not None:
            self._datagrams.close()


def packets(nal: bytes) -> Iterable[bytes]:
    """A NAL unit's RTP payloads: itself, or fragments FU-A (RFC 6184 section 5.8)."""
    if len(nal) <= _MTU:
        yield nal
        return
    indicator, kind, body = nal[0] & 0xE0 | 28, nal[0] & 0x1F, nal[1:]
    for at in range(0, len(body), _MTU):
        first, last = at == 0, at + _MTU >= len(body)
        yield bytes([indicator, kind | 0x80 * first | 0x40 * last]) + body[at : at + _MTU]


def sdp(clip: Clip) -> str:
    """The session's description, RFC 4566."""
    sets = ",".join(base64.b64encode(nal).decode() for nal in clip.parameters)
    profile = clip.parameters[0][1:4].hex()
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=live\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        f"a=fmtp:96 packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}\r\n"
        "a=control:trackID=0\r\n"
    )


def noise(count: int, seed: int = 1) -> bytes:
    """Bytes that mean nothing."""
    return random.Random(seed).randbytes(count)
