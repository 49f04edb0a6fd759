"""`doord setup | doctor`: for who installs a door unit and who looks after it."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from edge.cli_common import AddCommand, say, say_json
from edge.config import DEFAULT_PATH
from edge.errors import ConfigError

_REPORT = "commissioning.txt"


def tool_commands(command: AddCommand) -> None:
    """The commands."""
    _setup_parser(command("setup", _setup, "a guided first start: look, ask, try, write the configuration"))
    words = "try every part of the unit; exit 0 all well, 1 warnings, 2 faults"
    sub = command("doctor", _doctor, words)
    sub.add_argument("--bundle", type=Path, metavar="FILE.tar.gz", help="a file for support, without people")


def _setup_parser(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--report", action="store_true", help="the trials and the commissioning report alone")
    sub.add_argument("--answers", type=Path, metavar="FILE", help="answers in advance, `key: answer` a line")
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=ANSWER", help="one of them; may come often"
    )
    sub.add_argument("--keys", action="store_true", help="list the questions' keys, and end")
    sub.add_argument(
        "--no-questions", action="store_true", help="ask nothing: what has no answer is left out"
    )
    sub.add_argument("--simulation", action="store_true", help="mock lines; the report is refused")
    sub.add_argument("--report-file", type=Path, metavar="FILE", help=f"default: {_REPORT} beside the config")
    sub.add_argument("--wait", type=float, default=30.0, metavar="S", help="for a gesture or a face")


def _setup(options: argparse.Namespace) -> int:
    from edge.tools.setup.files import read_answers
    from edge.tools.setup.flow import Unit, run_report, run_setup
    from edge.tools.setup.questions import KEYS
    from edge.tools.setup.talk import Terminal

    if options.keys:
        say(*(f"{key:16}{words}" for key, words in KEYS.items()))
        return 0
    answers = read_answers(options.answers) if options.answers else {}
    for told in options.set:
        key, equals, answer = told.partition("=")
        if not equals:
            raise ConfigError(f"setup: --set: expected KEY=ANSWER, got {told!r:.40}")
        answers[key] = [answer]
    unknown = sorted(answers.keys() - KEYS.keys())
    if unknown:
        raise ConfigError(f"setup: {unknown[0]}: no such question; doord setup --keys lists them")
    path: Path = options.config or DEFAULT_PATH
    unit = Unit(path, options.report_file or path.with_name(_REPORT), options.wait)
    source = None if options.no_questions or not sys.stdin.isatty() else sys.stdin
    talk = Terminal(answers, source, sys.stdout)
    _end_on_hangup()
    return run_report(unit, talk) if options.report else run_setup(unit, talk, options.simulation)


def _end_on_hangup() -> None:
    """A lost ssh connection ends it as Ctrl-C does: the relay locked, the answers kept."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, end)


def _doctor(options: argparse.Namespace) -> int:
    from edge.tools.doctor.bundle import write_bundle
    from edge.tools.doctor.examine import examine
    from edge.tools.doctor.finding import exit_code

    path = options.config or DEFAULT_PATH
    found = []
    for finding in examine(path):
        found.append(finding)
        say_json(finding) if options.json else say(*finding.lines())
    if options.bundle:
        about = write_bundle(options.bundle, path, found)
        print(about, file=sys.stderr)  # noqa: T201  # the command's own voice; stdout may be JSON
    return exit_code(found)
