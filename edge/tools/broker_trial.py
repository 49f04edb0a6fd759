"""The broker tried out: TLS, who it is, until when certificates hold, and may the door write and read."""

from __future__ import annotations

import queue
import secrets
import socket
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from cryptography import x509

from edge.errors import LinkError
from edge.link import broker
from edge.link.broker import Login, Tls
from edge.link.client import BoundedClient
from edge.link.topics import Topics

_ECHO_S = 5.0
_MAX_PACKET_BYTES = 64 * 1024
_SOON = timedelta(days=30)
_Inbox: TypeAlias = "queue.SimpleQueue[tuple[str, Any]]"


@dataclass(frozen=True, slots=True)
class Term:
    """A certificate and the time it holds."""

    name: str
    begins: datetime
    ends: datetime

    def flaw(self, now: datetime) -> str | None:
        """Why it does not hold, or soon will not; None: it does."""
        if now < self.begins:
            return f"{self.name} holds from {self.begins:%Y-%m-%d}: is the clock right?"
        if now >= self.ends:
            return f"{self.name} ended on {self.ends:%Y-%m-%d}"
        if now >= self.ends - _SOON:
            return f"{self.name} ends on {self.ends:%Y-%m-%d}"
        return None


@dataclass(frozen=True, slots=True)
class Reached:
    """A broker that answers."""

    where: str
    tls: str | None  # its version; None: none
    ends: datetime | None  # of the broker's own certificate


def reach(login: Login) -> Reached:
    """Connect, and with TLS check who it is. Raises LinkError; ConfigError: a certificate."""
    mqtt, context = login.mqtt, login.tls_context()
    where = f"{mqtt.host}:{mqtt.port}"
    try:
        with socket.create_connection((mqtt.host, mqtt.port), broker.CONNECT_S) as plain:
            if context is None:
                return Reached(where, None, None)
            with context.wrap_socket(plain, server_hostname=mqtt.host) as secure:
                der = secure.getpeercert(binary_form=True)
                ends = x509.load_der_x509_certificate(der).not_valid_after_utc if der else None
                return Reached(where, secure.version(), ends)
    except OSError as error:
        raise LinkError(f"broker {where}: {broker.why_unreachable(error)}") from error


def terms(tls: Tls) -> list[Term]:
    """The certificates. Raises LinkError: a text is none."""
    found = []
    for pem in (tls.ca, tls.certificate):
        if pem is not None:
            try:
                certificates = x509.load_pem_x509_certificates(pem.text.encode())
            except ValueError as error:
                raise LinkError(f"{pem.where}: expected certificates in PEM, got: {error}") from None
            found += [Term(pem.where, c.not_valid_before_utc, c.not_valid_after_utc) for c in certificates]
    return found


def echo(login: Login, topics: Topics) -> None:
    """Write to the door's own fence topic and read it back, as another client than the daemon.

    So the broker's access rules are tried without an event or a command; nothing is retained.

    Raises:
        LinkError: not accepted, not permitted, or nothing came back.
        ConfigError: a certificate.
    """
    mqtt = login.mqtt
    where = f"broker {mqtt.host}:{mqtt.port}"
    inbox: _Inbox = queue.SimpleQueue()
    client = BoundedClient(
        f"{topics.door}-doctor-{secrets.token_hex(4)}",
        mqtt,
        login.tls_context(),
        login.password,
        _MAX_PACKET_BYTES,
    )
    _listen(client, inbox)
    try:
        client.open()
        _talk(client, inbox, topics.fence, where)
    except LinkError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a host name that is none
        raise LinkError(f"{where}: {broker.why_unreachable(error)}") from error
    finally:
        client.disconnect()
        client.loop_stop()
        client.cut()


def _listen(client: BoundedClient, inbox: _Inbox) -> None:
    """What paho calls does one thing."""
    client.on_fault = lambda fault: inbox.put(("lost", fault))
    client.on_connect = lambda _c, _u, _f, reason, _p: inbox.put(("connected", reason))
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: inbox.put(("subscribed", reasons[0]))
    client.on_publish = lambda _c, _u, _m, reason, _p: inbox.put(("published", reason))
    client.on_disconnect = lambda _c, _u, _f, reason, _p: inbox.put(("lost", reason))
    client.on_message = lambda _c, _u, message: inbox.put(("came", bytes(message.payload)))


def _talk(client: BoundedClient, inbox: _Inbox, topic: str, where: str) -> None:
    nonce, until = f"doctor-{secrets.token_hex(8)}".encode(), time.monotonic() + _ECHO_S
    while True:
        try:
            what, said = inbox.get(timeout=max(0.001, until - time.monotonic()))
        except queue.Empty:
            raise LinkError(f"{where}: {topic}: written, and nothing came back: its access rules?") from None
        if what == "came" and said == nonce:
            return
        if what == "lost" or getattr(said, "is_failure", False):
            raise LinkError(f"{where}: {topic}: refused: {said}")
        if what == "connected":
            client.subscribe(topic, qos=1)
        elif what == "subscribed":
            client.publish(topic, nonce, qos=1)
