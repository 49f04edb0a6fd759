"""`doord admin door | status | command | receipts`: the doors, what they report, and orders to them."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cli_admin_common import (
    Actions,
    Parsers,
    now,
    now_local,
    now_utc,
    opened,
    show,
    write_file,
)
from edge.cli_card import moment
from edge.cli_common import say, say_json, tell
from edge.errors import AdminError

if TYPE_CHECKING:
    from edge.admin.receipts import Receipt

_DO = ("unlock", "lock", "normal", "lockdown", "free-access", "sync", "identify-yourself", "restart")
_ANSWER_S, _MAX_WAIT_S = 5.0, 600.0


def doors_parser(actions: Actions, parsers: Parsers) -> None:
    """Add door, status, command and receipts."""
    door = parsers.group(actions, "door", "the doors of the site")
    sub = parsers.add(door, "add", _add, "a new door, and the one file that makes it part of the site")
    sub.add_argument("door", metavar="ID")
    sub.add_argument(
        "file", type=Path, metavar="FILE", help="made; copy it to the door, doord join, delete it"
    )
    sub.add_argument(
        "--card-and-face", action="store_true", help="no face alone opens it, so FPIR does not matter there"
    )
    parsers.add(door, "list", _list, "all doors")
    _status_parser(parsers.add(door, "status", _status, "which door runs which version"))
    words = "a door that is no longer ours: the site gets a new key, its certificate is revoked"
    parsers.add(door, "retire", _retire, words).add_argument("door", metavar="ID")
    _status_parser(parsers.add(actions, "status", _status, "which door runs which version, alarms, receipts"))
    sub = parsers.add(actions, "command", _command, "order doors to do something, and wait for their answers")
    sub.add_argument("do", choices=_DO, metavar="ORDER", help=", ".join(_DO))
    sub.add_argument("doors", nargs="*", metavar="DOOR")
    sub.add_argument("--all", action="store_true", help="every door that is not retired")
    sub.add_argument("--until", metavar="TIME", help="the end of free-access, RFC 3339, within 24 h")
    sub.add_argument("--wait", type=_wait_s, default=_ANSWER_S, metavar="S", help="for answers (default 5)")
    words = "which removed people are gone from every door, and which doors have not confirmed"
    parsers.add(actions, "receipts", _receipts, words).add_argument("subject", nargs="?", metavar="ID")


def _status_parser(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--accept-door", metavar="ID", help="its card was replaced: what it reports next is the measure"
    )


def _add(options: argparse.Namespace) -> int:
    from edge.admin.doors import add_door
    from edge.link.bundle import encode_bundle

    if os.path.lexists(options.file):
        raise AdminError(f"{options.file}: expected nothing there yet, got a file: nothing is overwritten")
    with ExitStack() as undo:  # no file, no door; and no file with keys of a door that nobody can retire
        with opened(options) as site, site.records.transaction():
            bundle = add_door(site, options.door, now(), not options.card_and_face)
            write_file(options.file, encode_bundle(bundle))
            undo.callback(options.file.unlink, missing_ok=True)
        undo.pop_all()
    words = f"{options.file}: holds the door's keys: copy it to the door, doord join, delete it; then push"
    tell(options, words, door=options.door, file=str(options.file))
    return 0


def _list(options: argparse.Namespace) -> int:
    from edge.admin.doors import doors

    with opened(options) as site:
        rows = [(one.door, one.face_only, one.added_at_utc, one.retired_at_utc) for one in doors(site)]
    show(options, ("door", "face_only", "added_at_utc", "retired_at_utc"), rows)
    return 0


def _retire(options: argparse.Namespace) -> int:
    from edge.admin.doors import retire_door

    with opened(options) as site:
        retire_door(site, options.door, now())
    words = (
        f"{options.door}: retired; now push, which seals everything anew, and doord admin broker-files, "
        "so that the broker refuses it"
    )
    tell(options, words, retired=options.door)
    return 0


def _status(options: argparse.Namespace) -> int:
    """0: no alarm; 1: an alarm, at one door at least."""
    from edge.admin import receipts, status
    from edge.admin.conversation import Conversation
    from edge.admin.model import Person, Publication
    from edge.admin.people import past_retention

    with opened(options) as site:
        records = site.records
        if options.accept_door:
            status.accept(records, options.accept_door)
        with Conversation(site.mqtt(), records.site().site) as talk:
            rows = status.site_status(talk, records, now())
        sound = {row.door: row.version for row in rows if row.version is not None and not row.alarms}
        found = receipts.confirm(records, sound, now_utc())
        newest = status.newest_version(records.all(Publication).values())
        late = [one.subject for one in past_retention(records.all(Person).values(), now_local(site))]
    if options.json:
        say_json({"newest": newest, "doors": rows, "receipts": found, "past_retention": late})
    else:
        say(*status.table(rows, newest), *_open_receipts(found))
        say(*(f"{subject}: past the retention date: doord admin person remove" for subject in late))
    return int(any(row.alarms for row in rows))


def _receipts(options: argparse.Namespace) -> int:
    """0: everybody named is gone from every door; 1: not yet."""
    from edge.admin import receipts

    with opened(options) as site:
        found = receipts.receipts(site.records)
    if options.subject is not None:
        found = [one for one in found if one.subject == options.subject]
        if not found:
            raise AdminError(f"person {options.subject!r:.40}: was not removed here")
    rows = [
        (r.subject, r.removed_at_utc, r.version, r.complete, list(r.confirmed), r.missing, r.retired)
        for r in found
    ]
    header = ("subject", "removed_at_utc", "version", "complete", "confirmed", "missing", "retired")
    say_json(found) if options.json else show(options, header, rows)
    return int(not all(one.complete for one in found))


def _open_receipts(found: list[Receipt]) -> list[str]:
    return [
        f"{one.subject}: removed, but not confirmed by {', '.join(one.missing)}"
        if one.version is not None
        else f"{one.subject}: removed, but not pushed"
        for one in found
        if not one.complete
    ]


def _command(options: argparse.Namespace) -> int:
    """0: every door has done it."""
    from edge.admin import command
    from edge.admin.conversation import Conversation
    from edge.admin.doors import doors

    if bool(options.doors) == options.all:
        raise AdminError("expected DOOR… or --all")
    until = _until(options.until)  # a mistake is told before anything is asked for
    with opened(options) as site:
        named = options.doors or [one.door for one in doors(site) if one.retired_at_utc is None]
        with Conversation(site.mqtt(), site.records.site().site) as talk:
            answers = command.send(
                talk,
                site.records,
                site.keys.signer("commands"),
                named,
                options.do,
                now,
                until,
                options.wait,
            )
    say_json(answers) if options.json else say(*command.table(answers))
    return int(any(answer.outcome != "done" for answer in answers))


def _wait_s(text: str) -> float:
    wait_s = float(text)
    if not 0 <= wait_s <= _MAX_WAIT_S:
        raise argparse.ArgumentTypeError(f"expected 0 to {_MAX_WAIT_S:g} s, got {text}")
    return wait_s


def _until(text: str | None) -> datetime | None:
    at = moment(text, "--until")
    return None if at is None else datetime.fromtimestamp(at, now().tzinfo)
