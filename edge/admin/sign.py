"""The site's signed tree: TUF metadata over the targets, in the order that keeps it whole.

`metadata/`: every `<N>.root.json` for ever (a new door walks them), `<N>.targets.json`,
`<N>.people.json`, `<N>.rights.json`, `<N>.snapshot.json`, and `timestamp.json`, which is replaced last
and is what makes a version count. Roles and lifetimes: `doord` follows theupdateframework.github.io;
`people` and `rights` are delegated, snapshot and timestamp share the key `publish`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from edge.admin.content import Made, target_path
from edge.disk import make_private_folder, write_atomically
from edge.errors import AdminError, GalleryError, GalleryKeyError

PATHS = {"people": ["people/*", "keys/*"], "rights": ["rights/*"]}
CONTENT_ROLES = ("targets", "people", "rights")
_ROLES = ("root", "snapshot", "timestamp", *CONTENT_ROLES)
ROOT_DAYS, ROLE_DAYS = 3650, 365
_RENEWED = timedelta(days=ROLE_DAYS // 4)  # a role is signed again when it has less to go
_COMPACT = JSONSerializer(compact=True)

Keys = Mapping[str, Sequence[Key]]
"""Role (root, targets, people, rights, publish) -> its public keys."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed."""

    version: int  # the snapshot's
    changed: tuple[str, ...]  # roles with a new version
    signers: tuple[str, ...]  # key ids on people and rights
    expires_utc: datetime  # the timestamp's


class Tree:
    """The metadata below one folder. Raises GalleryError when it can't be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folder = folder / "metadata"
        self.targets_folder = folder / "targets"
        self.root: Metadata[Root] = self._read(f"{self._newest_root()}.root")
        self.timestamp: Metadata[Timestamp] = self._read("timestamp")
        self.snapshot: Metadata[Snapshot] = self._read(
            f"{self.timestamp.signed.snapshot_meta.version}.snapshot"
        )
        self.roles: dict[str, Metadata[Targets]] = {
            role: self._read(f"{self.snapshot.signed.meta[f'{role}.json'].version}.{role}")
            for role in CONTENT_ROLES
        }

    @classmethod
    def create(
        cls,
        folder: Path,
        keys: Keys,
        signers: Sequence[CryptoSigner],
        targets: Mapping[str, Made],
        now_utc: datetime,
        fresh_for_s: int,
        root_threshold: int = 1,
    ) -> Tree:
        """A new tree of version 1. Raises AdminError: there is one; GalleryKeyError: too few keys."""
        if (folder / "metadata").exists():
            raise AdminError(f"{folder}: expected no tree yet, got one")
        tree = cls.__new__(cls)
        tree.folder = folder
        tree._folder = folder / "metadata"
        tree.targets_folder = folder / "targets"
        make_private_folder(tree._folder)
        empty = now_utc - timedelta(days=1)
        tree.root = _unborn(Root(expires=empty, consistent_snapshot=True))
        tree.root.signed.roles["root"].threshold = root_threshold
        delegated = {
            role: DelegatedRole(role, [], 1, terminating=True, paths=paths) for role, paths in PATHS.items()
        }
        tree.roles = {role: _unborn(Targets(expires=empty)) for role in CONTENT_ROLES}
        tree.roles["targets"].signed.delegations = Delegations({}, delegated)
        tree.snapshot = _unborn(Snapshot(expires=empty))
        tree.timestamp = _unborn(Timestamp(expires=empty))
        tree.rotate(keys, signers, targets, now_utc, fresh_for_s)
        return tree

    @property
    def version(self) -> int:
        """The snapshot's."""
        return self.snapshot.signed.version

    def listed(self) -> dict[str, Made]:
        """All targets that are signed, by name."""
        return {
            name: Made(file.hashes["sha256"], file.length)
            for role in self.roles.values()
            for name, file in role.signed.targets.items()
        }

    def target(self, name: str) -> bytes:
        """The bytes of a target that is signed. Raises GalleryError: not there."""
        made = self.listed().get(name, Made())
        path = target_path(self.targets_folder, name, made.sha256)
        try:
            return path.read_bytes()
        except OSError as error:
            raise GalleryError(f"{path}: {error.strerror}") from None

    def sign(
        self,
        targets: Mapping[str, Made],
        signers: Sequence[CryptoSigner],
        now_utc: datetime,
        fresh_for_s: int,
    ) -> Signed:
        """Sign `targets` as the newest: a new version of those roles only in which something changed.

        With the same targets as before this is a new timestamp, and renews what will expire soon.

        Args:
            targets: all of them, by name.
            signers: every key at hand; those that a role does not list are left out.
            now_utc: aware.
            fresh_for_s: how long doors believe that this is the newest.

        Raises:
            GalleryKeyError: a role changed and too few of its keys are at hand.
            GalleryError: the disk refuses.
        """
        now_utc = now_utc.replace(microsecond=0)
        changed = [role for role in CONTENT_ROLES if self._update(role, targets, signers, now_utc)]
        if changed or self._stale("snapshot", signers, now_utc):
            snapshot = self.snapshot.signed
            snapshot.meta = {f"{role}.json": _meta(self.roles[role]) for role in CONTENT_ROLES}
            self._renew("snapshot", signers, now_utc + timedelta(days=ROLE_DAYS))
            self._write(f"{snapshot.version}.snapshot", self.snapshot)
        self.timestamp.signed.snapshot_meta = _meta(self.snapshot)
        expires = now_utc + timedelta(seconds=fresh_for_s)
        self._renew("timestamp", signers, expires)
        self._write("timestamp", self.timestamp)
        people_and_rights = (self.roles["people"], self.roles["rights"])
        by = sorted({keyid for role in people_and_rights for keyid in role.signatures})
        return Signed(self.version, tuple(changed), tuple(by), expires)

    def rotate(
        self,
        keys: Keys,
        signers: Sequence[CryptoSigner],
        targets: Mapping[str, Made],
        now_utc: datetime,
        fresh_for_s: int,
    ) -> Signed:
        """Give roles other keys, and sign what those keys sign.

        Args:
            keys: the roles to change, each with all of its new keys.
            signers: old and new keys; a new root is signed by the old one's keys and its own.
            targets: all of them, by name; those of now where none change.
            now_utc: aware.
            fresh_for_s: as in `sign`.

        Raises:
            GalleryKeyError: too few keys of the old or the new root, or of another role, are at hand.
        """
        now_utc = now_utc.replace(microsecond=0)
        of_root = {role: found for role, found in keys.items() if role not in PATHS}
        if of_root:
            self._rotate_root(of_root, signers, now_utc)
        delegator = self.roles["targets"].signed
        for role in PATHS.keys() & keys.keys():
            _set_keys(delegator, role, keys[role])
        if PATHS.keys() & keys.keys():
            self.roles["targets"].signatures.clear()  # signed again for that
        return self.sign(targets, signers, now_utc, fresh_for_s)

    def _rotate_root(self, keys: Keys, signers: Sequence[CryptoSigner], now_utc: datetime) -> None:
        old, new = self.root, copy.deepcopy(self.root)
        for role, found in keys.items():
            for name in ("snapshot", "timestamp") if role == "publish" else (role,):
                _set_keys(new.signed, name, found)
        new.signed.version += 1
        new.signed.expires = now_utc + timedelta(days=ROOT_DAYS)
        before = old if old.signed.version else new
        _sign(new, {*before.signed.roles["root"].keyids, *new.signed.roles["root"].keyids}, signers)
        for judge in (before, new):
            _verify(judge.signed, "root", new)
        self._write(f"{new.signed.version}.root", new)
        self.root = new

    def _update(
        self, role: str, targets: Mapping[str, Made], signers: Sequence[CryptoSigner], now_utc: datetime
    ) -> bool:
        """Sign a role again if need be; whether it was."""
        metadata = self.roles[role]
        files = {name: _file(name, made) for name, made in targets.items() if role_of(name) == role}
        if metadata.signed.targets == files and not self._stale(role, signers, now_utc):
            return False
        metadata.signed.targets = files
        self._renew(role, signers, now_utc + timedelta(days=ROLE_DAYS))
        self._write(f"{metadata.signed.version}.{role}", metadata)
        return True

    def _of(self, role: str) -> tuple[Metadata[Any], Metadata[Any]]:
        """A role's metadata, and that which lists its keys."""
        found: dict[str, Metadata[Any]] = {
            "root": self.root,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
            **self.roles,
        }
        return found[role], found["targets" if role in PATHS else "root"]

    def _stale(self, role: str, signers: Sequence[CryptoSigner], now_utc: datetime) -> bool:
        """Whether to sign it again: not signed as its keys ask, or soon over and a key is at hand."""
        metadata, delegator = self._of(role)
        keyids = delegator.signed.get_delegated_role(role).keyids
        at_hand = any(signer.public_key.keyid in keyids for signer in signers)
        soon = metadata.signed.expires - now_utc < _RENEWED
        return (soon and at_hand) or _fault(delegator.signed, role, metadata) is not None

    def _renew(self, role: str, signers: Sequence[CryptoSigner], expires: datetime) -> None:
        metadata, delegator = self._of(role)
        metadata.signed.version += 1
        metadata.signed.expires = expires
        _sign(metadata, delegator.signed.get_delegated_role(role).keyids, signers)
        _verify(delegator.signed, role, metadata)

    def keys(self, role: str) -> list[Key]:
        """The keys that a role lists; `publish` is snapshot's and timestamp's."""
        role = "timestamp" if role == "publish" else role
        _, delegator = self._of(role)
        listed = delegator.signed.get_delegated_role(role).keyids
        return [delegator.signed.get_key(keyid) for keyid in listed]

    def files(self, version: int | None = None) -> list[str]:
        """What makes up a version, as paths below the tree's folder, in the order to publish it.

        Without `timestamp.json`, which comes last, and without roots, which are for ever.

        Args:
            version: the snapshot's; None: the newest.

        Raises:
            GalleryError: its metadata is no longer kept here.
        """
        snapshot: Metadata[Snapshot] = self._read(f"{version or self.version}.snapshot")
        names = [f"{snapshot.signed.meta[f'{role}.json'].version}.{role}" for role in CONTENT_ROLES]
        roles: list[Metadata[Targets]] = [self._read(name) for name in names]
        targets = [
            f"targets/{path}"
            for role in roles
            for file in role.signed.targets.values()
            for path in file.get_prefixed_paths()
        ]
        metadata = [*names, f"{snapshot.signed.version}.snapshot"]
        return [*targets, *(f"metadata/{name}.json" for name in metadata)]

    def roots(self) -> list[str]:
        """Every root's path below the tree's folder."""
        return [f"metadata/{number}.root.json" for number in range(1, self.root.signed.version + 1)]

    def prune(self, versions: Iterable[int]) -> None:
        """Forget metadata of other versions; roots are for ever."""
        wanted = {path for version in versions for path in self.files(version)}
        for path in self._folder.glob("[0-9]*.json"):
            if not path.name.endswith(".root.json") and f"metadata/{path.name}" not in wanted:
                path.unlink(missing_ok=True)

    def faults(self) -> list[str]:
        """Roles that are not signed as their keys ask, in words: a change of keys was cut short."""
        pairs = {role: self._of(role) for role in _ROLES}
        found = [_fault(delegator.signed, role, metadata) for role, (metadata, delegator) in pairs.items()]
        return [fault for fault in found if fault]

    def check(self, now_utc: datetime) -> list[str]:
        """What is wrong, in words: signatures, what expires in 90 days, files. Empty: nothing."""
        wrong = self.faults()
        for role in _ROLES:
            metadata, _ = self._of(role)
            left = metadata.signed.expires - now_utc
            if left < (timedelta(0) if role == "timestamp" else _RENEWED):
                wrong.append(
                    f"{role}: expected to be valid for long, expires on {metadata.signed.expires:%Y-%m-%d}"
                )
        return wrong + self._check_files()

    def _check_files(self) -> list[str]:
        wrong = []
        for name, made in self.listed().items():
            path = target_path(self.targets_folder, name, made.sha256)
            try:
                with path.open("rb") as file:
                    _file(name, made).verify_length_and_hashes(file)
            except OSError as error:
                wrong.append(f"{path}: {error.strerror}")
            except RepositoryError as error:
                wrong.append(f"{path}: {error}")
        return wrong

    def _newest_root(self) -> int:
        numbers = (path.name.removesuffix(".root.json") for path in self._folder.glob("*.root.json"))
        found = [int(number) for number in numbers if re.fullmatch("[0-9]{1,9}", number)]
        if not found:
            raise GalleryError(f"{self._folder}: expected 1.root.json, got none")
        return max(found)

    def root_bytes(self) -> bytes:
        """The newest root, as it is published: what a new door is given to trust."""
        return (self._folder / f"{self.root.signed.version}.root.json").read_bytes()

    def _read(self, name: str) -> Metadata[Any]:
        path = self._folder / f"{name}.json"
        try:
            return Metadata.from_bytes(path.read_bytes())
        except OSError as error:
            raise GalleryError(f"{path}: {error.strerror}") from None
        except RepositoryError as error:
            raise GalleryError(f"{path}: expected TUF metadata, got: {error}") from None

    def _write(self, name: str, metadata: Metadata[Any]) -> None:
        path = self._folder / f"{name}.json"
        try:
            write_atomically(path, metadata.to_bytes(_COMPACT))
        except OSError as error:
            raise GalleryError(f"{path}: {error.strerror}") from None


def _unborn(signed: Any) -> Metadata[Any]:
    """Version 0: its first signature makes it version 1."""
    signed.version = 0
    return Metadata(signed)


def role_of(name: str) -> str:
    """Which role signs a target."""
    kind = name.partition("/")[0] + "/*"
    return next((role for role, paths in PATHS.items() if kind in paths), "targets")


def _file(name: str, made: Made) -> TargetFile:
    return TargetFile(made.length, {"sha256": made.sha256}, name)


def _meta(metadata: Metadata[Any]) -> MetaFile:
    """With length and digest: a door then never loads more than what was signed."""
    return MetaFile.from_data(metadata.signed.version, metadata.to_bytes(_COMPACT), ["sha256"])


def _set_keys(delegator: Root | Targets, role: str, keys: Iterable[Key]) -> None:
    for keyid in list(delegator.get_delegated_role(role).keyids):
        delegator.revoke_key(keyid, role)
    for key in keys:
        delegator.add_key(key, role)


def _sign(metadata: Metadata[Any], keyids: Iterable[str], signers: Sequence[CryptoSigner]) -> None:
    metadata.signatures.clear()
    for signer in signers:
        if signer.public_key.keyid in keyids:
            metadata.sign(signer, append=True)


def _fault(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> str | None:
    """Why a role is not signed as its keys ask; None: it is."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        return f"{role}: expected enough of its keys, got: {error}"
    return None


def _verify(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    fault = _fault(delegator, role, metadata)
    if fault:
        raise GalleryKeyError(fault)
