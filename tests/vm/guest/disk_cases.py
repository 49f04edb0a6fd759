"""In the guest: a door on a disk that hangs, is full, has failed: cards, exit button, and its record.

All of it is the daemon's own but the camera: the card's text goes to `Attendant`, through rights and
recorder to the door's thread and the kernel's line. One JSON object on stdout: a list of cases.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gpiochip
from gpiochip import SimLine
from recording import SETTING, stamp
from small_disk import SmallDisk

from edge.access import Access
from edge.attendant import Attendant
from edge.clock import SystemClock
from edge.config import Config, load_config
from edge.disk import FileKey
from edge.door.controller import DoorController
from edge.door.lines import claim_door
from edge.identity.claim import Verifier
from edge.identity.decide import Decider
from edge.ledger_log import LedgerLog
from edge.link import wire
from edge.link.ledger import Ledger
from edge.log_view import Wanted
from edge.recorder import Recorder

RELAY, REX = 17, 22
VISITS = 4
CONFIG = Path("/etc/doord/config.yaml")
_CONFIG = """site: vm
door_id: front
state_dir: {at}
rights_file: /etc/doord/rights.yaml
access: {{mode: card, when_clock_untrusted: judge}}
readers: {{wedge: {{device: /dev/input/event0}}}}
door:
  relay: {{chip: "label:doord-sim-0", line: "name:RELAY"}}
  rex: {{line: 22, pull: "off"}}
  unlock_s: 0.5
"""
_RIGHTS = "time_zone: UTC\nsubjects: {kian: {}}\n"


class Noted:
    """The recorder, and each event it was handed."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.ids: list[str] = []

    def post(self, event: wire.Event, details: bytes | None = None) -> None:
        self.ids.append(event.id)
        self.recorder.post(event, details)

    def post_then(
        self, event: wire.Event, details: bytes | None, then: Callable[[], None], by: float
    ) -> None:
        self.ids.append(event.id)
        self.recorder.post_then(event, details, then, by)


class Site:
    """The door's parts that a start makes; the disk and the lines' other ends outlive it."""

    def __init__(self, config: Config) -> None:
        self.ledger = Ledger(config.events_path)
        self.record = Noted(Recorder(self.ledger, lambda: SETTING, lambda: None))
        self._path = config.events_path
        lines = claim_door(config.door, simulation=False)
        self.door = DoorController(
            lines.relay,
            config.door,
            lambda _status: None,
            lambda kind, detail: self.record.post(wire.notice(kind, detail, stamp(), SETTING)),
            lines.inputs,
            lines.signals,
        )
        access = Access(config, SystemClock(Path(config.state_dir) / "clock.floor"))
        judges = (Decider(config.decision, 0.5), Verifier(config.decision, 0.5, 10))
        self.attendant = Attendant(
            *judges, access, lambda: None, self.door, self.record, lambda: SETTING, 0.5, lambda _: None
        )
        self.door.start()
        self.record.recorder.start()

    @property
    def fault(self) -> str | None:
        return self.record.recorder.fault

    def stop(self) -> None:
        self.door.stop()
        self.record.recorder.stop()
        self.record.recorder.close()

    def settle(self) -> None:
        """Until what waited is on the disk, and what is posted then; raises SystemExit: it never is."""
        self._await("nothing is recorded again", lambda: self.fault is None and self._rests(), 60)
        last = wire.notice("CameraRestored", "the last of this case", stamp(), SETTING)
        self.record.post(last)
        self._await("nothing is recorded", lambda: self.ledger.find(last.id) is not None, 60)

    def _rests(self) -> bool:
        """Whether nothing waits to be written."""
        before = self.ledger.head
        time.sleep(2)
        return self.ledger.head == before

    @staticmethod
    def _await(what: str, holds: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit(what)
            time.sleep(0.1)

    def flood(self, until: Callable[[], bool]) -> None:
        """Events, until that holds."""
        for _ in range(100):
            for _ in range(150):
                self.record.post(wire.notice("DoorTamper", "x" * 200, stamp(), SETTING))
            time.sleep(0.2)
            if until():
                return
        raise SystemExit(f"15,000 events: {self.fault}, {self.record.recorder.lost} lost")


class Said(logging.Handler):
    """How often the log said what of the record."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.left_behind = 0  # events that a stop could not write

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "edge.recorder":
            words = re.split("[:,;]", record.getMessage())[0]
            self.counts[words] += 1
            if found := re.fullmatch(r"(\d+) events are lost", words):
                self.left_behind += int(found[1])


class Cases:
    """One after the other on the same disk."""

    def __init__(self, config: Config, disk: SmallDisk) -> None:
        self._config, self._disk = config, disk
        self.relay, self.rex = SimLine(RELAY), SimLine(REX)
        self.relay.pull(0)
        self.rex.pull(1)
        self._numbers = itertools.count()
        self._log = Said()
        logging.getLogger().addHandler(self._log)
        self._site = Site(config)
        self._told_to = 0
        self._posted: list[str] = []

    def run(self) -> list[dict[str, object]]:
        """Each a case; see `_case`."""
        disk = self._disk
        cases = [
            self._case("is well", _nothing, _nothing, _nothing),
            self._case("hangs", disk.hang, lambda: time.sleep(6), disk.go_on),
            self._case("is full", disk.fill, self._flood, disk.free),
        ]
        self._site.stop()
        disk.fill()
        self._site = Site(self._config)
        cases.append(self._case("is full at the start", _nothing, self._flood, disk.free))
        cases.append(self._case("is read-only after an error", disk.fail, self._flood, self._boot))
        self._site.stop()
        return cases

    def _case(
        self, name: str, befalls: Callable[[], None], goes_on: Callable[[], None], ends: Callable[[], None]
    ) -> dict[str, object]:
        """What the door did while the disk was so, for short and for long; what the record has of it."""
        recorder = self._site.record.recorder
        lost = recorder.lost
        self._posted = self._site.record.ids
        self._posted.clear()
        self._log.counts.clear()
        self._log.left_behind = 0
        befalls()
        visits = [self._visit("kian") for _ in range(VISITS)]
        stranger, exit_ms = self._visit("eve"), self._exit()
        goes_on()
        visits += [self._visit("kian") for _ in range(VISITS)]
        fault, head = recorder.fault, self._site.ledger.head.seq
        ends()
        self._site.settle()
        return {
            "case": name,
            "visits_ms": visits,
            "stranger": stranger,
            "exit_ms": exit_ms,
            "fault": fault,
            "lost": recorder.lost - lost,
            "left_behind": self._log.left_behind,
            "reused": head - self._site.ledger.inherited if ends == self._boot else 0,
            **self._told(),
            "log": dict(self._log.counts),
        }

    def _boot(self) -> None:
        """What makes such a disk writable again."""
        self._site.stop()
        self._disk.mount_again()
        self._site = Site(self._config)

    def _flood(self) -> None:
        """Events, until what is left of the disk is used up, and what waits in memory is too much."""
        recorder = self._site.record.recorder
        lost = recorder.lost
        self._site.flood(lambda: recorder.fault is not None and recorder.lost - lost > 100)

    def _told(self) -> dict[str, object]:
        """What the chain says since the case before: read as `doord log` reads it."""
        with LedgerLog(self._config.events_path, "front") as log:
            ((_, flaw),) = log.verify(None)
            events = [wire.decode_event(entry.payload) for entry in log.select(Wanted(), self._told_to)]
            self._told_to = log.end
        ids = {event.id for event in events}
        return {
            "flaw": flaw and f"{flaw.seq} {flaw.what}",
            "posted": len(self._posted),
            "missing": sum(which not in ids for which in self._posted),
            "told_lost": sum(event.count for event in events if event.kind == "EventsDropped"),
            "gaps": [event.detail for event in events if event.kind == "EventsDropped"],
            "unsynced": sum(event.kind == "EventUnsynced" for event in events),
            "grants": sum(event.kind == "AccessGranted" for event in events),
        }

    def _visit(self, who: str) -> float | None:
        """From a card to the unlocked line, ms; None: it stayed locked."""
        number = next(self._numbers) % 8  # the same card within 2 s is one presentation
        return self._until_unlocked(lambda: self._site.attendant.present(f"{who}:{number}"))

    def _exit(self) -> float | None:
        found = self._until_unlocked(lambda: self.rex.pull(0))
        self.rex.pull(1)
        return found

    def _until_unlocked(self, ask: Callable[[], None]) -> float | None:
        self._await(0)
        began = time.monotonic()
        ask()
        return round((time.monotonic() - began) * 1000) if self._await(1) else None

    def _await(self, level: int) -> bool:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            if self.relay.level == level:
                return True
            time.sleep(0.002)
        return False


def _nothing() -> None:
    pass


def main() -> None:
    """Make the disk and the cards; run; report."""
    disk = SmallDisk(Path("/mnt/small"))
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(_CONFIG.format(at=disk.at))
    (CONFIG.parent / "rights.yaml").write_text(_RIGHTS)
    config = load_config(CONFIG)
    FileKey(config.key_path).create(config.gallery_path)
    access = Access(config, SystemClock(disk.at / "clock.floor"))
    for number in range(8):
        access.card_file.add(f"kian:{number}", "kian", True, None)
        access.card_file.add(f"eve:{number}", "eve", True, None)
    gpiochip.forget()
    print(json.dumps(Cases(config, disk).run()))


main()
