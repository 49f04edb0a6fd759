"""A real Mosquitto on a free loopback port, its certificates, and a listener."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 15.0  # how long a condition may take before a test fails; most take milliseconds


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds; fail when it doesn't in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {patience_s:g} s in vain: {what}")
        time.sleep(0.005)


def free_port() -> int:
    """A loopback port nobody listens on, below those the kernel lends to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def die_with_parent() -> None:
    """No orphan stays when the test run is killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Broker:
    """Mosquitto with the lines of `conf`; without persistence it knows what it was told since its start."""

    def __init__(self, folder: Path, *conf: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._conf = folder / "mosquitto.conf"
        self._log = folder / "mosquitto.log"
        lines = [f"listener {self.port} 127.0.0.1", "log_type all", *conf]
        if "persistence true" in conf:
            lines.append(f"persistence_location {folder}/")
        if os.geteuid() == 0:
            lines.insert(0, "user root")
        if not any(
            line.startswith(("allow_anonymous", "require_certificate", "password_file")) for line in conf
        ):
            lines.append("allow_anonymous true")
        self._conf.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> Broker:
        path = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if path is None:
            pytest.fail("mosquitto is missing: apt-get install mosquitto")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [path, "-c", str(self._conf)], stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        wait_until(self._listens, f"mosquitto listens; its log: {self.log}")
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"mosquitto ended with {self._process.returncode}: {self.log}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            self._process = None

    def send(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)


@dataclass
class Authority:
    """A certificate authority that lasts a day, and its files."""

    folder: Path
    name: str = "test ca"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=0))
        self.path = self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Paths of a certificate, valid for 127.0.0.1 as well, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, x509.BasicConstraints(ca=False, path_length=None))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return self._write(f"{name}.pem", pem), self._write(f"{name}.key", secret)

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, constraints: x509.BasicConstraints
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        of = x509.oid.NameOID.COMMON_NAME
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(of, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(of, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(constraints, critical=True)
            # Python 3.13 verifies as RFC 5280 asks (VERIFY_X509_STRICT)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(_key_usage(constraints.ca), critical=True)
            .add_extension(address, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def tls_conf(authority: Authority) -> tuple[str, ...]:
    """Mosquitto's lines for TLS with client certificates of the same authority."""
    certificate, key = authority.issue("broker")
    return (
        f"cafile {authority.path}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
        "use_identity_as_username true",
    )


@dataclass(frozen=True)
class Heard:
    topic: str
    payload: bytes
    retained: bool


class Listener:
    """Subscribes to everything below doord/ and keeps all it hears, in order.

    Its session outlives a broker with persistence that is stopped in order, so nothing that is
    sent while it reconnects is missed. What the broker hands over again, since it was stopped
    before this listener's acknowledgement came, is heard once: its DUP flag says so, and says
    nothing of a door that sends twice (MQTT 5, 3.3.1.1).
    """

    def __init__(self, port: int) -> None:
        self.heard: list[Heard] = []
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2, f"listener-{id(self)}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda c, u, f, r, p: c.subscribe("doord/#", qos=1)
        self._client.on_subscribe = lambda c, u, m, r, p: self._subscribed.set()
        self._client.on_message = lambda c, u, message: self._hear(message)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 300
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)

    def _hear(self, message: MQTTMessage) -> None:
        heard = Heard(message.topic, message.payload, message.retain)
        if not (message.dup and heard in self.heard):
            self.heard.append(heard)

    def on(self, end: str) -> list[bytes]:
        """What was heard on the topics that end so."""
        return [heard.payload for heard in list(self.heard) if heard.topic.endswith(end)]

    def __enter__(self) -> Listener:
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE_S), "the listener could not subscribe"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
