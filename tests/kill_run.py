"""Door, broker and collector killed -9 at random under load: kill_run.py EVENTS BROKER COLLECTOR DOOR."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from broker import PATIENCE_S, Broker, die_with_parent, wait_until
from collecting import rows
from events import rows_of
from signing import new_signer

from edge.admin.collected import Collected
from edge.admin.store import EventStore

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Result:
    """What became of it."""

    made: int
    lost: int
    twice: int
    in_order: bool
    chain: str  # what `doord log verify` says
    took_s: float


class Killed:
    """A process that is killed and started again."""

    def __init__(self, script: str, *words: object) -> None:
        self._words = [sys.executable, str(HERE / script), *map(str, words)]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._words, preexec_fn=die_with_parent, env=os.environ, stdout=subprocess.DEVNULL
        )

    def end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def again(self) -> None:
        self.end()
        self._process = self._start()


def run(folder: Path, events: int, kills: dict[str, int], patience_s: float, seed: int = 1) -> Result:
    """Kill each of broker, collector and door so often, at random times, while `events` are made."""
    key, store, ledger = folder / "ack.key", folder / "store" / "events.db", folder / "door" / "events.db"
    key.write_bytes(new_signer().private_bytes)
    ledger.parent.mkdir()
    began = time.monotonic()
    with Broker(folder / "broker", "persistence true", "autosave_interval 1800") as broker:
        collector = Killed("collect_worker.py", store, broker.port, key)
        wait_until(lambda: "doord/hq/door/+/event" in broker.log, "the collector subscribes")
        door = Killed("sending_worker.py", ledger, broker.port, key, events)

        def broker_again() -> None:
            broker.stop(signal.SIGKILL)
            broker.start()

        how: dict[str, Callable[[], None]] = {
            "broker": broker_again,
            "collector": collector.again,
            "door": door.again,
        }
        order = [name for name, count in kills.items() for _ in range(count)]
        chance = random.Random(seed)
        chance.shuffle(order)
        for number, name in enumerate(order):
            wait_until(
                lambda n=number: made(ledger) > n * events // (len(order) + 1), "events are made", patience_s
            )
            time.sleep(chance.random() * 0.2)
            how[name]()
        wait_until(lambda: made(ledger) == events, "all events are made", patience_s)
        wait_until(lambda: collected(store) >= events, "all events are collected", patience_s)
        collector.end()
        door.end()
    return judged(ledger, store, time.monotonic() - began)


def made(ledger: Path) -> int:
    try:
        return len(rows_of(ledger))
    except Exception:  # noqa: BLE001  # not there yet
        return 0


def collected(store: Path) -> int:
    with Collected(store) as there:
        return int(there._connection.execute("SELECT count(*) FROM event").fetchone()[0])


def judged(ledger: Path, store: Path, took_s: float) -> Result:
    door = rows_of(ledger)
    with closing(EventStore(store, "hq")) as opened:
        there = rows(opened)
        arrived = [row.payload for row in opened.arrived_after(0, len(there) + 1)]
    by_number = [(seq, payload) for _, seq, payload in there]
    with Collected(store) as found:
        verdicts = [f"{name}: {flaw}" for name, flaw in found.verify(None)]
    return Result(
        made=len(door),
        lost=len(set(door) - set(by_number)),
        twice=len(arrived) - len(set(arrived)),
        in_order=by_number == door,
        chain="; ".join(verdicts),
        took_s=round(took_s, 1),
    )


if __name__ == "__main__":
    count, *times = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as made_folder:
        print(
            run(Path(made_folder), count, dict(zip(("broker", "collector", "door"), times, strict=True)), 600)
        )
