"""`doord admin person | group | schedule | card`: who there is, and what they may."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.cli_admin_common import (
    Actions,
    Parsers,
    dry_run,
    now_local,
    now_utc,
    opened,
    show,
    write_file,
)
from edge.cli_card import moment
from edge.cli_common import read_file, say, say_json, tell
from edge.errors import AdminError

if TYPE_CHECKING:
    from edge.admin.model import Period, Person

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FIELDS = ("name", "groups", "doors", "schedule", "from_", "until", "consent", "reason", "retain_until")
_PERSON = ("subject", "name", "enabled", "templates", "cards", "groups", "from", "until", "retain_until")


def people_parser(actions: Actions, parsers: Parsers) -> None:
    """Add person, group, schedule and card."""
    _person_parser(parsers.group(actions, "person", "who there is"), parsers)
    _card_parser(parsers.group(actions, "card", "who has which card"), parsers)
    group = parsers.group(actions, "group", "limits that several people share")
    sub = parsers.add(group, "set", _set_group, "make or change a group")
    sub.add_argument("name", metavar="ID")
    _limits(sub)
    parsers.add(group, "list", _list_groups, "all groups")
    sub = parsers.add(group, "remove", _forget, "forget a group that nobody is in")
    sub.add_argument("name", metavar="ID")
    sub.set_defaults(kind="group")
    schedule = parsers.group(actions, "schedule", "periods of a week")
    sub = parsers.add(schedule, "set", _set_schedule, "make or change a schedule")
    sub.add_argument("name", metavar="ID")
    sub.add_argument("periods", nargs="+", metavar="PERIOD", help="mon-fri,holiday/07:00-19:00")
    parsers.add(schedule, "list", _list_schedules, "all schedules")
    sub = parsers.add(schedule, "remove", _forget, "forget a schedule that nobody has")
    sub.add_argument("name", metavar="ID")
    sub.set_defaults(kind="schedule")


def _person_parser(person: Actions, parsers: Parsers) -> None:
    for name, run, words in (
        ("add", _add, "a new person; nothing reaches a door before a push"),
        ("edit", _edit, "change what is known of a person; an empty value ('') clears it"),
    ):
        sub = parsers.add(person, name, run, words)
        sub.add_argument("subject", metavar="ID", help="1 to 32 of a-z, 0-9 and -: all that doors ever know")
        sub.add_argument("--name")
        sub.add_argument("--group", action="append", dest="groups", metavar="ID")
        _limits(sub)
        sub.add_argument("--consent", metavar="REFERENCE")
        sub.add_argument("--reason", metavar="WHY")
        sub.add_argument("--retain-until", metavar="DATE", help="to be removed from then on")
        sub.add_argument("--extended-release", action=argparse.BooleanOptionalAction, default=None)
    for name, words in (
        ("disable", "no door opens for these people, until they are enabled"),
        ("enable", "let them in again"),
        ("remove", "forget people; `receipts` tells when every door has"),
    ):
        sub = parsers.add(person, name, _change, words)
        sub.add_argument("subjects", nargs="+", metavar="ID")
        sub.set_defaults(change=name)
    sub = parsers.add(person, "list", _list, "everybody")
    sub.add_argument("--csv", action="store_true", help="in the form that import reads")
    sub.add_argument("--past-retention", action="store_true", help="who should be removed by now")
    parsers.add(person, "show", _show, "one person").add_argument("subject", metavar="ID")
    sub = parsers.add(person, "import", _import, "take people from a CSV file: all rows or none")
    sub.add_argument("file", nargs="?", type=Path, metavar="CSV")
    sub.add_argument("--template", action="store_true", help="print the header row")
    sub.add_argument("--update", action="store_true", help="also change people who are there")
    dry_run(sub)
    sub = parsers.add(person, "export", _export, "all that is stored about one person, as one JSON file")
    sub.add_argument("subject", metavar="ID")
    sub.add_argument("file", type=Path)


def _card_parser(card: Actions, parsers: Parsers) -> None:
    sub = parsers.add(card, "add", _add_card, "give a card to a person")
    sub.add_argument("subject", metavar="ID")
    sub.add_argument("number", metavar="N", help="as typed, or FACILITY-NUMBER of a Wiegand card")
    sub.add_argument("--format", default="wedge", help="wedge (default), wiegand26, wiegand34, wiegand37")
    sub.add_argument("--expires", metavar="TIME", help="RFC 3339 with offset: 2026-12-31T18:00:00Z")
    sub.add_argument("--disabled", action="store_true", help="enable it later")
    parsers.add(card, "list", _list_cards, "who has a card")
    for change, words in (
        ("remove", "forget cards"),
        ("disable", "let cards open nothing"),
        ("enable", "let them count again"),
    ):
        sub = parsers.add(card, change, _change_cards, words)
        sub.add_argument("ids", nargs="+", metavar="CARD", help="from doord admin card list")
        sub.set_defaults(change=change)


def _limits(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--door", action="append", dest="doors", metavar="ID", help="only these doors")
    sub.add_argument("--schedule", metavar="ID", help="only when it is open")
    sub.add_argument("--from", dest="from_", metavar="DATE", help="2026-01-01 or 2026-01-01T08:00")
    sub.add_argument("--until", metavar="DATE", help="that day is the last")


def _told(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """The fields that were given; '' clears one."""
    found = {}
    for name in names:
        value = getattr(options, name, None)
        if value is None:
            continue
        if isinstance(value, list):
            kept = [one for one in value if one]
            found[name] = kept if kept or name != "doors" else None
        else:
            found[name] = value if value or name in ("name", "consent", "reason") else None
    return found


# People


def _add(options: argparse.Namespace) -> int:
    from edge.admin import people
    from edge.admin.model import Person

    fields = _told(options, _FIELDS)
    with opened(options) as site:
        extended = bool(options.extended_release)
        person = Person(subject=options.subject, added_at_utc=now_utc(), extended_release=extended, **fields)
        people.add(site.records, person)
    tell(options, f"{person.subject}: added; doord admin enrol {person.subject} PHOTO…", added=person.subject)
    return 0


def _edit(options: argparse.Namespace) -> int:
    from edge.admin import people

    changes = _told(options, _FIELDS)
    if options.extended_release is not None:
        changes["extended_release"] = options.extended_release
    if not changes:
        raise AdminError("expected something to change, got nothing: see doord admin person edit --help")
    with opened(options) as site:
        people.edit(site.records, options.subject, changes)
    tell(options, f"{options.subject}: changed", changed=options.subject)
    return 0


def _change(options: argparse.Namespace) -> int:
    from edge.admin import people

    with opened(options) as site, site.records.transaction():
        for subject in options.subjects:
            if options.change == "remove":
                people.remove(site.records, subject, now_utc())
            else:
                people.edit(site.records, subject, {"enabled": options.change == "enable"})
    for subject in options.subjects:
        tell(options, f"{subject}: {options.change}d; push to tell the doors", subject=subject)
    return 0


def _list(options: argparse.Namespace) -> int:
    from edge.admin.csv_file import write_table
    from edge.admin.model import Person
    from edge.admin.people import past_retention

    with opened(options) as site:
        everybody = list(site.records.all(Person).values())
        if options.past_retention:
            everybody = past_retention(everybody, now_local(site))
    if options.csv:
        say(write_table(everybody).rstrip("\r\n"))
        return 0
    show(options, _PERSON, [_row(one) for one in everybody])
    return 0


def _row(one: Person) -> tuple[object, ...]:
    counts = len(one.templates), len(one.cards)
    return (one.subject, one.name, one.enabled, *counts, one.groups, one.from_, one.until, one.retain_until)


def _show(options: argparse.Namespace) -> int:
    from edge.admin import people

    with opened(options) as site:
        person = people.find(site.records, options.subject)
    cards = [{"card": card.id, "enabled": card.enabled} for card in person.cards]
    templates = [
        {"model": one.model, "enrolled_at_utc": one.enrolled_at_utc, "photo": one.photo, **one.quality}
        for one in person.templates
    ]
    facts = dict(zip(_PERSON, _row(person), strict=True))
    facts |= {name: getattr(person, name) for name in ("doors", "schedule", "extended_release")}
    facts |= {name: getattr(person, name) for name in ("consent", "reason", "added_at_utc")}
    if options.json:
        say_json({**facts, "templates": templates, "cards": cards})
        return 0
    show(options, ("what", "value"), list(facts.items()))
    for kind, rows in (("template", templates), ("card", cards)):
        say(*(f"{kind}: " + ", ".join(f"{k} {v}" for k, v in row.items()) for row in rows))
    return 0


def _import(options: argparse.Namespace) -> int:
    from edge.admin import csv_file, people

    if options.template:
        say(csv_file.HEADER)
        return 0
    if options.file is None:
        raise AdminError("expected a CSV file or --template, got neither")
    entries = csv_file.read_table(read_file(options.file, AdminError), str(options.file))
    with opened(options) as site:
        done = people.import_people(
            site.records, entries, options.update, now_utc(), str(options.file), keep=not options.dry_run
        )
    words = f"{len(done.added)} added, {len(done.changed)} changed"
    tell(options, f"would be: {words}" if options.dry_run else words, added=done.added, changed=done.changed)
    return 0


def _export(options: argparse.Namespace) -> int:
    from edge.admin.people import everything_about

    with opened(options) as site:
        data = everything_about(site.records, options.subject)
    write_file(options.file, data)
    tell(options, f"{options.file}: all that is stored about {options.subject}", bytes=len(data))
    return 0


# Cards


def _add_card(options: argparse.Namespace) -> int:
    from edge.admin import people
    from edge.identity.credentials import card_text

    card, expires = card_text(options.format, options.number), moment(options.expires)
    with opened(options) as site:
        made = people.give_card(site.records, options.subject, card, not options.disabled, expires)
    tell(options, f"{options.subject}: card {made.id}", subject=options.subject, card=made.id)
    return 0


def _list_cards(options: argparse.Namespace) -> int:
    from edge.admin.model import Person

    with opened(options) as site:
        rows = [
            (card.id, subject, card.enabled, card.expires_at)
            for subject, one in site.records.each(Person)
            for card in one.cards
        ]
    show(options, ("card", "subject", "enabled", "expires_at"), rows)
    return 0


def _change_cards(options: argparse.Namespace) -> int:
    from edge.admin import people

    with opened(options) as site, site.records.transaction():
        changed = [people.change_card(site.records, card_id, options.change) for card_id in options.ids]
    for subject, card in changed:
        tell(options, f"{subject}: card {card.id} {options.change}d", subject=subject, card=card.id)
    return 0


# Groups and schedules


def _set_group(options: argparse.Namespace) -> int:
    from edge.admin import people
    from edge.admin.model import Group

    fields = _told(options, ("doors", "schedule", "from_", "until"))
    with opened(options) as site:
        people.put_group(site.records, options.name, Group(**fields))
    tell(options, f"group {options.name}: set", group=options.name)
    return 0


def _list_groups(options: argparse.Namespace) -> int:
    from edge.admin.model import Group, Person

    with opened(options) as site:
        members = [one for person in site.records.all(Person).values() for one in person.groups]
        rows = [
            (name, members.count(name), one.doors, one.schedule, one.from_, one.until)
            for name, one in site.records.all(Group).items()
        ]
    show(options, ("group", "people", "doors", "schedule", "from", "until"), rows)
    return 0


def _set_schedule(options: argparse.Namespace) -> int:
    from edge.admin import people
    from edge.admin.model import Schedule

    periods = [_period(text) for text in options.periods]
    with opened(options) as site:
        people.put_schedule(site.records, options.name, Schedule(periods))
    tell(options, f"schedule {options.name}: set", schedule=options.name)
    return 0


def _period(text: str) -> Period:
    """`mon-fri,holiday/07:00-19:00`."""
    from edge.admin.model import Period

    found = re.fullmatch(r"([a-z,-]+)/([0-9:]+)-([0-9:]+)", text)
    days = [day for part in found[1].split(",") for day in _days(part)] if found else []
    if found is None or not all(days):
        raise AdminError(f"schedule: expected periods such as mon-fri,holiday/07:00-19:00, got {text!r:.60}")
    return Period(days, found[2], found[3])


def _days(part: str) -> list[Any]:
    if part == "holiday" or part in _DAYS:
        return [part]
    first, _, last = part.partition("-")
    if first in _DAYS and last in _DAYS and _DAYS.index(first) <= _DAYS.index(last):
        return list(_DAYS[_DAYS.index(first) : _DAYS.index(last) + 1])
    return [""]


def _list_schedules(options: argparse.Namespace) -> int:
    from edge.admin.model import Schedule

    with opened(options) as site:
        rows = [
            (name, [f"{','.join(p.days)}/{p.from_}-{p.until}" for p in one.periods])
            for name, one in site.records.all(Schedule).items()
        ]
    show(options, ("schedule", "periods"), rows)
    return 0


def _forget(options: argparse.Namespace) -> int:
    from edge.admin import people
    from edge.admin.model import Group, Schedule

    kind = Group if options.kind == "group" else Schedule
    with opened(options) as site:
        people.forget(site.records, kind, options.name)
    tell(options, f"{options.kind} {options.name}: removed", **{options.kind: options.name})
    return 0
