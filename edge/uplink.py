"""The link of a door as it is configured: to its broker, or to none. Made anew when that changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from securesystemslib.signer import Key

from edge import __version__
from edge.config import Config
from edge.errors import ConfigError
from edge.joined import broker_of
from edge.link import wire
from edge.link.acks import AckDesk
from edge.link.broker import Login
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
        config: what is configured.
        ties: of a joined door, whose site has a broker.
        ledger: what is sent.
        ack_keys: by key id, those of the site's collector now.
        refused: told why an ack of the collector was.

    Raises:
        ConfigError: a certificate, its key or a password can't be used.
    """
    login = broker_of(config, ties.joined if ties else None)
    if login is None:
        if config.mqtt is not None:
            log.error("mqtt.host: expected a broker, or a site whose is used, got neither: events stay here")
        return NullLink()
    mqtt, acks = login.mqtt, None
    if mqtt.acks == "collector" and ties is not None:
        acks = AckDesk(config.site, config.door_id, ledger, ack_keys, refused)
    elif mqtt.acks == "collector":
        log.error("mqtt.acks: collector: this door is part of no site; what the broker takes is delivered")
    attest = ties.voice.attest if ties else None
    topics = wire.Topics(config.site, config.door_id)
    told = announce(topics, __version__, mqtt.heartbeat_s) if mqtt.home_assistant else None
    return MqttLink(login, topics, ledger, config.simulation, attest, acks, told)


def made_of(config: Config, ties: Ties | None) -> Login | str | None:
    """What a link would be made of now: another one, another link. A text: why there can't be one."""
    try:
        return broker_of(config, ties.joined if ties else None)
    except ConfigError as error:
        return str(error)
