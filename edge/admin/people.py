"""People, groups, schedules and cards of a site: every change is checked before it is kept.

What would contradict the rest as `rights.yaml` must not contradict itself is refused with its path.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.admin.checks import Population, vectors_of
from edge.admin.csv_file import MAX_CELL, Entry, moment
from edge.admin.model import (
    Accepted,
    Card,
    Checked,
    Group,
    Limits,
    Person,
    Removal,
    Schedule,
    Site,
)
from edge.admin.records import Records
from edge.errors import AdminError, ConfigError, TableError
from edge.identity.credentials import card_digest, card_id
from edge.identity.gallery import check_subject
from edge.identity.rights_file import SiteText, SubjectText, resolve
from edge.strict import convert

T = TypeVar("T")

_LIMITS = {"doors": "doors", "schedule": "schedule", "from": "from_", "until": "until"}
_RIGHTS = {**_LIMITS, "groups": "groups", "enabled": "enabled", "extended_release": "extended_release"}
"""Key of `rights.yaml` -> field of a record."""


def find(records: Records, subject: str) -> Person:
    """One person. Raises AdminError: nobody of that id."""
    person = records.get(Person, subject)
    if person is None:
        raise AdminError(f"person {subject!r:.40}: is not there: see doord admin person list")
    return person


def add(records: Records, person: Person) -> Person:
    """A new person. Raises AdminError: there already, removed but not yet pushed, or a contradiction."""
    with records.transaction():
        there = records.get(Person, person.subject) is not None
        _check_new(person.subject, there, _leaving(records))
        check(records, [person])
        records.put(person.subject, person)
    return person


def edit(records: Records, subject: str, changes: Mapping[str, Any]) -> Person:
    """Give a person's record other fields. Raises AdminError: nobody of that id, or a contradiction."""
    with records.transaction():
        person = msgspec.structs.replace(find(records, subject), **changes)
        check(records, [person])
        records.put(subject, person)
    return person


def remove(records: Records, subject: str, now_utc: str) -> Removal:
    """Forget a person; the receipt is due when every door has. Raises AdminError: nobody of that id."""
    with records.transaction():
        person = find(records, subject)
        records.delete(Person, subject)
        for pair in records.revisions(Accepted):
            if subject in pair.split("+"):
                records.delete(Accepted, pair)
        removal = Removal(subject, now_utc, added_at_utc=person.added_at_utc)
        records.put(f"{now_utc} {subject}", removal)
    return removal


def _check_new(subject: str, there: bool, leaving: Container[str]) -> None:
    check_subject(subject)
    if there:
        raise AdminError(f"person {subject}: is there already: see doord admin person edit")
    if subject in leaving:
        raise AdminError(f"person {subject}: was removed, but not yet at the doors: push first")


def _leaving(records: Records) -> frozenset[str]:
    """Who was removed, but not yet at the doors."""
    return frozenset(one.subject for _, one in records.each(Removal) if one.version is None)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]


def import_people(
    records: Records,
    entries: Sequence[Entry],
    update: bool,
    now_utc: str,
    where: str,
    keep: bool = True,
) -> Imported:
    """Take all rows or none; `update` also changes people who are there, in the columns of the file.

    Unless `keep`, it is only tried.

    Raises:
        TableError: one line for every row that can't be taken.
    """
    added: list[str] = []
    changed: list[str] = []
    mistakes: list[str] = []
    with records.transaction():
        there, leaving = records.some(Person, [entry.subject for entry in entries]), _leaving(records)
        people, card_key = [], records.site().card_key
        for entry in entries:
            try:
                if not (update and entry.subject in there):
                    _check_new(entry.subject, entry.subject in there, leaving)
                people.append(_taken(entry, there.get(entry.subject), card_key, now_utc))
                (changed if entry.subject in there else added).append(entry.subject)
            except AdminError as error:
                mistakes.append(f"{where}: row {entry.row}: {error}")
        mistakes += _contradictions(records, people, {entry.subject: entry.row for entry in entries}, where)
        if mistakes:
            raise TableError("\n".join(mistakes))
        for person in people if keep else ():
            records.put(person.subject, person)
    return Imported(tuple(added), tuple(changed))


def _taken(entry: Entry, there: Person | None, card_key: bytes, now_utc: str) -> Person:
    person = msgspec.structs.replace(there or Person(added_at_utc=now_utc), **entry.fields)
    if entry.card is None:
        return person
    digest = card_digest(card_key, entry.card)
    if any(card.digest == digest for card in person.cards):
        return person
    return msgspec.structs.replace(person, cards=[*person.cards, Card(digest)])


def _contradictions(
    records: Records, people: Sequence[Person], rows: Mapping[str, int], where: str
) -> list[str]:
    """All at once where all is well; else one by one, so that each gets its line."""
    try:
        check(records, people)
        return []
    except AdminError as error:
        whole = str(error)
    text, found = rights_text(records), []
    for person in people:
        try:
            _resolve(text, [person])
        except AdminError as error:
            found.append(f"{where}: row {rows[person.subject]}: {error}")
    return found or [f"{where}: {whole}"]


# What holds together


def rights_text(records: Records) -> SiteText:
    """What holds for all, as `rights.yaml` would say it. Raises AdminError."""
    site, schedules = records.site(), records.all(Schedule)
    plain = {
        "time_zone": site.time_zone,
        "holidays": site.holidays,
        "schedules": {name: msgspec.to_builtins(one)["periods"] for name, one in schedules.items()},
        "groups": {name: _some(one, _LIMITS) for name, one in records.all(Group).items()},
        "others": site.others or None,
        "free_access": [_some(one, _LIMITS) for one in site.free_access],
        "mode": site.mode,
    }
    return _converted(plain, SiteText, "rights")


def check(records: Records, people: Iterable[Person]) -> None:
    """Whether these people go with groups, schedules and each other's cards. Raises AdminError."""
    everyone = list(people)
    for person in everyone:
        _check_texts(person)
    _resolve(rights_text(records), everyone)
    _check_cards(records, everyone)


def _check_texts(person: Person) -> None:
    """What no door hears of. Raises AdminError."""
    where = f"person {person.subject}"
    for field in ("name", "consent", "reason"):
        text = getattr(person, field)
        if len(text) > MAX_CELL or not text.isprintable():
            raise AdminError(
                f"{where}: {field}: expected at most {MAX_CELL} printable characters, got others"
            )
    try:
        moment(person.retain_until or "")
    except ValueError as error:
        raise AdminError(
            f"{where}: retain_until: expected {error}, got {person.retain_until!r:.60}"
        ) from None


def check_all(records: Records) -> None:
    """The same of everybody, after groups or schedules have changed. Raises AdminError."""
    check(records, records.all(Person).values())


def _resolve(text: SiteText, people: Iterable[Person]) -> None:
    texts = {
        one.subject: _converted(_some(one, _RIGHTS), SubjectText, f"person {one.subject}") for one in people
    }
    try:
        resolve(text, texts, "rights")
    except ConfigError as error:
        raise AdminError(str(error)) from None


def _converted(plain: dict[str, Any], to: type[T], where: str) -> T:
    try:
        return convert(plain, to, where)
    except ConfigError as error:
        raise AdminError(str(error)) from None


def _some(record: Limits, keys: Mapping[str, str]) -> dict[str, Any]:
    """The keys that say something: an empty list is no list in `rights.yaml`."""
    plain = {key: getattr(record, field) for key, field in keys.items()}
    return {key: value for key, value in plain.items() if value not in (None, [])}


def _check_cards(records: Records, people: Sequence[Person]) -> None:
    """A card opens for one person. Raises AdminError."""
    wanted = [(card.digest, person.subject) for person in people for card in person.cards]
    if not wanted:
        return
    changed = {person.subject for person in people}
    owners = {
        card.digest: subject
        for subject, person in records.each(Person)
        if subject not in changed
        for card in person.cards
    }
    for digest, subject in wanted:
        other = owners.setdefault(digest, subject)
        if other != subject:
            raise AdminError(f"person {subject}: card {card_id(digest)}: is {other}'s: remove it there first")


# Groups and schedules


def put_group(records: Records, name: str, group: Group) -> None:
    """Make or change a group. Raises AdminError: no id, or people contradict it."""
    with records.transaction():
        records.put(check_subject(name), group)
        check_all(records)


def put_schedule(records: Records, name: str, schedule: Schedule) -> None:
    """Make or change a schedule. Raises AdminError: no id, it never opens, or people contradict it."""
    with records.transaction():
        records.put(check_subject(name), schedule)
        check_all(records)


def forget(records: Records, kind: type[Group] | type[Schedule], name: str) -> None:
    """Delete a group or schedule. Raises AdminError: not there, or still somebody's."""
    with records.transaction():
        if not records.delete(kind, name):
            raise AdminError(f"{kind.__name__.lower()} {name!r:.40}: is not there")
        check_all(records)


# Cards


def give_card(records: Records, subject: str, card: str, enabled: bool, expires_at: int | None) -> Card:
    """Give a card (its `card_text`) to a person; `expires_at`: s since 1970. Raises AdminError."""
    made = Card(card_digest(records.site().card_key, card), enabled, expires_at)
    person = find(records, subject)
    others = [one for one in person.cards if one.digest != made.digest]
    edit(records, subject, {"cards": [*others, made]})
    return made


def change_card(records: Records, wanted: str, change: str) -> tuple[str, Card]:
    """Remove, enable or disable the card of id `wanted`; whose it is, and it. Raises AdminError: none is."""
    for subject, person in records.all(Person).items():
        for card in person.cards:
            if card.id == wanted:
                rest = [one for one in person.cards if one is not card]
                new = msgspec.structs.replace(card, enabled=change == "enable")
                edit(records, subject, {"cards": rest if change == "remove" else [*rest, new]})
                return subject, card if change == "remove" else new
    raise AdminError(f"card {wanted!r:.40}: is not there: see doord admin card list")


# Templates


def population_of(site: Site, everybody: Iterable[Person]) -> Population:
    """All who have templates. Raises AdminError: a template is damaged, or not of the site's models."""
    return Population.of([(one.subject, _vectors(site, one)) for one in everybody])


def _vectors(site: Site, person: Person) -> NDArray[np.float32]:
    templates = [one for one in person.templates if one.model == site.model]
    return vectors_of(templates, site.dimension, f"person {person.subject}")


# What is kept of one person


def past_retention(people: Iterable[Person], now_local: str) -> list[Person]:
    """Who should be removed by now; `now_local`: the site's time, `2026-12-31T12:00`."""
    return [one for one in people if one.retain_until is not None and one.retain_until <= now_local]


def everything_about(records: Records, subject: str) -> bytes:
    """All that is stored about one person, as JSON; vectors and digests in base64.

    Raises AdminError: nothing is.
    """
    person = records.get(Person, subject)
    removals = [one for one in records.all(Removal).values() if one.subject == subject]
    accepted = {id_: one for id_, one in records.all(Accepted).items() if subject in id_.split("+")}
    if person is None and not removals:
        raise AdminError(f"person {subject!r:.40}: nothing is stored here")
    pairs = [pair for one in records.all(Checked).values() for pair in one.pairs]
    alike = [pair for pair in pairs if subject in (pair.one, pair.other)]
    found = {"person": person, "removals": removals, "lookalikes": alike, "accepted": accepted}
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
