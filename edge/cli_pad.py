"""`doord pad`: presentation-attack detection tuned to this door's own camera, by its installer."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cli_common import configured, read_file, say, say_json, tell, typed_passphrase, write_export
from edge.errors import DoordError, EnrolmentError, GalleryError, TuningRefused
from edge.log_view import printable

if TYPE_CHECKING:
    from edge.identity.tuning_file import Recorded, Row
    from edge.tuning import Tuner, TuneRequest, TuneState

_KINDS = ("phone", "tablet", "print")
_SECONDS = 15.0


def pad_parser(sub: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """The actions of `doord pad`."""
    actions = sub.add_subparsers(metavar="ACTION")

    def action(name: str, run: object, words: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, parents=[shared], help=words, description=words)
        made.set_defaults(run=run)
        return made

    guided = action("tune", _tune, "record people and attacks step by step, then fit (a few minutes)")
    guided.add_argument("people", nargs="+", metavar="WHO", help="who stands before the camera, two or more")
    guided.add_argument(
        "--attacks", default=",".join(_KINDS), help="what you have of: %(default)s, or others"
    )
    guided.add_argument("--seconds", type=float, default=_SECONDS, help="of each recording (%(default)g)")
    record = action("record", _record, "record one person, or one attack")
    what = record.add_mutually_exclusive_group(required=True)
    what.add_argument("--genuine", metavar="WHO", help="this person, alive")
    what.add_argument("--attack", metavar="SPECIES", help="phone, tablet, print, or what you call it")
    record.add_argument("--of", metavar="WHO", default="unnamed", help="whose face the attack shows")
    record.add_argument("--seconds", type=float, default=_SECONDS, help="how long (%(default)g)")
    record.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="CLIP|FOLDER",
        help="of this camera, as it films, not live",
    )
    action("fit", _fit, "fit to what was recorded, and put it in force")
    action("show", show, "what was recorded and fitted, and what it is worth")
    action("rollback", _rollback, "put the model before in force")
    forget = action("forget", _forget, "forget recordings and models")
    forget.add_argument("--recordings", action="store_true", help="only the recordings")
    for name, run, words in (
        ("export", _export, "write recordings and models to a file, encrypted"),
        ("import", _import, "take over an exported file of this camera"),
    ):
        carried = action(name, run, words)
        carried.add_argument("file", type=Path)
        carried.add_argument("--passphrase-file", type=Path)


def _asked(options: argparse.Namespace, request: TuneRequest) -> TuneState:
    from edge.tools.local import open_tuner

    with ExitStack() as stack:
        return open_tuner(configured(options), stack).do(request)


def _fit(options: argparse.Namespace) -> int:
    from edge.tuning import Fit

    return _told(options, _asked(options, Fit()))


def _rollback(options: argparse.Namespace) -> int:
    from edge.tuning import Rollback

    return _told(options, _asked(options, Rollback()))


def show(options: argparse.Namespace) -> int:
    """`doord pad show`."""
    from edge.tuning import Show

    return _told(options, _asked(options, Show()))


def _forget(options: argparse.Namespace) -> int:
    from edge.tuning import Forget

    return _told(options, _asked(options, Forget(options.recordings)))


def _record(options: argparse.Namespace) -> int:
    from edge.tuning import Keep, Record

    species = options.attack
    person = options.genuine or options.of
    if options.source is None:
        request: TuneRequest = Record(_id(person), species and _id(species), _seconds(options.seconds))
        return _told(options, _asked(options, request))
    made = _from_files(options, _id(person), species and _id(species))
    return _told(options, _asked(options, Keep(made)))


def _from_files(options: argparse.Namespace, person: str, species: str | None) -> Recorded:
    """A recording out of a clip, a picture or a folder of pictures of this camera, turned and cut as live."""
    from edge.evaluate.presentations import frames
    from edge.liveness import load_texture
    from edge.tuning import recorded, taker
    from edge.vision.pipeline import Pipeline
    from edge.vision.view import turned

    config = configured(options)
    texture = load_texture(config.models, config.pad.models)
    pipeline = Pipeline.load(config.models, config.quality)
    camera, take, every_s, due, rows = config.camera, taker(texture), config.pad.every_ms / 1000, 0.0, []
    for filmed in frames(options.source, camera.fps):
        if filmed.taken_at > options.seconds:
            break
        if filmed.taken_at < due - 1e-3:
            continue
        frame = replace(filmed, pixels=turned(filmed.pixels, camera.rotation, camera.region))
        made = take(frame, pipeline(frame.pixels))
        if made is not None:
            rows.append(made)
            due = filmed.taken_at + every_s
    return recorded(person, species, rows, config, texture)


def _tune(options: argparse.Namespace) -> int:
    """Guided: everybody alive, then each kind of attack showing each of them, then the fit."""
    from edge.tools.local import open_tuner
    from edge.tuning import Fit

    kinds = [_id(kind) for kind in options.attacks.split(",")]
    people = list(dict.fromkeys(map(_id, options.people)))
    if len(people) < 2:
        raise TuningRefused("expected two or more people: who is tested must not be who was learned from")
    if not sys.stdin.isatty():
        raise TuningRefused("expected somebody at a terminal; elsewhere: doord pad record, doord pad fit")
    seconds = _seconds(options.seconds)
    with ExitStack() as stack:
        tuner = open_tuner(configured(options), stack)
        for who in people:
            ask = f"{who}: stand before the door as if to come in; turn a little, come nearer, step back."
            _step(tuner, who, None, seconds, ask)
        for kind in kinds:
            for who in people:
                ask = f"{kind}: show {who}'s face with it, no other face in view; hold it, tilt it, lean it."
                _step(tuner, who, kind, seconds, ask)
        return _told(options, tuner.do(Fit()))


def _step(tuner: Tuner, who: str, kind: str | None, seconds: float, ask: str) -> None:
    """One recording, again until it is good or the person skips it."""
    from edge.tuning import Record

    while True:
        say(f"\n{ask}")
        if input(f"Enter records {seconds:g} s, s skips: ").strip().lower() == "s":
            return
        try:
            state = tuner.do(Record(who, kind, seconds))
        except EnrolmentError as error:
            say(f"again: {error}")
            continue
        say(f"{state.recordings[-1].frames} frames kept")
        return


def _export(options: argparse.Namespace) -> int:
    from edge.tuning import ExportTune

    passphrase = typed_passphrase(options.passphrase_file, twice=True)
    data = _asked(options, ExportTune(passphrase)).exported
    write_export(options.file, data)
    tell(options, f"{options.file}: {len(data)} bytes, encrypted", bytes=len(data), encrypted=True)
    return 0


def _import(options: argparse.Namespace) -> int:
    from edge.identity.tuning_file import MAX_FILE_BYTES
    from edge.tuning import ImportTune

    data = read_file(options.file, GalleryError, MAX_FILE_BYTES)
    passphrase = typed_passphrase(options.passphrase_file, twice=False)
    return _told(options, _asked(options, ImportTune(data, passphrase)))


def _id(text: str) -> str:
    from edge.identity.gallery import check_subject

    return check_subject(text)


def _seconds(value: float) -> float:
    if not 1 <= value <= 120:
        raise DoordError(f"seconds: expected 1 to 120, got {value:g}")
    return value


# What there is, in words


def _told(options: argparse.Namespace, state: TuneState) -> int:
    say_json(state) if options.json else say(*lines(state))
    return 0


def lines(state: TuneState) -> list[str]:
    """Readable text: recordings, then the model in force. A file from elsewhere moves no cursor."""
    return list(map(printable, _lines(state)))


def _lines(state: TuneState) -> list[str]:
    told = [f"recordings  {len(state.recordings)}, {sum(r.frames for r in state.recordings)} frames"]
    kinds = sorted({(r.species or "", r.person) for r in state.recordings})
    for species, person in kinds:
        own = [r for r in state.recordings if (r.species or "", r.person) == (species, person)]
        told.append(
            f"  {species or 'genuine':20} {person:20} {len(own)}, {sum(r.frames for r in own)} frames"
        )
    if state.missing:
        told.append(f"missing     {state.missing}")
    model = state.model
    if model is None:
        return [*told, "tuned       no: the texture layer alone judges"]
    return [
        *told,
        f"tuned       {model.at_utc}, on {model.camera}, {model.texture}, doord {model.doord}",
        f"in force    {'no: ' + state.unused if state.unused else 'yes'}",
        f"limits      alive from {model.live:.3g}, attack below {model.unsure:.3g}"
        + ("; doord pad rollback has the one before" if state.has_before else ""),
        "",
        f"on people left out of the fit ({model.people} in all), worst first:",
        f"  {'APCER':20} {'tuned, 95 % bounds':30} {'attempts':>10} {'untuned':>10}",
        *map(_figures, model.species),
        f"  {'BPCER':20}",
        _figures(model.genuine),
        "first attempt of each recording; bounds by Clopper and Pearson take recordings as independent;",
        "attempts of one recording are alike. Not a test of conformity to any standard.",
    ]


def _figures(row: Row) -> str:
    from edge.shares import Share, at_least, at_most

    share = Share(*row.presentations)
    words = f"{share.count} of {share.of}, {at_least(share.low)} to {at_most(share.high)}"
    (wrong, of), (before, _) = row.attempts, row.untuned
    return f"  {row.name:20} {words:30} {f'{wrong}/{of}':>10} {f'{before}/{of}':>10}"
