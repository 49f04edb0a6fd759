"""What the door says of itself: status and state for the broker, systemd's status line, `doord status`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import msgspec

from edge import __version__
from edge.config import Config
from edge.door.controller import DoorStatus
from edge.faces import Faces
from edge.journal import notify, said
from edge.link import wire
from edge.link.port import Health, Link
from edge.recorder import Recorder
from edge.values import DoorMode, Reason
from edge.vitals import Meter

log = logging.getLogger(__name__)


class SiteNews(Protocol):
    """What a joined door knows of its site."""

    @property
    def refusal(self) -> str | None:
        """Why what was published last is not in force, in words."""

    @property
    def expires_utc(self) -> datetime | None:
        """Until when what is in force is believed without news."""


class Standalone:
    """A door that is part of no site. Sibling of the site's."""

    refusal: str | None = None
    expires_utc: datetime | None = None


class ConfigNews(Protocol):
    """What became of the configuration when it was read again."""

    @property
    def refusal(self) -> str | None:
        """Why the file as it is now is not in force."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """Keys that are in force after a restart."""


class Reporter:
    """Tells what changed, to whom it concerns; from any thread."""

    def __init__(
        self,
        config: Config,
        faces: Faces,
        link: Link,
        recorder: Recorder,
        problems: Callable[[float], list[str]],
        site: SiteNews,
        meter: Meter,
        reloads: ConfigNews,
        pad: Callable[[], dict[str, object]],
    ) -> None:
        """What is told, and by whom.

        `problems`: why no face can be granted at a time (s, monotonic); empty when one can. `pad`: what
        presentation-attack detection goes by now.
        """
        self._config = config
        self._faces = faces
        self._link = link
        self._recorder = recorder
        self._problems = problems
        self._site = site
        self._meter = meter
        self._reloads = reloads
        self._pad = pad
        self.door = DoorStatus(DoorMode.LOCKED, "unknown")
        self._last_refusal: Reason | None = None
        self._told: Health | None = None
        self._told_manager = ""
        self._told_of_site: tuple[str | None, datetime | None] = (None, None)
        self._turn = threading.Lock()  # the door's, the vision and the sync thread publish the state

    def adopt(self, config: Config, link: Link) -> None:
        """Tell what is in force now, to a link that may be another."""
        self._config = config
        if link is not self._link:
            self._link = link
            if self._told is not None:
                link.set_health(self._told)
        self.publish_state()

    def health(self, now: float) -> Health:
        """What `status` says about the parts at `now` (s, monotonic)."""
        problems = list(dict.fromkeys(self._problems(now)))  # rights and gallery may lack the same
        pipeline, record = self._faces.pipeline, self._recorder
        return Health(
            armed=not problems,
            why_not=tuple(problems),
            gallery=self._faces.in_force[0],
            backend=pipeline.backend if pipeline else "",
            backend_why=pipeline.backend_why if pipeline else "",
            events_lost=record.lost,
            ledger_fault=record.fault,
        )

    def tell_health(self, now: float) -> None:
        """Say it, and what became of the site, where it differs from what was said last."""
        of_site = (self._site.refusal, self._site.expires_utc)
        if of_site != self._told_of_site:
            self._told_of_site = of_site
            self.publish_state()
        health = self.health(now)
        if health != self._told:
            self._link.set_health(health)
        if self._told is None or health.why_not != self._told.why_not:
            log.info("%s", _in_words(health), extra=said("Armed" if health.armed else "NotArmed"))
        self._tell_manager(health)
        self._told = health

    def _tell_manager(self, health: Health) -> None:
        """What `systemctl status` shows."""
        words = _in_words(health)
        words += f" (configuration refused: {self._reloads.refusal})" if self._reloads.refusal else ""
        if words != self._told_manager:
            notify(f"STATUS={words}")
            self._told_manager = words

    def status_json(self) -> bytes:
        """For `doord status`."""
        status = msgspec.to_builtins(self.health(time.monotonic()))
        status |= {
            "version": __version__,
            "simulation": self._config.simulation,
            "broker_connected": self._link.connected,
            "events_undelivered": self._recorder.undelivered,
            "mode": self.door.mode,
            "lock": self.door.lock,
            "dps": self.door.dps,
            "alarms": self.door.alarms,
            "gallery_expires_at": self._expires_at(),
            "gallery_refusal": self._site.refusal,
            "config_refusal": self._reloads.refusal,
            "restart_needed": self._reloads.waiting,
            "pad": self._pad(),
            "vitals": msgspec.to_builtins(self._meter.newest),
        }
        return msgspec.json.encode(status)

    def setting(self) -> wire.Setting:
        """What is in force, for events."""
        model = self._faces.model
        return wire.Setting(
            self._config.decision.threshold,
            model[0] if model else "",
            self._faces.in_force[0],
            self._config.simulation,
        )

    def post(self, event: wire.Event, details: bytes | None = None) -> None:
        """Record an event; `details` stay on the door."""
        self._recorder.post(event, details)
        if isinstance(event, wire.Denied):
            self._last_refusal = event.reason
            self.publish_state()

    def post_then(
        self, event: wire.Event, details: bytes | None, then: Callable[[], None], by: float
    ) -> None:
        """Record an event that something waits for; see Recorder."""
        self._meter.note(event)
        self._recorder.post_then(event, details, then, by)

    def on_state(self, status: DoorStatus) -> None:
        """The door is something else now."""
        fields = said("DoorState", MODE=status.mode.value, LOCK=status.lock, DPS=status.dps)
        log.info("door %s, lock %s, leaf %s", status.mode.value, status.lock, status.dps, extra=fields)
        self.door = status
        self.publish_state()

    def publish_state(self) -> None:
        """Publish the door's state as it is now."""
        with self._turn:  # else one built earlier could be sent later
            door, gallery = self.door, self._faces.gallery()
            self._link.set_state(
                wire.State(
                    mode=door.mode,
                    lock=door.lock,
                    fault=door.fault,
                    gallery=gallery.version if gallery else None,
                    gallery_digest=gallery.digest if gallery else None,
                    changed_at=wire.rfc3339(time.time()),
                    last_refusal=self._last_refusal,
                    dps=door.dps,
                    alarms=list(door.alarms),
                    subjects=len(gallery.subjects) if gallery else None,
                    templates=len(gallery) if gallery else None,
                    gallery_expires_at=self._expires_at(),
                    gallery_refusal=self._site.refusal,
                )
            )

    def _expires_at(self) -> str | None:
        expires = self._site.expires_utc
        return None if expires is None else wire.rfc3339(expires.timestamp())


def _in_words(health: Health) -> str:
    return "armed" if health.armed else "not armed: " + "; ".join(health.why_not)
