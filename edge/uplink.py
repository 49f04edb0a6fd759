"""The link of a door as it is configured: to its broker, or to none. Made anew when that changes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from securesystemslib.signer import Key

from edge import __version__
from edge.config import Config, MqttConfig
from edge.errors import ConfigError
from edge.link import wire
from edge.link.acks import AckDesk
from edge.link.discovery import announce
from edge.link.mqtt import MqttLink
from edge.link.port import Events, Link, NullLink
from edge.ties import Ties

log = logging.getLogger(__name__)


def open_link(
    config: Config,
    ties: Ties | None,
    ledger: Events,
    ack_keys: Callable[[], Mapping[str, Key]],
    refused: Callable[[str], None],
) -> Link:
    """The link; a door whose certificate files are unusable works without one, and says so."""
    try:
        return make_link(config, ties, ledger, ack_keys, refused)
    except ConfigError as error:
        log.error("no broker: %s; mend it and reload, the door works on", error)
        return NullLink()


def make_link(
    config: Config,
    ties: Ties | None,
    ledger: Events,
    ack_keys: Callable[[], Mapping[str, Key]],
    refused: Callable[[str], None],
) -> Link:
    """The link, not started.

    Args:
        config: with the site's broker.
        ties: of a joined door.
        ledger: what is sent.
        ack_keys: by key id, those of the site's collector now.
        refused: told why an ack of the collector was.

    Raises:
        ConfigError: a certificate, key or password file can't be used.
    """
    if config.mqtt is None:
        return NullLink()
    acks = None
    if config.mqtt.acks == "collector" and ties is not None:
        acks = AckDesk(config.site, config.door_id, ledger, ack_keys, refused)
    elif config.mqtt.acks == "collector":
        log.error("mqtt.acks: collector: this door is part of no site; what the broker takes is delivered")
    attest = ties.voice.attest if ties else None
    topics, home = wire.Topics(config.site, config.door_id), config.mqtt.home_assistant
    told = announce(topics, __version__, config.mqtt.heartbeat_s) if home else None
    return MqttLink(config.mqtt, topics, ledger, config.simulation, attest, acks, told)


def fingerprint(mqtt: MqttConfig | None) -> tuple[str, ...]:
    """What a link is made of beside its configuration: digests of its files. Another one, another link."""
    if mqtt is None:
        return ()
    tls = (mqtt.tls.ca, mqtt.tls.cert, mqtt.tls.key) if mqtt.tls else ()
    return tuple(_digest(Path(name)) for name in (*tls, mqtt.password_file) if name)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return error.strerror or "unreadable"
