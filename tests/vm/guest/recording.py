"""In the guest: the door's record under load: ledger, recorder, outbox; its grants wait for the disk.

At its start it says what lies on the disk, read as `doord log verify` reads it, before anything is opened
to be written. Then attempts and exit buttons are recorded faster than any door has them, the oldest
records go by size all the time, and another process's writes make the disk slow. What the door's core
was told, and what was sent, it says on the file in ACKS: the host is the core, and the broker.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from acks import Acks

from edge import recorder as rules
from edge.disk import make_private_folder
from edge.errors import LedgerError
from edge.ledger_log import LedgerLog
from edge.link import ledger as bounds
from edge.link import wire
from edge.link.details import NOT_ASKED, PERMITTED, details_of, encode_details
from edge.link.ledger import Ledger
from edge.link.outbox import Outbox
from edge.log_view import Wanted
from edge.recorder import Recorder
from edge.values import Attempt, Deny, Grant, Observation, Reason

UNIT = Path("/etc/systemd/system/recording.service")
FOLDER = Path("/var/lib/recording")
PATH = FOLDER / "events.db"
MAX_BYTES = 3 << 19  # more than a life records: the host looks for all of it behind the cut
PRUNE_ROWS, ROOM = 200, 0.99  # little and often, so that many a cut is of a prune
FRESH_S = 0.95  # of a card's grant, less what is left to the door
SETTING = wire.Setting(0.7, "facenet", 1, simulation=False)
_TEXT = """[Service]
Environment=PYTHONPATH=/opt/code:/opt/code/tests ACKS={acks}
ExecStart=/usr/bin/python3 /opt/code/tests/vm/guest/recording.py
[Install]
WantedBy=multi-user.target
"""


def start_at_boot(acks: str) -> None:
    """From the next boot on run; say what is done on this port."""
    UNIT.write_text(_TEXT.format(acks=acks))
    subprocess.run(["systemctl", "enable", "--quiet", "recording"], check=True, timeout=60)
    os.sync()


def stamp() -> wire.Stamp:
    return wire.Stamp.of(time.time(), os.urandom(10))


def digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()[:16]


class NotedLedger(Ledger):
    """Also keeps what it turned out to lack when it was opened."""

    lacks: wire.Gap | None = None

    def open(self) -> wire.Gap | None:
        self.lacks = super().open()
        return self.lacks


class Door:
    """The record's side of a door, and who posts."""

    def __init__(self, acks: Acks) -> None:
        self._acks = acks
        self._ledger = NotedLedger(PATH, max_bytes=MAX_BYTES)
        self._recorder = Recorder(self._ledger, lambda: SETTING, lambda: None)

    def found(self) -> dict[str, object]:
        """What the last cut left, and how the door's own recorder begins on it."""
        left = _left()
        self._recorder.start()
        deadline = time.monotonic() + 60
        while self._recorder.fault is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        lacks = self._ledger.lacks
        cursor, fault = self._ledger.cursor, self._recorder.fault
        return {**left, "cursor": cursor, "fault": fault, "lacks": None if lacks is None else lacks.why}

    def run_for_ever(self) -> None:
        self._recorder.post(wire.notice("Started", "recording", stamp(), SETTING))
        for step in (self.attempt, self.exit, self.send, self.disturb):
            threading.Thread(target=_for_ever, args=(step,), daemon=True).start()
        while True:
            time.sleep(0.2)
            self._recorder.tend()
            if self._recorder.fault is not None or self._recorder.lost:
                self._acks.put(fault=self._recorder.fault, lost=self._recorder.lost)

    def attempt(self) -> None:
        """Some attempts at once, one of three a grant."""
        for _ in range(random.randint(1, 12)):
            now = time.monotonic()
            grants = random.random() < 1 / 3
            decision = Grant("kian", None) if grants else Deny(Reason.NO_MATCH)
            attempt = Attempt(decision, now, now, 0, Observation(now), margin=0.1)
            event = wire.attempt_event(attempt, stamp(), SETTING)
            details = encode_details(details_of(attempt, event, PERMITTED if grants else NOT_ASKED))
            if grants:
                self._recorder.post_then(event, details, self._opens(event.id, now), now + FRESH_S)
            else:
                self._recorder.post(event, details)
        time.sleep(random.uniform(0, 0.1))

    def _opens(self, which: str, asked_at: float) -> Callable[[], None]:
        """Says that the door was asked: of an event that is on the disk (kept), or not yet (late)."""

        def opens() -> None:
            late = threading.current_thread().name == "patience"
            ms = round((time.monotonic() - asked_at) * 1000)
            self._acks.put(**{"late" if late else "kept": which, "ms": ms})

        return opens

    def exit(self) -> None:
        """An exit button: it waits for nothing."""
        began = time.monotonic()
        self._recorder.post(wire.notice("ExitRequested", "the exit button", stamp(), SETTING))
        self._acks.put(exit_ms=round((time.monotonic() - began) * 1000, 1))
        time.sleep(random.uniform(0.05, 0.2))

    def send(self) -> None:
        """Everything in its order: what has left the machine is what the broker has."""
        outbox, mids = Outbox(self._ledger), itertools.count(1)
        while True:
            window = []
            while (stored := outbox.take()) is not None:
                window.append(next(mids))
                outbox.under_way(window[-1], stored)
                self._acks.put(sent=stored.seq, digest=digest(stored.payload))
            if not window:
                time.sleep(0.01)
                continue
            self._acks.drain()
            for mid in window:
                outbox.acknowledged(mid)

    def disturb(self) -> None:
        """What else writes on a door's card, so that a commit takes its time."""
        with (FOLDER / "other").open("wb") as file:
            file.write(os.urandom(random.randint(1, 8) << 20))
            os.fsync(file.fileno())
        time.sleep(random.uniform(0.2, 1))


def _left() -> dict[str, object]:
    """The ledger's first flaw, and the records of the last life: number, digest, id, kind, words."""
    if not PATH.exists():
        return {"flaw": None, "records": []}
    try:
        with LedgerLog(PATH, "front") as log:
            ((_, flaw),) = log.verify(None)
            return {"flaw": flaw and f"{flaw.seq} {flaw.what}", "records": _of_last_life(log)}
    except LedgerError as error:
        return {"flaw": str(error), "records": []}


def _of_last_life(log: LedgerLog) -> list[list[object]]:
    records: list[list[object]] = []
    for entry in log.select(Wanted()):
        event = wire.decode_event(entry.payload)
        if event.kind == "Started":
            records = []
        words = getattr(event, "detail", "")
        records.append([event.seq, digest(entry.payload), event.id, event.kind, words])
    return records


def _for_ever(step: Callable[[], None]) -> None:
    while True:
        step()


def main() -> None:
    """Say what was found, then load."""
    rules._PRUNE_ROWS, bounds._ROOM = PRUNE_ROWS, ROOM
    make_private_folder(FOLDER)
    acks = Acks(os.environ.get("ACKS", "/dev/null"))
    door = Door(acks)
    acks.say(start=door.found())
    door.run_for_ever()


if __name__ == "__main__":
    main()
