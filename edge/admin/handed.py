"""What an admin's machine hands to another that does one thing only: a folder of files, each its own."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import CryptoSigner

from edge.admin.keystore import signer_of
from edge.config import MqttConfig, TlsConfig
from edge.disk import make_private_folder, write_atomically
from edge.errors import AdminError, GalleryError, PayloadError
from edge.link import dsse

_MAX_BYTES = 8 * 2**20

_D = TypeVar("_D")


def write_files(folder: Path, files: Mapping[str, bytes], mode: int = 0o600) -> list[Path]:
    """Write files into a folder, made with mode 0700; what was written. `mode`: of all but keys, 0600.

    Raises:
        AdminError: the folder can't be written.
    """
    try:
        make_private_folder(folder)
    except GalleryError as error:
        raise AdminError(str(error)) from None
    for name, data in files.items():
        try:
            write_atomically(folder / name, data, 0o600 if name.endswith(".key") else mode)
        except OSError as error:
            raise AdminError(f"{folder / name}: {error.strerror}") from None
    return [folder / name for name in files]


def broker_as(name: str, folder: Path, host: str, port: int) -> MqttConfig:
    """How to reach the broker with the certificate of `name` that lies in a folder."""
    tls = TlsConfig(*(str(folder / file) for file in ("ca.pem", f"{name}.pem", f"{name}.key")))
    return MqttConfig(host=host, port=port, tls=tls)


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
