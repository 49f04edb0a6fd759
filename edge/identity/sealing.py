"""How what a site publishes is sealed, and how its keys reach a door. Pure.

Every target but `commands/keys` is sealed (AES-256-GCM), so a broker reads no template and no
subject, and a target put under another's name or taken from another site does not open. That it is
the newest is not told here but by its signature (TUF).

A sealed target is `doord`, format 1, key id (8 bytes), nonce, ciphertext, tag.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from edge.disk import KEY_BYTES, seal, unseal
from edge.errors import GalleryError, GalleryKeyError

FORMAT = 1
MAX_TARGET_BYTES = 4 * 2**20
MAX_KEYS_BYTES = 2**16
COMMAND_KEYS = "commands/keys"
_MAGIC = b"doord\x01"
_KEY_ID_BYTES = 8
_HEADER_BYTES = len(_MAGIC) + _KEY_ID_BYTES

_Format = Annotated[int, Meta(ge=0, le=2**31)]  # JSON's numbers have no end, and messages would have none
_Key = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is in a target: strict and frozen."""


class _Head(msgspec.Struct, frozen=True):
    """Enough of any format to say which it is."""

    format: _Format


def site_key_id(site_key: bytes) -> bytes:
    """8 bytes that name a key and tell nothing of it."""
    return hmac.digest(site_key, b"doord site key id", "sha256")[:_KEY_ID_BYTES]


def key_id_of(data: bytes) -> bytes:
    """The id of the key that a target says it is sealed with; whatever stands there in other bytes."""
    return data[len(_MAGIC) : _HEADER_BYTES]


def seal_target(site_key: bytes, site: str, name: str, data: bytes) -> bytes:
    """A target's bytes, bound to site and name. Raises GalleryError: more than MAX_TARGET_BYTES."""
    header = _MAGIC + site_key_id(site_key)
    sealed = header + seal(site_key, data, _bound_to(header, site, name))
    if len(sealed) > MAX_TARGET_BYTES:
        raise GalleryError(f"{name}: expected at most {MAX_TARGET_BYTES} bytes, got {len(sealed)}")
    return sealed


def unseal_target(site_key: bytes, site: str, name: str, data: bytes) -> bytes:
    """What `seal_target` was given.

    Raises:
        GalleryKeyError: sealed with another key, as after the site's key was changed.
        GalleryError: no sealed target, too long, altered, or another site's or target's.
    """
    if len(data) > MAX_TARGET_BYTES:
        raise GalleryError(f"{name}: expected at most {MAX_TARGET_BYTES} bytes, got {len(data)}")
    header = data[:_HEADER_BYTES]
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise GalleryError(f"{name}: expected a sealed target of doord, format 1, got {header[:6].hex(' ')}")
    expected, got = site_key_id(site_key), key_id_of(data)
    if not hmac.compare_digest(expected, got):
        raise GalleryKeyError(f"{name}: expected key {expected.hex()}, got {got.hex()}")
    return unseal(site_key, data[_HEADER_BYTES:], _bound_to(header, site, name), name)


def _bound_to(header: bytes, site: str, name: str) -> bytes:
    return header + f"{site}\n{name}".encode()


# Content

C = TypeVar("C")


def unpacked(plain: bytes, to: type[C], where: str, max_bytes: int) -> C:
    """Msgpack as the struct `to`, which has a `format`. Raises GalleryError."""
    return _decoded(msgspec.msgpack.decode, plain, to, where, max_bytes)


def parsed(plain: bytes, to: type[C], where: str, max_bytes: int) -> C:
    """JSON as the struct `to`, which has a `format`. Raises GalleryError."""
    return _decoded(msgspec.json.decode, plain, to, where, max_bytes)


def fitting(plain: bytes, where: str, max_bytes: int) -> bytes:
    """The same bytes. Raises GalleryError: more than a door would read."""
    if len(plain) > max_bytes:
        raise GalleryError(f"{where}: expected at most {max_bytes} bytes, got {len(plain)}")
    return plain


def _decoded(decode: Callable[..., Any], plain: bytes, to: type[C], where: str, max_bytes: int) -> C:
    """Lengths are checked against the type's before anything is allocated for them (msgspec)."""
    fitting(plain, where, max_bytes)
    try:
        found = decode(plain, type=_Head).format
        if found != FORMAT:
            raise GalleryError(f"{where}: expected format {FORMAT}, got {found}: made by another doord")
        content: C = decode(plain, type=to)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # a foreign key stands in the message: control characters would forge lines of the log
        shown = str(error).encode("unicode_escape").decode()[:200]
        raise GalleryError(f"{where}: expected content of doord, got: {shown}") from None
    return content


# The site's keys


class SiteKeys(Content, frozen=True):
    """`keys/<door>`, sealed with that door's own key: what opens everything else."""

    format: int
    site_key: _Key
    card_key: _Key


def keys_name(door: str) -> str:
    """The target with the site's keys for one door."""
    return f"keys/{door}"


def encode_keys(keys: SiteKeys) -> bytes:
    """Msgpack."""
    return msgspec.msgpack.encode(keys)


def decode_keys(plain: bytes) -> SiteKeys:
    """Raises GalleryError."""
    return unpacked(plain, SiteKeys, "keys", MAX_KEYS_BYTES)
