"""`doord admin collect | collector-files`: what all doors report, in one place that keeps it."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cli_admin_common import STORE, Actions, Parsers, folder, now, opened, show
from edge.cli_common import say, say_json, tell
from edge.errors import AdminError
from edge.log_view import printable

_MAX_DAYS = 36500

if TYPE_CHECKING:
    from edge.admin.collector import Roster
    from edge.admin.store import Finding


def collect_parser(actions: Actions, parsers: Parsers) -> None:
    """Add collect, collect-accept and collector-files."""
    sub = parsers.add(actions, "collect", _collect, "store what all doors report, until it is stopped")
    _place(sub)
    sub.add_argument(
        "--keep-days", type=int, metavar="N", help="delete events that were stored earlier (default: never)"
    )
    sub.add_argument("--jsonl", type=Path, metavar="DIR", help="lines of JSON as well, a file a day")
    sub.add_argument("--once", action="store_true", help="what is there now, and end")
    sub.add_argument(
        "--status", action="store_true", help="only say what was collected; exit 1: something is missing"
    )
    words = "what is missing of a door, and its forks, as of now are known and count as wrong no more"
    sub = parsers.add(actions, "collect-accept", _accept, words)
    _place(sub)
    sub.add_argument("door", metavar="DOOR")
    sub.add_argument("--by", required=True, metavar="NAME", help="who accepts it")
    sub.add_argument("--why", required=True, metavar="TEXT", help="the reason, or where it can be read")
    words = "what a machine needs that only collects; again after doors were added"
    parsers.add(actions, "collector-files", _files, words).add_argument("folder", type=Path)


def _place(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--as", dest="as_", type=Path, metavar="DIR", help="what collector-files wrote, no passphrase"
    )
    sub.add_argument("--store", type=Path, metavar="FILE", help=f"in a folder of its own (default {STORE})")


def _path(options: argparse.Namespace) -> Path:
    found: Path = options.store or (options.as_ or folder(options)) / STORE
    return found


def _collect(options: argparse.Namespace) -> int:
    """0: nothing was found to be wrong; 1: something was, and with --status: something is missing."""
    path = _path(options)
    return _status(options, path) if options.status else _run(options, path)


def _run(options: argparse.Namespace, path: Path) -> int:
    from edge.admin.collect import Collector
    from edge.admin.folder import RECORDS
    from edge.admin.jsonl import JsonLines
    from edge.admin.store import EventStore
    from edge.disk import StateLock, make_private_folder
    from edge.journal import start_logging

    start_logging()
    if options.keep_days is not None and not 1 <= options.keep_days <= _MAX_DAYS:
        raise AdminError(f"--keep-days: expected 1 to {_MAX_DAYS}, got {options.keep_days}")
    if (path.parent / RECORDS).exists():
        raise AdminError(f"{path}: expected a folder of its own, which this holds, got the site's")
    roster = _roster(options)
    lines = JsonLines(options.jsonl) if options.jsonl else None
    make_private_folder(path.parent)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    found: list[Finding] = []

    def tell_finding(finding: Finding) -> None:
        found.append(finding)
        del found[1:]  # one is enough for the exit code
        words = f"{finding.at}  {finding.door}  {finding.kind}: {finding.detail}"
        say_json(finding) if options.json else say(printable(words))
        sys.stdout.flush()  # under systemd it is no terminal, and a finding is of now

    with StateLock(path.parent), EventStore(path, roster.site) as store:
        Collector(roster, store, tell_finding, lines, options.keep_days).run(stopping, options.once)
    return int(bool(found) and options.once)


def _roster(options: argparse.Namespace) -> Roster:
    from edge.admin.collector import FolderRoster, SiteRoster
    from edge.admin.folder import RECORDS
    from edge.admin.keystore import SITE_VARIABLE, ask_passphrase

    if options.as_:
        return FolderRoster(options.as_)
    where = folder(options)
    if not (where / RECORDS).exists():
        raise AdminError(f"{where}: expected a site, got none: name another --dir, or a collector's --as DIR")
    return SiteRoster(where, ask_passphrase(SITE_VARIABLE, f"the keys in {where}"))


def _status(options: argparse.Namespace, path: Path) -> int:
    from edge.admin.collected import Collected

    with Collected(path) as store:
        rows = store.status(now())
    header = ("door", "chain", "from", "to", "signed", "missing", "explained", "accepted", "forks")
    show(options, (*header, "silent_since"), [astuple(row) for row in rows])
    return int(any(row.missing or row.silent_since or row.forks for row in rows))


def _accept(options: argparse.Namespace) -> int:
    from edge.admin.collected import Collected
    from edge.admin.keeping import accept
    from edge.admin.store import EventStore

    path = _path(options)
    with Collected(path) as there:
        site = there.site
    with EventStore(path, site) as store:  # beside the collector, which writes it
        detail = accept(store, options.door, options.by, options.why, now())
    tell(options, f"accepted: {detail}", door=options.door, accepted=detail)
    return 0


def _files(options: argparse.Namespace) -> int:
    from edge.admin.collector import write_collector_files

    with opened(options) as site:
        written = [str(path) for path in write_collector_files(site, options.folder, now())]
    say_json(written) if options.json else say(*written, "note: ack.key and collector.key are secret")
    return 0
