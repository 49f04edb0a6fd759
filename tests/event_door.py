"""A joined door's daemon, to be killed: event_door.py CONFIG COUNT RATE.

All of `build()`, but somebody in a great hurry presses the exit button: events numbered up to COUNT, RATE a
second, go the way of a grant's. It goes on where it was killed. What was acted upon with its event on the
disk stands beside CONFIG in `acted`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from events import told

from edge.config import load_config
from edge.daemon import Daemon, build
from edge.journal import start_logging
from edge.link import wire
from edge.recorder import PATIENCE_S

AT_ONCE = 500  # events that may wait for the disk


def acted(folder: Path) -> list[int]:
    """The events that were acted upon, in order."""
    path = folder / "acted"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def pressed(events: list[wire.Event]) -> list[int]:
    """Their numbers."""
    return [int(event.detail) for event in events if event.kind == "ExitRequested"]


def press(daemon: Daemon, folder: Path, numbers: range, rate: float) -> None:
    """As a door is asked: when the event is on the disk, or after 200 ms, and then nothing is promised."""
    act_on = os.open(folder / "acted", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    free = threading.Semaphore(AT_ONCE)

    def record(number: int) -> None:
        stamp = wire.Stamp.of(time.time(), os.urandom(10))
        event = wire.notice("ExitRequested", str(number), stamp, daemon.reporter.setting())
        late = time.monotonic() + PATIENCE_S

        def act() -> None:
            if time.monotonic() < late:
                os.write(act_on, b"%d\n" % number)
            free.release()

        daemon.reporter.post_then(event, None, act, float("inf"))

    for number in numbers:
        if not free.acquire(timeout=60):
            raise SystemExit("the disk takes nothing")
        record(number)
        time.sleep(1 / rate)


def run(path: Path, count: int, rate: float) -> None:
    config = load_config(path)
    ledger = config.events_path
    begin = 1 + max([-1, *acted(path.parent), *(pressed(told(ledger)) if ledger.exists() else [])])
    start_logging()
    daemon = build(config)
    daemon.start()
    threading.Thread(target=press, args=(daemon, path.parent, range(begin, count), rate), daemon=True).start()
    daemon.wait()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
