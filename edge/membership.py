"""A joined door's ties to its site: what is published comes in force, who may command is obeyed.

Two threads beside the connection's own: "sync" asks for news, "orders" judges what arrives on the
command topic, so that a large update never keeps a lockdown waiting.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

from securesystemslib.signer import Key

from edge.access import lacking_schedule
from edge.config import Config
from edge.errors import ConfigError, DoordError, GalleryError, LinkError
from edge.joined import broker_of
from edge.link import wire
from edge.link.commands import Accepted, CommandDesk
from edge.link.downlink import Downlink
from edge.link.fetch import Fetch, FolderFetch, NoFetch
from edge.link.orders import Order
from edge.link.trust import SiteTrust
from edge.ports import Clock
from edge.site import Content, Site
from edge.ties import Ties
from edge.worker import Worker

log = logging.getLogger(__name__)

_WAIT_S = 0.5
_RETRY_S = (1.0, 300.0)  # after a failure: twice as long each time
_SYNC_STUCK_S = 900.0  # longer than the largest update takes by the slowest line
_NOW_S = 120.0  # how long who asks for a sync waits
_APART_S = 0.1  # two syncs; a broker may tell of news without end
_MAX_WAITING = 100  # orders; more of them are a flood, and no admin's
_MAX_TEXT = 300  # of a refusal, which has foreign bytes in it

Act: TypeAlias = Callable[[Order], tuple[bool, str]]
"""Does what was ordered: whether it is in force, and what there is to say about it."""


class Received(Protocol):
    """What arrived on the command topic."""

    @property
    def payload(self) -> bytes:
        """Foreign bytes."""

    @property
    def retained(self) -> bool:
        """Whether the broker had kept it."""

    @property
    def correlation(self) -> bytes | None:
        """What ties the answer to it (MQTT 5)."""


class Source:
    """Where the tree is fetched from: the broker, but for the time of one sync another place."""

    def __init__(self, broker: Fetch) -> None:
        self._broker = broker
        self.instead: Fetch | None = None

    def get(self, paths: Sequence[str], max_bytes: int) -> dict[str, bytes]:
        """See Fetch."""
        return (self.instead or self._broker).get(paths, max_bytes)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody waits for a sync."""

    folder: Path | None
    answer: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue)


class Membership:
    """Keeps a joined door up to date and obedient. Port SiteNews."""

    def __init__(
        self,
        ties: Ties,
        config: Config,
        clock: Clock,
        model: tuple[str, int] | None,
        apply: Callable[[Content], None],
        act: Act,
        tell: Callable[[wire.NoticeKind, str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """What came of it goes to three calls.

        Args:
            ties: the door's own.
            config: what is configured.
            clock: by which what is published and ordered expires.
            model: id and dimension of the embedder that runs here; None: none does.
            apply: puts content in force in memory.
            act: obeys.
            tell: reports.
            monotonic: s.
        """
        self.refusal: str | None = None
        self._voice = ties.voice
        self._clock = clock
        self._apply = apply
        self._act = act
        self._tell = tell
        self._config = config
        self._monotonic = monotonic
        self._link = _downlink(config, ties, self)
        self._source = Source(self._link)
        bundle = ties.joined.bundle
        key = bundle.key_encryption_key
        trust = SiteTrust(ties.joined.tree, bundle.root, self._source, self._trusted_now, key)
        self._site = Site(bundle, trust, model, lambda rights: lacking_schedule(self._config, rights))
        counters = Path(config.state_dir) / "counters.json"
        self._desk = CommandDesk(bundle.site, bundle.door, ties.voice.epoch, counters)
        self._news = threading.Event()
        self._asked: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        self._orders: queue.Queue[Received] = queue.Queue(_MAX_WAITING)
        self._flooded = False
        self._in_force: Content | None = None  # as applied
        self._closing = threading.Event()
        self._next_at = float("-inf")
        self._pause_s = _RETRY_S[0]

    def _trusted_now(self) -> datetime | None:
        believed = self._clock.trusted or self._config.access.when_clock_untrusted == "judge"
        return self._clock.now_utc() if believed else None

    def start(self) -> None:
        """Put in force what was so before; begin to connect. Never raises."""
        self._load()
        self._link.start()

    def tend(self) -> None:
        """Start again what died."""
        self._link.tend()

    def adopt(self, config: Config) -> None:
        """Another configuration of the same site and broker."""
        self._config = config

    def close(self, timeout_s: float = 3.0) -> None:
        """Disconnect; takes at most `timeout_s`."""
        self._closing.set()
        self._link.close(timeout_s)

    @property
    def expires_utc(self) -> datetime | None:
        """Until when what is in force is believed without news."""
        content = self._in_force
        return None if content is None else content.expires_utc

    @property
    def ack_keys(self) -> dict[str, Key]:
        """Who may ack this door's events, by key id."""
        content = self._site.content
        return content.keys.ack if content else {}

    def workers(self) -> list[Worker]:
        """The two threads."""
        return [Worker("sync", self.sync_step, _SYNC_STUCK_S), Worker("orders", self.order_step)]

    def _load(self) -> None:
        try:
            content = self._site.load()
        except (GalleryError, LinkError) as error:
            self._refuse(error)
            return
        if content is not None:
            self._apply(content)
            self._in_force = content
            log.info("site version %d in force: %s", content.version, _size(content))

    def news(self) -> None:
        """There may be news; from any thread."""
        self._news.set()

    def take(self, received: Received) -> None:
        """An order arrived; from any thread."""
        try:
            self._orders.put_nowait(received)
        except queue.Full:
            if not self._flooded:
                log.warning("orders are dropped: %d wait already", _MAX_WAITING)
            self._flooded = True

    def sync_now(self, folder: Path | None) -> str:
        """Ask for news at once, of the broker or of a folder (a USB stick); what came of it.

        Raises:
            GalleryError: it was refused, could not be asked for, or takes too long.
        """
        asked = _Asked(folder)
        self._asked.put(asked)
        self._news.set()
        try:
            refusal = asked.answer.get(timeout=_NOW_S)
        except queue.Empty:
            raise GalleryError(f"the sync goes on: no answer in {_NOW_S:g} s") from None
        content = self._in_force
        if refusal is not None or content is None:
            raise GalleryError(refusal or "nothing of the site is in force")
        return f"version {content.version} is in force: {_size(content)}"

    # Thread "sync"

    def sync_step(self) -> None:
        """Wait a moment for a reason to ask for news, and ask."""
        wanted = self._news.wait(_WAIT_S)
        if not wanted and self._monotonic() < self._next_at:
            return
        self._news.clear()
        try:
            asked = self._asked.get_nowait()
        except queue.Empty:
            asked = _Asked(None)
        came: str | None = "the sync failed: see the log"
        try:
            came = self._sync(asked.folder)
        finally:  # who waits is told also of what nobody foresaw
            asked.answer.put(came)
            if not self._asked.empty():
                self._news.set()
        self._closing.wait(_APART_S)

    def _sync(self, folder: Path | None) -> str | None:
        """Why there is nothing new, None when all is well."""
        self._source.instead = None if folder is None else FolderFetch(folder)
        self._wait_longer()  # first: it holds also where this thread dies of what comes
        try:
            self._site.update()
        except LinkError as error:
            log.info("site: %s; asked for again in at most %.0f s", error, self._pause_s)
            return str(error)
        except GalleryError as error:
            self._refuse(error)
            return str(error)
        finally:
            self._source.instead = None
        self._put_in_force()
        self.refusal = None
        self._pause_s = _RETRY_S[0]
        self._next_at = self._monotonic() + self._config.sync.every_s
        return None

    def _wait_longer(self) -> None:
        self._next_at = self._monotonic() + self._pause_s * random.uniform(0.5, 1)  # noqa: S311  # no knocking in step
        self._pause_s = min(_RETRY_S[1], 2 * self._pause_s)

    def _put_in_force(self) -> None:
        """What the site has, unless it is in force here already."""
        before, content = self._in_force, self._site.content
        if content is None or content is before:
            return
        self._apply(content)
        self._in_force = content
        if before is None or before.version != content.version:
            signers = ", ".join(signer[:8] for signer in content.signers)
            self._tell("GalleryApplied", f"version {content.version}, {_size(content)}, signed by {signers}")

    def _refuse(self, error: DoordError) -> None:
        """Say it once, however often it is tried again."""
        shown = "".join(char if char.isprintable() else " " for char in str(error))[:_MAX_TEXT]
        said, self.refusal = self.refusal, shown
        if said != self.refusal:
            self._tell("GalleryRefused", shown)

    # Thread "orders"

    def order_step(self) -> None:
        """Wait a moment for an order; judge it, obey, answer."""
        try:
            received = self._orders.get(timeout=_WAIT_S)
        except queue.Empty:
            self._flooded = False
            return
        content = self._site.content
        keys = content.keys.command if content else {}
        until = content.expires_utc if content else None
        verdict = self._desk.consider(received, keys, self._trusted_now(), until)
        if isinstance(verdict, Accepted):
            done, detail = self._act(verdict.order)
            what = f"{verdict.report}: {detail}" if detail else verdict.report
            self._tell("CommandObeyed" if done else "CommandRefused", what)
            reply = self._desk.reply(verdict, done, detail)
        else:
            if verdict.report is not None:
                self._tell("CommandRefused", verdict.report)
            reply = self._desk.reply(verdict)
        if reply is not None:
            self._link.reply(self._voice.answer(reply), received.correlation)


def _size(content: Content) -> str:
    return f"{len(content.gallery.subjects)} people, {len(content.gallery)} templates"


class NoDownlink(NoFetch):
    """A door without a usable broker: it syncs from folders only. Sibling of Downlink."""

    def start(self) -> None:
        """Nothing."""

    def tend(self) -> None:
        """Nothing."""

    def close(self, timeout_s: float = 3.0) -> None:
        """Nothing."""

    def reply(self, payload: bytes, correlation: bytes | None) -> None:
        """Nothing."""


def _downlink(config: Config, ties: Ties, member: Membership) -> Downlink | NoDownlink:
    try:
        login = broker_of(config, ties.joined)
        if login is None:
            return NoDownlink()
        return Downlink(login, wire.Topics(config.site, config.door_id), member.news, member.take)
    except ConfigError as error:
        log.error("no gallery and no commands of the site: %s; mend it and restart", error)
        return NoDownlink()
