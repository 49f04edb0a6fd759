"""A site's signed tree that can be told to lie, in the manner of python-tuf's RepositorySimulator.

`Repository.publish` signs as an honest admin would. `served` is what the network gives: an attacker
at the broker changes it at will (`flip`, `cut`, `served.update(old)`), and one with a stolen key signs
with `forge`. A Repository is a Fetch; `Mirror` puts what is served on a real broker.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from broker import wait_until
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edge.errors import LinkError, PayloadError
from edge.link.fetch import MAX_PATHS
from edge.link.trust import Release, SiteTrust

NOW = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
KEY = b"k" * 32
YEAR = timedelta(days=365)
FRESH = timedelta(days=7)
ROLES = {"people": ["people/*", "keys/*"], "rights": ["rights/*"]}
SIGNED_BY = {
    "root": "root",
    "targets": "root",
    "snapshot": "publish",
    "timestamp": "publish",
    "people": "people",
    "rights": "rights",
}
TIMESTAMP = "metadata/timestamp.json"


def site_content(mark: str, shards: int = 4, size: int = 200) -> dict[str, bytes]:
    """The files of a site, all of which carry `mark`, so that a mixture shows."""
    names = ["commands/keys", "people/manifest", "rights/site", "rights/0"]
    names += [f"people/{i:x}" for i in range(shards)]
    return {name: f"{name} {mark} ".encode().ljust(size, b".") for name in names}


class Repository:
    """Keys, signed metadata, and what of it is served."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.keys = {name: CryptoSigner.generate_ed25519() for name in set(SIGNED_BY.values())}
        self.served: dict[str, bytes] = {}
        self.asked: list[str] = []  # every path a door asked for, in order
        self.reachable = True
        expires = now + YEAR
        self.root = Root(expires=now + 10 * YEAR, consistent_snapshot=True)
        self.targets = Targets(expires=expires, delegations=Delegations(keys={}, roles={}))
        self.people = Targets(expires=expires)
        self.rights = Targets(expires=expires)
        self.snapshot = Snapshot(expires=expires)
        self.timestamp = Timestamp(expires=now + FRESH)
        for unsigned in (self.targets, self.people, self.rights, self.snapshot, self.timestamp):
            unsigned.version = 0  # what is published first is version 1
        for role in ("root", "targets", "snapshot", "timestamp"):
            self.root.add_key(self.keys[SIGNED_BY[role]].public_key, role)
        for role, paths in ROLES.items():
            self.targets.delegations.roles[role] = DelegatedRole(role, [], 1, True, paths=paths)
            self.targets.add_key(self.keys[role].public_key, role)
        self.first_root = self._serve_root(self.keys["root"])

    # The honest admin

    def publish(self, content: Mapping[str, bytes]) -> int:
        """Sign and serve `content`; the release's version."""
        for role in ("targets", "people", "rights"):
            self._serve_targets(role, {n: d for n, d in content.items() if self._role_of(n) == role})
        self.snapshot.version += 1
        self.serve("snapshot", self.snapshot)
        self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)
        self.freshen()
        return self.snapshot.version

    def freshen(self) -> None:
        """A new timestamp for the same release."""
        self.timestamp.version += 1
        self.timestamp.expires = self.now + FRESH
        self.serve("timestamp", self.timestamp)

    def rotate(self, *names: str) -> None:
        """New keys in place of the named ones, signed by the old root key and the new."""
        old_root = self.keys["root"]
        for name in names:
            old, self.keys[name] = self.keys[name], CryptoSigner.generate_ed25519()
            for role in [role for role, by in SIGNED_BY.items() if by == name]:
                delegator = self.targets if role in ROLES else self.root
                delegator.revoke_key(old.public_key.keyid, role)
                delegator.add_key(self.keys[name].public_key, role)
        self.root.version += 1
        self._serve_root(old_root, self.keys["root"])
        for role in ("targets", "people", "rights"):
            self._sign_again(role)

    # The attacker

    def forge(self, role: str, signed: Signed, key: CryptoSigner | None = None) -> None:
        """Serve what somebody else signed; with `key`, or a key that nobody trusts."""
        self._put(role, signed, key or CryptoSigner.generate_ed25519())

    def flip(self, path: str) -> None:
        """One bit in the middle."""
        data = bytearray(self.served[path])
        data[len(data) // 2] ^= 1
        self.served[path] = bytes(data)

    def cut(self, path: str, length: int) -> None:
        self.served[path] = self.served[path][:length]

    def path(self, name: str) -> str:
        """Where a target of the newest release is served."""
        role = getattr(self, self._role_of(name))
        folder, _, base = name.rpartition("/")
        return f"targets/{folder}/{role.targets[name].hashes['sha256']}.{base}"

    def newest(self, role: str) -> str:
        """Where the newest metadata of a role is served."""
        return TIMESTAMP if role == "timestamp" else f"metadata/{getattr(self, role).version}.{role}.json"

    # Port Fetch

    def get(self, paths: Sequence[str], max_bytes: int) -> dict[str, bytes]:
        assert 0 < len(paths) <= MAX_PATHS
        self.asked += paths
        if not self.reachable:
            raise LinkError("repository: not reachable")
        found = {path: self.served[path] for path in paths if path in self.served}
        for path, data in found.items():
            if len(data) > max_bytes:
                raise PayloadError(f"{path}: expected at most {max_bytes} bytes, got {len(data)}")
        return found

    # How it signs

    def serve(self, role: str, signed: Signed) -> None:
        """Sign with the role's own key and serve."""
        self._put(role, signed, self.keys[SIGNED_BY[role]])

    def _put(self, role: str, signed: Signed, *keys: CryptoSigner) -> bytes:
        metadata = Metadata(signed)
        for key in keys:
            metadata.sign(key, append=True)
        data = metadata.to_bytes()
        self.served[TIMESTAMP if role == "timestamp" else f"metadata/{signed.version}.{role}.json"] = data
        return data

    def _serve_root(self, *keys: CryptoSigner) -> bytes:
        return self._put("root", self.root, *keys)

    def _role_of(self, name: str) -> str:
        kind = name.partition("/")[0]
        return {"people": "people", "keys": "people", "rights": "rights"}.get(kind, "targets")

    def _serve_targets(self, role: str, content: Mapping[str, bytes]) -> None:
        signed: Targets = getattr(self, role)
        files = {name: TargetFile.from_data(name, data, ["sha256"]) for name, data in content.items()}
        for name, data in content.items():
            folder, _, base = name.rpartition("/")
            self.served[f"targets/{folder}/{hashlib.sha256(data).hexdigest()}.{base}"] = data
        if signed.version == 0 or files != signed.targets:
            signed.targets = files
            self._sign_again(role)

    def _sign_again(self, role: str) -> None:
        signed: Targets = getattr(self, role)
        signed.version += 1
        self.serve(role, signed)
        self.snapshot.meta[f"{role}.json"] = MetaFile(signed.version)

    def write(self, folder: Path) -> Path:
        """What is served as a folder: a USB stick."""
        for path, data in self.served.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return folder


class Unplugged:
    """No network. Sibling of Downlink as a Fetch."""

    def get(self, paths: Sequence[str], max_bytes: int) -> dict[str, bytes]:
        raise LinkError("unplugged")


class DoorFiles:
    """What the daemon does with SiteTrust, without a daemon: refresh, fetch all, commit, prune."""

    def __init__(self, folder: Path, root: bytes, fetch: object, now: datetime | None = NOW) -> None:
        self.folder = folder
        self.now = now
        self._root = root
        self._fetch = fetch
        self.restart()

    def restart(self) -> None:
        self.trust = SiteTrust(self.folder, self._root, self._fetch, lambda: self.now, KEY)

    def update(self, names: Sequence[str]) -> dict[str, bytes]:
        """Takes the newest release into force; its content."""
        release = self.trust.refresh()
        content = self.read(release, names)
        self.trust.commit(release)
        self.trust.prune([target.sha256 for target in release.asked.values()])
        return content

    def content(self) -> dict[str, bytes]:
        """What is in force, as a daemon finds it that starts without a network."""
        release = self.trust.in_force()
        return {} if release is None else self.read(release, list(release.asked))

    @staticmethod
    def read(release: Release, names: Sequence[str]) -> dict[str, bytes]:
        targets = [release.target(name) for name in names]
        assert None not in targets, names
        return {name: path.read_bytes() for name, path in release.fetch(targets).items()}


class Mirror:
    """Puts what a repository serves on a broker, retained, as an admin who overwrites and deletes."""

    def __init__(
        self, repository: Repository, port: int, site: str = "hq", client: Client | None = None
    ) -> None:
        """`client`: a connection that is there already."""
        self._repository = repository
        self._base = f"doord/{site}/gallery/"
        self._there: dict[str, bytes] = {}
        self._client = client or self._connected(port)
        wait_until(self._client.is_connected, "the admin is connected")

    @staticmethod
    def _connected(port: int) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2, f"admin-{os.urandom(4).hex()}", protocol=MQTTProtocolVersion.MQTTv5
        )
        client.reconnect_delay_set(1, 1)
        client.connect("127.0.0.1", port)
        client.loop_start()
        return client

    def connected(self) -> bool:
        return self._client.is_connected()

    def push(self) -> None:
        """All that differs, metadata last and the timestamp very last; every one acknowledged."""
        served = self._repository.served
        changed = [path for path in {*served, *self._there} if served.get(path) != self._there.get(path)]
        order = {"targets": 0, "metadata": 1}
        for path in sorted(changed, key=lambda p: (p == TIMESTAMP, order[p.partition("/")[0]], p)):
            # an empty retained message deletes
            sent = self._client.publish(self._base + path, served.get(path, b""), qos=1, retain=True)
            sent.wait_for_publish(15)
            assert sent.is_published(), path
        self._there = dict(served)

    def forget(self) -> None:
        """The broker has lost its store."""
        self._there = {}

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
