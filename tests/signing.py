"""Keys, orders and reports that tests sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from securesystemslib.signer import CryptoSigner, Key

from edge.link import dsse, orders, wire
from edge.link.orders import Attestation, Order
from edge.values import DoorMode

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
EPOCH = orders.epoch_of(7, bytes(range(8)))
AT = wire.rfc3339(NOW.timestamp())


@dataclass(frozen=True)
class Received:
    """What downlink hands over; its full sibling."""

    payload: bytes
    retained: bool = False
    correlation: bytes | None = None


def new_signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def keys_of(*signers: CryptoSigner) -> dict[str, Key]:
    return {signer.public_key.keyid: signer.public_key for signer in signers}


def in_s(seconds: float) -> str:
    return wire.rfc3339((NOW + timedelta(seconds=seconds)).timestamp())


def an_order(**changes: object) -> Order:
    fields = {
        "site": "hq",
        "doors": {"front": EPOCH},
        "counter": 1000,
        "expires_at": in_s(20),
        "do": "unlock",
        **changes,
    }
    return Order(**fields)  # type: ignore[arg-type]


def signed(order: Order, signer: CryptoSigner) -> bytes:
    return dsse.sign(orders.encode(order), orders.COMMAND_TYPE, signer)


def an_attestation(**changes: object) -> Attestation:
    of_state = {
        "gallery": changes.pop("gallery", 3),
        "gallery_expires_at": changes.pop("gallery_expires_at", in_s(86400)),
        "gallery_refusal": changes.pop("refusal", None),
    }
    state = wire.State(
        mode=DoorMode.LOCKED,
        lock="locked",
        fault=None,
        gallery_digest="a" * 64,
        changed_at=AT,
        last_refusal=None,
        dps="closed",
        alarms=[],
        subjects=2,
        templates=9,
        **of_state,
    )
    fields = {
        "site": "hq",
        "door": "front",
        "epoch": EPOCH,
        "at": AT,
        "seq": 12,
        "prev": "b" * 64,
        "state": state,
        **changes,
    }
    return Attestation(**fields)  # type: ignore[arg-type]


def attested(attestation: Attestation, signer: CryptoSigner) -> bytes:
    return dsse.sign(orders.encode(attestation), orders.ATTESTATION_TYPE, signer)
