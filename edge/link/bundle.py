"""The one file that makes a door part of a site: `doord admin door add` writes, `doord join` reads. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edge.config import Id
from edge.errors import ConfigError

FORMAT = 1
MAX_BYTES = 256 * 1024

_Pem = Annotated[str, Meta(min_length=1, max_length=64 * 1024)]


class DoorBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a door must know of its site. It holds private keys: mode 0600, deleted after the join."""

    doord_door: int  # the format; first, so that a reader of the file knows what it is
    site: Id
    door: Id
    broker_host: Annotated[str, Meta(pattern=r"^[^\s/]{1,253}\Z")]
    broker_port: Annotated[int, Meta(ge=1, le=65535)]
    ca: _Pem  # of the broker's certificate
    certificate: _Pem  # the door's, for the broker; its common name is the door's id
    certificate_key: _Pem
    root: bytes  # TUF root.json: what the door trusts
    key_encryption_key: Annotated[bytes, Meta(min_length=32, max_length=32)]  # opens `keys/<door>`
    signing_key: _Pem  # Ed25519, PKCS 8: what the door signs its reports with


def encode_bundle(bundle: DoorBundle) -> bytes:
    """JSON."""
    return msgspec.json.format(msgspec.json.encode(bundle))


def decode_bundle(data: bytes, where: str) -> DoorBundle:
    """Raises ConfigError: `where: expected ..., got ...`."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{where}: expected at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        bundle = msgspec.json.decode(data, type=DoorBundle)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{where}: expected a file of `doord admin door add`, got: {error}") from None
    if bundle.doord_door != FORMAT:
        raise ConfigError(
            f"{where}: expected format {FORMAT}, got {bundle.doord_door}: made by another doord"
        )
    return bundle
