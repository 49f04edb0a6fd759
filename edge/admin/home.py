"""The admin's folder: keys, records and the published tree of one site.

site.keys     every day's keys, under a passphrase
root.keys     the keys that make other keys count: move it to a stick, and name it when it is needed
records.db    people, doors and what was published, each record sealed with a key from site.keys
tree/         what is published, as it lies on the broker
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from edge.admin.keystore import SITE_NAMES, Keystore
from edge.admin.model import Site
from edge.admin.records import Records
from edge.disk import StateLock, make_private_folder
from edge.errors import AdminError

SITE_KEYS, ROOT_KEYS, RECORDS, TREE = "site.keys", "root.keys", "records.db", "tree"
Ask = Callable[[], str]
"""Gives a passphrase. Raises GalleryKeyError where nobody can."""


@dataclass(frozen=True)
class Home:
    """An opened folder, this process's alone."""

    folder: Path
    keys: Keystore
    records: Records

    @property
    def tree(self) -> Path:
        """What is published."""
        return self.folder / TREE

    def now_local(self, now: datetime) -> str:
        """`now` (aware) on the site's clocks, as `rights.yaml` writes a time."""
        zone = ZoneInfo(self.records.site().time_zone)
        return now.astimezone(zone).strftime("%Y-%m-%dT%H:%M")


def open_home(folder: Path, stack: ExitStack, ask: Ask) -> Home:
    """The folder, until `stack` closes.

    Raises:
        AdminError: there is no site in it.
        GalleryBusy: another process has it.
        GalleryKeyError, GalleryError: wrong passphrase, or damaged.
    """
    if not (folder / RECORDS).exists():
        raise AdminError(f"{folder}: expected a site, got none: doord admin init, or name another --dir")
    stack.enter_context(StateLock(folder))
    keys = Keystore.open(folder / SITE_KEYS, ask())
    return Home(folder, keys, stack.enter_context(Records(folder / RECORDS, keys.data_key)))


def create_home(folder: Path, site: Site, stack: ExitStack, ask: Ask) -> Home:
    """A new site's folder, mode 0700, with its every day's keys.

    Raises:
        AdminError: there is a site already.
        GalleryError: the folder can't be made, or the passphrase is too short.
    """
    for name in (SITE_KEYS, RECORDS):
        if (folder / name).exists():
            raise AdminError(f"{folder / name}: expected no site yet, got one: nothing is overwritten")
    make_private_folder(folder)
    stack.enter_context(StateLock(folder))
    keys = Keystore.create(folder / SITE_KEYS, site.site, SITE_NAMES, ask())
    records = stack.enter_context(Records.create(folder / RECORDS, keys.data_key))
    records.put_site(site)
    return Home(folder, keys, records)
