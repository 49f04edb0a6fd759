"""`doord admin`: a site's people, doors and what is published to them."""

from __future__ import annotations

import argparse

from edge.cli_admin_bridge import bridge_parser
from edge.cli_admin_collect import collect_parser
from edge.cli_admin_common import Parsers
from edge.cli_admin_doors import doors_parser
from edge.cli_admin_enrol import enrol_parser
from edge.cli_admin_people import people_parser
from edge.cli_admin_publish import publish_parser
from edge.cli_admin_site import site_parser


def admin_parser(sub: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """Add the commands of `doord admin`."""
    actions = sub.add_subparsers(required=True, metavar="COMMAND")
    parsers = Parsers(shared)
    for add in (
        site_parser,
        doors_parser,
        people_parser,
        enrol_parser,
        publish_parser,
        bridge_parser,
        collect_parser,
    ):
        add(actions, parsers)
