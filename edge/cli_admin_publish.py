"""`doord admin push | rollback | refresh | republish | versions`: what doors get to know, and when."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cli_admin_common import Actions, Parsers, dry_run, now, now_local, now_utc, opened, show
from edge.cli_admin_enrol import fmr_of, tell_report
from edge.cli_admin_site import SECOND_ROLE, second_signer
from edge.cli_common import say, say_json, tell
from edge.errors import AdminError, LinkError
from edge.progress import bar

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from edge.admin.folder import OpenSite
    from edge.admin.release import Release

_MOST_WORDS = 200  # characters; what the manifest may hold


def publish_parser(actions: Actions, parsers: Parsers) -> None:
    """Add push, rollback, refresh, republish, versions, export-tree and broker-files."""
    sub = parsers.add(actions, "push", _push, "sign what the records say, and publish it to all doors")
    sub.add_argument(
        "--accept", metavar="NAME", default="", type=_words, help="who takes what the report questions"
    )
    sub.add_argument("--second-signer", type=Path, metavar="FILE", help="the second signer's key")
    sub.add_argument("--note", default="", type=_words, help="kept with the version")
    _signs(sub)
    sub = parsers.add(actions, "rollback", _rollback, "publish an earlier version's content as a new version")
    sub.add_argument("version", type=int, metavar="VERSION", help="from doord admin versions")
    sub.add_argument("--note", default="", type=_words, help="kept with the new version")
    _signs(sub)
    _signs(parsers.add(actions, "refresh", _refresh, "sign the newest version as fresh again; publish it"))
    sub = parsers.add(actions, "republish", _republish, "send the broker what it lacks of the newest version")
    sub.add_argument("--all", action="store_true", help="whatever it seems to have")
    dry_run(sub)
    parsers.add(actions, "versions", _versions, "what was published, the newest last")
    sub = parsers.add(actions, "export-tree", _export_tree, "the same as files, such as on a USB stick")
    sub.add_argument("folder", type=Path)
    sub = parsers.add(actions, "broker-files", _broker_files, "configuration and certificates for Mosquitto")
    sub.add_argument("folder", type=Path)
    sub.add_argument(
        "--host", action="append", default=[], help="a name or address of the broker (default: init's)"
    )
    sub.add_argument("--at", default="/etc/mosquitto/doord", metavar="DIR", help="where they will lie there")


def _signs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--no-publish", action="store_true", help="sign only; doord admin republish later")
    dry_run(sub)


def _words(text: str) -> str:
    """What is signed or kept with a version."""
    words = text.strip()
    if len(words) > _MOST_WORDS or not words.isprintable():
        raise argparse.ArgumentTypeError(f"expected at most {_MOST_WORDS} printable characters, got others")
    return words


def _push(options: argparse.Namespace) -> int:
    """0: published; 1: the report has questions and nobody has accepted them."""
    from edge.admin import receipts, release, report

    with opened(options) as site:
        found, checked = report.examine(site.records, fmr_of(site), now_local(site))
        if found.refusals and not options.accept:
            tell_report(options, found)
            if not options.json:
                say("not pushed: correct it, or name who accepts it: --accept NAME")
            return 1
        accepted = report.acceptances(found, options.accept, now_utc())
        by = options.accept if found.refusals else report.accepted_by(site.records, found)
        also = _also(options)
        asked = bool(found.refusals)
        done = release.push(site, now(), by, options.note, also, bar("targets"), options.dry_run, asked)
        if not options.json:
            tell_report(options, found)
        if not options.dry_run:
            report.keep(site.records, checked, accepted)
            receipts.published(site.records, done.publication.version)
        return _publish(options, site, done)


def _also(options: argparse.Namespace) -> list[CryptoSigner]:
    return [second_signer(options).signer(SECOND_ROLE)] if options.second_signer else []


def _publish(options: argparse.Namespace, site: OpenSite, done: Release) -> int:
    """Tell what was signed, and give it to the broker."""
    one = done.publication
    facts = {
        "version": None if options.dry_run else one.version,
        "subjects": one.subjects,
        "templates": one.templates,
        "changed_targets": len(done.targets),
        "changed_bytes": done.target_bytes,
        "expires_at_utc": None if done.expires_utc is None else f"{done.expires_utc:%Y-%m-%dT%H:%M:%SZ}",
        "dry_run": options.dry_run,
    }
    if options.json:
        say_json(facts)
    else:
        signed = "would be signed" if options.dry_run else f"signed as version {one.version}"
        size = f"{len(done.targets)} targets of {done.target_bytes:,} bytes are new"
        say(f"{signed}: {one.subjects} people, {one.templates} templates; {size}")
    if options.dry_run or options.no_publish:
        return 0
    try:
        return _send(options, site, everything=False)
    except LinkError as error:
        raise LinkError(f"{error}; version {one.version} is signed: doord admin republish") from None


def _send(options: argparse.Namespace, site: OpenSite, everything: bool) -> int:
    from edge.admin.publish import publish

    sent = publish(site, now(), everything, progress=bar("bytes"))
    if not options.json:
        size = f"{sent.files} files of {sent.bytes:,} bytes sent, {sent.deleted} old ones deleted"
        say(f"version {sent.version} is at the broker: {size}")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from edge.admin import receipts, release

    with opened(options) as site:
        if options.dry_run:
            there = {one.version: one for one in release.publications(site) if one.targets}
            if options.version not in there:
                raise AdminError(f"rollback: expected one of {sorted(there)}, got {options.version}")
            one = there[options.version]
            words = (
                f"would publish the {one.subjects} people of version {one.version}, of {one.at_utc}, as new"
            )
            tell(options, words, dry_run=True, version=None, subjects=one.subjects)
            return 0
        done = release.rollback(site, options.version, now(), options.note)
        receipts.published(site.records, done.publication.version)  # a rollback leaves the removed out too
        return _publish(options, site, done)


def _refresh(options: argparse.Namespace) -> int:
    from edge.admin import release

    with opened(options) as site:
        if options.dry_run:
            words = f"would sign version {site.tree.version} as fresh again"
            tell(options, words, dry_run=True, version=site.tree.version)
            return 0
        return _publish(options, site, release.refresh(site, now()))


def _republish(options: argparse.Namespace) -> int:
    with opened(options) as site:
        if options.dry_run:
            what = "all" if options.all else "what the broker lacks"
            words = f"would send {what} of version {site.tree.version}"
            tell(options, words, dry_run=True, version=site.tree.version)
            return 0
        _send(options, site, options.all)
        if options.json:
            say_json({"version": site.tree.version})
    return 0


def _export_tree(options: argparse.Namespace) -> int:
    from edge.admin.publish import export

    with opened(options) as site:
        written, version = export(site, options.folder), site.tree.version
    tell(
        options,
        f"{options.folder}: version {version}, {written} files written",
        version=version,
        files=written,
    )
    return 0


def _broker_files(options: argparse.Namespace) -> int:
    from edge.admin.broker_files import write_broker_files

    with opened(options) as site:
        written = [
            str(path) for path in write_broker_files(site, options.folder, now(), options.host, options.at)
        ]
    say_json(written) if options.json else say(*written)
    return 0


def _versions(options: argparse.Namespace) -> int:
    from edge.admin import release

    with opened(options) as site:
        rows = [
            (
                one.version,
                one.at_utc,
                one.subjects,
                one.templates,
                bool(one.targets),
                one.accepted_by,
                one.note,
            )
            for one in release.publications(site)
        ]
    show(options, ("version", "at_utc", "people", "templates", "kept", "accepted_by", "note"), rows)
    return 0
