"""What admins order, doors answer and collectors ack, signed in `dsse` envelopes. Pure.

An order names each door with its epoch, so it is of use to one run of the daemon only. An epoch is
`<count>-<16 hex>`: the count rises with every start, the hex is random at each. So an order is
worthless after a restart, also when the card was restored to an earlier state; and such a card
shows, since its count goes back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from edge.config import Id
from edge.errors import PayloadError
from edge.link.dsse import KeyId, parsed
from edge.link.wire import Digest, Natural, State, Utc

COMMAND_TYPE = "application/vnd.doord.command+json"
ACK_TYPE = "application/vnd.doord.ack+json"
REPLY_TYPE = "application/vnd.doord.reply+json"
ATTESTATION_TYPE = "application/vnd.doord.attestation+json"

MAX_DOORS = 500  # of one order
MAX_ORDER_BYTES = 64 * 1024  # of its envelope: 500 doors take 45 kB
MAX_REPORT_BYTES = 16 * 1024  # of the envelope of a reply or an attestation
MAX_ACK_BYTES = 4 * 1024  # of the envelope of an ack
MAX_AHEAD_S = 30.0  # how far away an order's end may be
RESTRAINING = frozenset({"lock", "lockdown"})
"""What only locks: obeyed with less, since to refuse it leaves a door open, and twice is as once."""

Do = Literal["unlock", "lock", "normal", "lockdown", "free-access", "sync", "identify-yourself", "restart"]
Epoch = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}-[0-9a-f]{16}\Z")]
Counter = Annotated[int, Meta(ge=1, lt=2**53)]  # JSON's exact integers; UTC ms reach it in 287,396
_MAX_TEXT = 300
_Text = Annotated[str, Meta(max_length=_MAX_TEXT)]


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: strict and frozen."""


class Order(_Message, frozen=True):
    """What some doors shall do."""

    site: Id
    doors: Annotated[dict[Id, Epoch], Meta(min_length=1, max_length=MAX_DOORS)]
    counter: Counter  # rises with each order of a key; UTC in ms, as long as the clock goes on
    expires_at: Utc
    do: Do
    until: Utc | None = None  # the end of free-access, which must have one


class Reply(_Message, frozen=True):
    """What a door made of an order."""

    site: Id
    door: Id
    epoch: Epoch  # the door's now
    keyid: KeyId  # who ordered
    counter: Counter  # which order
    done: bool
    detail: _Text


class Attestation(_Message, frozen=True):
    """What a door says of itself; sent again at every change and every minute."""

    site: Id
    door: Id
    epoch: Epoch
    at: Utc
    seq: Natural  # the event chain's head: number of the last event,
    prev: Digest  # and SHA-256 of its bytes
    state: State


class Ack(_Message, frozen=True):
    """What a collector has stored of a door's events: all up to `seq`, with this one's bytes.

    Number 0 acknowledges nothing: it asks for what was not acknowledged.

    The digest ties it to this chain: an ack of the same number of another one, from before a ledger
    was lost or restored, acknowledges nothing.
    """

    site: Id
    door: Id
    seq: Natural
    prev: Digest  # SHA-256 of the bytes of event `seq`, as in wire.ChainHead; 64 zeros with number 0
    at: Utc


Message: TypeAlias = Order | Reply | Attestation | Ack


def epoch_of(count: int, random: bytes) -> str:
    """The epoch of the daemon's start number `count` (1..999,999,999), from 8 random bytes."""
    return f"{count}-{random[:8].hex()}"


def epoch_count(epoch: str) -> int:
    """How many starts the door had counted."""
    return int(epoch.partition("-")[0])


def utc(text: str) -> datetime:
    """The moment that `wire.Utc` names. Raises PayloadError: there is no such day or time."""
    try:
        return datetime.fromisoformat(text.removesuffix("Z") + "+00:00")
    except ValueError:
        raise PayloadError(f"time: expected UTC as RFC 3339 with ms, got {text[:40]!r}") from None


def encode(message: Message) -> bytes:
    """JSON; long texts are cut. Raises PayloadError: an order that no door would read."""
    if isinstance(message, Order):
        decode_order(payload := msgspec.json.encode(message))
        return payload
    if isinstance(message, Reply):
        message = msgspec.structs.replace(message, detail=_short(message.detail))
    elif isinstance(message, Attestation):
        state, short = message.state, _short
        state = msgspec.structs.replace(
            state, fault=short(state.fault), gallery_refusal=short(state.gallery_refusal)
        )
        message = msgspec.structs.replace(message, state=state)
    return msgspec.json.encode(message)


_S = TypeVar("_S", str, "str | None")


def _short(text: _S) -> _S:
    # bytes of a file name that are no UTF-8 come as lone surrogates, which JSON can't carry
    return text if text is None else text[:_MAX_TEXT].encode("utf-8", "replace").decode()


def decode_order(payload: bytes) -> Order:
    """Raises PayloadError."""
    return _checked(parsed(payload, Order, "order", MAX_ORDER_BYTES))


def decode_reply(payload: bytes) -> Reply:
    """Raises PayloadError."""
    return parsed(payload, Reply, "reply", MAX_REPORT_BYTES)


def decode_attestation(payload: bytes) -> Attestation:
    """Raises PayloadError."""
    message = parsed(payload, Attestation, "attestation", MAX_REPORT_BYTES)
    for text in (message.at, message.state.changed_at, message.state.gallery_expires_at):
        if text is not None:
            utc(text)
    return message


def decode_ack(payload: bytes) -> Ack:
    """Raises PayloadError."""
    message = parsed(payload, Ack, "ack", MAX_ACK_BYTES)
    utc(message.at)
    return message


def _checked(order: Order) -> Order:
    utc(order.expires_at)
    if (order.until is not None) != (order.do == "free-access"):
        wanted = "an end" if order.do == "free-access" else "no end"
        raise PayloadError(f"order: {order.do}: expected {wanted}, got until={order.until}")
    if order.until is not None:
        utc(order.until)
    return order
