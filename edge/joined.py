"""A door that is part of a site: what `doord join` puts into `<state_dir>/site` and the daemon reads.

bundle.sealed     the whole bundle, under the gallery's key; what the broker is shown is in it alone
tuf/              what was published, as signed
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge.acting import as_owner
from edge.config import Config, MqttConfig
from edge.disk import StateLock, make_private_folder, remove_durably, seal, unseal, write_atomically
from edge.errors import ConfigError, GalleryError
from edge.keys import broker_login, key_of
from edge.link.broker import Login, Pem, Tls
from edge.link.bundle import MAX_BYTES, DoorBundle, decode_bundle, encode_bundle

FORMAT = 2
"""Of the folder. 1 had what the broker is shown beside the bundle too, the key in plain."""
_OF_FORMAT_1 = ("door.key", "door.pem", "ca.pem")
_BUNDLE = "bundle.sealed"
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
    def login(self) -> Login:
        """The site's broker, and what it is shown."""
        bundle, where = self.bundle, self.folder / _BUNDLE
        parts = {"ca": bundle.ca, "certificate": bundle.certificate, "its key": bundle.certificate_key}
        tls = Tls(*(Pem(f"{where}: {name}", text) for name, text in parts.items()))
        return Login(MqttConfig(bundle.broker_host, bundle.broker_port), tls)

    @property
    def once_files(self) -> dict[str, Pem]:
        """What the broker is shown, by the paths it had in format 1: a configuration may name them.

        Before `acks` alone would do, it had to repeat its site's broker.
        """
        bundle, where = self.bundle, self.folder / _BUNDLE
        texts = (bundle.certificate_key, bundle.certificate, bundle.ca)
        parts = zip(_OF_FORMAT_1, texts, strict=True)
        return {str(self.folder / name): Pem(f"{where}: {name}", text) for name, text in parts}


def site_folder(config: Config) -> Path:
    """Where a joined door keeps what it has of its site."""
    return Path(config.state_dir) / "site"


def is_joined(config: Config) -> bool:
    """Whether this door is part of a site. Asks for no key."""
    return (site_folder(config) / _BUNDLE).exists()


def read_joined(config: Config) -> Joined | None:
    """The site this door is part of; None: a standalone door.

    Raises:
        GalleryError: what was kept can't be read, or was altered.
        ConfigError: it is of another door than the configuration's, or its key signs nothing.
    """
    folder = site_folder(config)
    try:
        sealed = (folder / _BUNDLE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GalleryError(f"{folder}: {error.strerror}") from None
    where = str(folder / _BUNDLE)
    bundle = decode_bundle(unseal(key_of(config).key(), sealed, _BOUND_TO, where), where)
    _check(bundle, config, where)
    return Joined(folder, bundle)


def broker_of(config: Config, joined: Joined | None) -> Login | None:
    """The broker that is configured, else the site's, and what it is shown; None: neither.

    Without a `host` the configuration says how the site's is spoken to (`acks`, `heartbeat_s` ...).

    Raises:
        ConfigError: what the configuration names can't be read.
    """
    if config.mqtt is not None and config.mqtt.host:
        return broker_login(config.mqtt, joined.once_files if joined else {})
    if joined is None or config.mqtt is None:
        return joined.login if joined else None
    site = joined.login
    mqtt = msgspec.structs.replace(config.mqtt, host=site.mqtt.host, port=site.mqtt.port)
    return replace(site, mqtt=mqtt)


def forget_plain_key(folder: Path) -> None:
    """Remove what an older doord left beside the bundle, the key first. Raises GalleryError."""
    try:
        for name in _OF_FORMAT_1:
            if os.path.lexists(folder / name):
                remove_durably(folder / name)
    except OSError as error:
        raise GalleryError(
            f"{folder / name}: {error.strerror}: it is no longer used, and can't be removed"
        ) from None


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
        try:
            if before is None and folder.exists():  # left by a leave that was cut short: another site's
                shutil.rmtree(folder)
            make_private_folder(folder)
            sealed = seal(keys.key(), encode_bundle(bundle), _BOUND_TO)
            write_atomically(folder / _BUNDLE, sealed)  # from here on the door is joined
        except OSError as error:
            raise GalleryError(f"{folder}: {error.strerror}") from None
        forget_plain_key(folder)
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
            remove_durably(folder / _BUNDLE)  # first: from here on the door stands alone
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
