"""A door that is part of a site: what `doord join` puts into `<state_dir>/site` and the daemon reads.

bundle.sealed     the whole bundle, under the gallery's key
ca.pem, door.pem, door.key    for the broker: OpenSSL reads certificates from files only
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge.acting import as_owner
from edge.config import Config, MqttConfig, TlsConfig
from edge.disk import StateLock, make_private_folder, remove_durably, seal, unseal, write_atomically
from edge.errors import ConfigError, GalleryError
from edge.keys import key_of
from edge.link.bundle import MAX_BYTES, DoorBundle, decode_bundle, encode_bundle

_PEM = ("ca.pem", "door.pem", "door.key")  # the broker's CA, the door's certificate and key
_BOUND_TO = b"doord bundle 1"


@dataclass(frozen=True, slots=True)
class Joined:
    """The site as this door knows it."""

    folder: Path
    bundle: DoorBundle

    @property
    def tree(self) -> Path:
        """Where what was published is kept, as signed."""
        return self.folder / "tuf"

    @property
    def mqtt(self) -> MqttConfig:
        """The site's broker."""
        tls = TlsConfig(*(str(self.folder / name) for name in _PEM))
        return MqttConfig(self.bundle.broker_host, self.bundle.broker_port, tls)


def site_folder(config: Config) -> Path:
    """Where a joined door keeps what it has of its site."""
    return Path(config.state_dir) / "site"


def is_joined(config: Config) -> bool:
    """Whether this door is part of a site. Asks for no key."""
    return (site_folder(config) / "bundle.sealed").exists()


def read_joined(config: Config) -> Joined | None:
    """The site this door is part of; None: a standalone door.

    Raises:
        GalleryError: what was kept can't be read, or was altered.
        ConfigError: it is of another door than the configuration's, or its key signs nothing.
    """
    folder = site_folder(config)
    try:
        sealed = (folder / "bundle.sealed").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GalleryError(f"{folder}: {error.strerror}") from None
    where = str(folder / "bundle.sealed")
    bundle = decode_bundle(unseal(key_of(config).key(), sealed, _BOUND_TO, where), where)
    _check(bundle, config, where)
    return Joined(folder, bundle)


def with_broker(config: Config, joined: Joined | None) -> Config:
    """The configuration with the site's broker, unless it names one itself.

    What it says of how a broker is spoken to (`acks`, `heartbeat_s` ...) holds for the site's too.
    """
    if config.mqtt is not None and config.mqtt.host:
        return config
    if joined is None:
        return msgspec.structs.replace(config, mqtt=None)
    theirs = joined.mqtt
    if config.mqtt is not None:
        where = {"host": theirs.host, "port": theirs.port, "tls": theirs.tls}
        theirs = msgspec.structs.replace(config.mqtt, **where)
    return msgspec.structs.replace(config, mqtt=theirs)


def join(config: Config, path: Path) -> Joined:
    """Make this door part of the site whose file `doord admin door add` wrote.

    Raises:
        ConfigError: not such a file, another door's, or one with a key that signs nothing.
        GalleryError: the daemon runs, the disk refuses, or the door is part of another site.
    """
    try:
        with path.open("rb") as file:
            bundle = decode_bundle(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    _check(bundle, config, str(path))
    state, folder = Path(config.state_dir), site_folder(config)
    make_private_folder(state)
    with as_owner(config), StateLock(state):
        before = read_joined(config)
        if before is not None and before.bundle.root != bundle.root:
            raise GalleryError(f"{folder}: this door is part of a site already: doord leave")
        keys = key_of(config)
        keys.create(config.gallery_path)
        texts = (bundle.ca, bundle.certificate, bundle.certificate_key)
        try:
            if before is None and folder.exists():  # left by a leave that was cut short: another site's
                shutil.rmtree(folder)
            make_private_folder(folder)
            for name, text in zip(_PEM, texts, strict=True):
                write_atomically(folder / name, text.encode())
            sealed = seal(keys.key(), encode_bundle(bundle), _BOUND_TO)
            write_atomically(folder / "bundle.sealed", sealed)  # last: from here on the door is joined
        except OSError as error:
            raise GalleryError(f"{folder}: {error.strerror}") from None
    return Joined(folder, bundle)


def leave(config: Config) -> None:
    """Make this door a standalone one again; what it had of the site is deleted.

    One that was cut short has left already, and is finished when it is called again.

    Raises:
        GalleryError: the daemon runs, the disk refuses, or the door is part of no site.
    """
    folder = site_folder(config)
    if not folder.exists():
        raise GalleryError(f"{folder}: this door is part of no site")
    with as_owner(config), StateLock(Path(config.state_dir)):
        try:
            remove_durably(folder / "bundle.sealed")  # first: from here on the door stands alone
            shutil.rmtree(folder)
        except OSError as error:
            raise GalleryError(f"{folder}: {error.strerror}") from None


def signing_key(bundle: DoorBundle, where: str) -> Ed25519PrivateKey:
    """What the door signs its reports with. Raises ConfigError."""
    try:
        key = load_pem_private_key(bundle.signing_key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{where}: signing_key: expected an Ed25519 key in PEM, not encrypted; got none")
    return key


def _check(bundle: DoorBundle, config: Config, where: str) -> None:
    signing_key(bundle, where)
    expected, got = (config.site, config.door_id), (bundle.site, bundle.door)
    if got != expected:
        raise ConfigError(
            f"{where}: expected door {expected[1]} of site {expected[0]} as configured, "
            f"got door {got[1]} of site {got[0]}"
        )
