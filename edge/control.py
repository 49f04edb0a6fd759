"""The running daemon's unix socket: the gallery desk and the status, for root and the group doord.

One request and one answer a connection, each a 4-byte big-endian length and a MessagePack
struct. The socket's file mode (0660) decides who may ask; sizes are bounded before parsing.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from edge import errors
from edge.desk import Desk, SubjectRow
from edge.doorman import DoorAction
from edge.errors import DoordError, PayloadError
from edge.identity.enrol import EnrolmentReport

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 256 * 2**20
_LENGTH = struct.Struct(">I")
_TALK_S = 60.0  # a client that says nothing for longer is hung up on
_ACCEPT_S = 0.5


class Enrol(msgspec.Struct, tag=True, frozen=True):
    """Enrol picture files."""

    subject: str
    photos: list[tuple[str, bytes]]
    force_lookalike: bool


class EnrolCamera(msgspec.Struct, tag=True, frozen=True):
    """Enrol from the door's camera."""

    subject: str
    force_lookalike: bool


class Subjects(msgspec.Struct, tag=True, frozen=True):
    """List the gallery."""


class Remove(msgspec.Struct, tag=True, frozen=True):
    """Forget a subject."""

    subject: str


class Export(msgspec.Struct, tag=True, frozen=True):
    """The gallery as a file."""

    passphrase: str | None


class Import(msgspec.Struct, tag=True, frozen=True):
    """Templates from a file."""

    data: bytes
    passphrase: str | None


class DoorOrder(msgspec.Struct, tag=True, frozen=True):
    """Move the door."""

    action: DoorAction
    minutes: float  # of `open`


class GetStatus(msgspec.Struct, tag=True, frozen=True):
    """What the daemon is doing."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The answer when something was refused: the error's class and its line."""

    kind: str
    message: str


class Report(msgspec.Struct, tag=True, frozen=True):
    """An enrolment's report."""

    report: EnrolmentReport


class Rows(msgspec.Struct, tag=True, frozen=True):
    """The gallery's subjects."""

    rows: list[SubjectRow]


class Count(msgspec.Struct, tag=True, frozen=True):
    """How many templates came or went."""

    count: int


class Obeyed(msgspec.Struct, tag=True, frozen=True):
    """Whether the door did it."""

    obeyed: bool


class Blob(msgspec.Struct, tag=True, frozen=True):
    """A file's content, or JSON."""

    data: bytes


Request: TypeAlias = Enrol | EnrolCamera | Subjects | Remove | Export | Import | DoorOrder | GetStatus
Answer: TypeAlias = Failed | Report | Rows | Count | Obeyed | Blob
_A = TypeVar("_A", bound=Answer)
_REQUESTS = msgspec.msgpack.Decoder(Request)
_ANSWERS = msgspec.msgpack.Decoder(Answer)


def _send(talk: socket.socket, message: Request | Answer) -> None:
    content = msgspec.msgpack.encode(message)
    talk.sendall(_LENGTH.pack(len(content)) + content)


def _receive(talk: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(talk, _LENGTH.size))
    if length > MAX_MESSAGE_BYTES:
        raise PayloadError(f"control socket: expected at most {MAX_MESSAGE_BYTES} bytes, got {length}")
    return _exactly(talk, length)


def _exactly(talk: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = talk.recv(min(count - len(parts), 2**20))
        if not part:
            raise PayloadError(f"control socket: expected {count} bytes, got {len(parts)}")
        parts += part
    return bytes(parts)


class ControlServer:
    """Answers one client at a time on the daemon's thread "control"."""

    def __init__(
        self,
        path: Path,
        desk: Desk | None,
        status: Callable[[], bytes],
        order: Callable[[DoorAction, float], bool],
    ) -> None:
        """`order` moves the door; `desk` is None when the gallery can't be used.

        Raises:
            ConfigError: no such folder.
        """
        self._desk = desk
        self._status = status
        self._order = order
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # the state lock says that no other daemon has it
            self._socket.bind(str(path))
            path.chmod(0o660)
            self._socket.listen(4)
        except OSError as error:
            self._socket.close()
            raise errors.ConfigError(f"socket: {path}: {error.strerror or error}") from None
        self._socket.settimeout(_ACCEPT_S)

    def step(self) -> None:
        """Wait a moment for a client and answer it."""
        try:
            talk, _ = self._socket.accept()
        except TimeoutError:
            return
        with talk:
            talk.settimeout(_TALK_S)
            try:
                _send(talk, self._answer(_receive(talk)))
            except (OSError, PayloadError) as error:
                log.warning("control socket: a client was hung up on: %s", error)

    def close(self) -> None:
        """Stop listening; may be called twice."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _answer(self, content: bytes) -> Answer:
        try:
            return self._carry_out(_REQUESTS.decode(content))
        except (msgspec.DecodeError, RecursionError) as error:
            return Failed("PayloadError", f"control socket: {error}")
        except DoordError as error:
            return Failed(type(error).__name__, str(error))

    def _carry_out(self, request: Request) -> Answer:
        if isinstance(request, GetStatus):
            return Blob(self._status())
        if isinstance(request, DoorOrder):
            return Obeyed(self._order(request.action, request.minutes))
        if self._desk is None:
            return Failed("GalleryError", "the gallery can't be used: see doord doctor")
        return _ask(self._desk, request)


def _ask(desk: Desk, request: Request) -> Answer:
    if isinstance(request, Enrol):
        return Report(desk.enrol(request.subject, request.photos, request.force_lookalike))
    if isinstance(request, EnrolCamera):
        return Report(desk.enrol_camera(request.subject, request.force_lookalike))
    if isinstance(request, Remove):
        return Count(desk.remove(request.subject))
    if isinstance(request, Export):
        return Blob(desk.export(request.passphrase))
    if isinstance(request, Import):
        return Count(desk.import_(request.data, request.passphrase))
    return Rows(desk.subjects())


class RemoteDesk:
    """The desk of the daemon that listens on `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def find(cls, path: Path) -> RemoteDesk | None:
        """The desk, or None when no daemon listens there. Raises PayloadError: not allowed."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
                talk.settimeout(_TALK_S)
                talk.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise PayloadError(f"{path}: {error.strerror or error}") from None
        return cls(path)

    def enrol(
        self, subject: str, photos: Sequence[tuple[str, bytes]], force_lookalike: bool
    ) -> EnrolmentReport:
        """See Desk."""
        return self._call(Enrol(subject, list(photos), force_lookalike), Report).report

    def enrol_camera(self, subject: str, force_lookalike: bool) -> EnrolmentReport:
        """See Desk."""
        return self._call(EnrolCamera(subject, force_lookalike), Report).report

    def subjects(self) -> list[SubjectRow]:
        """See Desk."""
        return self._call(Subjects(), Rows).rows

    def remove(self, subject: str) -> int:
        """See Desk."""
        return self._call(Remove(subject), Count).count

    def export(self, passphrase: str | None) -> bytes:
        """See Desk."""
        return self._call(Export(passphrase), Blob).data

    def import_(self, data: bytes, passphrase: str | None) -> int:
        """See Desk."""
        return self._call(Import(data, passphrase), Count).count

    def order(self, action: DoorAction, minutes: float) -> bool:
        """Whether the door did it; `minutes`: of `open`."""
        return self._call(DoorOrder(action, minutes), Obeyed).obeyed

    def status(self) -> bytes:
        """The daemon's status as JSON."""
        return self._call(GetStatus(), Blob).data

    def _call(self, request: Request, expected: type[_A]) -> _A:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
                talk.settimeout(_TALK_S)
                talk.connect(str(self._path))
                _send(talk, request)
                answer = _ANSWERS.decode(_receive(talk))
        except (OSError, msgspec.DecodeError) as error:
            raise PayloadError(f"{self._path}: the daemon did not answer: {error}") from None
        if isinstance(answer, expected):
            return answer
        if isinstance(answer, Failed):
            kind = getattr(errors, answer.kind, DoordError)
            raise kind(answer.message)
        raise PayloadError(f"{self._path}: expected {expected.__name__}, got {type(answer).__name__}")
