"""A short talk with the site's broker: say something, hear what comes back, hang up.

paho's thread only puts into one inbox; all else happens on the caller's thread.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from paho.mqtt.client import topic_matches_sub
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import MqttConfig
from edge.errors import LinkError
from edge.keys import broker_login
from edge.link import broker
from edge.link.client import BoundedClient

_ANSWER_S = 10.0  # CONNECT, SUBSCRIBE, PUBLISH; each
_MAX_PACKET_BYTES = 128 * 1024  # of what comes; more than any report
_AS_PUBLISHED = SubscribeOptions(qos=1, retainAsPublished=True)  # what was retained shows as such
_UNDER_WAY = 20  # messages not acknowledged: what paho and brokers allow by default
_MAX_INBOX = 20_000  # messages; what a hostile broker sends beyond is dropped


@dataclass(frozen=True, slots=True)
class Heard:
    """A message: foreign bytes."""

    topic: str
    payload: bytes
    retained: bool = False  # the broker had kept it, or was asked to


@dataclass(frozen=True, slots=True)
class _Answered:
    what: Literal["CONNECT", "SUBSCRIBE", "PUBLISH"]
    mid: int
    refused: str | None


@dataclass(frozen=True, slots=True)
class _Lost:
    why: str


_Item: TypeAlias = Heard | _Answered | _Lost


class Conversation:
    """A connection for as long as the `with` block lasts. For one thread.

    Every method raises LinkError: the broker can't be reached, refuses, or does not answer in time.
    """

    def __init__(self, config: MqttConfig, site: str, will: tuple[str, bytes] | None = None) -> None:
        """Raises ConfigError: a certificate, key or password file is missing or is none.

        Args:
            config: how to reach the broker.
            site: its id.
            will: topic and payload that the broker keeps when the connection is lost; None: nothing.
        """
        self._config = config
        self._site = site
        self._where = f"broker {config.host}:{config.port}"
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._heard: deque[Heard] = deque()
        self._client = self._new_client()
        if will is not None:
            self._client.will_set(*will, qos=1, retain=True)

    def __enter__(self) -> Conversation:
        try:
            self._client.open()
        except (OSError, ValueError) as error:  # ValueError: a host name that is none
            raise LinkError(f"{self._where}: {broker.why_unreachable(error)}") from error
        try:
            self._wait_for("CONNECT", 0)
        except LinkError:
            self._hang_up()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()

    def subscribe(self, topics: str) -> None:
        """Hear from now on what is said there, and what the broker keeps of it."""
        result, mid = self._client.subscribe(topics, options=_AS_PUBLISHED)
        self._check(result)
        self._wait_for("SUBSCRIBE", mid or 0)

    def say(self, topic: str, payload: bytes, correlation: bytes | None = None, answer_on: str = "") -> None:
        """Publish with QoS 1, not retained; the broker has it when this returns."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if correlation is not None:
            properties.CorrelationData = correlation
        if answer_on:
            properties.ResponseTopic = answer_on
        sent = self._client.publish(topic, payload, qos=1, properties=properties)
        self._check(sent.rc)
        self._wait_for("PUBLISH", sent.mid)

    def keep(self, messages: Iterable[tuple[str, bytes]], told: Callable[[int], None] | None = None) -> None:
        """Publish with QoS 1, retained, in order; the broker has all of them when this returns.

        Args:
            messages: topic and payload; an empty one makes the broker forget the topic's.
            told: given the size of each payload that the broker has.
        """
        waiting: dict[int, int] = {}  # message id -> size
        for topic, payload in messages:
            sent = self._client.publish(topic, payload, qos=1, retain=True)
            self._check(sent.rc)
            waiting[sent.mid] = len(payload)
            while len(waiting) >= _UNDER_WAY:
                self._take_answer(waiting, told)
        while waiting:
            self._take_answer(waiting, told)

    def _take_answer(self, waiting: dict[int, int], told: Callable[[int], None] | None) -> None:
        """One of `waiting` is acknowledged when this returns, whatever else the broker says meanwhile."""
        until = time.monotonic() + _ANSWER_S
        while item := self._next(until):
            if isinstance(item, Heard):
                if len(self._heard) < _MAX_INBOX:  # for `hear`: a bridge is pressed while it publishes
                    self._heard.append(item)
                continue
            if item.refused is not None:
                raise LinkError(f"{self._where}: it refused {item.what}: {item.refused} (its access rules?)")
            if item.what == "PUBLISH" and item.mid in waiting:
                size = waiting.pop(item.mid)
                if told:
                    told(size)
                return
        raise LinkError(f"{self._where}: no answer to PUBLISH in {_ANSWER_S:g} s")

    def hear(self, until: float) -> Heard | None:
        """The next message; None: there was none until `until`, s monotonic."""
        while not self._heard:
            item = self._next(until)
            if item is None:
                return None
            if isinstance(item, Heard):
                self._heard.append(item)
        return self._heard.popleft()

    def kept(self, topics: str) -> Iterator[Heard]:
        """What the broker keeps below a filter of at most 1,000 topics, then nothing more.

        The end is a message of our own, sent behind the subscription: brokers deliver in order.
        """
        fence = f"doord/{self._site}/admin/fence/{secrets.token_hex(8)}"
        until = time.monotonic() + _ANSWER_S
        self.subscribe(fence)
        self.subscribe(topics)
        self.say(fence, b"1")
        while heard := self.hear(until):
            if heard.topic == fence:
                return
            if topic_matches_sub(topics, heard.topic):  # also said just now: newer than what is kept
                yield heard
        raise LinkError(f"{self._where}: expected what it keeps within {_ANSWER_S:g} s, got no end of it")

    def _new_client(self) -> BoundedClient:
        config = self._config
        login = broker_login(config)
        name = f"doord-admin-{secrets.token_hex(8)}"
        client = BoundedClient(name, config, login.tls_context(), login.password, _MAX_PACKET_BYTES)
        inbox = self._inbox

        def answered(what: Literal["CONNECT", "SUBSCRIBE", "PUBLISH"], mid: int, reason: Any) -> None:
            inbox.put(_Answered(what, mid, str(reason) if reason.is_failure else None))

        def on_message(_c: Any, _u: Any, message: Any) -> None:
            if inbox.qsize() < _MAX_INBOX:
                inbox.put(Heard(message.topic, message.payload, bool(message.retain)))

        client.on_connect = lambda _c, _u, _flags, reason, _p: answered("CONNECT", 0, reason)
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: answered("SUBSCRIBE", mid, reasons[0])
        client.on_publish = lambda _c, _u, mid, reason, _p: answered("PUBLISH", mid, reason)
        client.on_disconnect = lambda _c, _u, _flags, reason, _p: inbox.put(_Lost(str(reason)))
        client.on_fault = lambda error: inbox.put(_Lost(str(error)))
        client.on_message = on_message
        return client

    def _check(self, result: int) -> None:
        if result != 0:
            raise LinkError(f"{self._where}: the connection is lost")

    def _wait_for(self, what: str, mid: int) -> None:
        until = time.monotonic() + _ANSWER_S
        while item := self._next(until):
            if isinstance(item, Heard):
                self._heard.append(item)
            elif item.what == what and item.mid == mid:
                if item.refused is None:
                    return
                raise LinkError(f"{self._where}: it refused {what}: {item.refused} (its access rules?)")
        raise LinkError(f"{self._where}: no answer to {what} in {_ANSWER_S:g} s")

    def _next(self, until: float) -> Heard | _Answered | None:
        try:
            item = self._inbox.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(item, _Lost):
            raise LinkError(f"{self._where}: connection lost: {item.why}")
        return item

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()
        self._client.loop_stop()
        self._client.cut()
