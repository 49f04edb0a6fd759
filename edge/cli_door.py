"""`doord door ...`: the door by hand, through the running daemon's socket."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec

from edge.cli_common import daemon_socket, say, say_json, tell

if TYPE_CHECKING:
    from edge.control import RemoteDesk


def door_parser(sub: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """The actions of `doord door`."""
    actions = sub.add_subparsers(metavar="ACTION")
    for name, words in (
        ("pulse", "release the door once, as a grant does"),
        ("lock", "lock now, and end free access until the next schedule"),
        ("lockdown", "lock now and let nobody in until `normal`; the exit button works; outlasts a restart"),
        ("normal", "end a lockdown or an `open`"),
    ):
        action = actions.add_parser(name, parents=[shared], help=words, description=words)
        action.set_defaults(run=_order, action=name, minutes=0.0)
    words = "free access for some minutes"
    opening = actions.add_parser("open", parents=[shared], help=words, description=words)
    opening.add_argument("minutes", type=float, help="0 to 1440")
    opening.set_defaults(run=_order, action="open")
    words = "what the door is"
    actions.add_parser("state", parents=[shared], help=words, description=words).set_defaults(run=state)
    words = "the door's table as a Mermaid diagram"
    actions.add_parser("diagram", parents=[shared], help=words, description=words).set_defaults(run=_diagram)


def _desk(options: argparse.Namespace) -> RemoteDesk | None:
    from edge.control import RemoteDesk

    desk = RemoteDesk.find(daemon_socket(options))
    if desk is None:
        print("doord is not running here", file=sys.stderr)  # noqa: T201  # the command's own voice
    return desk


def _order(options: argparse.Namespace) -> int:
    desk = _desk(options)
    if desk is None:
        return 2
    obeyed = desk.order(options.action, options.minutes)
    tell(options, "done" if obeyed else "not obeyed: see `doord door state`", obeyed=obeyed)
    return int(not obeyed)


def state(options: argparse.Namespace) -> int:
    """`doord door state`: 0 when it could be asked."""
    desk = _desk(options)
    if desk is None:
        return 2
    status = msgspec.json.decode(desk.status())
    found = {key: status[key] for key in ("mode", "lock", "dps", "alarms", "simulation")}
    if options.json:
        say_json(found)
        return 0
    for key, value in found.items():
        say(f"{key:14} {', '.join(value) or 'none' if isinstance(value, list) else value}")
    return 0


def _diagram(_options: argparse.Namespace) -> int:
    from edge.door.diagram import mermaid

    say(mermaid().rstrip("\n"))
    return 0
