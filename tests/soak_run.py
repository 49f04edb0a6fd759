"""A door's long day: does its memory grow, do its threads or files, and how much does it write?

    python tests/soak_run.py [--attempts 2000] [--idle-s 86400] [--folder DIR] [--card] [--json FILE]

The whole daemon by `build()` in a process of its own: shipped models, real pictures, real ledger, real
Mosquitto over loopback. Siblings stand in for the camera, the pins, journald and the clock
(virtual_time.py), which goes on as soon as every thread of the door waits: a second takes as long as its
work. Each idle second has one frame of an empty hallway, each attempt five of a person, and the attempts
are spread over the day. The first tenth goes before the first sample. With --card the state lies on an
ext4 of its own on a loop device, and what reaches that is counted too (needs root).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from broker import Broker, die_with_parent

HERE = Path(__file__).parent
_LIMIT_S = 3600.0


@dataclass(frozen=True)
class Soaked:
    """What a worker saw; see soak_door.Sample for `samples`."""

    samples: list[dict]
    written: int  # bytes, by /proc/self/io
    log_lines: int
    log_bytes: int
    lost: int  # events
    ledger_bytes: int
    heard: dict[str, int]  # messages the broker got, by the end of their topic
    events: dict[str, int]  # in the ledger, by kind


def soak(folder: Path, attempts: int, idle_s: int, samples: int = 9, on: Card | None = None) -> Soaked:
    """Live through it. `on`: where the door keeps its state, if not in `folder`."""
    state = on.mount / "state" if on else folder / "state"
    with Broker(folder / "broker") as broker:
        config = _configuration(folder, state, broker.port)
        asked = {
            "config": str(config),
            "card": str(on.stat) if on else None,
            "attempts": attempts,
            "idle_s": idle_s,
            "warm_up": attempts // 10,
            "samples": samples,
        }
        done = subprocess.run(
            [sys.executable, str(HERE / "soak_worker.py")],
            input=json.dumps(asked),
            stdout=subprocess.PIPE,
            text=True,
            timeout=_LIMIT_S,
            check=True,
            preexec_fn=die_with_parent,
        )
        told = re.findall(r"Received PUBLISH from doord-\S+ \(.*'doord/soak/door/front/(\w+)'", broker.log)
    return Soaked(**json.loads(done.stdout), heard=dict(Counter(told)), events=_kinds(state / "events.db"))


def _kinds(ledger: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        rows = connection.execute("SELECT payload FROM events").fetchall()
    return dict(Counter(json.loads(payload)["kind"] for (payload,) in rows))


def _configuration(folder: Path, state: Path, port: int) -> Path:
    path = folder / "config.yaml"
    door = {
        "site": "soak",
        "door_id": "front",
        "state_dir": str(state),
        "socket": str(folder / "control.sock"),
        "door": {"relay": {"line": 17}, "dps": {"line": 22}, "rex": {"line": 27}, "led": {"line": 23}},
        "decision": {"fpir_accepted_by": "the soak"},
        "mqtt": {"host": "127.0.0.1", "port": port},
    }
    path.write_text(yaml.safe_dump(door))
    return path


@dataclass(frozen=True)
class Card:
    """An ext4 of its own."""

    mount: Path
    stat: Path  # the kernel's figures about its device


@contextlib.contextmanager
def card(folder: Path) -> Iterator[Card]:
    """On a loop device, as long as the block lasts."""
    image, mount = folder / "card.img", folder / "card"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(1 << 30)
    _do("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    _do("mount", "-o", "loop,noatime", image, mount)
    try:
        device = _do("findmnt", "-n", "-o", "SOURCE", mount).strip()
        yield Card(mount, Path("/sys/class/block", Path(device).name, "stat"))
    finally:
        _do("umount", mount)


def _do(*command: object) -> str:
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def table(soaked: Soaked) -> str:
    """The samples, one a line, and what was counted over all."""
    first, last = soaked.samples[0], soaked.samples[-1]
    names = list(first)
    rows = [names, *([f"{s[n]:.0f}" for n in names] for s in soaked.samples)]
    lines = ["".join(f"{cell:>12}" for cell in row) for row in rows]
    grown = (last["rss_kb"] - first["rss_kb"]) / first["rss_kb"]
    day = (last["virtual_s"] - first["virtual_s"]) / 86400
    wrote, card = ((last[n] - first[n]) / day / 1e6 for n in ("written", "card"))
    return "\n".join(
        [
            *lines,
            f"RSS grew by {grown:.2%} after the first sample; written in all: {soaked.written / 1e6:.1f} MB",
            f"since then, a day: {wrote:.1f} MB written by the process, {card:.1f} MB reached the card",
            f"ledger: {soaked.events}, {soaked.ledger_bytes / 1e6:.2f} MB, {soaked.lost} lost",
            f"journald: {soaked.log_lines} lines, {soaked.log_bytes / 1e6:.2f} MB; broker: {soaked.heard}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=2000)
    parser.add_argument("--idle-s", type=int, default=86400)
    parser.add_argument("--folder", type=Path, help="made and removed; on a real disk, or nothing is counted")
    parser.add_argument("--card", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name, contextlib.ExitStack() as stack:
        on = stack.enter_context(card(Path(name))) if asked.card else None
        soaked = soak(Path(name), asked.attempts, asked.idle_s, on=on)
        print(table(soaked))
    if asked.json:
        asked.json.write_text(json.dumps(soaked.__dict__, indent=1))


if __name__ == "__main__":
    main()
