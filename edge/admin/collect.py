"""The collector: takes what a site's doors report, stores it, and only then acknowledges it.

Two acknowledgements, both after the commit: the broker's (PUBACK; until then it keeps the event for
this session), and the doors' (signed with the key `collect`; until then they send it again). paho's
threads only put into one inbox; all else happens on one thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

from edge.admin.collector import KnownDoor, Roster
from edge.admin.intake import Intake
from edge.admin.jsonl import JsonLines
from edge.admin.reports import door_of
from edge.admin.status import SILENT_S
from edge.admin.store import EventStore, Finding
from edge.errors import AdminError, GalleryError, LinkError, PayloadError
from edge.journal import notify
from edge.keys import broker_login
from edge.link import broker, dsse, orders, wire
from edge.link.client import BoundedClient

log = logging.getLogger(__name__)

_MAX_PACKET_BYTES = 64 * 1024  # more than any report
_SESSION_S = 30 * 86400  # how long the broker keeps what comes while there is no collector
_INBOX = 5000  # messages; brokers keep to 65,535 that are not acknowledged, ours to 20
_BATCH = 500
_LOOK_EVERY_S = 10.0  # for doors that are silent, or were added
_QUIET_S = 2.0  # with `once`: nothing came for so long


@dataclass(slots=True, eq=False)
class _Session:
    client: BoundedClient
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What came on a door's topic: foreign bytes."""

    session: _Session
    topic: str
    payload: bytes
    mid: int
    dup: bool


@dataclass(frozen=True, slots=True)
class _Up:
    session: _Session


@dataclass(frozen=True, slots=True)
class _Down:
    session: _Session
    why: str


_Item: TypeAlias = Message | _Up | _Down


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def _alive() -> None:
    """To the watchdog of the collector's unit: the thread that stores turns."""
    notify("WATCHDOG=1")


class Collector:
    """Collects until it is told to stop.

    Args:
        roster: of the site.
        store: its events; owned by the thread of `run` from there on.
        tell: given each finding, once.
        lines: None: no lines of JSON.
        keep_days: how long events stay; None: for ever.
        retry_s: shortest and longest pause between attempts to connect.
        now_utc: aware.

    Raises:
        ConfigError: a certificate or key is missing.
        GalleryError, AdminError: the roster can't be read.
    """

    def __init__(
        self,
        roster: Roster,
        store: EventStore,
        tell: Callable[[Finding], None],
        lines: JsonLines | None = None,
        keep_days: int | None = None,
        retry_s: tuple[float, float] = (1.0, 60.0),
        now_utc: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._roster = roster
        self._store = store
        self._tell = tell
        self._lines = lines
        self._retry_s = retry_s
        self._now = now_utc
        config = roster.mqtt
        self._where = f"broker {config.host}:{config.port}"
        self._login = broker_login(config)
        self._tls = self._login.tls_context()
        self._inbox: queue.Queue[_Item] = queue.Queue()
        self._doors: dict[str, KnownDoor] = roster.doors()
        self._intake = Intake(store, roster.site, keep_days)
        self._session: _Session | None = None
        self._up_since = 0.0
        self._said: set[str] = set()
        self._next_look = 0.0
        self.stored = 0
        """Events that were new, since the start."""

    def run(self, stopping: threading.Event, once: bool = False) -> None:
        """Collect, through any loss of the broker.

        Args:
            stopping: ends it within a second.
            once: only what is there now.

        Raises:
            LinkError: with `once`, the broker can't be reached.
        """
        if not once:
            notify("READY=1")  # what comes can be stored; whether the broker is there STATUS= says
            broker.keep_trying(lambda: self._attempt(stopping), stopping, self._retry_s, _alive)
            notify("STOPPING=1")
            return
        why = None if stopping.is_set() else self._connection(stopping, once)
        if why:
            raise LinkError(f"{self._where}: {why}")
        self._judge(patience_s=0.0)

    def _attempt(self, stopping: threading.Event) -> None:
        """One connection, and once why it ended."""
        why = self._connection(stopping, once=False)
        if why:
            notify(f"STATUS={self._where}: {why}")
            self._say_once(f"{self._where}: {why}; tried again for ever, doors keep what is not acknowledged")

    def _connection(self, stopping: threading.Event, once: bool) -> str | None:
        """One connection, from beginning to end; why it ended, None: it was to."""
        session = _Session(self._new_client())
        self._listen(session)  # with an inbox of its own: what the last one left, the broker sends again
        try:
            session.client.open(_SESSION_S)
            return self._converse(stopping, once)
        except (OSError, ValueError) as error:  # ValueError: a host name that is none
            return broker.why_unreachable(error)
        finally:
            self._session = None
            with contextlib.suppress(OSError, ValueError):
                session.client.disconnect()
            session.client.loop_stop()
            session.client.cut()

    def _converse(self, stopping: threading.Event, once: bool) -> str | None:
        patience = time.monotonic() + broker.CONNACK_S
        quiet_since = time.monotonic()
        while not stopping.is_set():
            _alive()
            batch, why = self._gather()
            if batch:
                quiet_since = time.monotonic()
            if not self._take(batch):
                return None  # not stored, not acknowledged: the broker sends it again
            if why is not None:
                return why
            now = time.monotonic()
            if self._session is None and now > patience:
                return "no answer to CONNECT"
            if once and self._session and now - max(quiet_since, self._up_since) > _QUIET_S:
                return None
            self._look(now)
        return None

    def _gather(self) -> tuple[list[Message], str | None]:
        """What has come, waiting for it at most half a second; and why the connection ended, if it has."""
        batch: list[Message] = []
        patience = 0.5
        while len(batch) < _BATCH:
            try:
                item = self._inbox.get(timeout=patience)
            except queue.Empty:
                break
            patience = 0.0 if self._inbox.empty() else 0.01
            if isinstance(item, Message):
                batch.append(item)
            elif isinstance(item, _Up):
                self._on_up(item.session)
            else:
                return batch, item.why
            if not patience:
                break
        return batch, None

    def _on_up(self, session: _Session) -> None:
        log.info("%s: connected", self._where)
        notify(f"STATUS={self._where}: connected")
        self._said.clear()
        self._session = session
        self._up_since = time.monotonic()
        base = f"doord/{self._roster.site}/door/+"
        session.client.subscribe([(f"{base}/event", 1), (f"{base}/attestation", 1)])
        self._say_where_we_are(session)

    def _take(self, batch: Sequence[Message]) -> bool:
        """Store a batch, then acknowledge it; False: the disk refuses."""
        if not batch:
            return True
        try:
            if any(door_of(message.topic) not in self._doors for message in batch):
                self._doors = self._roster.doors()
            now = self._now()
            with self._store.transaction():
                taken = self._intake.take(batch, self._doors, now)
        except (GalleryError, AdminError) as error:
            self._say_once(f"{error}; nothing is acknowledged until it can be stored")
            return False
        self._intake.told(taken.findings, now)
        self.stored += taken.stored
        for message in batch:
            message.session.client.ack(message.mid, 1)
        for door, heads in taken.acks.items():
            self._acknowledge(batch[0].session, door, heads)
        for finding in taken.findings:
            self._tell(finding)
        self._write_lines()
        return True

    def _acknowledge(self, session: _Session, door: str, heads: Sequence[wire.ChainHead]) -> None:
        at = wire.rfc3339(self._now().timestamp())
        for head in heads:
            payload = orders.encode(orders.Ack(self._roster.site, door, head.seq, head.prev, at))
            envelope = dsse.sign(payload, orders.ACK_TYPE, self._roster.signer)
            session.client.publish(wire.Topics(self._roster.site, door).ack, envelope, qos=1)

    def _say_where_we_are(self, session: _Session) -> None:
        """To each door what it acknowledged last: a door with more to send sends it now, not in minutes."""
        try:
            with self._store.transaction():
                heads = {door: self._store.book(door).last_heads() for door in self._doors}
        except GalleryError as error:
            self._say_once(str(error))
            return
        for door, last in heads.items():
            if not self._doors[door].retired:
                self._acknowledge(session, door, last)

    def _write_lines(self) -> None:
        if self._lines is None:
            return
        try:
            self._lines.follow(self._store, self._now())
        except AdminError as error:
            self._say_once(f"{error}; tried again, the store has them")

    def _look(self, now: float) -> None:
        """Now and then: doors that were added, that are silent, that say more than has come."""
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_S
        self._write_lines()
        if self._session and now - self._up_since > SILENT_S:  # else those on their way back would be named
            self._judge(patience_s=SILENT_S)

    def _judge(self, patience_s: float) -> None:
        try:
            self._doors = self._roster.doors()
            now = self._now()
            with self._store.transaction():
                found = self._intake.look(self._doors, now, patience_s)
        except (GalleryError, AdminError) as error:
            self._say_once(str(error))
            return
        self._intake.told(found, now)
        for finding in found:
            self._tell(finding)

    def _say_once(self, what: str) -> None:
        """Once, until the broker is there again."""
        if what not in self._said:
            self._said.add(what)
            log.error("%s", what)

    def _new_client(self) -> BoundedClient:
        login = self._login
        return BoundedClient(
            self._store.client, login.mqtt, self._tls, login.password, _MAX_PACKET_BYTES, manual_ack=True
        )

    def _listen(self, session: _Session) -> None:
        """Callbacks that put into the inbox and do nothing else."""
        inbox: queue.Queue[_Item] = queue.Queue()
        self._inbox = inbox

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
            inbox.put(_Down(session, f"it refused: {reason}") if reason.is_failure else _Up(session))

        def on_subscribe(_c: Any, _u: Any, _mid: int, reasons: Any, _p: Any) -> None:
            if reasons[0].is_failure:
                inbox.put(_Down(session, f"it refused SUBSCRIBE: {reasons[0]} (its access rules?)"))

        def on_message(_c: Any, _u: Any, message: Any) -> None:
            if inbox.qsize() > _INBOX:
                raise PayloadError(f"expected at most {_INBOX} messages that are not acknowledged, got more")
            inbox.put(Message(session, message.topic, message.payload, message.mid, message.dup))

        session.client.on_connect = on_connect
        session.client.on_subscribe = on_subscribe
        session.client.on_message = on_message
        session.client.on_disconnect = lambda _c, _u, _f, reason, _p: inbox.put(_Down(session, str(reason)))
        session.client.on_fault = lambda fault: inbox.put(_Down(session, str(fault)))
