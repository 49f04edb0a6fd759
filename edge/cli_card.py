"""`doord card`, and what `doord check-config` says about rights and cards."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from edge.cli_common import configured, say, say_json, tell
from edge.config import Config
from edge.errors import CardError


def card_parser(sub: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """Add the actions of `doord card`."""
    actions = sub.add_subparsers(metavar="ACTION")
    listing = actions.add_parser("list", parents=[shared], help="who has a card")
    listing.set_defaults(run=list_cards)
    add = actions.add_parser("add", parents=[shared], help="give a card to a subject")
    add.add_argument("--subject", required=True, metavar="ID")
    add.add_argument(
        "--number", required=True, metavar="N", help="as typed, or FACILITY-NUMBER of a Wiegand card"
    )
    add.add_argument("--format", default="wedge", help="wedge (default), wiegand26, wiegand34, wiegand37")
    add.add_argument("--expires", metavar="TIME", help="RFC 3339 with offset: 2026-12-31T18:00:00Z")
    add.add_argument("--disabled", action="store_true", help="enable it later")
    add.set_defaults(run=_add)
    for change, words in (
        ("remove", "forget cards"),
        ("disable", "let cards open nothing"),
        ("enable", "let them count again"),
    ):
        action = actions.add_parser(change, parents=[shared], help=words)
        action.add_argument("ids", nargs="+", metavar="ID", help="from doord card list")
        action.set_defaults(run=_change, change=change)


def list_cards(options: argparse.Namespace) -> int:
    """`doord card list`."""
    from edge.tools.local import open_desk

    with ExitStack() as stack:
        rows = open_desk(configured(options), stack).cards()
    if options.json:
        say_json(rows)
        return 0
    say(f"{'card':12}  {'subject':32} enabled  expires")
    say(*(f"{r.id}  {r.subject:32} {'yes' if r.enabled else 'no':7}  {r.expires_at_utc or ''}" for r in rows))
    return 0


def _add(options: argparse.Namespace) -> int:
    from edge.identity.credentials import card_text
    from edge.tools.local import open_desk

    card, expires = card_text(options.format, options.number), moment(options.expires)
    with ExitStack() as stack:
        desk = open_desk(configured(options), stack)
        row = desk.add_card(options.subject, card, not options.disabled, expires)
        enrolled = any(r.subject == row.subject for r in desk.subjects())
    say_json(row) if options.json else say(f"{row.subject}: card {row.id}")
    if not enrolled and not options.json:
        say(f"note: {row.subject} is not enrolled: the card opens nothing that needs a face")
    return 0


def moment(text: str | None, where: str = "--expires") -> int | None:
    """RFC 3339 as s since 1970. Raises CardError."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError:
        at = datetime.min
    if at.tzinfo is None or not 2000 <= at.year <= 2999:
        raise CardError(f"{where}: expected a time such as 2026-12-31T18:00:00Z, got {text!r:.40}")
    return int(at.astimezone(timezone.utc).timestamp())


def _change(options: argparse.Namespace) -> int:
    from edge.tools.local import open_desk

    with ExitStack() as stack:
        desk = open_desk(configured(options), stack)
        rows = [desk.change_card(card_id, options.change) for card_id in options.ids]
    for row in rows:
        words = f"{row.subject}: card {row.id} {options.change}d"
        tell(options, words, subject=row.subject, card=row.id)
    return 0


def access_notes(config: Config) -> list[str]:
    """What an installer should know of rights and cards. Raises ConfigError: the rights' file."""
    from edge.access import checked_rights

    rights, notes = checked_rights(config), []
    if config.rights_file:
        notes.append(f"note: {Path(config.rights_file)}: {len(rights.subjects)} subjects: no mistake found")
    else:
        notes.append("note: no rights_file: everybody enrolled may enter always")
    if {"card", "card_or_face"} & {*config.modes}:
        readers = config.readers
        kinds = [
            words
            for reader, words in (
                (readers.wiegand, "a Wiegand card"),
                (readers.wedge, "what a keyboard types"),
            )
            if reader
        ]
        notes.append(f"warning: {' and '.join(kinds)} can be copied: a card alone opens this door at times")
    if config.readers.wiegand and len({*config.readers.wiegand.bits}) > 1:
        notes.append(
            "warning: readers.wiegand.bits: with several lengths a frame cut short may pass as a card"
        )
    return notes
