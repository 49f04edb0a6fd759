"""Broker, collector and door killed at random while events go from one to the other.

    python tests/event_campaign.py [--events 10000] [--broker 10] [--collector 5] [--door 10] [--away]

Mosquitto with the persistence of Debian's default, which forgets on a kill what it has acknowledged.
The figures go to stdout as JSON; the exit code is 0 when nothing was lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from broker import Broker, die_with_parent, wait_until
from event_door import acted
from events import told

from edge.link import wire
from edge.link.ledger_view import LedgerView

HERE = Path(__file__).parent


class Process:
    """A worker that is killed and started again."""

    def __init__(self, *arguments: object) -> None:
        self._command = [sys.executable, *map(str, arguments)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            self._command, env={**os.environ, "PYTHONPATH": path}, preexec_fn=die_with_parent
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(15)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None


def stored(path: Path) -> list[tuple[int, str, bytes]]:
    """What the collector has, in the order in which it came."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT seq, id, payload FROM events ORDER BY n").fetchall()
    except sqlite3.OperationalError:  # not there yet
        return []


def last_of(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def plan(count: int, kills: dict[str, int]) -> list[tuple[int, str]]:
    """After which event who is killed."""
    whom = [name for name, times in kills.items() for _ in range(times)]
    return sorted((random.randrange(count // 50, count - count // 50), name) for name in whom)


def campaign(
    folder: Path, count: int, kills: dict[str, int], rate: float = 150.0, away: bool = False
) -> dict[str, object]:
    """The figures, after everything has arrived. `away`: the collector comes when all is over."""
    broker = Broker(folder / "broker", "persistence true", "autosave_interval 1800")
    door = Process(HERE / "event_door.py", folder, broker.port, count, rate)
    collector = Process(HERE / "event_collector.py", folder / "collected.db", broker.port)
    began = time.monotonic()

    def restart(name: str) -> None:
        if name == "broker":
            broker.stop(signal.SIGKILL)
            broker.start()
        else:
            process = {"door": door, "collector": collector}[name]
            process.kill()
            process.start()

    with broker:
        if not away:
            collector.start()
        door.start()
        try:
            for after, name in plan(count, kills):
                wait_until(at_least(folder, after), f"event {after}, then the {name} is killed", 300)
                restart(name)
            wait_until(at_least(folder, count - 1), "the last event", 600)
            if away:
                collector.start()
            wait_until(lambda: all_came(folder, count), "everything at the collector", 600)
        finally:
            door.kill()
            collector.kill()
    return {"seconds": round(time.monotonic() - began), **judged(folder, count)}


def at_least(folder: Path, number: int) -> Callable[[], bool]:
    def reached() -> bool:
        time.sleep(0.05)
        done = acted(folder)
        return bool(done) and done[-1] >= number

    return reached


def all_came(folder: Path, count: int) -> bool:
    time.sleep(0.2)
    rows = told(folder / "events.db")
    return rows[-1].seq == last_of(folder / "collected.db")


def judged(folder: Path, count: int) -> dict[str, object]:
    rows = stored(folder / "collected.db")
    head, out_of_chain = wire.GENESIS, 0
    for _, _, payload in rows:
        try:
            _, head = wire.follow(payload, head)
        except wire.PayloadError:
            out_of_chain += 1
    events = [wire.decode_event(payload) for _, _, payload in rows]
    came = [int(event.detail) for event in events if event.kind == "CameraFault"]
    with closing(LedgerView(folder / "events.db")) as view:
        flaw = view.verify()
    return {
        "events": count,
        "rows": len(rows),
        "lost": len(set(acted(folder)) - set(came)) + len(set(range(count)) - set(came)),
        "duplicate_rows": len(rows) - len({event_id for _, event_id, _ in rows}),
        "out_of_order": sum(a > b for a, b in itertools.pairwise(came)),
        "out_of_chain": out_of_chain,
        "ledger_flaw": None if flaw is None else f"{flaw.seq} {flaw.what}",
        "unsynced": sum(event.kind == "EventUnsynced" for event in events),
    }


FAULTS = ("lost", "duplicate_rows", "out_of_order", "out_of_chain", "ledger_flaw")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    for name, times in (("broker", 10), ("collector", 5), ("door", 10)):
        parser.add_argument(f"--{name}", type=int, default=times, help="how often it is killed")
    parser.add_argument("--rate", type=float, default=150.0, help="events/s")
    parser.add_argument("--away", action="store_true", help="the collector comes when all is over")
    asked = parser.parse_args()
    kills = {name: getattr(asked, name) for name in ("broker", "collector", "door")}
    if asked.away:
        kills["collector"] = 0
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), asked.events, kills, asked.rate, asked.away)
    print(json.dumps({**found, "kills": kills}, indent=2))
    return 1 if any(found[name] for name in FAULTS) else 0


if __name__ == "__main__":
    raise SystemExit(main())
