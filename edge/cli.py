"""The command: parse, call, print, exit code; nothing else.

Exit codes: 0 yes or done, 1 no (denied, a check failed), 2 a fault or wrong usage, 78 an unusable
configuration (sysexits EX_CONFIG).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge import __version__
from edge.cli_admin import admin_parser
from edge.cli_card import access_notes, card_parser, list_cards
from edge.cli_common import configured, daemon_socket, models_or_default, say, say_json
from edge.cli_door import door_parser, state
from edge.cli_evaluate import evaluate, evaluate_parser
from edge.cli_gallery import enrol, enrol_parser, gallery_parser, list_subjects
from edge.cli_log import log_commands
from edge.cli_pad import pad_parser, show
from edge.cli_site import site_commands
from edge.cli_tools import tool_commands
from edge.config import DEFAULT_PATH, load_config, shown_source
from edge.errors import ConfigError, DoordError
from edge.log_view import printable

EX_CONFIG = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfigError as error:
        return _complain(error, EX_CONFIG)
    except DoordError as error:
        return _complain(error, 2)
    except BrokenPipeError:  # `doord gallery list | head`
        sys.stdout = None  # else Python flushes it at exit, in vain
        return 2
    except KeyboardInterrupt:
        return 130


def _complain(error: DoordError, code: int) -> int:
    for line in f"doord: {error}".splitlines():
        print(printable(line), file=sys.stderr)  # noqa: T201  # the command's own voice
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="doord", description="The office door that knows who you are.")
    parser.add_argument("--version", action="version", version=f"doord {__version__}")
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    # suppressed defaults: else those of `gallery list` would overwrite what `gallery -c FILE` was told
    shared.add_argument("-c", "--config", type=Path, help=f"configuration (default {DEFAULT_PATH})")
    shared.add_argument("--json", action="store_true", help="machine-readable output")
    parser.set_defaults(config=None, json=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[shared], help=words, description=words)
        sub.set_defaults(run=run)
        return sub

    sub = command("run", _run, "run the door (what the systemd unit calls)")
    sub.add_argument("-v", "--verbose", action="store_true")

    enrol_parser(command("enrol", enrol, "enrol one person from photographs or the door's camera"))
    gallery_parser(command("gallery", list_subjects, "see and change who is enrolled"), shared)
    card_parser(command("card", list_cards, "see and change who has which card"), shared)

    pad_parser(command("pad", show, "presentation-attack detection tuned to this door's camera"), shared)

    sub = command("verify", _verify, "1:1: is this picture the subject?")
    sub.add_argument("--subject", required=True, metavar="ID")
    sub.add_argument("picture", type=Path)
    sub.add_argument("--annotate", type=Path, metavar="OUT", help="write the picture with the verdict")

    sub = command("identify", _identify, "1:N: whose picture is this?")
    sub.add_argument("picture", type=Path)
    sub.add_argument("--annotate", type=Path, metavar="OUT", help="write the picture with the verdict")

    door_parser(command("door", state, "see and move the door by hand"), shared)
    site_commands(command)
    log_commands(command, shared)
    sub = command("reload", _reload, "have the running daemon read its configuration again")
    sub.add_argument("--socket", type=Path, help="of the daemon (default: as configured)")
    command("status", _status, "what the running daemon is doing")
    tool_commands(command)
    command("check-config", _check_config, "say what is wrong with a configuration").add_argument(
        "file", nargs="?", type=Path
    )
    admin_parser(commands.add_parser("admin", help="many doors: people, keys, publishing"), shared)
    _bench_parser(command("bench", _bench, "milliseconds per stage and memory, on this machine"))
    evaluate_parser(command("evaluate", evaluate, "accuracy on labelled pictures"))
    return parser


def _bench_parser(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", type=Path, help="a picture or video with a face")
    sub.add_argument("--frames", type=int, default=200)
    sub.add_argument("--subjects", type=int, default=1000)
    sub.add_argument("--templates-each", type=int, default=5)
    sub.add_argument("--threads", type=int, help="overrides models.threads")
    sub.add_argument("--float-models", type=Path, metavar="DIR", help="what models/build left in out/float")


def _run(options: argparse.Namespace) -> int:
    from edge.journal import start_logging
    from edge.process import run

    config = configured(options)
    start_logging(options.verbose, DOOR=config.door_id, SITE=config.site)
    return run(options.config or DEFAULT_PATH)


def _verify(options: argparse.Namespace) -> int:
    from edge.tools.local import open_recogniser
    from edge.tools.probe import verify_picture

    config = configured(options)
    pipeline, gallery, _ = open_recogniser(config)
    report = verify_picture(
        options.picture, options.subject, pipeline, gallery, config.decision, options.annotate
    )
    say(report.json()) if options.json else say(*report.lines())
    return int(not report.granted)


def _identify(options: argparse.Namespace) -> int:
    from edge.tools.local import open_recogniser
    from edge.tools.probe import identify_picture

    config = configured(options)
    pipeline, gallery, fmr = open_recogniser(config)
    report = identify_picture(options.picture, pipeline, gallery, config.decision, fmr, options.annotate)
    say(report.json()) if options.json else say(*report.lines())
    return int(not report.granted)


def _status(options: argparse.Namespace) -> int:
    from edge.control import RemoteDesk

    desk = RemoteDesk.find(daemon_socket(options))
    if desk is None:
        say("doord is not running here")
        return 1
    status = desk.status().decode()
    if options.json:
        say(status)
    else:
        say(*(f"{key:14} {value}" for key, value in msgspec.json.decode(status).items()))
    return 0


def _reload(options: argparse.Namespace) -> int:
    from edge.control import RemoteDesk

    desk = RemoteDesk.find(options.socket or daemon_socket(options))
    if desk is None:
        say("doord is not running here")
        return 1
    say(desk.reload())
    return 0


def _check_config(options: argparse.Namespace) -> int:
    from edge.tools.doctor.door import face_alone
    from edge.tools.doctor.link import broker_flaw
    from edge.vision.delegates import check_library, exposed

    path = options.file or options.config or DEFAULT_PATH
    config = load_config(path)
    check_library(config.models.delegate)
    alone = face_alone(config)
    notes = access_notes(config)
    if options.json:
        camera = msgspec.structs.replace(config.camera, source=shown_source(config.camera.source))
        say_json(msgspec.structs.replace(config, camera=camera))
    else:
        say(f"{path}: door {config.door_id} of site {config.site}: no mistake found")
        if config.simulation:
            say("note: simulation: true, no real line is driven")
        warnings = (
            config.pad_warning,
            config.camera_warning,
            exposed(config.models.delegate),
            broker_flaw(config),
        )
        say(*(f"note: {words}" for words in warnings if words), f"note: {alone}", *notes)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from edge.progress import bar
    from edge.tools.bench import BenchOptions, run_bench
    from edge.vision.gpu_verdicts import GpuVerdicts
    from edge.vision.pipeline import Pipeline

    models, gate = models_or_default(options)
    if options.threads is not None:
        models = msgspec.structs.replace(models, threads=options.threads)
    report = run_bench(
        BenchOptions(
            options.source,
            frames=options.frames,
            subjects=options.subjects,
            templates_each=options.templates_each,
            float_models=options.float_models,
        ),
        models,
        gate,
        bar("frames"),
        load=lambda models, gate: Pipeline.load(models, gate, GpuVerdicts(models, None)),
    )
    say(report.json()) if options.json else say(*report.lines())
    return 0


if __name__ == "__main__":
    sys.exit(main())
