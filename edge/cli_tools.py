"""`doord doctor`: for who installs a door unit and who looks after it."""

from __future__ import annotations

import argparse

from edge.cli_common import AddCommand, say, say_json
from edge.config import DEFAULT_PATH


def tool_commands(command: AddCommand) -> None:
    """The commands."""
    command(
        "doctor",
        _doctor,
        "try every part of the unit; exit 0 all well, 1 warnings, 2 faults, 78 configuration",
    )


def _doctor(options: argparse.Namespace) -> int:
    from edge.tools.doctor.examine import examine
    from edge.tools.doctor.finding import exit_code

    found = []
    for finding in examine(options.config or DEFAULT_PATH):
        found.append(finding)
        say_json(finding) if options.json else say(*finding.lines())
    return exit_code(found)
