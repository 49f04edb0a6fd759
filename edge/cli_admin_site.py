"""`doord admin init | site | keys`: a site's beginning, what holds for all of it, and its keys."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edge.cli_admin_common import Actions, Parsers, dry_run, folder, now, opened, show
from edge.cli_common import say, say_json, tell
from edge.errors import AdminError

if TYPE_CHECKING:
    from edge.admin.folder import OpenSite
    from edge.admin.keystore import Keystore
    from edge.admin.model import Site

SECOND_VARIABLE = "DOORD_ADMIN_SECOND_PASSPHRASE_FILE"
SECOND_ROLE = "people"  # the second signer's key is one more of that role's
_KEYS = ("people", "rights", "publish", "commands", "collect", "bridge", "root", "targets")
_CERTIFICATE = "certificate"  # the admin's own at the broker: not root's business
_SETTINGS: dict[str, tuple[str, type, str]] = {
    "time_zone": ("--time-zone", str, "IANA name such as Europe/Berlin"),
    "broker_host": ("--broker-host", str, "name or address of the broker; doors know it by their file"),
    "broker_port": ("--broker-port", int, "the same: doors that are there join again to learn another"),
    "fresh_for_s": ("--fresh-for", int, "s that doors believe what they have without hearing again"),
    "max_fpir": ("--max-fpir", float, "expected FPIR above which a push asks who accepts it"),
    "tries_per_person_per_day": ("--tries", float, "per person and day, for the report"),
    "mode": ("--mode", str, "normal or lockdown, with the next push"),
}
_BOUNDS = (
    ("max_fpir", 1e-9, 1),
    ("fresh_for_s", 3600, 365 * 86400),  # what is signed besides is valid for a year
    ("tries_per_person_per_day", 0, 10_000),
    ("broker_port", 1, 65535),
)


def site_parser(actions: Actions, parsers: Parsers) -> None:
    """Add init, site, second-signer, rotate-keys and verify."""
    _init_parser(parsers.add(actions, "init", _init, "begin a site: keys, records, an empty signed version"))
    site = parsers.group(actions, "site", "what holds for all of it")
    parsers.add(site, "show", _show, "the settings")
    sub = parsers.add(site, "set", _set, "change settings; doors hear of it with the next push")
    for name, (flag, kind, words) in _SETTINGS.items():
        sub.add_argument(flag, dest=name, type=kind, help=words)
    sub.add_argument(
        "--holiday", dest="holidays", action="append", metavar="DATE", help="all of them; '': none"
    )
    sub.add_argument(
        "--others", action="append", metavar="GROUP", help="of who has a face but no rights here"
    )
    sub = parsers.add(
        actions, "second-signer", _second, "another person's key, without whom nothing is accepted"
    )
    sub.add_argument("file", type=Path, metavar="FILE", help="made, for that person to keep")
    root_keys(sub)
    sub = parsers.add(actions, "rotate-keys", _rotate, "replace keys by new ones, signed by root")
    words = f"{', '.join(_KEYS)}; or {_CERTIFICATE}: this machine's own at the broker"
    sub.add_argument("names", nargs="+", metavar="KEY", choices=(*_KEYS, _CERTIFICATE), help=words)
    root_keys(sub)
    sub.add_argument(
        "--only-these", action="store_true", help="what is in other files counts no more: lost, stolen"
    )
    dry_run(sub)
    parsers.add(
        actions, "verify", _verify, "whether signatures hold, and records and what is published agree"
    )


def _init_parser(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("site", metavar="SITE", help="1 to 32 of a-z, 0-9 and -")
    sub.add_argument("--time-zone", required=True, metavar="ZONE", help="IANA name such as Europe/Berlin")
    sub.add_argument("--broker", required=True, metavar="HOST[:PORT]", help="port 8883 unless told")
    root_keys(sub)
    sub.add_argument("--root-threshold", type=int, default=1, metavar="N", help="root keys that must sign")


def root_keys(sub: argparse.ArgumentParser) -> None:
    """Add --root-keys."""
    sub.add_argument(
        "--root-keys",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="default: root.keys beside",
    )


def _init(options: argparse.Namespace) -> int:
    from edge.admin.folder import ROOT_KEYS, create_site
    from edge.admin.keystore import ROOT_VARIABLE, SITE_VARIABLE, ask_passphrase

    where, site = folder(options), _new_site(options)
    passphrase = ask_passphrase(SITE_VARIABLE, "the keys of every day", again=True)
    root_passphrase = ask_passphrase(ROOT_VARIABLE, "the root keys", again=True)
    create_site(
        where, site, passphrase, root_passphrase, now(), tuple(options.root_keys), options.root_threshold
    )
    root = ", ".join(map(str, options.root_keys)) or str(where / ROOT_KEYS)
    if options.json:
        say_json({"site": site.site, "folder": str(where), "root_keys": root})
        return 0
    say(
        f"{where}: site {site.site}",
        f"{root}: who has this and its passphrase can make any key count at every door, and doors can't be",
        "taken from him but by hand: move it to a stick in a safe, and keep a second one. It is needed only",
        "to change keys. Who steals this machine without it can publish, until you rotate the keys with it.",
    )
    return 0


def _new_site(options: argparse.Namespace) -> Site:
    """The record of a site, checked as far as can be before there is one. Raises AdminError."""
    from edge.admin.model import Site
    from edge.identity.gallery import check_subject
    from edge.vision.manifest import ModelShelf

    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:/@\s]+)(?::([0-9]{1,5}))?", options.broker)
    if found is None:
        raise AdminError(f"--broker: expected HOST, HOST:PORT or [ADDRESS]:PORT, got {options.broker!r:.80}")
    host, port = found[1].strip("[]"), found[2] or "8883"
    shelf = ModelShelf.open()
    embedder = shelf.entry(shelf.default("embedder"), "embedder")
    site = Site(
        site=check_subject(options.site),
        time_zone=options.time_zone,
        broker_host=host,
        broker_port=int(port),
        model=embedder.id,
        dimension=embedder.dimension or 0,
        site_key=bytes(32),
        card_key=bytes(32),
    )
    return _checked(site)


def _checked(site: Site) -> Site:
    """The same record. Raises AdminError: a field that it could not be read back with."""
    from edge.admin.pki import check_host
    from edge.identity.rights_file import parse_rights

    try:
        site = msgspec.convert(msgspec.to_builtins(site), type(site))
    except msgspec.ValidationError as error:
        raise AdminError(f"site: {error}") from None
    for field, least, most in _BOUNDS:
        value = getattr(site, field)
        if not least <= value <= most:
            raise AdminError(f"site: {field}: expected {least:g} to {most:g}, got {value:g}")
    check_host(site.broker_host)
    try:
        parse_rights(msgspec.json.encode({"time_zone": site.time_zone}).decode(), "site")
    except ValueError as error:
        raise AdminError(str(error)) from None
    return site


def _show(options: argparse.Namespace) -> int:
    with opened(options) as site:
        record = site.records.site()
    shown = {
        name: value
        for name, value in msgspec.structs.asdict(record).items()
        if name not in ("site_key", "card_key")
    }
    if options.json:
        say_json(shown)
    else:
        show(options, ("setting", "value"), list(shown.items()))
    return 0


def _set(options: argparse.Namespace) -> int:
    from edge.admin.people import check_all

    changes: dict[str, Any] = {
        name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None
    }
    for name in ("holidays", "others"):
        if getattr(options, name) is not None:
            changes[name] = [one for one in getattr(options, name) if one]
    if not changes:
        raise AdminError("expected something to change, got nothing: see doord admin site set --help")
    with opened(options) as site, site.records.transaction():
        site.records.put_site(_checked(msgspec.structs.replace(site.records.site(), **changes)))
        check_all(site.records)
    tell(options, f"changed: {', '.join(changes)}", changed=list(changes))
    return 0


# Keys


def roots(options: argparse.Namespace) -> list[Keystore]:
    """The files with root keys, opened. Raises GalleryKeyError."""
    from edge.admin.folder import ROOT_KEYS
    from edge.admin.keystore import ROOT_VARIABLE, Keystore, ask_passphrase

    paths = options.root_keys or [folder(options) / ROOT_KEYS]
    return [Keystore.open(path, ask_passphrase(ROOT_VARIABLE, str(path))) for path in paths]


def second_signer(options: argparse.Namespace) -> Keystore:
    """The file of the second signer, opened. Raises GalleryKeyError."""
    from edge.admin.keystore import Keystore, ask_passphrase

    path = options.second_signer
    return Keystore.open(path, ask_passphrase(SECOND_VARIABLE, f"the second signer's key in {path}"))


def _second(options: argparse.Namespace) -> int:
    from edge.admin.keystore import Keystore, ask_passphrase
    from edge.admin.release import rotate

    with opened(options) as site:
        opened_roots = roots(options)
        passphrase = ask_passphrase(SECOND_VARIABLE, f"the second signer's key in {options.file}", again=True)
        name = site.records.site().site
        key = Keystore.create(options.file, name, [SECOND_ROLE], passphrase).signer(SECOND_ROLE).public_key
        rotate(site, [], opened_roots, now(), {SECOND_ROLE: [key]})
        site.records.put_site(msgspec.structs.replace(site.records.site(), second_signer=True))
    tell(
        options,
        f"{options.file}: key {key.keyid[:12]}; doord admin republish, to tell the doors",
        file=str(options.file),
    )
    return 0


def _renew(options: argparse.Namespace) -> int:
    from edge.admin.folder import renew_certificate

    with opened(options) as site:
        if not options.dry_run:
            renew_certificate(site, now())
    words = "a new certificate; doord admin broker-files, so that the broker refuses the old one"
    tell(options, f"would be: {words}" if options.dry_run else words, dry_run=options.dry_run)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from edge.admin.release import rotate

    if _CERTIFICATE in options.names:
        if set(options.names) != {_CERTIFICATE}:
            raise AdminError(f"rotate-keys: expected {_CERTIFICATE} alone: the others need root")
        return _renew(options)
    with opened(options) as site:
        keys = roots(options)
        if options.dry_run:
            there = {name for store in (site.keys, *keys) for name in store.names}
            missing = [name for name in options.names if name not in there]
            if options.only_these and missing == ["targets"]:
                missing = []  # made anew in root's first file
            words = f"would replace: {', '.join(options.names)}"
            if missing:
                words = f"would fail: {', '.join(missing)} lies in none of the files: --root-keys"
            tell(options, words, missing=missing)
            return int(bool(missing))
        done = rotate(site, options.names, keys, now(), only_these=options.only_these)
    version = done.publication.version
    tell(options, f"version {version}: new keys; doord admin republish", version=version)
    return 0


def _verify(options: argparse.Namespace) -> int:
    """0: all is well; 1: something is wrong; what the next push would change is told, and no fault."""
    from edge.admin.release import push

    with opened(options) as site:
        wrong = site.tree.check(now()) + _contradictions(site)
        pending = [] if wrong else list(push(site, now(), dry_run=True).targets)
        version = site.tree.version
    if options.json:
        say_json({"version": version, "wrong": wrong, "not_pushed": pending})
    else:
        say(*wrong, *([f"{len(pending)} targets differ from the records: not pushed yet"] if pending else []))
        say(f"version {version}: {'all is well' if not wrong else f'{len(wrong)} faults'}")
    return int(bool(wrong))


def _contradictions(site: OpenSite) -> list[str]:
    from edge.admin.people import check_all

    try:
        check_all(site.records)
    except AdminError as error:
        return str(error).split("\n")
    return []
