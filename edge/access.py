"""What a right to enter needs beside a face: rights, cards, the time, and who failed how often.

Any of them may be missing or damaged: then nobody has the rights that depend on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.config import Config, Id
from edge.disk import write_atomically
from edge.errors import ConfigError, GalleryError
from edge.identity.cards import CardFile
from edge.identity.credentials import Cards, Credential, Evidence, claimed, enough
from edge.identity.rights import (
    EVERYBODY_ALWAYS,
    Permitted,
    Rights,
    decide,
    ends_some_time,
    free_until,
    open_now,
)
from edge.identity.rights_file import load_rights
from edge.identity.throttle import FAILURES, FAILURES_WITH_PAD, Lockout
from edge.joined import is_joined
from edge.keys import key_of
from edge.ports import Clock
from edge.values import Deny, Reason

log = logging.getLogger(__name__)

_Kept = dict[Id, tuple[Annotated[int, Meta(ge=1)], Annotated[float, Meta(ge=0, le=86400)]]]


def checked_rights(config: Config) -> Rights:
    """The rights that the configuration names, everybody's where it names none.

    Raises:
        ConfigError: the file can't be used, or lacks a schedule of `access.by_schedule`.
    """
    if not config.rights_file:
        return EVERYBODY_ALWAYS
    rights = load_rights(Path(config.rights_file))
    lacking = lacking_schedule(config, rights)
    if lacking is not None:
        raise ConfigError(f"{config.rights_file}: {lacking}")
    return rights


def lacking_schedule(config: Config, rights: Rights) -> str | None:
    """What `access.by_schedule` asks for and the rights do not have, in words: it would never hold."""
    for i, period in enumerate(config.access.by_schedule):
        if period.schedule not in rights.schedules:
            known = ", ".join(rights.schedules) or "none"
            return f"schedules: expected {period.schedule!r} for access.by_schedule[{i}], got {known}"
    return None


class Access:
    """Who may enter by this door now. Loaded and reloaded by one thread, asked by any."""

    def __init__(self, config: Config, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._monotonic = monotonic
        self.card_file = CardFile(config.cards_path, key_of(config))
        self._failures = Path(config.state_dir) / "failed.json"
        self._rights: Rights | None = None
        self._cards: Cards | None = None
        self._problems: dict[str, str] = {}
        self._joined = is_joined(config)
        self._expires_utc: datetime | None = None
        self._lockout = self._resumed()
        self.load()

    def load(self) -> None:
        """Read rights and cards, again if need be; what was in force stays so when that fails.

        Those of a joined door come from its site (`put_in_force`).
        """
        if self._joined:
            self._note("rights", None if self._rights else "nothing of the site is in force yet")
            return
        self.load_rights()
        self.load_cards()

    def adopt(self, config: Config) -> None:
        """Another configuration, its rights, the cards again. Raises ConfigError: all stays as it was."""
        if self._joined:
            lacking = lacking_schedule(config, self._rights) if self._rights else None
            if lacking is not None:
                raise ConfigError(f"the site's {lacking}")
            self._config = config
            return
        try:
            rights = checked_rights(config)
        except ConfigError as error:
            self._refuse(error)
            raise
        self._config, self._rights = config, rights
        self.load()

    def put_in_force(self, rights: Rights, cards: Cards, expires_utc: datetime) -> None:
        """The site's rights and cards, believed without news until `expires_utc`."""
        self._rights, self._cards, self._expires_utc = rights, cards, expires_utc
        self._note("rights", None)

    def load_rights(self) -> None:
        """The rights alone."""
        try:
            self._rights = checked_rights(self._config)
            self._note("rights", None)
            if self._config.rights_file:
                log.info("%s: rights of %d subjects", self._config.rights_file, len(self._rights.subjects))
        except ConfigError as error:
            self._refuse(error)

    def _refuse(self, error: ConfigError) -> None:
        kept = "those before stay in force" if self._rights else "nobody has rights"
        self._note("rights", f"{error}; {kept}")

    def load_cards(self) -> None:
        """The cards alone."""
        try:
            self._cards = self.card_file.load()
            self._note("cards", None)
        except GalleryError as error:
            self._note("cards", str(error))

    def _note(self, part: str, problem: str | None) -> None:
        if problem is None:
            self._problems.pop(part, None)
        elif self._problems.get(part) != problem:
            log.error("%s", problem)
            self._problems[part] = problem

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words."""
        return [*self._problems.values(), *self._stale()]

    def _stale(self) -> list[str]:
        if not self._expired:
            return []
        whom = {"deny": "nobody enters", "deny_limited": "who has a last day does not enter"}
        return [
            f"the site was not heard of in time (expected by {self._expires_utc:%Y-%m-%d %H:%M} UTC): "
            + whom.get(self._config.sync.when_expired, "all rights stay in force")
        ]

    def cards(self) -> Cards | None:
        """The cards in force."""
        return self._cards

    def why_not(self) -> list[str]:
        """Why nobody can enter; empty when somebody can."""
        if self._expired and self._config.sync.when_expired == "deny":
            return self._stale()
        missing = [] if self._rights else ["rights"]
        if self._cards is None and Evidence.FACE not in self.enough():
            missing.append("cards")
        return [self._problems[part] for part in missing if part in self._problems]

    def enough(self) -> frozenset[Evidence]:
        """What opens now. By a clock that is not trusted: what opens at every hour."""
        access, rights = self._config.access, self._rights
        if rights is None or not access.by_schedule:
            return enough(self._config.modes)
        if not self._believed:
            return enough(self._config.modes)
        now_utc = self._clock.now_utc()
        for period in access.by_schedule:
            if open_now(rights.schedules[period.schedule], rights.calendar, now_utc):
                return enough([period.mode])
        return enough([access.mode])

    def permitted(self, subject: str) -> Permitted | Deny:
        """Whether the subject may enter here and now."""
        if self._rights is None:
            return Deny(Reason.OTHER)
        if self._expired and self._needs_news(subject, self._rights):
            return Deny(Reason.GALLERY_EXPIRED)
        return decide(self._rights, subject, self._config.door_id, self._clock.now_utc(), self._believed)

    def _needs_news(self, subject: str, rights: Rights) -> bool:
        """Whether the subject is refused once the site has not been heard of for too long."""
        policy = self._config.sync.when_expired
        return policy == "deny" or (policy == "deny_limited" and ends_some_time(rights, subject))

    @property
    def _expired(self) -> bool:
        """Also by a clock that is not trusted, which shows no less than when it last was.

        Else who can jam a door need only pull its plug. One that wrongly shows a later time refuses more.
        """
        expires = self._expires_utc
        return expires is not None and not self._clock.now_utc() < expires

    def free_until(self) -> datetime | None:
        """When the free access that holds now ends at the latest, UTC; None: none holds."""
        if self._rights is None or (self._expired and self._config.sync.when_expired == "deny"):
            return None
        return free_until(self._rights, self._config.door_id, self._clock.now_utc(), self._believed)

    def free_for_s(self) -> float | None:
        """How long the free access that holds now lasts at the most, s; None: none holds."""
        until = self.free_until()
        return None if until is None else (until - self._clock.now_utc()).total_seconds()

    def claimed(self, card: str) -> Credential | Deny:
        """Whose card this is, if it counts and its subject has not just failed too often."""
        if self._cards is None:
            return Deny(Reason.OTHER)
        found = claimed(self._cards, card, self._clock.now_utc(), self._believed)
        if isinstance(found, Credential) and self._lockout.blocked(found.subject, self._monotonic()):
            return Deny(Reason.THROTTLED)
        return found

    def failed(self, subject: str) -> None:
        """A face was not the one of the claimed subject."""
        allowed = {"off": FAILURES}.get(self._config.pad.mode, FAILURES_WITH_PAD)
        self._lockout = self._lockout.after_failure(subject, self._monotonic(), allowed)
        self._keep_failures()

    def succeeded(self, subject: str) -> None:
        """A face was the one of the claimed subject."""
        if subject in self._lockout.failed:
            self._lockout = self._lockout.after_success(subject)
            self._keep_failures()

    def tend(self, at_once: bool = False) -> None:
        """Remember the time; to be called every few seconds, `at_once` at the end."""
        self._clock.keep(at_once)

    @property
    def _believed(self) -> bool:
        return self._clock.trusted or self._config.access.when_clock_untrusted == "judge"

    def _keep_failures(self) -> None:
        try:
            write_atomically(self._failures, msgspec.json.encode(self._lockout.remaining(self._monotonic())))
        except OSError as error:
            log.warning("%s: failed attempts can't be remembered: %s", self._failures, error.strerror)

    def _resumed(self) -> Lockout:
        try:
            kept = msgspec.json.decode(self._failures.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return Lockout()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("%s: failed attempts are forgotten: %s", self._failures, error)
            return Lockout()
        return Lockout.resumed(kept, self._monotonic())
