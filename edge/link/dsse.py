"""Signed messages: DSSE envelopes as JSON with exactly one Ed25519 signature. No world is touched.

The envelope is securesystemslib's (github.com/secure-systems-lab/dsse); its JSON is read more
strictly than it would: sizes first, no unknown fields, one signature. An envelope says nothing of
who may sign, how old it is, or whom it is for: the caller gives the keys, the payload the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer, SSlibKey

from edge.errors import NotSigned, PayloadError
from edge.link.wire import unreadable

KEYS_MAX_BYTES = 64 * 1024
KEYS_FORMAT = 1
COLLECT = "collect"
"""A key of this name may ack events and never command; all others may command and never ack."""
_SIGNATURE_BYTES = 64  # Ed25519, RFC 8032

_P = TypeVar("_P")
KeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: strict and frozen."""


class _Signature(_Strict, frozen=True):
    keyid: KeyId
    sig: Annotated[bytes, Meta(min_length=_SIGNATURE_BYTES, max_length=_SIGNATURE_BYTES)]  # base64


class _Envelope(_Strict, frozen=True):
    payload: bytes  # base64
    payload_type: Annotated[str, Meta(max_length=100)] = msgspec.field(name="payloadType")
    signatures: Annotated[list[_Signature], Meta(min_length=1, max_length=1)]


def parsed(data: bytes, to: type[_P], what: str, max_bytes: int) -> _P:
    """JSON as the struct `to`. Raises PayloadError, of bounded length: `what: expected ...`."""
    if len(data) > max_bytes:
        raise PayloadError(f"{what}: expected at most {max_bytes} bytes, got {len(data)}")
    try:
        return msgspec.json.decode(data, type=to)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(what, error) from None


def sign(payload: bytes, payload_type: str, signer: Signer) -> bytes:
    """The payload in an envelope signed by `signer`, as JSON."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    return msgspec.json.encode(envelope.to_dict())


def opened(data: bytes, payload_type: str, keys: Mapping[str, Key], max_bytes: int) -> tuple[bytes, str]:
    """What was signed, and the id of the one of `keys` that signed it.

    Args:
        data: foreign bytes.
        payload_type: what it has to be; a reply can't pass for a command.
        keys: by key id, those that may sign.
        max_bytes: of `data`.

    Raises:
        PayloadError: too long, no envelope, or of another type.
        NotSigned: by none of `keys`, or altered.
    """
    found = parsed(data, _Envelope, "envelope", max_bytes)
    if found.payload_type != payload_type:
        raise PayloadError(f"envelope: expected {payload_type}, got {found.payload_type[:60]!r}")
    signature = found.signatures[0]
    key = keys.get(signature.keyid)
    if key is None:
        raise NotSigned(f"envelope: expected a signature by one of {len(keys)} known keys, got another's")
    signatures = {signature.keyid: Signature(signature.keyid, signature.sig.hex())}
    try:
        Envelope(found.payload, found.payload_type, signatures).verify([key], 1)
    except UnverifiedSignatureError:
        raise NotSigned(f"envelope: its signature is not of key {signature.keyid[:8]}") from None
    return found.payload, signature.keyid


# Public keys


class _Value(_Strict, frozen=True):
    public: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Key(_Strict, frozen=True):
    keytype: Annotated[str, Meta(pattern=r"^ed25519\Z")]
    scheme: Annotated[str, Meta(pattern=r"^ed25519\Z")]
    keyval: _Value


class _Named(_Strict, frozen=True):
    keyid: KeyId
    name: Annotated[str, Meta(max_length=64)]
    key: _Key


class _Keys(_Strict, frozen=True):
    # the format; first, so that a reader of the file knows what it is. JSON's numbers have no end
    doord_command_keys: Annotated[int, Meta(ge=0, le=2**31)]
    keys: Annotated[list[_Named], Meta(max_length=100)]


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys of `commands/keys`, by key id. Nobody may do both."""

    command: dict[str, Key] = field(default_factory=dict)
    ack: dict[str, Key] = field(default_factory=dict)


def encode_keys(keys: Mapping[str, Key]) -> bytes:
    """The target `commands/keys`: the keys, by the name of who holds them.

    Raises:
        PayloadError: a key that a door would refuse: not Ed25519, or under an odd id.
    """
    rows = [{"keyid": key.keyid, "name": name, "key": key.to_dict()} for name, key in keys.items()]
    data = msgspec.json.encode({"doord_command_keys": KEYS_FORMAT, "keys": rows})
    decode_keys(data)
    return data


def decode_keys(data: bytes) -> Signers:
    """Who may command and who may ack. Raises PayloadError."""
    found = parsed(data, _Keys, "command keys", KEYS_MAX_BYTES)
    if found.doord_command_keys != KEYS_FORMAT:
        raise PayloadError(f"command keys: expected format {KEYS_FORMAT}, got {found.doord_command_keys}")
    keys: dict[str, Key] = {row.keyid: _public(row.keyid, row.key) for row in found.keys}
    if len(keys) != len(found.keys):
        raise PayloadError("command keys: expected each key once, got one twice")
    acking = {row.keyid for row in found.keys if row.name == COLLECT}
    return Signers(
        {keyid: key for keyid, key in keys.items() if keyid not in acking},
        {keyid: key for keyid, key in keys.items() if keyid in acking},
    )


def decode_key(described: Mapping[str, object]) -> Key:
    """A public key from securesystemslib's `Key.to_dict()` with its id under `keyid`. Raises PayloadError."""
    try:
        row = msgspec.convert({"keyid": described.get("keyid"), "name": "", "key": _body(described)}, _Named)
    except msgspec.ValidationError as error:
        raise PayloadError(f"public key: {error}") from None
    return _public(row.keyid, row.key)


def _body(described: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in described.items() if name != "keyid"}


def _public(keyid: str, key: _Key) -> Key:
    return SSlibKey(keyid, key.keytype, key.scheme, {"public": key.keyval.public})
