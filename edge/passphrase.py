"""Bytes under a passphrase: for files that are carried about, and for an admin's keys. Pure.

Magic, format, salt (16 bytes), then AES-256-GCM with magic, format and salt as associated data. The
key is scrypt(passphrase) with N=2^15, r=8, p=1 (RFC 7914; 32 MiB and about 0.1 s a guess).
"""

from __future__ import annotations

import secrets
import unicodedata

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from edge.disk import KEY_BYTES, seal, unseal
from edge.errors import GalleryError

MIN_PASSPHRASE = 8  # characters
_SALT_BYTES = 16


def encrypt(magic: bytes, version: int, plain: bytes, passphrase: str) -> bytes:
    """A file's bytes. Raises GalleryError: the passphrase is too short."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise GalleryError(
            f"passphrase: expected at least {MIN_PASSPHRASE} characters, got {len(passphrase)}"
        )
    header = magic + bytes([version]) + secrets.token_bytes(_SALT_BYTES)
    return header + seal(_key(passphrase, header), plain, header)


def decrypt(magic: bytes, version: int, data: bytes, passphrase: str, where: str) -> bytes:
    """What `encrypt` was given. Raises GalleryError: no such file, a wrong passphrase, or altered."""
    size = len(magic) + 1 + _SALT_BYTES
    header, sealed = data[:size], data[size:]
    if not header.startswith(magic):
        raise GalleryError(f"{where}: expected a file of doord, got another")
    if len(header) < size:
        raise GalleryError(f"{where}: is cut short: got {len(data)} bytes")
    if header[len(magic)] != version:
        raise GalleryError(
            f"{where}: expected format {version}, got {header[len(magic)]}: made by another doord"
        )
    key = _key(passphrase, header)
    try:
        return unseal(key, sealed, header, where)
    except GalleryError:
        raise GalleryError(f"{where}: wrong passphrase, or the file was altered or cut short") from None


def _key(passphrase: str, header: bytes) -> bytes:
    # the same letters typed on another system may come composed differently
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    return Scrypt(salt=header[-_SALT_BYTES:], length=KEY_BYTES, n=2**15, r=8, p=1).derive(secret)
