"""The door's second MQTT connection: the gallery and commands come in, replies go out.

Two threads: "downlink" connects, again and again, and calls back; paho's own moves bytes while
connected and only puts them where they are waited for.

MQTT can't be asked, only subscribed to; and a broker does not say that it has nothing. So a
question is a SUBSCRIBE to the exact topics and, straight behind it, a message to the door's own
`fence` topic: when the fence comes back, what has not come is not there. Both at QoS 1: at QoS 0
the fence overtakes, and SUBACK comes before all (measured with Mosquitto 2.0; the order across
topics is its behaviour, not MQTT's promise, so a test holds it to that).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.errors import LinkError, PayloadError
from edge.journal import said
from edge.link import broker, wire
from edge.link.client import BoundedClient
from edge.link.fetch import MAX_PATHS, MAX_TARGET_BYTES

log = logging.getLogger(__name__)

MAX_PACKET_BYTES = MAX_TARGET_BYTES + 64 * 1024  # the longest file, its topic and properties
MAX_COMMAND_BYTES = 128 * 1024  # of a longer one only this much and a byte is handed on
_SILENCE_S = 30.0  # without another file of those asked for
_INBOX = 100  # commands that wait; it only fills when acting on one hangs
_NOT_ACCEPTED = "it closed the connection before accepting the door (its log says why)"
_TIMESTAMP = "metadata/timestamp.json"

_KEEP_RETAINED = SubscribeOptions(qos=1, retainAsPublished=True)  # a command that was retained shows as such
_ONLY_LIVE = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
_AT_ONCE = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE)


@dataclass(frozen=True, slots=True)
class Received:
    """A message on the door's command topic, as it came."""

    payload: bytes
    retained: bool
    correlation: bytes | None


@dataclass(frozen=True, slots=True)
class _Up:
    pass


@dataclass(frozen=True, slots=True)
class _Subscribed:
    """To what a connection needs all its life."""


@dataclass(frozen=True, slots=True)
class _Down:
    why: str


@dataclass(frozen=True, slots=True)
class _News:
    pass


_Item: TypeAlias = _Up | _Subscribed | _Down | _News | Received


class _Question:
    """What is asked for, and what has come of it. Filled by paho's thread, waited for by another."""

    def __init__(self, topics: dict[str, str], max_bytes: int) -> None:
        self.nonce = secrets.token_bytes(16)
        self._paths = topics  # topic -> path
        self._max_bytes = max_bytes
        self._found: dict[str, bytes] = {}
        self._fault: LinkError | PayloadError | None = None
        self._over = threading.Event()

    def take(self, topic: str, payload: bytes) -> None:
        path = self._paths.get(topic)
        if path is None or not payload:  # empty: deleted at this moment
            return
        if len(payload) > self._max_bytes:
            self.fail(PayloadError(f"{topic}: expected at most {self._max_bytes} bytes, got {len(payload)}"))
        else:
            self._found[path] = payload

    def fence(self, payload: bytes) -> None:
        if payload == self.nonce:
            self._over.set()

    def fail(self, fault: LinkError | PayloadError) -> None:
        self._fault = self._fault or fault
        self._over.set()

    def answer(self, where: str) -> dict[str, bytes]:
        """Waits; at most _SILENCE_S for each file."""
        had = 0
        while not self._over.wait(_SILENCE_S):
            if len(self._found) == had:
                raise LinkError(
                    f"{where}: nothing for {_SILENCE_S:g} s, {had} of {len(self._paths)} files came"
                )
            had = len(self._found)
        if self._fault:
            raise self._fault
        return dict(self._found)


@dataclass(slots=True, eq=False)
class _Session:
    """One connection. paho's thread puts; the thread "downlink" takes."""

    client: BoundedClient
    where: str
    inbox: queue.SimpleQueue[_Item] = field(default_factory=queue.SimpleQueue)
    question: _Question | None = None
    news_waits: bool = False

    def end(self, why: str) -> None:
        """From any thread, any number of times."""
        if question := self.question:
            question.fail(LinkError(f"{self.where}: {why}"))
        self.inbox.put(_Down(why))


class Downlink:
    """Gallery and commands from the broker. Port Fetch.

    Args:
        login: the broker, and what it is shown.
        topics: the door's topics.
        on_news: after each connect, and when a new timestamp was published; in the link's thread.
        on_command: for each message on the command topic; in the link's thread.
        retry_s: shortest and longest pause between attempts to connect.

    Raises:
        ConfigError: a certificate or its key is none.
    """

    def __init__(
        self,
        login: broker.Login,
        topics: wire.Topics,
        on_news: Callable[[], None],
        on_command: Callable[[Received], None],
        retry_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        self._config = config = login.mqtt
        self._topics = topics
        self._on_news = on_news
        self._on_command = on_command
        self._retry_s = retry_s
        self._timestamp = f"{topics.gallery}/{_TIMESTAMP}"
        self.dropped = 0  # commands that came while too many waited
        self._where = f"broker {config.host}:{config.port} (gallery, commands)"
        self._tls = login.tls_context()
        self._password = login.password
        self._stopping = threading.Event()
        self._session: _Session | None = None  # while subscribed
        self._said: set[str] = set()  # what was logged since the broker was last there
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._keep_connected, name="downlink", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the door and its subscriptions."""
        return self._session is not None

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def tend(self) -> None:
        """Start the link's thread again when it died."""
        if not self._stopping.is_set() and not self._thread.is_alive():
            self._thread = self._new_thread()
            self._thread.start()

    def close(self, timeout_s: float = 3.0) -> None:
        """Disconnect; takes at most `timeout_s`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def reply(self, payload: bytes, correlation: bytes | None) -> None:
        """Send a reply, never retained; without a connection it is dropped: it answers nobody later."""
        if not (session := self._session):
            log.warning("%s: a reply could not be sent", self._where)
            return
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if correlation is not None:
            properties.CorrelationData = correlation
        session.client.publish(self._topics.reply, payload, qos=1, properties=properties)

    # Port Fetch

    def get(self, paths: Sequence[str], max_bytes: int) -> dict[str, bytes]:
        """See Fetch. For one thread, which is none of the link's."""
        session = self._session
        if session is None:
            raise LinkError(f"{self._where}: not connected")
        if len(paths) > MAX_PATHS:
            raise ValueError(f"expected at most {MAX_PATHS} paths, got {len(paths)}")
        topics = {f"{self._topics.gallery}/{path}": path for path in paths}
        session.question = question = _Question(topics, max_bytes)
        try:
            session.client.subscribe([(topic, _AT_ONCE) for topic in topics])
            session.client.publish(self._topics.fence, question.nonce, qos=1)
            if self._session is not session:  # ended before the question was seen
                raise LinkError(f"{self._where}: connection lost")
            return question.answer(self._where)
        finally:
            session.question = None
            passing = [topic for topic in topics if topic != self._timestamp]
            if passing:
                session.client.unsubscribe(passing)

    # Thread "downlink"

    def _keep_connected(self) -> None:
        broker.keep_trying(self._connect_once, self._stopping, self._retry_s)

    def _connect_once(self) -> None:
        """Connect and serve until it is over."""
        client_id = f"doord-{self._topics.site}-{self._topics.door}-down"
        client = BoundedClient(client_id, self._config, self._tls, self._password, MAX_PACKET_BYTES)
        session = _Session(client, self._where)
        self._listen(session)
        try:
            client.open()
            why = self._serve(session)
        except (OSError, ValueError) as error:  # ValueError: a host name that is none
            why = broker.why_unreachable(error)
        finally:
            self._session = None
            session.end("connection lost")
            client.cut()
        if not self._stopping.is_set():
            self._say_once(why)

    def _serve(self, session: _Session) -> str:
        """Calls back for all that comes; why it ended."""
        deadline = time.monotonic() + broker.CONNACK_S
        while not self._stopping.is_set():
            try:
                item = session.inbox.get(timeout=0.2)
            except queue.Empty:
                if self._session is None and time.monotonic() > deadline:
                    return "no answer to CONNECT"
                continue
            if isinstance(item, _Down):
                return item.why
            self._handle(session, item)
        self._say_goodbye(session)
        return ""

    def _handle(self, session: _Session, item: _Item) -> None:
        if isinstance(item, _Up):
            lasting = [
                (self._topics.command, _KEEP_RETAINED),
                (self._topics.fence, _ONLY_LIVE),
                (self._timestamp, _ONLY_LIVE),
            ]
            session.client.subscribe(lasting)
        elif isinstance(item, _Subscribed):
            if self._session is None:
                self._session = session
                self._said.clear()
                log.info("%s: connected", self._where, extra=said("BrokerConnected"))
                self._on_news()
        elif isinstance(item, _News):
            session.news_waits = False
            self._on_news()
        elif isinstance(item, Received):
            self._on_command(item)

    def _say_goodbye(self, session: _Session) -> None:
        """Behind what waits to be sent."""
        session.client.disconnect()
        until = time.monotonic() + 1.0
        with contextlib.suppress(queue.Empty):
            while (left := until - time.monotonic()) > 0:
                if isinstance(session.inbox.get(timeout=left), _Down):
                    return

    def _listen(self, session: _Session) -> None:
        """Callbacks that put, and do nothing else."""

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
            session.inbox.put(_Down(f"it refused: {reason}") if reason.is_failure else _Up())

        def on_subscribe(_c: Any, _u: Any, _mid: int, reasons: Any, _p: Any) -> None:
            refused = [str(reason) for reason in reasons if reason.is_failure]
            if refused:  # else its silence would read as "there is none"
                session.end(f"it refused a subscription: {refused[0]} (its access rules?)")
            else:
                session.inbox.put(_Subscribed())

        def on_publish(_c: Any, _u: Any, _mid: int, reason: Any, _p: Any) -> None:
            if reason.is_failure:
                session.end(f"it refused a fence or a reply: {reason} (its access rules?)")

        def on_disconnect(_c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
            accepted = self._session is session
            session.end(f"connection lost: {reason}" if accepted else _NOT_ACCEPTED)

        client = session.client
        client.on_fault = lambda fault: session.end(str(fault))
        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        client.on_subscribe, client.on_publish = on_subscribe, on_publish
        client.on_message = lambda _c, _u, message: self._take(session, message)

    def _take(self, session: _Session, message: MQTTMessage) -> None:
        """In paho's thread: puts a message where it is waited for; nobody waits for any other."""
        topic, payload, question = message.topic, bytes(message.payload), session.question
        if topic == self._topics.command:
            self._take_command(session, message)
        elif question and topic == self._topics.fence:
            question.fence(payload)
        elif question:
            question.take(topic, payload)
        if topic == self._timestamp and not message.retain and not session.news_waits:
            session.news_waits = True
            session.inbox.put(_News())

    def _take_command(self, session: _Session, message: MQTTMessage) -> None:
        if session.inbox.qsize() >= _INBOX:
            self.dropped += 1
            return
        payload = bytes(message.payload[: MAX_COMMAND_BYTES + 1])  # enough to be refused for its length
        correlation = getattr(message.properties, "CorrelationData", None)
        session.inbox.put(Received(payload, bool(message.retain), correlation))

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            words = f"{self._where}: {what}; tried again for ever, the door works on"
            log.error("%s", words, extra=said("BrokerFault"))
