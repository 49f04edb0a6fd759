"""A site on an admin's machine, for tests; and what a door makes of its targets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from site_content import MODEL, vectors

from edge.admin.folder import OpenSite, create_site
from edge.admin.model import Card, Person, PersonTemplate, Site
from edge.identity import shards
from edge.identity.credentials import Cards
from edge.identity.rights import Rights
from edge.identity.sealing import decode_keys, keys_name, unseal_target
from edge.identity.site_gallery import assemble, cards_of, rights_of
from edge.link.bundle import DoorBundle
from edge.values import Gallery

PASSPHRASE, ROOT_PASSPHRASE = "correct horse", "battery staple"
NOW = datetime(2026, 11, 16, 12, tzinfo=timezone.utc)  # a Monday
DIMENSION = 16


def settings(**changes: object) -> Site:
    found = {
        "site": "hq",
        "time_zone": "UTC",
        "broker_host": "127.0.0.1",
        "broker_port": 8883,
        "model": MODEL,
        "dimension": DIMENSION,
        "site_key": b"",
        "card_key": b"",
    }
    return Site(**{**found, **changes})


def made_site(folder: Path, **changes: object) -> OpenSite:
    """A new site, opened."""
    create_site(folder, settings(**changes), PASSPHRASE, ROOT_PASSPHRASE, NOW)
    return OpenSite(folder, PASSPHRASE)


def person(subject: str, seed: int, each: int = 2, dimension: int = DIMENSION, **changes: object) -> Person:
    rows = [
        PersonTemplate(vector.astype("<f2").tobytes(), MODEL, "2026-01-02T03:04:05Z")
        for vector in vectors(each, dimension, seed)
    ]
    return Person(**{"subject": subject, "templates": rows, **changes})


def put_people(site: OpenSite, *people: Person) -> None:
    with site.records.transaction():
        for one in people:
            site.records.put(one.subject, one)


def card(number: int) -> Card:
    return Card(number.to_bytes(32, "big"))


def as_door(
    bundle: DoorBundle, targets: Mapping[str, bytes], version: int = 1
) -> tuple[Gallery, Rights, Cards]:
    """What a door puts in force."""
    name = keys_name(bundle.door)
    keys = decode_keys(unseal_target(bundle.key_encryption_key, bundle.site, name, targets[name]))

    def plain(target: str) -> bytes:
        return unseal_target(keys.site_key, bundle.site, target, targets[target])

    manifest = shards.decode_manifest(plain(shards.PEOPLE_MANIFEST))
    people = (
        shards.decode_people_shard(plain(shards.people_name(i, manifest.shards)), i, manifest)
        for i in range(manifest.shards)
    )
    rules = shards.decode_rights_site(plain(shards.RIGHTS_SITE))
    holders = [
        holder
        for i in range(rules.shards)
        for holder in shards.decode_rights_shard(plain(shards.rights_name(i, rules.shards)), i, rules)
    ]
    gallery = assemble(manifest, people, version)
    return gallery, rights_of(rules, holders), cards_of(holders, keys.card_key)


def expected_vectors(*people: Person) -> np.ndarray:
    rows = [np.frombuffer(row.vector, "<f2").astype(np.float32) for one in people for row in one.templates]
    return np.array(rows)
