"""Who collects: a name at the broker, a key that acknowledges, and which key each door signs with.

Either the admin himself, with the site's folder, or a machine that has nothing but this: a folder
that `doord admin collector-files` wrote. The key `collect` moves what doors send, and orders nothing.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta
from securesystemslib.signer import CryptoSigner, Key

from edge.admin.folder import RECORDS, SITE_KEYS, OpenSite
from edge.admin.handed import broker_as, read_description, read_signer, write_files
from edge.admin.keystore import COLLECT, Keystore
from edge.admin.model import Door, Utc
from edge.admin.pki import ADMIN_NAME, COLLECTOR_NAME
from edge.admin.records import Records
from edge.config import Id, MqttConfig
from edge.errors import AdminError, PayloadError
from edge.link import dsse

FORMAT = 1
_FILE, _ACK_KEY = "collector.json", "ack.key"


class KnownDoor(msgspec.Struct, frozen=True):
    """A door of the site."""

    keys: dict[str, Key]  # by id; empty: its record is damaged
    added_at: str  # RFC 3339
    retired: bool


class Roster(Protocol):
    """A collector's site."""

    site: str
    signer: CryptoSigner
    mqtt: MqttConfig

    def doors(self) -> dict[str, KnownDoor]:
        """All doors by id, retired ones too, as of now. Raises GalleryError, AdminError."""


class SiteRoster:
    """The site's own folder. It is only read, so other commands may go on beside it."""

    def __init__(self, folder: Path, passphrase: str) -> None:
        """Raises GalleryError: no site there; GalleryKeyError: a wrong passphrase, no key `collect`."""
        keys = Keystore.open(folder / SITE_KEYS, passphrase)
        self._records = Records(folder / RECORDS, keys.data_key)
        record = self._records.site()
        self.site = record.site
        self.signer = keys.signer(COLLECT)
        self.mqtt = broker_as(ADMIN_NAME, folder, record.broker_host, record.broker_port)

    def doors(self) -> dict[str, KnownDoor]:
        """All doors by id, as of now. Raises GalleryError."""
        return {name: _known(door) for name, door in self._records.all(Door).items()}


class _Door(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    public_key: dict[str, object]
    added_at: Utc
    retired: bool


class _Collector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    doord_collector: Annotated[int, Meta(ge=0, le=2**31)]
    site: Id
    broker_host: str
    broker_port: int
    doors: dict[Id, _Door]


class FolderRoster:
    """A folder of `write_collector_files`. It is read again whenever the doors are asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises AdminError: no such folder, or not of this doord."""
        self._path = folder / _FILE
        found = self._read()
        self.site = found.site
        self.signer = read_signer(folder / _ACK_KEY)
        self.mqtt = broker_as(COLLECTOR_NAME, folder, found.broker_host, found.broker_port)

    def doors(self) -> dict[str, KnownDoor]:
        """All doors by id, as of now. Raises AdminError."""
        found = self._read().doors
        return {
            name: KnownDoor(_keys(one.public_key), one.added_at, one.retired) for name, one in found.items()
        }

    def _read(self) -> _Collector:
        found = read_description(self._path, _Collector)
        if found.doord_collector != FORMAT:
            raise AdminError(f"{self._path}: expected format {FORMAT}, got {found.doord_collector}")
        return found


def write_collector_files(site: OpenSite, folder: Path, now_utc: datetime) -> list[Path]:
    """Write what a machine needs that only collects; what was written. Again: with the doors of now.

    Its certificate is made once and kept. Who has the folder can read what doors report and
    acknowledge it; a door still keeps it for as long as it is configured to.

    Args:
        site: opened.
        folder: made, mode 0700; its keys have mode 0600.
        now_utc: aware.

    Raises:
        AdminError: the folder can't be written. GalleryKeyError: the site has no key `collect`.
    """
    settings, authority = site.records.site(), site.authority()
    doors = {
        name: _Door(door.public_key, door.added_at_utc, door.retired_at_utc is not None)
        for name, door in site.records.all(Door).items()
    }
    found = _Collector(FORMAT, settings.site, settings.broker_host, settings.broker_port, doors)
    files = {
        "ca.pem": authority.record.certificate.encode(),
        _ACK_KEY: site.keys.signer(COLLECT).private_bytes,
        _FILE: msgspec.json.encode(found),
    }
    name = COLLECTOR_NAME
    if not (folder / f"{name}.key").exists():
        issued = authority.client(name, now_utc)
        files |= {f"{name}.pem": issued.certificate.encode(), f"{name}.key": issued.key.encode()}
    return write_files(folder, files)


def _known(door: Door) -> KnownDoor:
    return KnownDoor(_keys(door.public_key), door.added_at_utc, door.retired_at_utc is not None)


def _keys(public_key: dict[str, object]) -> dict[str, Key]:
    """Empty: the record has none that could be read; then no report of the door is believed."""
    try:
        key = dsse.decode_key(public_key)
    except PayloadError:
        return {}
    return {key.keyid: key}
