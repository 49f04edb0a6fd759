"""`doord log` and `doord why`: the events of this door, or those that were collected of a site."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge.acting import as_owner
from edge.cli_admin_common import FOLDER, STORE, folder
from edge.cli_common import AddCommand, configured, say, say_json
from edge.config import DEFAULT_PATH, Config
from edge.errors import LogError, PayloadError
from edge.ledger_log import LedgerLog
from edge.link.details import Details, decode_details
from edge.link.wire import KINDS, decode_event
from edge.log_view import Entry, Log, Wanted, as_csv, as_json, lines, moment
from edge.why import explain

_LOOK_EVERY_S = 0.5
_COUNT = 20
_MOST = 1_000_000
_DIGITS = 15  # of an event's number; SQLite has no larger ones than 19


def log_commands(command: AddCommand, shared: argparse.ArgumentParser) -> None:
    """The two commands."""
    place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    place.add_argument("--store", type=Path, metavar="FILE", help="what `doord admin collect` stored")
    place.add_argument("--door", metavar="ID")
    chosen = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    words = "2h, 7d, 2026-11-22, 2026-11-22T08:30 (UTC, or with a zone)"
    chosen.add_argument("--since", metavar="TIME", help=words)
    chosen.add_argument("--until", metavar="TIME", help=words)
    chosen.add_argument(
        "--kind", action="append", metavar="KIND", help="such as AccessDenied; may come often"
    )
    actions = command("log", _none, "the door's record of events").add_subparsers(
        required=True, metavar="ACTION"
    )

    def action(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        parents = [shared, place] if run is _verify else [shared, place, chosen]
        sub: argparse.ArgumentParser = actions.add_parser(
            name, parents=parents, help=words, description=words
        )
        sub.set_defaults(run=run)
        return sub

    sub = action("tail", _tail, "the newest events")
    sub.add_argument("-n", type=int, default=_COUNT, metavar="COUNT", help=f"how many (default {_COUNT})")
    sub.add_argument("-f", "--follow", action="store_true", help="and then each as it comes")
    action("show", _show, "events, oldest first")
    action("export", _export, "the same for machines").add_argument(
        "--csv", action="store_true", help="not JSON lines"
    )
    action("verify", _verify, "the first record that is broken or missing, if there is any")

    sub = command("why", _why, "one event in plain words")
    sub.add_argument("event", metavar="EVENT", help="its id or number")
    sub.add_argument(
        "--store", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="of `doord admin collect`"
    )
    sub.add_argument("--door", default=argparse.SUPPRESS, metavar="ID")


def _none(_options: argparse.Namespace) -> int:
    raise AssertionError("argparse asks for an action")


@contextmanager
def _ledger(config: Config) -> Iterator[Log]:
    """This door's: SQLite makes files beside a ledger that it reads, and they must be the daemon's."""
    with as_owner(config), LedgerLog(config.events_path, config.door_id) as log:
        yield log


def opened_log(options: argparse.Namespace) -> AbstractContextManager[Log]:
    """This door's ledger; with --store, or where no door is configured, what was collected."""
    store: Path | None = getattr(options, "store", None)
    here = options.config is not None or (DEFAULT_PATH.exists() and FOLDER not in os.environ)
    if store is None and here:
        return _ledger(configured(options))
    from edge.admin.collected import Collected

    return Collected(store or folder(options) / STORE)


def _wanted(options: argparse.Namespace) -> Wanted:
    now = datetime.now(timezone.utc)
    times = {
        name: moment(getattr(options, name), now) for name in ("since", "until") if hasattr(options, name)
    }
    if len(times) == len(("since", "until")) and times["since"] > times["until"]:
        raise LogError(f"--since: expected a time before --until {times['until']}, got {times['since']}")
    for kind in sorted({*getattr(options, "kind", ())} - KINDS):  # not refused: a later doord may write it
        sys.stderr.write(f"doord: note: --kind {kind!r:.60}: no kind that this doord writes\n")
    return Wanted(**times, door=getattr(options, "door", None), kinds=frozenset(getattr(options, "kind", ())))


def _tail(options: argparse.Namespace) -> int:
    if not 1 <= options.n <= _MOST:
        raise LogError(f"-n: expected 1 to {_MOST}, got {options.n}")
    wanted = _wanted(options)
    with opened_log(options) as log:
        seen = log.end  # before: what comes meanwhile is told by the first look
        newest = log.last(wanted, options.n)
        _say_all(options, newest)
        sys.stdout.flush()
        seen = max([seen, *(entry.n for entry in newest)])
        while options.follow:
            time.sleep(_LOOK_EVERY_S)
            end = log.end
            for entry in log.select(wanted, seen):
                _say_all(options, [entry])
                seen = entry.n
            sys.stdout.flush()  # whoever reads this through a pipe follows too
            seen = max(seen, end)
    return 0


def _show(options: argparse.Namespace) -> int:
    with opened_log(options) as log:
        _say_all(options, log.select(_wanted(options)))
    return 0


def _say_all(options: argparse.Namespace, entries: Iterable[Entry]) -> None:
    for line in map(as_json, entries) if options.json else lines(entries):
        say(line)


def _export(options: argparse.Namespace) -> int:
    with opened_log(options) as log:
        entries = log.select(_wanted(options))
        told: Iterator[str] = as_csv(entries) if options.csv else map(as_json, entries)
        for line in told:
            say(line)
    return 0


def _verify(options: argparse.Namespace) -> int:
    """0: nothing is broken or missing; 1: something is."""
    flawed = False
    with opened_log(options) as log:
        for name, flaw in log.verify(getattr(options, "door", None)):
            flawed |= flaw is not None
            if options.json:
                say_json({"chain": name, "seq": flaw and flaw.seq, "what": flaw and flaw.what})
            else:
                say(
                    f"{name}: event {flaw.seq} {flaw.what}"
                    if flaw
                    else f"{name}: nothing is broken or missing"
                )
    return int(flawed)


def _why(options: argparse.Namespace) -> int:
    is_number = options.event.isdecimal() and len(options.event) <= _DIGITS
    which: str | int = int(options.event) if is_number else options.event
    with opened_log(options) as log:
        found = log.find(which, getattr(options, "door", None))
        details = log.details(which) if isinstance(log, LedgerLog) else None
    if not found:
        raise LogError(
            f"event {options.event!r:.60}: expected one that is here, got none of that id or number"
        )
    if len(found) > 1:
        doors = ", ".join(sorted({entry.door for entry in found}))
        raise LogError(
            f"event {options.event}: expected one, got {len(found)}, of {doors}: name its id, or --door"
        )
    known = None if details is None else decode_details(details)
    if options.json:
        say_json({**msgspec.json.decode(as_json(found[0])), "details": known})
    else:
        say(*_in_words(found[0], known))
    return 0


def _in_words(entry: Entry, known: Details | None) -> list[str]:
    """Of an event of a later doord what all events have."""
    try:
        return explain(decode_event(entry.payload), known)
    except PayloadError:
        return list(lines([entry]))
