"""`doord admin enrol` and `report`: faces into the gallery, and a look at it before a push."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edge.camera_config import CameraConfig, camera_contradictions
from edge.cli_admin_common import Actions, Parsers, dry_run, now_local, now_utc, opened
from edge.cli_common import models_or_default, read_file, say, say_json, tell
from edge.config import ModelsConfig, QualityConfig
from edge.errors import AdminError, AlreadyEnrolled, EnrolmentError
from edge.progress import bar

if TYPE_CHECKING:
    from edge.admin.checks import Span
    from edge.admin.folder import OpenSite
    from edge.admin.photos import Portrait, Seen
    from edge.admin.report import GalleryReport
    from edge.admin.studio import Studio
    from edge.vision.pipeline import Pipeline

_SITTING_PICTURES = 5
_APART_S = 0.4
_SITTING_S = 15.0


def enrol_parser(actions: Actions, parsers: Parsers) -> None:
    """Add enrol and report."""
    words = "make a person's templates from photographs, a folder of them, or a camera"
    sub = parsers.add(actions, "enrol", _enrol, words)
    sub.add_argument("subject", nargs="?", metavar="ID", help="of doord admin person add")
    sub.add_argument("photos", nargs="*", default=[], type=Path, metavar="PHOTO")
    sub.add_argument("--folder", type=Path, metavar="DIR", help="many people: a folder of photographs each")
    sub.add_argument("--camera", metavar="N", help="this machine's camera: an index, /dev path or URL")
    words = "with --camera http:// or rtsp://: accept that the network can read and forge the picture"
    sub.add_argument("--insecure", action="store_true", help=words)
    sub.add_argument("--force-lookalike", action="store_true", help="the other one is known to be a twin")
    dry_run(sub)
    sub = parsers.add(actions, "report", _report, "what a push would publish, and what speaks against it")
    sub.add_argument("--full", action="store_true", help="compare everybody anew, not only who has changed")


# Enrolment


def _enrol(options: argparse.Namespace) -> int:
    sources = [bool(options.photos), options.folder is not None, options.camera is not None]
    if sources.count(True) != 1 or (options.subject is None) != (options.folder is not None):
        raise AdminError("expected ID and photographs, ID and --camera, or --folder alone")
    models, gate = models_or_default(options)
    with opened(options) as site:
        pipeline, studio = _studio(site, models, gate)
        if options.folder is not None:
            return _enrol_folder(options, studio)
        seen = _sitting(options, pipeline, studio) if options.camera else _files(options, studio)
        done = studio.enrol(options.subject, seen, now_utc(), options.force_lookalike, not options.dry_run)
    _tell_portrait(options, done)
    return 0


def _studio(site: OpenSite, models: ModelsConfig, gate: QualityConfig) -> tuple[Pipeline, Studio]:
    from edge.admin.studio import Studio
    from edge.vision.pipeline import Pipeline

    pipeline = Pipeline.load(models, gate)
    return pipeline, Studio(site.records, pipeline, pipeline.embedder.model)


def _files(options: argparse.Namespace, studio: Studio) -> list[Seen]:
    draw, seen = bar("photographs"), []
    for done, path in enumerate(options.photos, start=1):
        seen.append(studio.look_at_file(path.name, read_file(path, AdminError)))
        draw(done, len(options.photos))
    return seen


def _sitting(options: argparse.Namespace, pipeline: Pipeline, studio: Studio) -> list[Seen]:
    from edge.vision.loop import picture
    from edge.vision.sitting import sit

    camera = CameraConfig(source=options.camera, insecure=options.insecure)
    for _, expected, got in camera_contradictions(camera, simulation=True):
        cure = expected.replace("camera.insecure: true", "--insecure")
        raise AdminError(f"--camera: expected {cure}, got {got}")
    taken = sit(camera, pipeline, True, picture, _SITTING_PICTURES, _APART_S, _SITTING_S)
    if len(taken) < _SITTING_PICTURES:
        raise EnrolmentError(
            f"expected {_SITTING_PICTURES} good pictures within {_SITTING_S:g} s, got {len(taken)}: "
            "one person, near the camera, facing it, in good light"
        )
    return [studio.look_at(f"picture {i}", pixels) for i, pixels in enumerate(taken, start=1)]


def _enrol_folder(options: argparse.Namespace, studio: Studio) -> int:
    """Each person is kept at once, so that what was done stays when it is broken off."""
    folders = _subfolders(options.folder)
    draw, refused = bar("people"), 0
    for done, (subject, photos) in enumerate(folders, start=1):
        try:
            seen = [
                studio.look_at_file(f"{subject}/{path.name}", read_file(path, AdminError)) for path in photos
            ]
            made = studio.enrol(subject, seen, now_utc(), options.force_lookalike, not options.dry_run)
            _tell_portrait(options, made)
        except AlreadyEnrolled:
            tell(options, f"{subject}: nothing new", subject=subject, photos=[])
        except (AdminError, EnrolmentError) as error:
            refused += 1
            tell(options, f"{subject}: refused: {error}", subject=subject, refused=str(error))
        draw(done, len(folders))
    if not options.json:
        done_words = "would be enrolled" if options.dry_run else "enrolled"
        say(f"{len(folders) - refused} people {done_words}, {refused} refused")
    return int(refused > 0)


def _subfolders(folder: Path) -> list[tuple[str, list[Path]]]:
    from edge.vision.pictures import PICTURE_SUFFIXES

    def pictures(of: Path) -> Iterator[Path]:
        return (path for path in sorted(of.iterdir()) if path.suffix.lower() in PICTURE_SUFFIXES)

    try:
        found = [(sub.name, list(pictures(sub))) for sub in sorted(folder.iterdir()) if sub.is_dir()]
    except OSError as error:
        raise AdminError(f"{folder}: expected a folder of folders, got: {error.strerror}") from None
    if not found:
        raise AdminError(f"{folder}: expected a folder of photographs for each person, got none")
    return found


def _tell_portrait(options: argparse.Namespace, done: Portrait) -> None:
    if options.json:
        say_json(
            {
                "subject": done.subject,
                "templates": len(done.templates),
                "photos": [asdict(photo) for photo in done.photos],
                "warnings": done.warnings,
                "looks_like": done.looks_like and asdict(done.looks_like),
            }
        )
        return
    used = sum(photo.used for photo in done.photos)
    would = " would be" if options.dry_run else ""
    photos = f"{used} of {len(done.photos)} photographs{would} used"
    say(f"{done.subject}: {photos}, {len(done.templates)} templates")
    say(*(f"  {photo.name}: left out: {photo.reason}" for photo in done.photos if not photo.used))
    say(*(f"  note: {warning}" for warning in done.warnings))
    if done.looks_like is not None:
        say(f"  warning: {done.looks_like.words}")


# Report


def _report(options: argparse.Namespace) -> int:
    from edge.admin import report

    with opened(options) as site:
        found, checked = report.examine(site.records, fmr_of(site), now_local(site), options.full)
        report.keep(site.records, checked, {})
    tell_report(options, found)
    return int(bool(found.refusals))


def tell_report(options: argparse.Namespace, found: GalleryReport) -> None:
    """The gallery report, in words or as JSON."""
    from edge.admin import report

    if options.json:
        say(report.to_json(found).decode())
        return
    say(*report.lines(found), *_questions(found.refusals))


def _questions(refusals: Sequence[str]) -> list[str]:
    shown = [f"question: {words}" for words in refusals[:50]]
    return shown + ([f"and {len(refusals) - 50} more"] if len(refusals) > 50 else [])


def fmr_of(site: OpenSite) -> Span:
    """The measured FMR of the site's embedder. Raises AdminError: it was not measured."""
    from edge.admin.checks import Span
    from edge.vision.manifest import ModelShelf

    entry = ModelShelf.open().entry(site.records.site().model, "embedder")
    found = entry.fmr_measured
    if found is None:
        raise AdminError(f"{entry.id}: expected its measured FMR in the manifest, got none: doord evaluate")
    return Span(found.low, found.rate, found.high)
