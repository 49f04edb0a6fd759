"""What ties a door to its site: what it was joined with, and what it says in its own name."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Signer

from edge.config import Config
from edge.errors import ConfigError, GalleryError
from edge.joined import Joined, forget_plain_key, read_joined, signing_key
from edge.link import dsse, orders, wire
from edge.link.counters import next_epoch
from edge.link.orders import Attestation, Reply

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Voice:
    """What a joined door says in its own name, signed."""

    site: str
    door: str
    epoch: str  # of this start, see `orders`
    signer: Signer

    def attest(self, state: wire.State, head: wire.ChainHead) -> bytes:
        """What the door is, and the event chain's head."""
        at = wire.rfc3339(time.time())
        report = Attestation(self.site, self.door, self.epoch, at, head.seq, head.prev, state)
        return dsse.sign(orders.encode(report), orders.ATTESTATION_TYPE, self.signer)

    def answer(self, reply: Reply) -> bytes:
        """What became of an order."""
        return dsse.sign(orders.encode(reply), orders.REPLY_TYPE, self.signer)


@dataclass(frozen=True, slots=True)
class Ties:
    """What ties a door to its site: what it was joined with, and its own signed voice."""

    joined: Joined
    voice: Voice


def tied(config: Config) -> Ties | None:
    """The ties of a joined door; None: it stands alone, or what it was joined with can't be read.

    The epoch of this start is counted here: once a start. A joined door whose file can't be read
    lets in nobody by face or card, and says so; it is not taken for a standalone one.
    """
    try:
        joined = read_joined(config)
        key = signing_key(joined.bundle, str(joined.folder)) if joined else None
    except (GalleryError, ConfigError) as error:
        log.error("site: %s; nobody is let in by face or card", error)
        return None
    if joined is None or key is None:
        return None
    try:
        forget_plain_key(joined.folder)
    except GalleryError as error:
        log.warning("site: %s", error)
    epoch = next_epoch(Path(config.state_dir) / "starts")
    return Ties(joined, Voice(config.site, config.door_id, epoch, CryptoSigner(key)))
