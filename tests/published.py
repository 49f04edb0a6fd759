"""A site as an admin would publish it, small: real sealed content over the attackable repository."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from repository import Repository
from securesystemslib.signer import CryptoSigner

from edge.identity import sealing, shards
from edge.identity.credentials import card_digest
from edge.link import dsse
from edge.link.bundle import DoorBundle
from edge.values import Template, read_only

AT = "2026-03-01T12:00:00Z"


def a_vector(seed: int, dimension: int = 512) -> np.ndarray:
    """A unit vector; two of different seeds are about 1.41 apart."""
    vector = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return read_only(vector / np.linalg.norm(vector))


class Published:
    """People, rights and keys of a site, and the signed tree they are published in."""

    def __init__(
        self,
        repository: Repository,
        model: str = "facenet-int8",
        dimension: int = 512,
        site: str = "hq",
        door: str = "front",
        shard_count: int = 4,
    ) -> None:
        self.repository = repository
        self.site, self.door, self.model, self.dimension = site, door, model, dimension
        self.shard_count = shard_count
        self.site_key, self.card_key, self.door_key = (os.urandom(32) for _ in range(3))
        self.people: dict[str, list[np.ndarray]] = {}
        self.holders: dict[str, dict] = {}  # subject -> keys of rights.yaml
        self.cards: dict[str, str] = {}  # card text -> subject
        self.rights: dict = {"time_zone": "UTC"}
        self.commander = CryptoSigner.generate_ed25519()
        self.signing_key = Ed25519PrivateKey.generate()
        self._sealed: dict[str, tuple[bytes, bytes]] = {}  # name -> plain, sealed

    def enrol(self, subject: str, *vectors: np.ndarray, **rights: object) -> None:
        self.people[subject] = list(vectors)
        self.holders[subject] = rights

    def remove(self, subject: str) -> None:
        del self.people[subject], self.holders[subject]

    def publish(self) -> int:
        """Sign and serve; the version."""
        return self.repository.publish(self.content())

    def bundle(self, broker_port: int = 8883, **pem: str) -> DoorBundle:
        """What `doord join` is given."""
        key = self.signing_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return DoorBundle(
            doord_door=1,
            site=self.site,
            door=self.door,
            broker_host="127.0.0.1",
            broker_port=broker_port,
            ca=pem.get("ca", "no ca"),
            certificate=pem.get("certificate", "no certificate"),
            certificate_key=pem.get("certificate_key", "no key"),
            root=self.repository.first_root,
            key_encryption_key=self.door_key,
            signing_key=key,
        )

    def content(self) -> dict[str, bytes]:
        """Every target, sealed; what did not change keeps its bytes."""
        name = sealing.keys_name(self.door)
        keys = sealing.encode_keys(sealing.SiteKeys(1, self.site_key, self.card_key))
        plain = {
            shards.PEOPLE_MANIFEST: shards.encode_manifest(self._manifest()),
            shards.RIGHTS_SITE: shards.encode_rights_site(self._rights()),
            **self._shards(),
        }
        return {
            name: self._seal(self.door_key, name, keys),
            sealing.COMMAND_KEYS: dsse.encode_keys({"desk": self.commander.public_key}),
            **{name: self._seal(self.site_key, name, data) for name, data in plain.items()},
        }

    def _seal(self, key: bytes, name: str, plain: bytes) -> bytes:
        before = self._sealed.get(name)
        if before is None or before[0] != key + plain:
            self._sealed[name] = (key + plain, sealing.seal_target(key, self.site, name, plain))
        return self._sealed[name][1]

    def _manifest(self) -> shards.PeopleManifest:
        templates = sum(len(vectors) for vectors in self.people.values())
        return shards.PeopleManifest(
            1, self.model, self.dimension, self.shard_count, len(self.people), templates, ""
        )

    def _rights(self) -> shards.RightsSite:

        return msgspec.convert({"format": 1, "shards": 1, **self.rights}, shards.RightsSite)

    def _shards(self) -> dict[str, bytes]:
        manifest, found = self._manifest(), {}
        for i in range(self.shard_count):
            rows = [
                Template(subject, vector, self.model, AT)
                for subject, vectors in sorted(self.people.items())
                if shards.shard_of(subject, self.shard_count) == i
                for vector in vectors
            ]
            name = shards.people_name(i, self.shard_count)
            found[name] = shards.encode_people_shard(i, manifest, rows)
        found[shards.rights_name(0, 1)] = shards.encode_rights_shard(0, 1, self._holders())
        return found

    def _holders(self) -> list[shards.Holder]:

        held: dict[str, list[list]] = {}
        for card, subject in self.cards.items():
            held.setdefault(subject, []).append([card_digest(self.card_key, card), True, None])
        return [
            msgspec.convert({"subject": subject, **rights, "cards": held.get(subject, [])}, shards.Holder)
            for subject, rights in self.holders.items()
        ]


def joined_bundle_file(bundle: DoorBundle, path: Path) -> Path:
    from edge.link.bundle import encode_bundle

    path.write_bytes(encode_bundle(bundle))
    return path
