"""The running daemon's unix socket: the gallery desk and the status, for root and the group doord.

One request and one answer a connection, each a 4-byte big-endian length and a MessagePack
struct. The socket's file mode (0660) decides who may ask; sizes are bounded before parsing.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import select
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from edge import errors
from edge.control_messages import (
    AddCard,
    Answer,
    Blob,
    CardRows,
    Cards,
    ChangeCard,
    Count,
    DoorOrder,
    Enrol,
    EnrolCamera,
    Export,
    Failed,
    GetStatus,
    Import,
    Obeyed,
    Reload,
    Remove,
    Report,
    Request,
    Rows,
    Subjects,
    Sync,
    Told,
    Tune,
)
from edge.desk import CardChange, CardRow, Desk, SubjectRow
from edge.doorman import DoorAction
from edge.errors import DoordError, PayloadError
from edge.identity.enrol import EnrolmentReport
from edge.tuning import Tuner, TuneRequest, TuneState

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 2**20
_GROUP = "doord"
_LENGTH = struct.Struct(">I")
_TALK_S = 5.0  # a client that says nothing for longer is hung up on
_ANSWER_S = 600.0  # an enrolment of many photographs on a slow board
_ACCEPT_S = 0.5
_MAX_SLOW = 16  # clients that wait for an enrolment or a sync
_QUICK = (GetStatus, DoorOrder)


_A = TypeVar("_A", bound=Answer)
_REQUESTS = msgspec.msgpack.Decoder(Request)
_ANSWERS = msgspec.msgpack.Decoder(Answer)


def _send(talk: socket.socket, message: Request | Answer) -> None:
    content = msgspec.msgpack.encode(message)
    talk.sendall(_LENGTH.pack(len(content)) + content)


def _receive(talk: socket.socket, within_s: float) -> bytes | None:
    """A message, all of it `within_s`; None when the other side only knocked.

    Raises:
        PayloadError, OSError: no message, too large, too slow.
    """
    until = time.monotonic() + within_s
    talk.settimeout(within_s)
    first = talk.recv(1)
    if not first:
        return None
    (length,) = _LENGTH.unpack(first + _exactly(talk, _LENGTH.size - 1, until))
    if length > MAX_MESSAGE_BYTES:
        raise PayloadError(f"control socket: expected at most {MAX_MESSAGE_BYTES} bytes, got {length}")
    return _exactly(talk, length, until)


def _exactly(talk: socket.socket, count: int, until: float) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        talk.settimeout(max(0.001, until - time.monotonic()))
        part = talk.recv(min(count - len(parts), 2**20))
        if not part:
            raise PayloadError(f"control socket: expected {count} bytes, got {len(parts)}")
        parts += part
    return bytes(parts)


class ControlServer:
    """Answers clients, one after the other: on the daemon's thread "control" what is quick, the rest beside.

    The socket is made by the first `step`, so that a place it can't be made in is tried again by
    whoever repeats `step`, and never keeps the door from starting.
    """

    def __init__(
        self,
        path: Path,
        desk: Callable[[], Desk | None],
        status: Callable[[], bytes],
        order: Callable[[DoorAction, float], bool],
        sync: Callable[[str | None], str],
        reload: Callable[[], str],
        tuner: Callable[[], Tuner] | None = None,
    ) -> None:
        """What requests come to.

        Args:
            path: of the socket.
            desk: gives None while the gallery can't be used.
            status: as JSON.
            order: moves the door.
            sync: asks the site.
            reload: reads the configuration again.
            tuner: of presentation-attack detection; None: nothing can be tuned here.
        """
        self._desk = desk
        self._status = status
        self._order = order
        self._sync = sync
        self._reload = reload
        self._tuner = tuner
        self._path = path
        self._socket: socket.socket | None = None
        self._inode = 0
        self._turn = threading.Lock()  # the desk's
        self._room = threading.BoundedSemaphore(_MAX_SLOW)

    def _listen(self) -> socket.socket:
        """Raises DoordError: another daemon listens there, or no socket can be made."""
        if RemoteDesk.find(self._path) is not None:
            raise DoordError(f"{self._path}: another doord listens here")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # left behind by one that was killed
            listening.bind(str(self._path))
            self._path.chmod(0o660)
            with contextlib.suppress(LookupError):  # there is no such group
                if self._path.stat().st_gid != grp.getgrnam(_GROUP).gr_gid:  # as user doord it is the group's
                    shutil.chown(self._path, group=_GROUP)
            listening.listen(64)  # a full queue refuses at once, and one client is answered at a time
            self._inode = self._path.stat().st_ino
        except OSError as error:
            listening.close()
            raise DoordError(f"{self._path}: no control socket: {error.strerror or error}") from None
        listening.settimeout(_ACCEPT_S)
        return listening

    def step(self) -> None:
        """Wait a moment for a client and answer it. Raises DoordError: can't listen."""
        if self._socket is None:
            self._socket = self._listen()
        try:
            talk, _ = self._socket.accept()
        except TimeoutError:
            return
        try:
            content = _receive(talk, _TALK_S)
        except (OSError, PayloadError) as error:
            talk.close()
            log.warning("control socket: a client was hung up on: %s", error)
            return
        if content is None:
            talk.close()
        else:
            self._serve(talk, content)

    def _serve(self, talk: socket.socket, content: bytes) -> None:
        """Answer: at once what is quick, else on a thread of its own, so that a lockdown never waits."""
        try:
            request: Request = _REQUESTS.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _reply(talk, Failed("PayloadError", f"control socket: {error}"))
            return
        if isinstance(request, _QUICK):
            _reply(talk, self._answer(request, _always))
        elif self._room.acquire(blocking=False):
            threading.Thread(target=self._take_time, args=(talk, request), name="desk", daemon=True).start()
        else:
            _reply(talk, Failed("DoordError", f"control socket: {_MAX_SLOW} clients wait already: ask later"))

    def _take_time(self, talk: socket.socket, request: Request) -> None:
        """Thread "desk": one client after the other, but for who asks for a sync or a reload."""
        try:
            with contextlib.nullcontext() if isinstance(request, (Sync, Reload)) else self._turn:
                answer = self._answer(request, lambda: not _hung_up(talk))
            _reply(talk, answer)
        finally:
            talk.close()  # also when this thread dies of something
            self._room.release()

    def close(self) -> None:
        """Stop listening; may be called twice."""
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _answer(self, request: Request, wanted: Callable[[], bool]) -> Answer:
        try:
            return self._carry_out(request, wanted)
        except DoordError as error:
            return Failed(type(error).__name__, str(error))

    def _carry_out(self, request: Request, wanted: Callable[[], bool]) -> Answer:
        if isinstance(request, GetStatus):
            return Blob(self._status())
        if isinstance(request, DoorOrder):
            return Obeyed(self._order(request.action, request.minutes))
        if isinstance(request, Reload):
            return Blob(self._reload().encode())
        if isinstance(request, Sync):
            return Blob(self._sync(request.folder).encode())
        if isinstance(request, Tune):
            if self._tuner is None:
                return Failed("TuningRefused", "nothing can be tuned here")
            return Told(self._tuner().do(request.request, wanted))
        desk = self._desk()
        if desk is None:
            return Failed("GalleryError", "the gallery can't be used: see doord doctor")
        return _ask(desk, request, wanted)


def _reply(talk: socket.socket, answer: Answer) -> None:
    """The last that is said to a client."""
    with talk:
        try:
            talk.settimeout(_TALK_S)
            _send(talk, answer)
        except OSError as error:
            log.warning("control socket: a client was hung up on: %s", error)


def _always() -> bool:
    """Whether somebody still waits for what is done in a moment."""
    return True


def _hung_up(talk: socket.socket) -> bool:
    """Whether the client, of whom nothing more is expected, has gone."""
    readable, _, _ = select.select([talk], [], [], 0)
    return bool(readable)


def _ask(desk: Desk, request: Request, wanted: Callable[[], bool]) -> Answer:
    if isinstance(request, Enrol):
        return Report(desk.enrol(request.subject, request.photos, request.force_lookalike))
    if isinstance(request, EnrolCamera):
        return Report(desk.enrol_camera(request.subject, request.force_lookalike, wanted))
    if isinstance(request, Remove):
        return Count(desk.remove(request.subject))
    if isinstance(request, Export):
        return Blob(desk.export(request.passphrase))
    if isinstance(request, Import):
        return Count(desk.import_(request.data, request.passphrase))
    if isinstance(request, Cards):
        return CardRows(desk.cards())
    if isinstance(request, AddCard):
        return CardRows([desk.add_card(request.subject, request.card, request.enabled, request.expires_at)])
    if isinstance(request, ChangeCard):
        return CardRows([desk.change_card(request.card_id, request.change)])
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

    def enrol_camera(
        self,
        subject: str,
        force_lookalike: bool,
        wanted: Callable[[], bool] = lambda: True,  # noqa: ARG002  # the protocol's; hanging up tells
    ) -> EnrolmentReport:
        """See Desk. Hanging up ends the daemon's sitting."""
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

    def cards(self) -> list[CardRow]:
        """See Desk."""
        return self._call(Cards(), CardRows).rows

    def add_card(self, subject: str, card: str, enabled: bool, expires_at: int | None) -> CardRow:
        """See Desk."""
        return self._one_card(AddCard(subject, card, enabled, expires_at))

    def change_card(self, card_id: str, change: CardChange) -> CardRow:
        """See Desk."""
        return self._one_card(ChangeCard(card_id, change))

    def _one_card(self, request: AddCard | ChangeCard) -> CardRow:
        rows = self._call(request, CardRows).rows
        if len(rows) != 1:
            raise PayloadError(f"{self._path}: expected one card, got {len(rows)}")
        return rows[0]

    def status(self) -> bytes:
        """The daemon's status as JSON."""
        return self._call(GetStatus(), Blob).data

    def reload(self) -> str:
        """Have the configuration read again; what came of it. Raises ConfigError: it is refused."""
        return self._call(Reload(), Blob).data.decode()

    def sync(self, folder: str | None) -> str:
        """Ask the site for news, of a folder instead of its broker; what came of it. Raises GalleryError."""
        return self._call(Sync(folder), Blob).data.decode()

    def do(
        self,
        request: TuneRequest,
        wanted: Callable[[], bool] = lambda: True,  # noqa: ARG002  # the protocol's; hanging up tells
    ) -> TuneState:
        """See Tuner. Hanging up ends the daemon's recording."""
        return self._call(Tune(request), Told).state

    def _call(self, request: Request, expected: type[_A]) -> _A:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
                talk.settimeout(_TALK_S)
                talk.connect(str(self._path))
                _send(talk, request)
                answer = _ANSWERS.decode(_receive(talk, _ANSWER_S) or b"")
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PayloadError(f"{self._path}: the daemon did not answer: {error}") from None
        if isinstance(answer, expected):
            return answer
        if isinstance(answer, Failed):
            kind = getattr(errors, answer.kind, DoordError)
            raise kind(answer.message)
        raise PayloadError(f"{self._path}: expected {expected.__name__}, got {type(answer).__name__}")
