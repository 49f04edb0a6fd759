"""The people and rights of an earlier version, to be signed again: without what was taken away since.

Who was removed stays away, who is disabled now stays disabled, and a card that was taken from its holder
or disabled opens nothing again: what an admin did about a lost card outlives another's rollback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.admin.content import Made, listed, settle, target_path, write_target
from edge.admin.model import Card, Person, Publication, Removal
from edge.admin.records import Records
from edge.errors import AdminError
from edge.identity.sealing import key_id_of, seal_target, site_key_id, unseal_target
from edge.identity.shards import (
    PEOPLE_MANIFEST,
    RIGHTS_SITE,
    HeldCard,
    Holder,
    PeopleManifest,
    PeopleShard,
    RightsSite,
    decode_manifest,
    decode_people_shard,
    decode_rights_shard,
    decode_rights_site,
    encode_manifest,
    encode_people_shard,
    encode_rights_shard,
    people_name,
    rights_name,
)
from edge.values import Template


class OldKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A site key that was in use; its id is the record's. Kept to read what it sealed."""

    key: bytes  # 32 bytes


@dataclass(frozen=True, slots=True)
class Earlier:
    """People and rights, by target name."""

    targets: dict[str, Made]
    subjects: int
    templates: int


def earlier(records: Records, folder: Path, before: Publication) -> Earlier:
    """The targets of `before`, sealed with the site's key of now; changed ones are written.

    Raises:
        GalleryError: a target is not what it was; AdminError: it is missing.
    """
    return _Earlier(records, folder, before).made()


class _Earlier:
    """One run of `earlier`."""

    def __init__(self, records: Records, folder: Path, before: Publication) -> None:
        site = records.site()
        self._folder = folder
        self._before = before
        self._site = site.site
        self._key = site.site_key
        self._keys = {site_key_id(old.key).hex(): old.key for old in records.all(OldKey).values()}
        self._keys[site_key_id(site.site_key).hex()] = site.site_key
        removals = records.all(Removal).values()  # later ones: who came back since has new templates
        self._gone = {one.subject for one in removals if one.version is None or one.version > before.version}
        self._records = records
        self._made: dict[str, Made] = {}
        self._written: list[str] = []  # names

    def made(self) -> Earlier:
        manifest = decode_manifest(self._plain(PEOPLE_MANIFEST))
        rights = decode_rights_site(self._plain(RIGHTS_SITE))
        subjects = templates = 0
        for index in range(manifest.shards):
            shard = self._people(index, manifest)
            subjects += len(shard.subjects)
            templates += len(shard.owners)
        for index in range(rights.shards):
            self._rights(index, rights)
        kept = msgspec.structs.replace(manifest, subjects=subjects, templates=templates)
        self._keep(PEOPLE_MANIFEST, kept != manifest, lambda: encode_manifest(kept))
        self._keep(RIGHTS_SITE, False, lambda: self._plain(RIGHTS_SITE))
        settle(self._folder, self._made, self._written)
        return Earlier(self._made, subjects, templates)

    def _people(self, index: int, manifest: PeopleManifest) -> PeopleShard:
        """The shard, without whom was removed."""
        name = people_name(index, manifest.shards)
        plain = self._plain(name)
        shard = decode_people_shard(plain, index, manifest)
        altered = not self._gone.isdisjoint(shard.subjects)
        if altered:
            rows = [
                Template(shard.subjects[owner], vector, manifest.model, "")
                for owner, vector in zip(shard.owners, shard.vectors, strict=True)
                if shard.subjects[owner] not in self._gone
            ]
            plain = encode_people_shard(index, manifest, rows)
            shard = decode_people_shard(plain, index, manifest)
        self._keep(name, altered, lambda: plain)
        return shard

    def _rights(self, index: int, site: RightsSite) -> None:
        name = rights_name(index, site.shards)
        plain = self._plain(name)
        holders = decode_rights_shard(plain, index, site)
        now = self._records.some(Person, [holder.subject for holder in holders])
        kept = [
            _as_taken_since(holder, now.get(holder.subject))
            for holder in holders
            if holder.subject not in self._gone
        ]
        altered = kept != holders
        self._keep(name, altered, lambda: encode_rights_shard(index, site.shards, kept) if altered else plain)

    def _data(self, name: str) -> bytes:
        path = target_path(self._folder, name, self._before.targets.get(name, ""))
        try:
            return path.read_bytes()
        except OSError as error:
            raise AdminError(f"{path}: {error.strerror}") from None

    def _plain(self, name: str) -> bytes:
        data = self._data(name)
        key = self._keys.get(key_id_of(data).hex(), self._key)
        return unseal_target(key, self._site, name, data)

    def _keep(self, name: str, altered: bool, plain: Callable[[], bytes]) -> None:
        """The same bytes where neither content nor key changed, else sealed anew."""
        data = self._data(name)
        if altered or key_id_of(data) != site_key_id(self._key):
            sealed = seal_target(self._key, self._site, name, plain())
            self._made[name] = write_target(self._folder, name, sealed)
            self._written.append(name)
        else:
            self._made[name] = listed(data)


def _as_taken_since(holder: Holder, now: Person | None) -> Holder:
    """A holder of an earlier version, with nothing open that has been closed since."""
    if now is None:
        return holder
    there = {card.digest: card for card in now.cards}
    cards = tuple(_closed(card, there[card.digest]) for card in holder.cards if card.digest in there)
    return msgspec.structs.replace(holder, enabled=holder.enabled and now.enabled, cards=cards)


def _closed(card: HeldCard, now: Card) -> HeldCard:
    return msgspec.structs.replace(card, enabled=card.enabled and now.enabled)
