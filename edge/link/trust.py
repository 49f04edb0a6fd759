"""What a site has signed, proven by python-tuf, and a floor below which this door never goes back.

The Update Framework (TUF 1.0.34) proves that a release was signed with the keys of the site's trust
root, is whole, is the newest the door has seen and is not too old. python-tuf remembers what it
has seen in files that it never fsyncs and ignores when they are broken, so that after a power cut
an old release could come back. Hence `in_force.sealed`: what was accepted, durable, whole, and all
that is needed to go on without a network.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge.disk import make_private_folder, seal, unseal, write_atomically
from edge.errors import (
    GalleryError,
    GalleryExpired,
    GalleryRollback,
    GallerySignatureError,
    LinkError,
    PayloadError,
)
from edge.link.fetch import MAX_METADATA_BYTES, MAX_TARGET_BYTES, Fetch
from edge.link.shelf import Shelf, Target

log = logging.getLogger(__name__)

_WHERE = "site gallery"
_BOUND_TO = b"doord in force 1"
_LIMITS = UpdaterConfig(
    root_max_length=512 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=64 * 1024,
    targets_max_length=MAX_METADATA_BYTES,
)
_ROLES = {"people": "people/manifest", "rights": "rights/site"}  # a target each site has of it
_FAULTS: tuple[tuple[type[Exception], type[GalleryError]], ...] = (  # the first that fits
    (ExpiredMetadataError, GalleryExpired),
    (BadVersionNumberError, GalleryRollback),
    (RepositoryError, GallerySignatureError),
    (DownloadLengthMismatchError, GallerySignatureError),
    (PayloadError, GallerySignatureError),
    (DownloadError, GalleryError),
    (OSError, GalleryError),
)
_SHA256 = re.compile("[0-9a-f]{64}")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)
_Utc = Annotated[datetime, Meta(tz=True)]  # one without a zone can't be compared with now
_KEEP_TIME_EVERY = timedelta(hours=6)  # how much of the last good time a power cut may cost; spares the card


class _Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was proven of a release."""

    root: int  # version
    keys: tuple[str, ...]  # ids of the keys that may sign snapshots
    threshold: int  # how many of them must
    versions: dict[str, int]  # of snapshot.json and of all it lists
    expires_utc: _Utc  # the timestamp's
    signers: tuple[str, ...]

    @property
    def version(self) -> int:
        return self.versions["snapshot.json"]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`in_force.sealed`."""

    doord_in_force: int  # the format
    proof: _Proof
    targets: dict[str, Target]
    good_utc: _Utc | None  # the highest trusted time at a commit


class Release:
    """One release of the site: signed, whole, not older than what was in force.

    Made by SiteTrust; belongs to its thread. `version` is the snapshot's, `expires_utc` the
    timestamp's, `signers` are the ids of the keys that signed people and rights.
    """

    def __init__(
        self, proof: _Proof, find: Callable[[str], Target | None], shelf: Shelf, committed: bool
    ) -> None:
        self.proof = proof
        self.version = proof.version
        self.expires_utc = proof.expires_utc
        self.signers = proof.signers
        self.asked: dict[str, Target] = {}  # all that `target` has found: what is kept on commit
        self._find = find
        self._shelf = shelf
        self._committed = committed

    def target(self, name: str) -> Target | None:
        """The file of that name; None: nobody who may has signed one. Raises GalleryError."""
        found = self._find(name)
        if found is not None:
            self.asked[name] = found
        return found

    def fetch(self, targets: Sequence[Target]) -> dict[str, Path]:
        """Name -> file, whole and as signed. Raises as Shelf.fill does."""
        return self._shelf.fill(targets, synced=self._committed)


class SiteTrust:
    """The door's side of the site's trust root. Owns `folder`; used by one thread.

    Args:
        folder: state; a POSIX file system.
        root: the root.json the door was joined with. Newer ones follow from it.
        fetch: where the signed tree is.
        now_utc: None: the clock is not trusted; the last good time is used.
        key: 32 bytes; seals the record of what is in force, so that who can write to the card but has
            no key can't mix an old file in, or move the end.

    Neither the folder nor anything in it need be there or be readable: a door starts with any disk.
    """

    def __init__(
        self,
        folder: Path,
        root: bytes,
        fetch: Fetch,
        now_utc: Callable[[], datetime | None],
        key: bytes,
    ) -> None:
        self._folder = folder
        self._metadata = folder / "metadata"
        self._key = key
        self._kept_path = folder / "in_force.sealed"
        self._root = root
        self._source = _Source(fetch)
        self._now_utc = now_utc
        self._shelf = Shelf(folder / "targets", fetch)
        self._kept = _load(self._kept_path, key)

    def in_force(self) -> Release | None:
        """What was committed last, without asking anybody; None: nothing yet.

        It may have expired since: what to do then is the caller's policy.
        """
        if self._kept is None:
            return None
        release = Release(self._kept.proof, self._kept.targets.get, self._shelf, committed=True)
        release.asked.update(self._kept.targets)
        return release

    def refresh(self) -> Release:
        """The newest release there is. What is in force does not change.

        Raises:
            GallerySignatureError: not signed as the trust root asks, or not what was signed.
            GalleryRollback: older than what was accepted before.
            GalleryExpired: its time is over.
            LinkError: can't be told now.
            GalleryError: something of it is not published, or the disk refuses.
        """
        make_private_folder(self._folder)
        with _faults():
            updater = Updater(  # one for each update: it refreshes only once
                str(self._metadata),
                "metadata/",
                fetcher=self._source,
                config=_LIMITS,
                bootstrap=self._root,
            )
            trusted = _trusted_set(updater)
            trusted.reference_time = self._reference_time()
            updater.refresh()
            for name in _ROLES.values():
                updater.get_targetinfo(name)  # loads and proves the delegated role
            proof = _prove(trusted, self._metadata)
        if self._kept:
            _refuse_older(proof, self._kept.proof)
        return Release(proof, lambda name: _find(updater, name), self._shelf, committed=False)

    def commit(self, release: Release) -> None:
        """The release is in force: nothing older is accepted from now on, over any power cut.

        Raises:
            GalleryError: the disk refuses; what was kept before still is.
        """
        times = [time for time in (self._now_utc(), self._kept and self._kept.good_utc) if time]
        new = _Kept(1, release.proof, dict(release.asked), max(times, default=None))
        if self._kept and _same_but_for_time(new, self._kept):
            return
        try:
            write_atomically(self._kept_path, seal(self._key, msgspec.json.encode(new), _BOUND_TO))
        except OSError as error:
            raise GalleryError(f"{self._kept_path}: {error.strerror}") from error
        self._kept = new

    def prune(self, keep: Collection[str]) -> None:
        """Remove target files whose SHA-256 is not in `keep`. Raises GalleryError: the disk refuses."""
        self._shelf.prune(keep)
        with _faults():
            for left_over in self._metadata.glob("tmp*"):  # python-tuf's, killed while writing
                left_over.unlink()

    def _reference_time(self) -> datetime:
        """What expiry is judged by: the time, but never below the last good one."""
        kept = self._kept.good_utc if self._kept else None
        return max(self._now_utc() or _LONG_AGO, kept or _LONG_AGO)


class _Source(FetcherInterface):
    """python-tuf's way to the tree: whole messages, no temporary files."""

    def __init__(self, fetch: Fetch) -> None:
        self._from = fetch

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter((self.download_bytes(url, MAX_METADATA_BYTES),))

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The file at `url`, a path of the tree; 404 where there is none."""
        found = self._from.get([url], max_length).get(url)
        if found is None:
            raise DownloadHTTPError(f"{url}: is not published", 404)
        return found


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Turns python-tuf's and the disk's errors into ours."""
    try:
        yield
    except (GalleryError, LinkError):
        raise
    except tuple(kind for kind, _ in _FAULTS) as error:
        fault = next(ours for kind, ours in _FAULTS if isinstance(error, kind))
        why = str(error) or str(error.__cause__ or type(error).__name__)
        raise fault(f"{_WHERE}: {' '.join(why.split())[:300]}") from error


def _trusted_set(updater: Updater) -> Any:
    """python-tuf has no public way to the reference time (its issue 2359) nor to what was proven."""
    return updater._trusted_set


def _prove(trusted: Any, metadata: Path) -> _Proof:
    role = trusted.root.roles["snapshot"]
    versions = {name: meta.version for name, meta in trusted.snapshot.meta.items()}
    return _Proof(
        root=trusted.root.version,
        keys=tuple(sorted(role.keyids)),
        threshold=role.threshold,
        versions={**versions, "snapshot.json": trusted.snapshot.version},
        expires_utc=trusted.timestamp.expires,
        signers=tuple(sorted(_signers(trusted, metadata))),
    )


def _signers(trusted: Any, metadata: Path) -> set[str]:
    """Who did sign, of those who may: python-tuf keeps the metadata, but not its signatures."""
    ids: set[str] = set()
    for name in _ROLES:
        if name in trusted:
            signed: Metadata[Targets] = Metadata.from_file(str(metadata / f"{name}.json"))
            delegator: Targets = trusted.targets
            ids.update(delegator.get_verification_result(name, signed.signed_bytes, signed.signatures).signed)
    return ids


def _refuse_older(new: _Proof, floor: _Proof) -> None:
    """Nothing may go back, unless the keys that signed the floor can't sign any more.

    Without that exception a stolen key could lock the door out for ever by signing version 2^31;
    with it, replacing the key heals (TUF, 5.3.11: recovery from a fast-forward). The root itself,
    whose key is offline, never goes back: else an old root would bring the old key back.
    """
    if new.root < floor.root:
        raise GalleryRollback(f"{_WHERE}: expected root {floor.root} or newer, got {new.root}")
    if len(set(floor.keys) & set(new.keys)) < new.threshold:
        return
    for name, version in floor.versions.items():
        if (got := new.versions.get(name, 0)) < version:
            raise GalleryRollback(f"{_WHERE}: {name}: expected version {version} or newer, got {got}")


def _find(updater: Updater, name: str) -> Target | None:
    with _faults():
        found = updater.get_targetinfo(name)
    if found is None:
        return None
    digest = str(found.hashes.get("sha256"))
    if not _SHA256.fullmatch(digest):  # it becomes a file's name and a topic, with no wildcard in it
        raise GallerySignatureError(f"{_WHERE}: {name}: expected a SHA-256, got {digest[:64]!r}")
    if found.length > MAX_TARGET_BYTES:
        expected = f"expected at most {MAX_TARGET_BYTES} bytes"
        raise GallerySignatureError(f"{_WHERE}: {name}: {expected}, got {found.length}")
    return Target(name, found.length, digest)


def _same_but_for_time(new: _Kept, kept: _Kept) -> bool:
    if (new.proof, new.targets) != (kept.proof, kept.targets):
        return False
    if new.good_utc is None or kept.good_utc is None:
        return new.good_utc == kept.good_utc
    return new.good_utc - kept.good_utc < _KEEP_TIME_EVERY


def _load(path: Path, key: bytes) -> _Kept | None:
    try:
        return msgspec.json.decode(unseal(key, path.read_bytes(), _BOUND_TO, str(path)), type=_Kept)
    except FileNotFoundError:
        return None
    except (OSError, GalleryError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.error("%s: %s: the site's gallery must be fetched again", path, error)
        return None
