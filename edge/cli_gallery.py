"""`doord enrol` and `doord gallery`: who is enrolled on a door that stands alone."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from edge.cli_common import configured, read_file, say, say_json, tell, typed_passphrase, write_export
from edge.errors import EnrolmentError, GalleryError, ImageError


def enrol_parser(sub: argparse.ArgumentParser) -> None:
    """The options of `doord enrol`."""
    sub.add_argument("--subject", required=True, metavar="ID", help="1 to 32 of a-z, 0-9 and -")
    source = sub.add_mutually_exclusive_group(required=True)
    source.add_argument("photos", nargs="*", default=[], type=Path, metavar="PHOTO")
    source.add_argument("--camera", action="store_true", help="take the pictures with the door's camera")
    sub.add_argument("--force-lookalike", action="store_true", help="enrol a twin of another subject")


def gallery_parser(sub: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
    """The actions of `doord gallery`."""
    actions = sub.add_subparsers(metavar="ACTION")
    listing = actions.add_parser("list", parents=[shared], help="who is enrolled")
    listing.set_defaults(run=list_subjects)
    remove = actions.add_parser("remove", parents=[shared], help="forget subjects")
    remove.add_argument("subjects", nargs="+", metavar="ID")
    remove.set_defaults(run=_remove)
    for name, run, words in (
        ("export", _export, "write the gallery to a file, encrypted"),
        ("import", _import, "add the templates of an exported file"),
    ):
        action = actions.add_parser(name, parents=[shared], help=words)
        action.add_argument("file", type=Path)
        action.add_argument("--plaintext", action="store_true", help="no passphrase: templates lie open")
        action.add_argument("--passphrase-file", type=Path)
        action.set_defaults(run=run)


def enrol(options: argparse.Namespace) -> int:
    """`doord enrol`."""
    from edge.tools.local import open_desk

    photos = [(str(path), read_file(path, ImageError)) for path in options.photos]
    if not photos and not options.camera:
        raise EnrolmentError("expected photographs or --camera, got neither")
    with ExitStack() as stack:
        desk = open_desk(configured(options), stack, models=True)
        if options.camera:
            report = desk.enrol_camera(options.subject, options.force_lookalike)
        else:
            report = desk.enrol(options.subject, photos, options.force_lookalike)
    if options.json:
        say_json(report)
        return 0
    say(f"{report.subject}: {report.added} enrolled, {report.total} templates in all")
    say(*(f"note: {warning}" for warning in report.warnings))
    if report.expected_fpir is not None:
        say(f"gallery: {report.gallery_size} templates, expected FPIR {report.expected_fpir:.2e}")
    return 0


def list_subjects(options: argparse.Namespace) -> int:
    """`doord gallery list`."""
    from edge.tools.local import open_desk

    with ExitStack() as stack:
        rows = open_desk(configured(options), stack).subjects()
    if options.json:
        say_json(rows)
        return 0
    say(f"{'subject':32} templates  enrolled              model")
    say(*(f"{r.subject:32} {r.templates:9}  {r.first_enrolled_at_utc:20}  {r.model}" for r in rows))
    return 0


def _remove(options: argparse.Namespace) -> int:
    from edge.tools.local import open_desk

    unknown = False
    with ExitStack() as stack:
        desk = open_desk(configured(options), stack)
        for subject in options.subjects:
            gone = desk.remove(subject)
            unknown |= not gone
            words = f"{subject}: {gone} templates removed" if gone else f"{subject}: is not enrolled here"
            tell(options, words, subject=subject, removed=gone)
    return int(unknown)


def _export(options: argparse.Namespace) -> int:
    from edge.tools.local import open_desk

    passphrase = _passphrase(options, twice=True)
    with ExitStack() as stack:
        data = open_desk(configured(options), stack).export(passphrase)
    write_export(options.file, data)
    kind = "in plain text" if passphrase is None else "encrypted"
    tell(options, f"{options.file}: {len(data)} bytes, {kind}", bytes=len(data), encrypted=bool(passphrase))
    return 0


def _import(options: argparse.Namespace) -> int:
    from edge.identity.transfer import MAX_FILE_BYTES
    from edge.tools.local import open_desk

    data = read_file(options.file, GalleryError, MAX_FILE_BYTES)
    passphrase = _passphrase(options, twice=False)
    with ExitStack() as stack:
        added = open_desk(configured(options), stack, models=True).import_(data, passphrase)
    tell(options, f"{options.file}: {added} templates added", added=added)
    return 0


def _passphrase(options: argparse.Namespace, twice: bool) -> str | None:
    if options.plaintext:
        return None
    return typed_passphrase(options.passphrase_file, twice, " or --plaintext")
