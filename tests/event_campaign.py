"""Broker, collector and door killed at random while events go from one to the other; nothing may be lost.

    python tests/event_campaign.py [--events 10000] [--broker 10] [--collector 5] [--door 10] [--away]

A site as an admin makes it: Mosquitto by `broker-files`, with the persistence of Debian's default, which
forgets on a kill what it has acknowledged; `doord admin collect` by `collector-files`; a door that joined,
whose daemon is all of `build()` (event_door.py). The figures go to stdout as JSON; the exit code is 0 when
nothing was lost, doubled, out of order or is wrong with a chain.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from admin_site import made_site
from broker import Broker, die_with_parent, wait_until
from door_site import Site
from event_door import acted, pressed
from events import rows_of, told
from published import joined_bundle_file
from site_broker import site_broker

from edge.admin.collected import Collected
from edge.admin.collector import write_collector_files
from edge.admin.doors import add_door
from edge.admin.publish import publish
from edge.admin.release import push
from edge.errors import AdminError, GalleryError
from edge.link import wire
from edge.link.ledger_view import LedgerView
from edge.log_view import Wanted

HERE = Path(__file__).parent
KILLS = {"broker": 10, "collector": 5, "door": 10}


class Process:
    """One that is killed and started again; what it says goes to a file."""

    def __init__(self, log: Path, *arguments: object) -> None:
        self._command = [sys.executable, *map(str, arguments)]
        self._env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def again(self) -> None:
        self.kill()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, preexec_fn=die_with_parent, stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(15)


@dataclass(frozen=True)
class Unit:
    """A door that has joined a site, its broker, and where ledger and store are."""

    broker: Broker
    door: Site
    ledger: Path
    store: Path


def unit(folder: Path) -> Unit:
    """None of it runs; the broker has what the site published."""
    (folder / "door").mkdir()
    changes = {"mqtt": {"acks": "collector"}, "access": {"when_clock_untrusted": "judge"}}
    door = Site(folder / "door", camera={"source": f"file:{folder / 'nobody'}"}, **changes)
    now = datetime.now(timezone.utc)
    with made_site(folder / "hq", model="facenet-512-int8-1", dimension=512) as site:
        broker = site_broker(site, folder / "broker")
        door.doord("join", str(joined_bundle_file(add_door(site, "front", now), folder / "front.door")))
        push(site, now)
        write_collector_files(site, folder / "collector", now)
        with broker:
            publish(site, now)
            with door.running():
                door.wait_for("GalleryApplied")
            broker.stop()  # in order: it keeps what was published
    return Unit(broker, door, folder / "door/state/events.db", folder / "collector/collected/events.db")


def campaign(
    folder: Path, count: int, kills: dict[str, int], rate: float = 150.0, away: bool = False
) -> dict[str, object]:
    """The figures, after everything has arrived. `away`: the collector comes when all is over."""
    site = unit(folder)
    whom = [name for name, times in kills.items() for _ in range(times)]
    plan = sorted((random.randrange(count // 50, count - count // 50), name) for name in whom)
    words = ("-m", "edge.cli", "admin", "collect", "--as", folder / "collector")
    collector = Process(folder / "collector.log", *words)
    door = Process(folder / "door.log", HERE / "event_door.py", site.door.path, count, rate)
    began = time.monotonic()

    def broker_again() -> None:
        site.broker.stop(signal.SIGKILL)
        site.broker.start()

    again = {"broker": broker_again, "door": door.again, "collector": collector.again}
    with site.broker:
        if not away:
            collector.again()
        door.again()
        try:
            for after, name in plan:
                wait_until(lambda n=after: reached(site) >= n, f"event {after}, then {name} is killed", 300)
                again[name]()
            wait_until(lambda: recorded(site) == count - 1, "the last event", 120)
            if away:
                collector.again()
            wait_until(lambda: all_came(site), "everything at the collector", 600)
        finally:
            door.kill()
            collector.kill()
    return {"seconds": round(time.monotonic() - began), **judged(site, count)}


def reached(site: Unit) -> int:
    time.sleep(0.05)
    return max([-1, *acted(site.door.folder)])


def recorded(site: Unit) -> int:
    """The last in the ledger: the door may not have waited for it."""
    time.sleep(0.5)
    return max([-1, *pressed(told(site.ledger))])


def all_came(site: Unit) -> bool:
    time.sleep(0.2)
    with contextlib.suppress(AdminError, GalleryError), Collected(site.store) as found:  # no store yet
        return len(list(found.select(Wanted()))) >= len(rows_of(site.ledger))
    return False


def judged(site: Unit, count: int) -> dict[str, object]:
    with closing(LedgerView(site.ledger)) as view, Collected(site.store) as found:
        flaws = [("ledger", view.verify()), *found.verify(None)]
        rows = sorted((e.chain, wire.decode_event(e.payload).seq, e.payload) for e in found.select(Wanted()))
        (door,) = found.status(datetime.now(timezone.utc))
    came = [wire.decode_event(payload) for _, _, payload in rows]
    numbers, here = pressed(came), rows_of(site.ledger)
    return {
        "events": count,
        "rows": len(rows),
        "lost": len({*range(count), *acted(site.door.folder)} - set(numbers)) + door.missing,
        "duplicate_rows": len(rows) - len({event.id for event in came}),
        "out_of_order": sum(a > b for a, b in itertools.pairwise(numbers)),
        "other_bytes": sum(a != b[1:] for a, b in zip(here, rows, strict=False)),
        "forks": door.forks,
        "flaws": [f"{name}: {flaw.seq} {flaw.what}" for name, flaw in flaws if flaw is not None],
        "signed_up_to": door.vouched,
        "unsynced": sum(event.kind == "EventUnsynced" for event in came),
    }


FAULTS = ("lost", "duplicate_rows", "out_of_order", "other_bytes", "forks", "flaws")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    for name, times in KILLS.items():
        parser.add_argument(f"--{name}", type=int, default=times, help="how often it is killed")
    parser.add_argument("--rate", type=float, default=150.0, help="events/s")
    parser.add_argument("--away", action="store_true", help="the collector comes when all is over")
    asked = parser.parse_args()
    kills = {name: getattr(asked, name) for name in KILLS} | ({"collector": 0} if asked.away else {})
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), asked.events, kills, asked.rate, asked.away)
    print(json.dumps({**found, "kills": kills}, indent=2))
    return 1 if any(found[name] for name in FAULTS) else 0


if __name__ == "__main__":
    raise SystemExit(main())
