"""Records turned into targets: sealed files, of which only those are made anew whose content changed.

What was made is kept in one record, `Content`: for each target a fingerprint of the records it was
made from, so that the others need not even be opened, and a digest of its content, so that a target
keeps its bytes where the records changed and the content did not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from securesystemslib.signer import Key

from edge.admin.model import Door, Group, Person, Schedule, Site
from edge.admin.records import Records
from edge.disk import make_durable, make_private_folder
from edge.errors import AdminError
from edge.identity.gallery import MAX_TEMPLATES
from edge.identity.sealing import (
    COMMAND_KEYS,
    FORMAT,
    SiteKeys,
    encode_keys,
    keys_name,
    seal_target,
    site_key_id,
)
from edge.identity.shards import (
    MAX_SHARDS,
    PEOPLE_MANIFEST,
    RIGHTS_SITE,
    Holder,
    PeopleManifest,
    RightsSite,
    encode_manifest,
    encode_people_shard,
    encode_rights_shard,
    encode_rights_site,
    people_name,
    rights_name,
    shard_of,
)
from edge.identity.site_gallery import MAX_CARDS, rights_of
from edge.link import dsse
from edge.strict import convert
from edge.values import Template

Progress = Callable[[int, int], None]  # how many are done, of how many
CONTENT = "content"  # the id of the one record
_ENTRY_BYTES = 122  # what a target costs in signed metadata, measured
_TEMPLATES_EACH = 5  # of a person, for the choice of a number of shards
_HOLDER_BYTES = 150
_CARD_BYTES = 12  # of a card's digest: enough to find one given out twice
_HOLDER_FIELDS = ("doors", "schedule", "from", "until", "groups", "enabled", "extended_release")


class Made(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One target as it was made last."""

    sha256: str = ""  # of its bytes
    length: int = 0
    digest: bytes = b""  # of its content and the key it is sealed with
    fingerprint: bytes = b""  # of the records it was made from; empty: always looked at
    subjects: int = 0
    templates: int = 0
    cards: bytes = b""  # the first bytes of the digests of those in it


_NOTHING_MORE = Made()


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All targets, by name."""

    targets: dict[str, Made] = {}
    people_shards: int = 1
    rights_shards: int = 1

    @property
    def subjects(self) -> int:
        """How many people have templates."""
        return sum(made.subjects for made in self.targets.values())

    @property
    def templates(self) -> int:
        """How many there are."""
        return sum(made.templates for made in self.targets.values())


def best_shards(subjects: int, bytes_each: int, present: int) -> int:
    """Into how many shards (a power of two) to cut, so that one changed subject costs few bytes.

    A change costs a shard and an entry of signed metadata for every shard. `present` stays while it
    costs at most a quarter more, since another number makes every shard anew.
    """

    def cost(shards: int) -> float:
        return subjects * bytes_each / shards + _ENTRY_BYTES * shards

    best = min((1 << bits for bits in range(MAX_SHARDS.bit_length())), key=cost)
    return present if cost(present) <= 1.25 * cost(best) else best


def target_path(folder: Path, name: str, sha256: str) -> Path:
    """Where a target lies: TUF's consistent snapshots put the digest before the name."""
    kind, _, last = name.partition("/")
    return folder / kind / f"{sha256}.{last}"


def quiet(_done: int, _of: int) -> None:
    """No progress is shown."""


def build(
    records: Records,
    folder: Path,
    command_keys: Mapping[str, Key],
    accepted_by: str = "",
    progress: Progress = quiet,
    dry_run: bool = False,
) -> Content:
    """The targets of what the records say, in files below `folder`; new and changed ones are written.

    Args:
        records: the site.
        folder: `tree/targets`.
        command_keys: by the name of who holds them.
        accepted_by: stands in the manifest.
        progress: told how many targets are done, of how many.
        dry_run: writes no file and no record.

    Raises:
        ModelMismatch: a template of another embedder than the site's.
        GalleryError, ConfigError: a contradiction in the rights.
        AdminError: a card given out twice, too many templates, a file that can't be written.
    """
    making = _Making(records, folder, progress, dry_run)
    content = making.content(command_keys, accepted_by)
    _check_whole(content)
    if not dry_run:
        settle(folder, content.targets, making.written)
        records.put(CONTENT, content)
    return content


def _check_whole(content: Content) -> None:
    """What no single shard shows."""
    if content.templates > MAX_TEMPLATES:
        raise AdminError(f"people: expected at most {MAX_TEMPLATES} templates, got {content.templates}")
    cards = Counter(
        made.cards[at : at + _CARD_BYTES]
        for made in content.targets.values()
        for at in range(0, len(made.cards), _CARD_BYTES)
    )
    if len(cards) > MAX_CARDS:
        raise AdminError(f"cards: expected at most {MAX_CARDS}, got {len(cards)}")
    for card, people in cards.most_common(1):
        if people > 1:
            raise AdminError(f"card {card.hex()[:12]}: expected one person, got {people}")


class _Making:
    """One run of `build`."""

    def __init__(self, records: Records, folder: Path, progress: Progress, dry_run: bool) -> None:
        self._records = records
        self._folder = folder
        self._dry_run = dry_run
        self._before = records.get(Content, CONTENT) or Content()
        self._site = records.site()
        self._revisions = records.revisions(Person)
        self._targets: dict[str, Made] = {}
        self.written: list[str] = []  # names
        self._progress = progress

    def content(self, command_keys: Mapping[str, Key], accepted_by: str) -> Content:
        site, count, before = self._site, len(self._revisions), self._before
        bytes_each = 2 * site.dimension * _TEMPLATES_EACH
        people = best_shards(count, bytes_each, before.people_shards)
        rights = best_shards(count, _HOLDER_BYTES, before.rights_shards)
        doors = [door for door in self._records.all(Door).values() if door.retired_at_utc is None]
        for door in doors:
            keys = encode_keys(SiteKeys(FORMAT, site.site_key, site.card_key))
            self._seal(keys_name(door.door), keys, key=door.key_encryption_key)
        self._write(COMMAND_KEYS, dsse.encode_keys(command_keys), Made())
        self._people(people, rights + people)
        content = Content(self._targets, people, rights)
        subjects, templates = content.subjects, content.templates
        manifest = PeopleManifest(
            FORMAT, site.model, site.dimension, people, subjects, templates, accepted_by
        )
        self._seal(PEOPLE_MANIFEST, encode_manifest(manifest))
        self._rights(people, rights)
        return content

    def _people(self, shards: int, of: int) -> None:
        site = self._site
        manifest = PeopleManifest(FORMAT, site.model, site.dimension, shards, 0, 0, "")
        basis = f"{site.model} {site.dimension}"
        for index, members in enumerate(self._members(shards)):
            name = people_name(index, shards)
            fingerprint = self._fingerprint(name, basis, members)
            if not self._unchanged(name, fingerprint):
                people = self._records.some(Person, members).values()
                rows = [row for person in people for row in _templates(person)]
                plain = encode_people_shard(index, manifest, rows)
                with_any = len({row.subject for row in rows})
                about = Made(fingerprint=fingerprint, subjects=with_any, templates=len(rows))
                self._seal(name, plain, about)
            self._progress(index + 1, of)

    def _rights(self, people: int, shards: int) -> None:
        text = _rights_site(self._site, shards, self._records)
        plain = encode_rights_site(text)
        rights_of(text, [])  # contradictions show here, not at the doors
        self._seal(RIGHTS_SITE, plain)
        basis = hashlib.sha256(plain).hexdigest()
        for index, members in enumerate(self._members(shards)):
            name = rights_name(index, shards)
            fingerprint = self._fingerprint(name, basis, members)
            if not self._unchanged(name, fingerprint):
                holders = [_holder(person) for person in self._records.some(Person, members).values()]
                rights_of(text, holders)
                cards = b"".join(card.digest[:_CARD_BYTES] for holder in holders for card in holder.cards)
                about = Made(fingerprint=fingerprint, cards=cards)
                self._seal(name, encode_rights_shard(index, shards, holders), about)
            self._progress(people + index + 1, people + shards)

    def _members(self, shards: int) -> list[list[str]]:
        """Who is in each shard."""
        found: list[list[str]] = [[] for _ in range(shards)]
        for subject in self._revisions:
            found[shard_of(subject, shards)].append(subject)
        return found

    def _fingerprint(self, name: str, basis: str, members: Sequence[str]) -> bytes:
        """Of everything that the target is made from; a revision stands for its record's content."""
        text = f"{name}\n{basis}\n{self._key_id()}\n"
        text += "\n".join(f"{subject} {self._revisions[subject]}" for subject in members)
        return hashlib.sha256(text.encode()).digest()

    def _key_id(self) -> str:
        return site_key_id(self._site.site_key).hex()

    def _unchanged(self, name: str, fingerprint: bytes) -> bool:
        """Keep the target as it is, where it was made from the same records."""
        made = self._before.targets.get(name)
        if made is None or made.fingerprint != fingerprint or not self._lies_there(name, made):
            return False
        self._targets[name] = made
        return True

    def _lies_there(self, name: str, made: Made) -> bool:
        path = target_path(self._folder, name, made.sha256)
        return path.exists() and path.stat().st_size == made.length

    def _seal(self, name: str, plain: bytes, about: Made = _NOTHING_MORE, key: bytes | None = None) -> None:
        """Keep the sealed target where its content and key are the same, else make it anew."""
        key = key or self._site.site_key
        digest = hashlib.sha256(site_key_id(key) + plain).digest()
        about = msgspec.structs.replace(about, digest=digest)
        made = self._before.targets.get(name)
        if made is not None and made.digest == digest and self._lies_there(name, made):
            kept = msgspec.structs.replace(about, sha256=made.sha256, length=made.length)
            self._targets[name] = kept
        else:
            self._write(name, seal_target(key, self._site.site, name, plain), about)

    def _write(self, name: str, data: bytes, about: Made) -> None:
        made = listed(data) if self._dry_run else write_target(self._folder, name, data)
        self.written.append(name)
        self._targets[name] = msgspec.structs.replace(about, sha256=made.sha256, length=made.length)


def listed(data: bytes) -> Made:
    """What TUF lists of a target."""
    return Made(hashlib.sha256(data).hexdigest(), len(data))


def settle(folder: Path, targets: Mapping[str, Made], names: Iterable[str]) -> None:
    """The targets of these names are on the disk when this returns: before anything is signed over them.

    Raises:
        AdminError: the disk refuses.
    """
    try:
        make_durable([target_path(folder, name, targets[name].sha256) for name in names])
    except OSError as error:
        raise AdminError(f"{error.filename or folder}: {error.strerror}") from None


def write_target(folder: Path, name: str, data: bytes) -> Made:
    """Put a target's bytes in their place, whole or not at all; `settle` is the caller's.

    Raises:
        AdminError: the disk refuses.
    """
    made = listed(data)
    path = target_path(folder, name, made.sha256)
    make_private_folder(path.parent)
    part = path.with_name(f".{path.name}")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise AdminError(f"{path}: {error.strerror}") from None
    return made


def _templates(person: Person) -> list[Template]:
    """As float32; float16 and back loses nothing more."""
    return [
        Template(
            person.subject,
            np.frombuffer(row.vector[: len(row.vector) // 2 * 2], "<f2").astype(np.float32),
            row.model,
            row.enrolled_at_utc,
        )
        for row in person.templates
    ]


def _holder(person: Person) -> Holder:
    """A person's rights and cards. Raises ConfigError: not as `rights.yaml` would take them."""
    text = msgspec.to_builtins(person, builtin_types=(bytes,))
    fields = {name: text[name] for name in _HOLDER_FIELDS if text.get(name) not in (None, [])}
    if text.get("doors") == []:  # no door at all must not become every door
        fields["doors"] = []
    cards = [[card.digest, card.enabled, card.expires_at] for card in person.cards]
    return convert({**fields, "subject": person.subject, "cards": cards}, Holder, f"person {person.subject}")


def _rights_site(site: Site, shards: int, records: Records) -> RightsSite:
    """What holds for all. Raises ConfigError: not as `rights.yaml` would take it."""
    text: dict[str, object] = {
        "format": FORMAT,
        "shards": shards,
        "time_zone": site.time_zone,
        "holidays": site.holidays,
        "schedules": {n: msgspec.to_builtins(s)["periods"] for n, s in records.all(Schedule).items()},
        "groups": msgspec.to_builtins(records.all(Group)),
        "others": site.others,
        "free_access": msgspec.to_builtins(site.free_access),
        "mode": site.mode,
    }
    return convert(text, RightsSite, "rights")
