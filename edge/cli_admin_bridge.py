"""`doord admin bridge-files | bridge`: doors as locks in Home Assistant."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from edge.cli_admin_common import Actions, Parsers, now, opened
from edge.cli_admin_site import root_keys, roots
from edge.cli_common import say, say_json, tell


def bridge_parser(actions: Actions, parsers: Parsers) -> None:
    """Add bridge-files and bridge."""
    words = "what a machine needs that orders for Home Assistant; again: the doors of now"
    sub = parsers.add(actions, "bridge-files", _files, words)
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", type=Path, nargs="?", metavar="DIR")
    what.add_argument("--revoke", action="store_true", help="what was written counts no more")
    root_keys(sub)
    sub = parsers.add(actions, "bridge", _bridge, "show doors as locks in Home Assistant, and sign orders")
    sub.add_argument("folder", type=Path, metavar="DIR", help="of doord admin bridge-files")
    sub.add_argument("-v", "--verbose", action="store_true")


def _files(options: argparse.Namespace) -> int:
    from edge.admin.bridge_files import revoke_bridge, write_bridge_files
    from edge.admin.keystore import BRIDGE

    with opened(options) as site:
        first = BRIDGE not in site.keys.names
        keys = roots(options) if first or options.revoke else []
        if options.revoke:
            revoke_bridge(site, now(), keys)
            words = "bridge: revoked; doord admin republish, to tell the doors, and broker-files"
            tell(options, words, revoked=True)
            return 0
        written = [str(path) for path in write_bridge_files(site, options.folder, now(), keys)]
    if options.json:
        say_json(written)
        return 0
    say(*written, f"{options.folder}: who has it can order doors: move it to the bridge")
    say(*(["the bridge has a new key: doord admin republish, to tell the doors"] if first else []))
    return 0


def _bridge(options: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT."""
    from edge.admin.bridge import run
    from edge.admin.bridge_files import BridgeFolder
    from edge.journal import start_logging

    folder, stopping = BridgeFolder(options.folder), threading.Event()
    start_logging(options.verbose, "doord-bridge", SITE=folder.site)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    run(folder, stopping, now)
    return 0
