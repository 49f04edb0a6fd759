"""Checks of what leaves the door: broker, certificates, access rules, events, the site's news."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime, timedelta, timezone

from edge.acting import as_owner
from edge.config import Config
from edge.errors import DoordError
from edge.joined import Joined, broker_of, is_joined, read_joined
from edge.keys import broker_credentials
from edge.link.broker import Login
from edge.link.fetch import NoFetch
from edge.link.ledger_view import LedgerView
from edge.link.topics import Topics
from edge.link.trust import Release, SiteTrust
from edge.tools import broker_trial
from edge.tools.doctor.finding import Said, fail, note, ok, warn
from edge.tools.doctor.patient import Check, Patient

_TAIL = 1000  # records of the ledger; all of it: doord log verify
_MANY_WAIT = 1000
_SOON = timedelta(days=2)


def _broker(config: Config) -> Login | None:
    """Read as the service reads it. Raises ConfigError, GalleryError."""
    with as_owner(config, broker_credentials(config)):
        return broker_of(config, read_joined(config))


def broker_flaw(config: Config) -> str | None:
    """Why what the configuration has the broker shown can't be read; None: it can, or only root can tell."""
    if os.geteuid() != 0 or config.mqtt is None:
        return None
    try:
        _broker(config)
    except DoordError as error:
        return str(error)
    return None


def broker(patient: Patient) -> Said:
    """Does it answer, and is it the right one?"""
    login = _broker(patient.config)
    if login is None:
        return note("none configured: events stay in the log of this door")
    reached = broker_trial.reach(login)
    if reached.tls is None:
        cure = "mqtt.tls, and a broker that asks for client certificates: deploy/mosquitto"
        return warn(f"{reached.where} answers, without TLS: who can listen there reads who enters", cure)
    words = f"{reached.where} answers with {reached.tls}"
    return ok(f"{words}, its certificate holds until {reached.ends:%Y-%m-%d}" if reached.ends else words)


def certificates(patient: Patient) -> Said:
    """How long do this door's certificates hold?"""
    login = _broker(patient.config)
    if login is None or login.tls is None:
        return note("none are used")
    cure = "of a site: doord admin door add, and doord join here; else new files of whoever signed these"
    now = datetime.now(timezone.utc)
    terms = broker_trial.terms(login.tls)
    if not terms:
        return note("none of its own: the system's authorities vouch for the broker")
    flaws = "; ".join(flaw for term in terms if (flaw := term.flaw(now)))
    if not all(term.begins <= now < term.ends for term in terms):
        return fail(flaws, cure)
    first = min(term.ends for term in terms)
    return warn(flaws, cure) if flaws else ok(f"all hold until {first:%Y-%m-%d}")


def access_rules(patient: Patient) -> Said:
    """May the door write and read its own topics?"""
    config = patient.config
    login = _broker(config)
    if login is None:
        return note("no broker, no rules")
    broker_trial.echo(login, Topics(config.site, config.door_id))
    return ok("the door's own topic was written and read back")


def events(patient: Patient) -> Said:
    """Is the record whole, does it get written, does it get away?"""
    config, status = patient.config, patient.status or {}
    lost, why = status.get("events_lost", 0), status.get("ledger_fault")
    if why or lost:
        return fail(f"{lost} events lost since the start; {why or 'written again now'}", "part disk; df -h")
    if not config.events_path.exists():
        return note("no event yet")
    with as_owner(config), contextlib.closing(LedgerView(config.events_path)) as view:
        head, flaw, waiting = view.head, view.verify(_TAIL), view.undelivered
    words = f"{head.seq} so far, the last {min(_TAIL, head.seq)} verified"
    if flaw is not None:
        return fail(f"event {flaw.seq} {flaw.what}", "doord log verify; keep the file: somebody wrote to it")
    if waiting > _MANY_WAIT and (config.mqtt is not None or is_joined(config)):
        return warn(f"{words}; {waiting} wait for the broker", "parts broker and acl; mqtt.acks: collector?")
    return ok(f"{words}; {waiting} not delivered")


def _in_force(joined: Joined) -> Release | None:
    bundle = joined.bundle
    return SiteTrust(joined.tree, bundle.root, NoFetch(), lambda: None, bundle.key_encryption_key).in_force()


def news(patient: Patient) -> Said:
    """When was the site heard of, and until when is it believed?"""
    config = patient.config
    if not is_joined(config):
        return note("part of no site: doord join")
    with as_owner(config):
        joined = read_joined(config)
        release = None if joined is None else _in_force(joined)
    cure = "doord sync; does the admin's timer run? systemctl status doord-admin-refresh.timer there"
    if release is None:
        return fail(f"nothing of site {config.site} is in force yet", cure)
    told = (patient.status or {}).get("gallery_refusal")
    words = f"version {release.version} of site {config.site}, believed until {release.expires_utc:%F %R} UTC"
    now = datetime.now(timezone.utc)
    if now >= release.expires_utc:
        return fail(f"{words}: that is over (sync.when_expired: {config.sync.when_expired})", cure)
    if told:
        return warn(f"{words}; the newest was refused: {told}", "doord admin status, on the admin's machine")
    return warn(words, cure) if now >= release.expires_utc - _SOON else ok(words)


CHECKS = (
    Check("broker", broker, "name, port, route, firewall: mqtt.host; then the broker's own log"),
    Check("certificates", certificates, "mqtt.tls: paths and modes; doord join writes those of a site"),
    Check("acl", access_rules, "the broker's access rules: deploy/mosquitto/acl"),
    Check("events", events, "run doctor as root; doord log verify"),
    Check("site", news, "run doctor as root; doord join again"),
)
