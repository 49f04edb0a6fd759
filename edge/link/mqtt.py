"""MQTT 5: status, state and events to the broker, for ever, without ever holding up the door.

Three threads: "mqtt" connects, again and again; paho's own moves bytes while connected; "outbox"
does all else and owns all state, fed by one inbox. paho's callbacks only put into that inbox:
paho calls them under locks that `publish` takes too.

Each connection is a new paho client, so that nothing stale is sent again behind a newer state:
events are read from the ledger, and those not delivered are read and sent again.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from msgspec.structs import replace
from paho.mqtt.client import MQTTMessage

from edge import __version__
from edge.errors import LinkError, PayloadError
from edge.journal import said
from edge.link import broker, wire
from edge.link.acks import AckDesk, Came
from edge.link.client import BoundedClient
from edge.link.discovery import BIRTH, BIRTH_TOPIC, Announcement
from edge.link.outbox import Outbox
from edge.link.port import Events, Health
from edge.link.session import AckCame, Acked, Close, Down, Item, Session, Up, Wake
from edge.link.vitals import Vitals
from edge.worker import Worker

log = logging.getLogger(__name__)

_MAX_PACKET_BYTES = 64 * 1024  # all that comes is acknowledgements, and Home Assistant's word
_STUCK_S = 120.0  # longer than the longest pause, and any answer of a name server
_SIGN_EVERY_S = 60.0  # a joined door's chain is signed for as often, whatever its heartbeat is
_INBOX = 1000  # acks beyond that are dropped: they are cumulative


Attest: TypeAlias = Callable[[wire.State, wire.ChainHead], bytes]


class MqttLink:
    """The door's link to its broker.

    Args:
        login: the broker, and what it is shown.
        topics: the door's topics.
        ledger: where the events are.
        simulation: stands in every status.
        acks: judges the collector's acks; None: what the broker acknowledges is delivered.
        attest: makes a joined door's signed report of its state and its last event.
        announcement: tells Home Assistant what the door is; None: nothing is told.
        retry_s: shortest and longest pause between attempts to connect.

    Raises:
        ConfigError: a certificate or its key is none.
    """

    def __init__(
        self,
        login: broker.Login,
        topics: wire.Topics,
        ledger: Events,
        simulation: bool,
        attest: Attest | None = None,
        acks: AckDesk | None = None,
        announcement: Announcement | None = None,
        retry_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        self._config = config = login.mqtt
        self._topics = topics
        self._ledger = ledger
        self._acks = acks
        self._outbox = Outbox(ledger, by_collector=acks is not None)
        self._simulation = simulation
        self._attest = attest
        self._announcement = announcement
        self._announced_mid: int | None = None
        self._vitals: Vitals | None = None
        self._retry_s = retry_s
        self._where = f"broker {config.host}:{config.port}"
        self._tls = login.tls_context()
        self._password = login.password
        self._inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._woken = False
        self._stopping = threading.Event()
        self._health = Health()
        self._state: wire.State | None = None
        self._session: Session | None = None  # while accepted
        self._connected_at: str | None = None
        self._next_heartbeat = self._next_report = 0.0
        self._farewell_mid: int | None = None
        self._said: set[str] = set()  # what was logged since the broker was last there
        self._connecting = Worker("mqtt", self._keep_connected, _STUCK_S)
        self._sending = Worker("outbox", self._run, _STUCK_S)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the door."""
        return self._session is not None

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self.tend()

    def tend(self) -> None:
        """Start a thread of the link again that died or hangs; what it held is kept."""
        if self._stopping.is_set():
            return
        for worker in (self._connecting, self._sending):
            worker.tend(time.monotonic())

    def wake(self) -> None:
        """There are new events in the ledger; from any thread."""
        if not self._woken:  # one is enough until it is heard
            self._woken = True
            self._inbox.put(Wake())

    def set_health(self, health: Health) -> None:
        """Publish a new status where it differs."""
        self._inbox.put(health)

    def set_state(self, state: wire.State) -> None:
        """Publish the door's new state; the newest is sent again after each reconnect."""
        self._inbox.put(state)

    def set_vitals(self, vitals: Vitals) -> None:
        """What every status says from now on; nothing is published for it."""
        self._vitals = vitals

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what waits, publish `stopped`, disconnect; takes at most `timeout_s`.

        Without an answer in that time the connection is cut, and the broker says `offline`.
        """
        until = time.monotonic() + timeout_s
        self._stopping.set()
        self._inbox.put(Close(until))
        for worker in (self._sending, self._connecting):
            worker.stop(max(0.0, until - time.monotonic()) + 0.05)
        if self._outbox.unsent:
            log.warning("%s: %d events wait for the next start", self._where, self._outbox.unsent)

    # Thread "mqtt"

    def _keep_connected(self) -> None:
        broker.keep_trying(self._connect_once, self._stopping, self._retry_s)

    def _connect_once(self) -> None:
        """Connect and wait until it is over."""
        self._connecting.beat()
        session = Session(self._new_client())
        self._listen(session)
        try:
            session.client.open()
        except (OSError, ValueError) as error:  # ValueError: a host name that is none
            self._inbox.put(Down(session, broker.why_unreachable(error)))
        else:
            self._wait_for_the_end(session)
        finally:  # also when this thread hung and another has its place
            session.client.cut()

    def _wait_for_the_end(self, session: Session) -> None:
        deadline = time.monotonic() + broker.CONNACK_S
        while not session.over.wait(0.2):
            self._connecting.beat()
            if self._session is not session and time.monotonic() > deadline:
                self._inbox.put(Down(session, "no answer to CONNECT"))
                return
            if self._stopping.is_set() and not self._sending.alive:
                return

    def _new_client(self) -> BoundedClient:
        client_id = f"doord-{self._topics.site}-{self._topics.door}"
        client = BoundedClient(client_id, self._config, self._tls, self._password, _MAX_PACKET_BYTES)
        client.will_set(self._topics.status, wire.encode(self._status("offline")), qos=1, retain=True)
        return client

    def _listen(self, session: Session) -> None:
        """Callbacks that put into the inbox and do nothing else."""
        inbox = self._inbox

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
            inbox.put(Down(session, f"it refused: {reason}") if reason.is_failure else Up(session))

        def on_disconnect(_c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
            inbox.put(Down(session, str(reason)))

        def on_publish(_c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
            inbox.put(Acked(session, mid, str(reason) if reason.is_failure else None))

        def on_message(_c: Any, _u: Any, message: MQTTMessage) -> None:
            told = self._announcement
            if inbox.qsize() >= _INBOX:
                return
            if message.topic == self._topics.ack:
                inbox.put(AckCame(bytes(message.payload)))
            elif told and message.topic == BIRTH_TOPIC and message.payload == BIRTH:
                inbox.put(told)

        def on_fault(fault: PayloadError) -> None:
            inbox.put(Down(session, str(fault)))

        session.client.on_fault = on_fault
        session.client.on_message = on_message
        session.client.on_connect = on_connect
        session.client.on_disconnect = on_disconnect
        session.client.on_publish = on_publish

    # Thread "outbox"

    def _run(self) -> None:
        until: float | None = None
        while until is None or self._unfinished(until):
            self._sending.beat()
            try:
                item = self._inbox.get(timeout=self._patience_s(until))
            except queue.Empty:
                item = None
            if isinstance(item, Close):
                until = item.until
            elif item is not None:
                self._handle(item)
            self._send_events()
            if self._session and time.monotonic() >= self._next_heartbeat:
                self._send_status()
            if self._session and time.monotonic() >= self._next_report:
                self._send_attestation()
        self._say_goodbye(until)

    def _unfinished(self, until: float) -> bool:
        """Whether to go on after Close."""
        return self._session is not None and self._outbox.unsent > 0 and time.monotonic() < until

    def _patience_s(self, until: float | None) -> float:
        ends = [self._next_heartbeat, self._next_report] if self._session else []
        ends += [until] if until is not None else []
        return max(0.0, min(1.0, *(end - time.monotonic() for end in ends))) if ends else 1.0

    def _handle(self, item: Item) -> None:
        if isinstance(item, Up):
            self._on_up(item.session)
        elif isinstance(item, Down):
            self._on_down(item.session, item.why)
        elif isinstance(item, Acked):
            self._on_acked(item)
        elif isinstance(item, Announcement):
            self._announced_mid = self._publish(item.topic, item.payload, retain=True)
        elif isinstance(item, Health):
            changed, self._health = item != self._health, item
            if changed:
                self._send_status()
        elif isinstance(item, wire.State):
            self._state = item
            self._send_state()
        elif isinstance(item, Wake):
            self._woken = False
        elif isinstance(item, AckCame):
            self._on_ack(item.payload)

    def _on_ack(self, payload: bytes) -> None:
        came = self._acks.take(payload, self._outbox.sent) if self._acks else None
        if came is Came.MOVED:
            self._outbox.acked()
        elif came is Came.REPEATED:
            self._outbox.asked_again()

    def _on_up(self, session: Session) -> None:
        if session.over.is_set():
            return
        self._session = session
        self._connected_at = wire.rfc3339(time.time())
        log.info("%s: connected", self._where, extra=said("BrokerConnected"))
        self._said.clear()
        if self._acks:
            session.client.subscribe(self._topics.ack, qos=1)
        self._send_status()
        self._send_state()
        if self._announcement:
            session.client.subscribe(BIRTH_TOPIC, qos=1)
            self._handle(self._announcement)

    def _on_down(self, session: Session, why: str) -> None:
        if session.over.is_set():  # a refusal is followed by a disconnect that knows less
            return
        session.over.set()
        if self._session is session:
            self._session = None
            self._outbox.take_back()
            why = f"connection lost: {why}"
        elif why == "Unspecified error":  # TLS 1.3 tells late that a client certificate is not liked
            why = "it closed the connection before accepting the door (its log says why)"
        if not self._stopping.is_set():
            self._say_once(f"{why}; tried again for ever, the door works on")

    def _on_acked(self, item: Acked) -> None:
        if item.session is not self._session:
            return
        if item.mid == self._farewell_mid:
            item.session.client.disconnect()
        if item.refused is None:
            self._outbox.acknowledged(item.mid)
        elif self._announcement and item.mid == self._announced_mid:
            what, self._announcement = self._announcement.topic, None  # some brokers hang up at each
            self._say_once(f"it refused {what}: {item.refused}; not sent again (its access rules?)")
        else:  # stays unacknowledged, for the next connection
            self._say_once(f"it refused a message on {self._topics.base}: {item.refused} (its access rules?)")
            self._outbox.refused(item.mid)
        if self._outbox.is_stuck:
            item.session.client.disconnect()  # else a window full of refused events is never sent again

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            log.error("%s", LinkError(f"{self._where}: {what}"), extra=said("BrokerFault"))

    def _send_events(self) -> None:
        while self._session and (event := self._outbox.take()) is not None:
            self._outbox.under_way(self._publish(self._topics.event, event.payload, retain=False), event)

    def _send_status(self) -> None:
        self._next_heartbeat = time.monotonic() + self._config.heartbeat_s
        self._publish(self._topics.status, self._status("online"), retain=True)

    def _send_state(self) -> None:
        if self._state:
            self._publish(self._topics.state, self._state, retain=True)
            self._send_attestation()

    def _send_attestation(self) -> None:
        """Also every minute at least: it has the newest event's digest, and so vouches for all before.

        By a clock of its own: a status that changes all the time must not put it off.
        """
        self._next_report = time.monotonic() + min(self._config.heartbeat_s, _SIGN_EVERY_S)
        if self._attest and self._state:
            report = self._attest(self._state, self._ledger.head)
            self._publish(self._topics.attestation, report, retain=True)

    def _publish(self, topic: str, message: bytes | wire.Status | wire.State, retain: bool) -> int:
        """The message id; 0 while there is no session. A failure comes back as Down."""
        if not self._session:
            return 0
        payload = message if isinstance(message, bytes) else wire.encode(message)
        return self._session.client.publish(topic, payload, qos=1, retain=retain).mid

    def _status(self, state: Literal["online", "offline", "stopped"]) -> wire.Status:
        online = state == "online"
        waiting = max(0, self._ledger.head.seq - self._ledger.cursor)
        return wire.Status(
            state=state,
            connected_at=self._connected_at,
            heartbeat_at=wire.rfc3339(time.time()),
            armed=self._health.armed and online,
            why_not=list(self._health.why_not) if online else [state],
            version=__version__,
            gallery=self._health.gallery,
            backend=self._health.backend,
            backend_why=self._health.backend_why,
            simulation=self._simulation,
            events_lost=self._health.events_lost,
            ledger_fault=self._health.ledger_fault,
            vitals=replace(self._vitals, queue=waiting) if self._vitals and online else None,
        )

    def _say_goodbye(self, until: float) -> None:
        """Publish `stopped`, disconnect when it is acknowledged, wait for the end."""
        session = self._session
        if not session:
            return
        self._farewell_mid = self._publish(self._topics.status, self._status("stopped"), retain=True)
        while not session.over.is_set() and (patience := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                item = self._inbox.get(timeout=patience)
                if isinstance(item, (Acked, Down)):
                    self._handle(item)
        session.over.set()
        self._session = None
