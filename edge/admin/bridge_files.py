"""What the bridge's machine is given: a folder with its own key and certificates, and the doors' keys.

bridge.json   order.key   ca.pem   bridge.{pem,key}   homeassistant.{pem,key}   counter

Who has the folder can order what an admin can; he can publish nothing, read no template and no name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.admin.folder import OpenSite
from edge.admin.handed import broker_as, read_description, read_signer, write_files
from edge.admin.keystore import BRIDGE, Keystore
from edge.admin.model import Door, Revoked
from edge.admin.pki import BRIDGE_NAME, HOME_NAME
from edge.admin.release import rotate
from edge.config import Id
from edge.disk import write_atomically
from edge.errors import AdminError
from edge.link.wire import rfc3339

FORMAT = 1
_FILE, _ORDER_KEY, _COUNTER = "bridge.json", "order.key", "counter"


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Certificates that were issued for one bridge; its user name is the record's id."""

    serials: list[int]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    doord_bridge: Annotated[int, Meta(ge=0, le=2**31)]
    site: Id
    broker_host: str
    broker_port: int
    doors: dict[Id, dict[str, object]]  # id -> securesystemslib's Key.to_dict, and its keyid


def write_bridge_files(
    site: OpenSite, folder: Path, now_utc: datetime, roots: Sequence[Keystore] = ()
) -> list[Path]:
    """Write the folder; what was written. Again: with the doors of now, the certificates kept.

    The bridge's key is made and signed the first time; doors obey it once that is published.

    Args:
        site: opened.
        folder: made, mode 0700; every file has mode 0600.
        now_utc: aware.
        roots: opened files with root keys; the first time.

    Raises:
        GalleryKeyError: it is the first time, and too few root keys are at hand.
        AdminError: the folder can't be written.
    """
    if BRIDGE not in site.keys.names:
        rotate(site, [BRIDGE], roots, now_utc)
    settings = site.records.site()
    doors = {
        name: door.public_key for name, door in site.records.all(Door).items() if door.retired_at_utc is None
    }
    found = _File(FORMAT, settings.site, settings.broker_host, settings.broker_port, doors)
    files = {
        "ca.pem": site.authority().record.certificate.encode(),
        _ORDER_KEY: site.keys.signer(BRIDGE).private_bytes,
        _FILE: msgspec.json.encode(found),
    }
    for name in (BRIDGE_NAME, HOME_NAME):
        if not (folder / f"{name}.key").exists():
            files |= _certificate(site, name, now_utc)
    return write_files(folder, files)


def _certificate(site: OpenSite, name: str, now_utc: datetime) -> dict[str, bytes]:
    issued = site.authority().client(name, now_utc)
    before = site.records.get(Given, name) or Given([])
    site.records.put(name, Given([*before.serials, issued.serial]))
    return {f"{name}.pem": issued.certificate.encode(), f"{name}.key": issued.key.encode()}


def revoke_bridge(site: OpenSite, now_utc: datetime, roots: Sequence[Keystore]) -> None:
    """Every folder so far is worthless: doors do not obey its key once this is published, and the broker
    refuses it and Home Assistant once it has the new list of revoked certificates.

    Raises:
        GalleryKeyError: too few root keys are at hand.
        AdminError: there is no bridge.
    """
    if BRIDGE not in site.keys.names:
        raise AdminError("bridge: expected one, got none: doord admin bridge-files makes it")
    rotate(site, [BRIDGE], roots, now_utc)
    at_utc = rfc3339(now_utc.timestamp())
    with site.records.transaction():
        for name, given in site.records.all(Given).items():
            for serial in given.serials:
                site.records.put(str(serial), Revoked(name, at_utc))
            site.records.delete(Given, name)


class BridgeFolder:
    """The folder, on the bridge's machine."""

    def __init__(self, folder: Path) -> None:
        """Raises AdminError: no such folder, or not of this doord; GalleryKeyError: no key in it."""
        self._folder = folder
        found = self._read()
        self.site = found.site
        self.signer = read_signer(folder / _ORDER_KEY)
        self.mqtt = broker_as(BRIDGE_NAME, folder, found.broker_host, found.broker_port)

    def doors(self) -> dict[str, Door]:
        """The doors as of now, with nothing of them but their keys. Raises AdminError."""
        found = self._read().doors
        return {name: Door(name, "", b"", public_key, 0) for name, public_key in sorted(found.items())}

    def next_counter(self, now_utc: datetime) -> int:
        """Above all that this key had, also when the clock was set back; on disk when this returns.

        Doors refuse one they have had, so an unreadable file costs orders, and no safety.

        Raises:
            AdminError: it can't be stored.
        """
        path = self._folder / _COUNTER
        try:
            last = int(path.read_text())
        except (OSError, ValueError):
            last = 0
        counter = max(int(now_utc.timestamp() * 1000), last + 1)
        try:
            write_atomically(path, b"%d\n" % counter)
        except OSError as error:
            raise AdminError(f"{path}: {error.strerror}") from None
        return counter

    def _read(self) -> _File:
        path = self._folder / _FILE
        found = read_description(path, _File, ": doord admin bridge-files writes it")
        if found.doord_bridge != FORMAT:
            raise AdminError(f"{path}: expected format {FORMAT}, got {found.doord_bridge}")
        return found
