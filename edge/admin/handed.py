"""What an admin's machine hands to another that does one thing only: its description, and its own key."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import CryptoSigner

from edge.admin.keystore import signer_of
from edge.errors import AdminError, PayloadError
from edge.link import dsse

_MAX_BYTES = 8 * 2**20

_D = TypeVar("_D")


def read_description(path: Path, to: type[_D], hint: str = "") -> _D:
    """The JSON file as the struct `to`; `hint` stands behind what the disk says. Raises AdminError."""
    try:
        with path.open("rb") as file:
            return dsse.parsed(file.read(_MAX_BYTES + 1), to, str(path), _MAX_BYTES)
    except OSError as error:
        raise AdminError(f"{path}: {error.strerror}{hint}") from None
    except PayloadError as error:
        raise AdminError(str(error)) from None


def read_signer(path: Path) -> CryptoSigner:
    """The key in a PEM file.

    Raises AdminError: it can't be read, or others than its owner can; GalleryKeyError: no Ed25519 key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise AdminError(f"{path}: expected mode 0600, got {mode:04o}: run chmod 600 {path}")
        return signer_of(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: {error}") from None
