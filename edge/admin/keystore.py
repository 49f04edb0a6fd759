"""An admin's keys: one file under a passphrase, with a name for each. See `edge.passphrase`.

`site.keys` is needed every day: `people` and `rights` sign what their names say, `publish` what is
newest, `commands` the admin's commands, `collect` what was collected; `data_key` seals the records.
`root.keys` is needed only to change keys: keep it on a stick in a safe. Who has `site.keys` alone can't
make a key of his own count.
"""

from __future__ import annotations

import getpass
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Meta
from securesystemslib.signer import CryptoSigner

from edge.config import Id
from edge.disk import KEY_BYTES, write_atomically
from edge.errors import AdminError, GalleryError, GalleryKeyError
from edge.link.dsse import COLLECT as COLLECT  # the name that doors know it by
from edge.passphrase import decrypt, encrypt

FORMAT = 1
BRIDGE = "bridge"  # orders what Home Assistant asks for; none until `doord admin bridge-files`
SITE_NAMES = ("people", "rights", "publish", "commands", COLLECT)
ROOT_NAMES = ("root", "targets")
SITE_VARIABLE = "DOORD_ADMIN_PASSPHRASE_FILE"
ROOT_VARIABLE = "DOORD_ADMIN_ROOT_PASSPHRASE_FILE"
_MAGIC = b"doord keys\0"
_MAX_BYTES = 2**20
_NEXT = "-next"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    site: Id
    data_key: Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    keys: dict[Id, str]  # Ed25519, PKCS 8, PEM


class Keystore:
    """Named Ed25519 keys of one site, and a key for data. Made by `create` or `open`."""

    def __init__(self, path: Path, passphrase: str, file: _File) -> None:
        self._path = path
        self._passphrase = passphrase
        self._file = file
        self._signers = {name: signer_of(pem, f"{path}: {name}") for name, pem in file.keys.items()}

    @classmethod
    def create(cls, path: Path, site: str, names: Iterable[str], passphrase: str) -> Keystore:
        """A new file, mode 0600, with a new key for each name.

        Raises:
            AdminError: there is a file already.
            GalleryError: the passphrase is too short.
            GalleryKeyError: the file can't be written.
        """
        if path.exists():
            raise AdminError(f"{path}: expected no file yet, got one: keys are never overwritten")
        store = cls(path, passphrase, _File(site, secrets.token_bytes(KEY_BYTES), {}))
        store.add({name: CryptoSigner.generate_ed25519() for name in names})
        return store

    @classmethod
    def open(cls, path: Path, passphrase: str) -> Keystore:
        """The keys in a file. Raises GalleryKeyError: missing, damaged, or another passphrase's."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES)
            plain = decrypt(_MAGIC, FORMAT, data, passphrase, str(path))
            return cls(path, passphrase, msgspec.msgpack.decode(plain, type=_File))
        except OSError as error:
            raise GalleryKeyError(f"{path}: {error.strerror}") from None
        except msgspec.MsgspecError as error:
            raise GalleryKeyError(f"{path}: expected keys of doord, got: {error}") from None
        except GalleryKeyError:
            raise
        except GalleryError as error:
            raise GalleryKeyError(str(error)) from None

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def site(self) -> str:
        """Whose keys they are."""
        return self._file.site

    @property
    def data_key(self) -> bytes:
        """32 bytes that seal the records."""
        return self._file.data_key

    @property
    def names(self) -> tuple[str, ...]:
        """What keys there are."""
        return tuple(self._signers)

    def signer(self, name: str) -> CryptoSigner:
        """The key of that name. Raises GalleryKeyError: not in this file."""
        if name not in self._signers:
            there = ", ".join(self._signers) or "none"
            raise GalleryKeyError(f"{self._path}: expected a key named {name}, got {there}")
        return self._signers[name]

    def add(self, keys: Mapping[str, CryptoSigner]) -> None:
        """Put keys in, in the place of those of the same names. Raises GalleryKeyError: can't be written."""
        pem = {name: signer.private_bytes.decode() for name, signer in keys.items()}
        file = msgspec.structs.replace(self._file, keys={**self._file.keys, **pem})
        self._write(file, self._passphrase)
        self._file = file
        self._signers.update(keys)

    @property
    def signers(self) -> tuple[CryptoSigner, ...]:
        """All keys."""
        return tuple(self._signers.values())

    def prepare(self, names: Iterable[str]) -> dict[str, CryptoSigner]:
        """New keys that wait beside those of `names` until `promote`; by name.

        A key must be on the disk before anything counts on it, and the old one must stay until then.
        """
        made = {name: CryptoSigner.generate_ed25519() for name in names}
        self.add({name + _NEXT: signer for name, signer in made.items()})
        return made

    def waiting(self) -> dict[str, CryptoSigner]:
        """The keys that wait, by the name they will have."""
        ends = [name for name in self._signers if name.endswith(_NEXT)]
        return {name.removesuffix(_NEXT): self._signers[name] for name in ends}

    def promote(self, names: Iterable[str]) -> None:
        """Let keys that wait replace those of `names`. Raises GalleryKeyError."""
        keys = dict(self._file.keys)
        for name in names:
            keys[name] = keys.pop(name + _NEXT)
            self._signers[name] = self._signers.pop(name + _NEXT)
        file = msgspec.structs.replace(self._file, keys=keys)
        self._write(file, self._passphrase)
        self._file = file

    def change_passphrase(self, passphrase: str) -> None:
        """Keep the same keys under another passphrase. Raises GalleryError: too short, or not written."""
        self._write(self._file, passphrase)
        self._passphrase = passphrase

    def _write(self, file: _File, passphrase: str) -> None:
        data = encrypt(_MAGIC, FORMAT, msgspec.msgpack.encode(file), passphrase)
        try:
            write_atomically(self._path, data)
        except OSError as error:
            raise GalleryKeyError(f"{self._path}: {error.strerror}") from None


def signer_of(pem: str, where: str) -> CryptoSigner:
    """The Ed25519 key in a PEM. Raises GalleryKeyError."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise GalleryKeyError(f"{where}: expected an Ed25519 key in PEM, got another")
    return CryptoSigner(key)


def _first_line(path: Path, variable: str) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.readline(_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise GalleryKeyError(f"{variable}: {path}: can't be read: {error}") from None
    if mode & stat.S_IRWXO:  # a group may: systemd shows what it passes on so
        raise GalleryKeyError(f"{variable}: {path}: expected mode 0600, got {mode:04o}: chmod 600 {path}")
    return text.removesuffix("\n")  # an editor's mark and line end are no part of it


def ask_passphrase(
    variable: str, what: str, again: bool = False, ask: Callable[[str], str] = getpass.getpass
) -> str:
    """The first line of the file that the environment's `variable` names, else what is typed.

    Args:
        variable: SITE_VARIABLE or ROOT_VARIABLE.
        what: stands in the prompt.
        again: a new one is typed twice.
        ask: shows a prompt and reads without showing.

    Raises:
        GalleryKeyError: the file can't be read, or anybody can; nobody can type, or two differ.
    """
    path = os.environ.get(variable)
    if path:
        return _first_line(Path(path), variable)
    if ask is getpass.getpass and not sys.stdin.isatty():
        raise GalleryKeyError(f"{what}: expected {variable} to name a file where nobody can type, got none")
    try:
        passphrase = ask(f"passphrase of {what}: ")
        if again and ask("again: ") != passphrase:
            raise GalleryKeyError(f"{what}: the two passphrases differ")
    except EOFError:
        raise GalleryKeyError(f"{what}: expected a passphrase, got the end of what is typed") from None
    return passphrase
