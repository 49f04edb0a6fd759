"""The bridge: a lock in Home Assistant for each door. It signs what is pressed there.

A door obeys no unsigned topic, so nobody who can write to the broker opens it; this process can,
with a key of its own, and so decides what of Home Assistant's words it signs: what was pressed now, at
a door whose own signed report is of now. One thread, one connection to hear on, another for each order.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from edge import __version__
from edge.admin import lock_entity
from edge.admin.bridge_files import BridgeFolder
from edge.admin.command import Answer, send_to
from edge.admin.conversation import Conversation, Heard
from edge.admin.lock_entity import Last, Press, Wish
from edge.admin.model import Door
from edge.admin.reports import attestation_of, door_of
from edge.errors import AdminError, LinkError, PayloadError
from edge.journal import notify, said
from edge.link import broker
from edge.link.discovery import BIRTH, BIRTH_TOPIC
from edge.link.orders import Attestation

log = logging.getLogger(__name__)

_TURN_S = 1.0
_MOST = 1000  # messages of one turn: who sends without end holds up no order and no watchdog
_RETRY_S = (1.0, 60.0)

Order = Callable[[Wish, Mapping[str, Door]], list[Answer]]


class Bridge:
    """What the bridge knows of each door, over all its connections. For one thread."""

    def __init__(
        self, site: str, doors: Callable[[], dict[str, Door]], order: Order, now_utc: Callable[[], datetime]
    ) -> None:
        """How it orders.

        Args:
            site: its id.
            doors: as of now; asked each turn. Raises AdminError.
            order: signs, sends, and waits for the answers. Raises LinkError, AdminError.
            now_utc: aware.
        """
        self._site = site
        self._doors = doors
        self._order = order
        self._now_utc = now_utc
        self._started_at = now_utc()
        self._known: dict[str, Door] = {}
        self._reports: dict[str, Attestation] = {}
        self._pressed_at: dict[str, datetime] = {}
        self._last: dict[str, Last] = {}
        self._told: dict[str, bytes] = {}  # what the broker keeps of each lock

    def begin(self, talk: Conversation) -> None:
        """Subscribe and announce, on a new connection. Raises LinkError, AdminError."""
        self._told.clear()
        for topics in (f"doord/{self._site}/door/+/attestation", f"doord/{self._site}/bridge/+/set"):
            talk.subscribe(topics)
        talk.subscribe(BIRTH_TOPIC)
        self._learn_doors()
        self._announce(talk)
        self._show(talk)
        talk.keep([(lock_entity.status_topic(self._site), b"online")])

    def turn(self, talk: Conversation, until: float) -> None:
        """Hear what is there, waiting for it until `until` (s, monotonic); do it, and show it."""
        if self._learn_doors():
            self._announce(talk)
        presses: dict[str, Press] = {}  # at each lock the last
        heard, left = talk.hear(until), _MOST
        while heard is not None:
            self._take(talk, heard, presses)
            left -= 1
            heard = talk.hear(time.monotonic()) if left else None
        self._obey(presses)
        self._show(talk)

    def _learn_doors(self) -> bool:
        """Whether there are others than before. What was heard of one that is not the same is forgotten."""
        doors = self._doors()
        same = {door for door in doors if self._known.get(door) == doors[door]}
        is_new, self._known = doors != self._known, doors
        self._reports = {door: said for door, said in self._reports.items() if door in same}
        return is_new

    def _take(self, talk: Conversation, heard: Heard, presses: dict[str, Press]) -> None:
        if heard.topic == BIRTH_TOPIC:
            if heard.payload == BIRTH:
                self._announce(talk)
        elif heard.topic.endswith("/attestation"):
            self._believe(heard)
        elif heard.topic.endswith("/set"):
            press = self._considered(heard)
            if press is not None:
                presses[door_of(heard.topic)] = press

    def _believe(self, heard: Heard) -> None:
        door = door_of(heard.topic)
        record = self._known.get(door)
        if record is None:
            return
        try:
            report = attestation_of(heard, self._site, record)
        except PayloadError as error:
            log.warning("door %s: forged report: %s", door, error)
            return
        known = self._reports.get(door)
        if lock_entity.newer(report, known):
            self._reports[door] = report
        elif report != known:
            log.warning("door %s: an old report was shown as new", door)

    def _considered(self, heard: Heard) -> Press | None:
        """The press, if it may be obeyed."""
        door, now = door_of(heard.topic), self._now_utc()
        last = self._pressed_at.get(door, self._started_at)
        try:
            press = lock_entity.decode_press(heard.payload)
        except PayloadError as error:
            self._refuse(door, "?", str(error))
            return None
        why = lock_entity.refusal(press, last, now)
        if heard.retained:
            why = "it was retained: a command must not be kept by a broker"
        elif door not in self._known:
            why = "no such door was added to this site"
        elif press.do == "unlock" and not lock_entity.heard_of(self._reports.get(door), now):
            why = "the door has not been heard of"
        if why is not None:
            self._refuse(door, press.do, why)
            return None
        self._pressed_at[door] = press.at
        return press

    def _refuse(self, door: str, do: str, why: str) -> None:
        if door in self._known:
            self._last[door] = Last(do, "refused", why)
        log.warning("%s at door %s refused: %s", do, door, why, extra=said("BridgeRefused", DOOR=door))

    def _obey(self, presses: Mapping[str, Press]) -> None:
        """One order for each wish, however many doors it names; what only locks comes first."""
        wishes: tuple[Wish, ...] = ("lock", "unlock")
        for do in wishes:
            named = {
                door: self._known[door] for door, press in presses.items() if self._is_to_do(do, door, press)
            }
            if not named:
                continue
            try:
                answers = self._order(do, named)
            except (LinkError, AdminError) as error:
                answers = [Answer(door, "no answer", str(error)) for door in named]
            for answer in answers:
                self._last[answer.door] = Last(do, answer.outcome, answer.detail)
                _tell(do, answer)

    def _is_to_do(self, do: Wish, door: str, press: Press) -> bool:
        """Also that nobody has left while other doors were waited for."""
        late = lock_entity.too_old(press, self._now_utc()) if do == "unlock" == press.do else None
        if late is not None:
            self._refuse(door, do, late)
        return press.do == do and late is None

    def _announce(self, talk: Conversation) -> None:
        told = [lock_entity.announce(self._site, door, __version__) for door in self._known]
        talk.keep([(one.topic, one.payload) for one in told])

    def _show(self, talk: Conversation) -> None:
        """What differs from what the broker keeps."""
        now = self._now_utc()
        for door in self._known:
            state = lock_entity.shown(self._reports.get(door), self._last.get(door), now)
            if self._told.get(door) != state:
                talk.keep([(lock_entity.state_topic(self._site, door), state)])
                self._told[door] = state


def _tell(do: str, answer: Answer) -> None:
    done = answer.outcome == "done"
    words = ", ".join(part for part in (answer.outcome, answer.detail) if part)
    kind, level = ("BridgeObeyed", logging.INFO) if done else ("BridgeRefused", logging.WARNING)
    log.log(level, "%s at door %s: %s", do, answer.door, words, extra=said(kind, DOOR=answer.door))


def run(folder: BridgeFolder, stopping: threading.Event, now_utc: Callable[[], datetime]) -> None:
    """Until `stopping`, over any loss of the broker. Raises ConfigError: a certificate is missing."""

    def order(do: Wish, doors: Mapping[str, Door]) -> list[Answer]:
        with Conversation(folder.mqtt, folder.site) as talk:
            return send_to(talk, folder.site, doors, folder.signer, do, now_utc, folder.next_counter)

    bridge = Bridge(folder.site, folder.doors, order, now_utc)
    status = lock_entity.status_topic(folder.site)
    last_fault = ""

    def attempt() -> None:
        nonlocal last_fault
        try:
            with Conversation(folder.mqtt, folder.site, will=(status, b"offline")) as talk:
                bridge.begin(talk)
                log.info("connected to %s", folder.mqtt.host, extra=said("BrokerConnected"))
                last_fault = ""
                _serve(bridge, talk, stopping)
                talk.keep([(status, b"offline")])
        except (LinkError, AdminError) as error:
            if str(error) != last_fault:
                log.error("%s; tried again for ever", error, extra=said("BrokerFault"))
            last_fault = str(error)

    notify("READY=1")  # a broker that is away is waited for, and no fault of the bridge
    broker.keep_trying(attempt, stopping, _RETRY_S, lambda: notify("WATCHDOG=1"))
    notify("STOPPING=1")


def _serve(bridge: Bridge, talk: Conversation, stopping: threading.Event) -> None:
    while not stopping.is_set():
        notify("WATCHDOG=1")
        bridge.turn(talk, time.monotonic() + _TURN_S)
