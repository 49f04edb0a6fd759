"""A signed version brought to the broker, or to a folder such as a USB stick.

Targets first, then role metadata, snapshot, roots, and `timestamp.json` last, each acknowledged before
the next: a door that looks at any moment finds one whole version. What the broker has is told by the
timestamp it keeps, so only the rest is sent; one that lost its store is sent everything.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Timestamp

from edge.admin.conversation import Conversation
from edge.admin.doors import kept_topics
from edge.admin.folder import OpenSite
from edge.admin.model import Door
from edge.errors import AdminError, GalleryError
from edge.link.wire import rfc3339

GRACE_S = 3600  # a door in the middle of an update still finds the targets of the version before
TIMESTAMP = "metadata/timestamp.json"
_OURS = re.compile(r"([0-9]+\.[a-z]+\.json|[0-9a-f]{64}\.[a-z0-9-]+)(\.part)?")  # else a stick's own
_AT_BROKER = "broker"  # the id of the one record


class AtBroker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was sent and not deleted since: path -> since when it is not of the newest version, UTC."""

    paths: dict[str, str | None] = {}


@dataclass(frozen=True, slots=True)
class Sent:
    """What a publication cost."""

    version: int
    files: int
    bytes: int
    deleted: int  # stale topics


def publish(
    site: OpenSite,
    now_utc: datetime,
    everything: bool = False,
    grace_s: float = GRACE_S,
    progress: Callable[[int, int], None] | None = None,
) -> Sent:
    """Send the newest version to the site's broker. Done again, it sends nothing.

    Args:
        site: opened.
        now_utc: aware.
        everything: whatever the broker seems to have.
        grace_s: how long the broker keeps what is no longer of the newest version.
        progress: told how many bytes are sent, of how many.

    Raises:
        LinkError: the broker can't be reached or refuses; try again, it goes on where it was.
        AdminError: the broker has a later version of this site than this machine, or the tree is not
            signed as its keys ask.
        ConfigError: a certificate is missing.
        GalleryError: the tree can't be read.
    """
    _check_signed(site)
    base = f"doord/{site.records.site().site}/gallery"
    wanted = site.tree.files()
    with Conversation(site.mqtt(), site.records.site().site) as broker:
        kept = {heard.topic: heard.payload for heard in broker.kept(f"{base}/{TIMESTAMP}")}
        there = None if everything else _there(site, kept.get(f"{base}/{TIMESTAMP}"))
        files = _missing(site, wanted, there)
        sizes = {path: (site.tree.folder / path).stat().st_size for path in files}
        _note(site, wanted, now_utc)
        told = _counter(sum(sizes.values()), progress)
        targets = [path for path in files if path.startswith("targets/")]
        metadata = [path for path in files[len(targets) :] if path != TIMESTAMP]
        for part in (targets, metadata, files[len(targets) + len(metadata) :]):
            broker.keep(((f"{base}/{path}", (site.tree.folder / path).read_bytes()) for path in part), told)
        gone = _due(site, now_utc, grace_s)
        broker.keep((f"{base}/{path}", b"") for path in gone)
        for door in site.records.all(Door).values():
            if door.retired_at_utc is not None:
                broker.keep((topic, b"") for topic in kept_topics(site.records.site().site, door.door))
    _forget(site, gone)
    return Sent(site.tree.version, len(files), sum(sizes.values()), len(gone))


def _check_signed(site: OpenSite) -> None:
    for fault in site.tree.faults():
        raise AdminError(f"publish: expected a signed tree, got: {fault}: push first")


def _there(site: OpenSite, timestamp: bytes | None) -> set[str] | None:
    """What the broker has by the timestamp that it keeps; None: not to be told, such as nothing."""
    if timestamp == (site.tree.folder / TIMESTAMP).read_bytes():
        return {*site.tree.files(), *site.tree.roots(), TIMESTAMP}
    try:
        found: Metadata[Any] = Metadata.from_bytes(timestamp or b"")
        site.tree.root.signed.verify_delegate("timestamp", found.signed_bytes, found.signatures)
    except (RepositoryError, ValueError):  # none, or not ours; the broker's bytes
        return None
    if not isinstance(found.signed, Timestamp):  # a snapshot: the same key signs it
        return None
    meta = found.signed.snapshot_meta
    _refuse_foreign(site, meta)
    try:
        return set(site.tree.files(meta.version))
    except GalleryError:  # no longer kept here
        return None


def _refuse_foreign(site: OpenSite, at_broker: MetaFile) -> None:
    """What was signed with this site's keys, but not here. Raises AdminError: it is as new as ours."""
    ours, foreign = site.tree.timestamp.signed.snapshot_meta, at_broker.version
    if foreign < ours.version or (foreign == ours.version and at_broker.hashes == ours.hashes):
        return
    got = f"{foreign}" if foreign > ours.version else "another of that number"
    raise AdminError(
        f"publish: expected at most version {ours.version} at the broker, got {got}: "
        "signed on another machine, or this one's folder is an old copy; doors would refuse it"
    )


def _missing(site: OpenSite, wanted: list[str], there: set[str] | None) -> list[str]:
    """In the order to send them."""
    order = [*wanted, *site.tree.roots(), TIMESTAMP]
    return [path for path in order if there is None or path not in there]


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, total)

    return told


def _note(site: OpenSite, wanted: Iterable[str], now_utc: datetime) -> None:
    """Before anything is sent: what is cut short leaves nothing at the broker that nobody knows of."""
    before = (site.records.get(AtBroker, _AT_BROKER) or AtBroker()).paths
    now, current = rfc3339(now_utc.timestamp()), set(wanted)
    stale = {path: since or now for path, since in before.items() if path not in current}
    site.records.put(_AT_BROKER, AtBroker({**stale, **dict.fromkeys(current)}))


def _due(site: OpenSite, now_utc: datetime, grace_s: float) -> list[str]:
    """What has been stale for long enough."""
    known = (site.records.get(AtBroker, _AT_BROKER) or AtBroker()).paths
    until = rfc3339((now_utc - timedelta(seconds=grace_s)).timestamp())
    return [path for path, since in known.items() if since is not None and since <= until]


def _forget(site: OpenSite, gone: Iterable[str]) -> None:
    known = (site.records.get(AtBroker, _AT_BROKER) or AtBroker()).paths
    left = {path: since for path, since in known.items() if path not in set(gone)}
    site.records.put(_AT_BROKER, AtBroker(left))


def export(site: OpenSite, folder: Path) -> int:
    """Write the newest version below `folder`, as doors read it there; how many files were written.

    What the folder has already is kept, what is no longer of the newest version is deleted at the end.

    Raises:
        AdminError: the folder can't be written, or the tree is not signed as its keys ask.
        GalleryError: the tree can't be read.
    """
    _check_signed(site)
    if folder.resolve() == site.tree.folder.resolve():  # earlier versions would be deleted there
        raise AdminError(f"{folder}: expected another folder than the site's own")
    files = [*site.tree.files(), *site.tree.roots()]
    written = 0
    try:
        for path in files:
            written += _copied(site.tree.folder / path, folder / path)
        os.sync()  # all of it is on the stick before the file that makes it count
        written += _copied(site.tree.folder / TIMESTAMP, folder / TIMESTAMP)
        wanted = {folder / path for path in (*files, TIMESTAMP)}
        for old in [*folder.glob("metadata/*"), *folder.glob("targets/*/*")]:
            if old not in wanted and _OURS.fullmatch(old.name):
                old.unlink()
        os.sync()
    except OSError as error:
        raise AdminError(f"{error.filename or folder}: {error.strerror}") from None
    return written


def _copied(source: Path, to: Path) -> bool:
    data = source.read_bytes()
    if to.exists() and hashlib.sha256(to.read_bytes()).digest() == hashlib.sha256(data).digest():
        return False
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{to.name}.part")
    part.write_bytes(data)
    part.replace(to)
    return True
