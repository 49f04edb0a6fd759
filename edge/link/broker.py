"""How to reach the broker: what it is shown, TLS, pauses, and what to tell when it can't be reached."""

from __future__ import annotations

import contextlib
import math
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge.config import MqttConfig
from edge.errors import ConfigError

CONNECT_S = 5.0  # TCP, then TLS; each
CONNACK_S = 10.0
ALIVE_S = 10.0  # in a pause a watchdog hears of the thread this often
STEADY_S = 10.0  # a connection that lasted this long ends the backing off


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificates, or a key, as text in PEM."""

    where: str  # it was read from, for messages
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """What TLS with the broker is made of. `certificate` and `key` are this client's; None: it has none."""

    ca: Pem | None  # None: the system's authorities
    certificate: Pem | None = None
    key: Pem | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """The broker, and what it is shown: all read, wherever it was kept. Another one, another link."""

    mqtt: MqttConfig
    tls: Tls | None = None  # None: plain TCP
    password: str | None = field(default=None, repr=False)

    def tls_context(self) -> ssl.SSLContext | None:
        """None: plain TCP. Raises ConfigError."""
        return tls_context(self.tls) if self.tls else None


def tls_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 or newer; the broker's certificate and name are checked.

    Raises:
        ConfigError: a part is not what it should be.
    """
    context = ssl.create_default_context() if tls.ca is None else _believing(tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None and tls.key is not None:
        _show(context, tls.certificate, tls.key)
    return context


def _believing(ca: Pem) -> ssl.SSLContext:
    expected = f"{ca.where}: expected certificates in PEM, got"
    if not ca.text.strip():  # by which ssl would mean the system's authorities
        raise ConfigError(f"{expected} an empty text")
    try:
        return ssl.create_default_context(cadata=_ascii(ca.text))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{expected}: {_cause(error)}") from error


def _ascii(text: str) -> str:
    """Without a comment's letters, which OpenSSL would not take; PEM itself has none."""
    return text.encode("ascii", "ignore").decode()


def _show(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    """The certificate, and those it is signed by, are the one text's; the key is the other's."""
    try:
        with _as_file(certificate.text) as shown, _as_file(key.text) as secret:
            # the password: without one OpenSSL asks for it at the terminal
            context.load_cert_chain(shown, secret, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        expected = "expected a certificate and its unencrypted key in PEM"
        words = f"{certificate.where}; {key.where}: {expected}, got: {_cause(error)}"
        raise ConfigError(words) from error


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """OpenSSL reads these from files only: the path of one in memory, without a name, soon gone."""
    with os.fdopen(os.memfd_create("doord-tls"), "wb", buffering=0) as file:
        file.write(text.encode())
        yield f"/proc/self/fd/{file.fileno()}"


def why_unreachable(error: Exception) -> str:
    """What a failed attempt to connect means, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message} (mqtt.tls.ca, mqtt.host)"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {_cause(error)}"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, socket.gaierror):
        return f"no such host: {error.strerror}"
    if isinstance(error, TimeoutError):
        return f"no answer in {CONNECT_S:g} s"
    return f"can't connect: {_cause(error)}"


def _pause_s(failures: int, retry_s: tuple[float, float]) -> float:
    """How long to wait after so many failures; `retry_s`: the shortest and the longest."""
    shortest, longest = retry_s
    pause: float = min(longest, shortest * 2 ** min(failures, 10))
    return pause * random.uniform(0.5, 1)  # noqa: S311  # doors must not knock in step


def _nobody_asks() -> None:
    """No watchdog waits for this thread."""


def keep_trying(
    attempt: Callable[[], None],
    stopping: threading.Event,
    retry_s: tuple[float, float],
    alive: Callable[[], None] = _nobody_asks,
) -> None:
    """`attempt` again and again until `stopping`: it connects, and returns when that is over.

    The pauses between grow from the shortest to the longest of `retry_s`; what lasted STEADY_S ends that.
    `alive` is called in a pause, every ALIVE_S.
    """
    failures = 0
    while not stopping.is_set():
        began = time.monotonic()
        attempt()
        failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
        pause_s = _pause_s(failures, retry_s)
        pieces = math.ceil(pause_s / ALIVE_S)
        for _ in range(pieces):
            alive()
            if stopping.wait(pause_s / pieces):
                break


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error or type(error).__name__).splitlines()[0]
