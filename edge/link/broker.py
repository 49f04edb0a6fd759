"""How to reach the broker: TLS, the password, pauses, and what to tell when it can't be reached."""

from __future__ import annotations

import math
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge.config import MqttConfig, TlsConfig
from edge.errors import ConfigError

CONNECT_S = 5.0  # TCP, then TLS; each
CONNACK_S = 10.0
ALIVE_S = 10.0  # in a pause a watchdog hears of the thread this often
STEADY_S = 10.0  # a connection that lasted this long ends the backing off


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer; the broker's certificate and name are checked.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"mqtt.tls.ca: {tls.ca}: expected certificates in PEM, got: {_cause(error)}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.cert:
        return context
    try:
        # the password: without one OpenSSL asks for it at the terminal
        context.load_cert_chain(tls.cert, tls.key, password=lambda: "")
    except (OSError, ValueError) as error:
        expected = "expected a certificate and its unencrypted key in PEM"
        raise ConfigError(f"mqtt.tls: {tls.cert}, {tls.key}: {expected}, got: {_cause(error)}") from error
    return context


def password(config: MqttConfig) -> str | None:
    """The first line of the password file. Raises ConfigError, which has nothing of its content."""
    path = config.password_file
    if not path:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"mqtt.password_file: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"mqtt.password_file: {path}: expected UTF-8 text") from None
    if not lines or not lines[0]:
        raise ConfigError(f"mqtt.password_file: {path}: expected a password, got an empty first line")
    return lines[0]


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
