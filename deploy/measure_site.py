"""A site of many people and many doors: how long, how much memory, how many bytes, what a kill leaves.

    .venv/bin/python deploy/measure_site.py scale [--people 10000] [--each 5]
    .venv/bin/python deploy/measure_site.py clients [--doors 200]
    .venv/bin/python deploy/measure_site.py kills [--kills 200]
    .venv/bin/python deploy/measure_site.py broker [--kills 20]

Mosquitto with TLS and client certificates on loopback; random templates; the real daemon, but for
`clients`, which has only what a door needs to follow its site: its own state and its own connection.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
from site_crowd import crowd
from site_town import DoorUnit, Reference, Town, memory_mb, now

from edge.admin.doors import retire_door
from edge.link.broker import STEADY_S


def scale(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """One fresh door, then one changed person, then everything sealed anew."""
    town = Town(folder, options.people, options.each, relayed=True)
    assert town.relay is not None  # for the type checker
    found: dict[str, object] = {"people": options.people, "templates": options.people * options.each}
    with town.broker():
        door = DoorUnit(folder / "door", town.bundle())
        town.bundle("spare")
        began = time.monotonic()
        version = town.push()
        found["push_s"] = round(time.monotonic() - began, 2)
        began = time.monotonic()
        found["publish_mb"] = round(town.publish().bytes / 1e6, 1)
        found["publish_s"] = round(time.monotonic() - began, 2)
        began = time.monotonic()
        with door.running() as daemon:
            town.wait_for(version)
            found["fresh_door_in_force_s"] = round(time.monotonic() - began, 2)
            found["after_first_sync"] = memory_mb(daemon.pid)
            found["one_changed"] = [_one_change(town, i) for i in range(options.changes)]
            found["after_changes"] = memory_mb(daemon.pid)
            retire_door(town.site, "spare", now())
            version = town.push()
            began = time.monotonic()
            town.publish()
            town.wait_for(version)
            found["all_sealed_anew_in_force_s"] = round(time.monotonic() - began, 2)
            found["after_all_sealed_anew"] = memory_mb(daemon.pid)
        began = time.monotonic()
        with door.running() as daemon:
            door.wait_until_it_says(b"site version", daemon)
            found["restart_to_in_force_s"] = round(time.monotonic() - began, 2)
    return found


def _one_change(town: Town, i: int) -> dict[str, object]:
    relay = town.relay
    assert relay is not None  # for the type checker
    time.sleep(1)
    down, up = relay.down, relay.up
    town.change(f"p{i:05d}")
    began = time.monotonic()
    version = town.push()
    pushed_s = time.monotonic() - began
    sent = town.publish()
    published_s = time.monotonic() - began
    town.wait_for(version)
    in_force_s = time.monotonic() - began
    time.sleep(0.5)
    return {
        "push_s": round(pushed_s, 2),
        "published_s": round(published_s, 2),
        "in_force_s": round(in_force_s, 2),
        "sent_kb": round(sent.bytes / 1000),
        "door_kb": round((relay.down - down + relay.up - up) / 1000),
    }


def clients(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Many doors follow one change."""
    town = Town(folder, 500, 5)
    with town.broker("max_connections -1"):
        bundles = [town.bundle(f"door-{i:03d}") for i in range(options.doors)]
        version = town.push()
        town.publish()
        with crowd(folder / "doors", bundles) as doors:
            began = time.monotonic()
            doors.wait_for(version)
            first_s = time.monotonic() - began
            town.change("p00000")
            began = time.monotonic()
            version = town.push()
            town.publish()
            doors.wait_for(version)
            change_s = time.monotonic() - began
    return {
        "doors": options.doors,
        "first_sync_of_all_s": round(first_s, 2),
        "one_change_in_force_everywhere_s": round(change_s, 2),
    }


def kills(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """kill -9 of the daemon at random instants of updates; what it has in force afterwards."""
    town, chance = Town(folder, 500, 5), random.Random(3)  # noqa: S311  # no secret
    seen = {"old": 0, "new": 0, "wrong": 0}
    with town.broker():
        bundle = town.bundle()
        door, reference = DoorUnit(folder / "door", bundle), Reference(town, folder / "reference", bundle)
        version = town.push()
        reference.note()
        town.publish()
        with door.running():
            town.wait_for(version)
        for i in range(options.kills):
            _change_fifty(town, i)
            town.push()
            reference.note()
            _kill_during(town, door, chance.uniform(0, options.within_ms / 1000))
            before = version
            version, digest = door.in_force()
            whole = reference.digests[version] == digest and version >= before
            seen["wrong" if not whole else "new" if version == town.site.tree.version else "old"] += 1
        with door.running():
            town.wait_for(town.site.tree.version)
    return {"kills": options.kills, **seen, "ends_in_force": True}


def _change_fifty(town: Town, i: int) -> None:
    with town.site.records.transaction():
        for j in range(50):
            town.change(f"p{(50 * i + j) % 500:05d}")


def _kill_during(town: Town, door: DoorUnit, after_s: float) -> None:
    """A publication while the daemon runs, and a kill at some instant of the update."""
    with door.running() as daemon:
        door.wait_until_it_says(b"connected", daemon)
        town.publish()
        time.sleep(after_s)
        daemon.kill()
        daemon.wait()


def broker(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """The broker is killed during updates and started again; once it has lost its store."""
    town, chance = Town(folder, 500, 5), random.Random(4)  # noqa: S311  # no secret
    times = []
    door = DoorUnit(folder / "door", town.bundle())
    with door.running(), ExitStack() as stack:
        process = stack.enter_context(town.broker())
        for i in range(options.kills):
            _change_fifty(town, i)
            version = town.push()
            town.publish()
            time.sleep(chance.uniform(0, options.within_ms / 1000))
            process.kill()
            process.wait()
            if i == options.kills // 2:
                (folder / "broker" / "mosquitto.db").unlink(missing_ok=True)
            process = stack.enter_context(town.broker())
            began = time.monotonic()
            town.publish()  # what an admin does who sees a door lag; sends only what is missing
            town.wait_for(version)
            times.append(time.monotonic() - began)
            time.sleep(STEADY_S + 1)  # else the door waits longer with each loss, up to a minute
    return {
        "kills": options.kills,
        "in_force_after_s": {"median": round(statistics.median(times), 2), "max": round(max(times), 2)},
    }


def main() -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(required=True)
    for name, run, numbers in (
        ("scale", scale, {"people": 10_000, "each": 5, "changes": 5}),
        ("clients", clients, {"doors": 200}),
        ("kills", kills, {"kills": 200, "within_ms": 100}),
        ("broker", broker, {"kills": 20, "within_ms": 100}),
    ):
        action = actions.add_parser(name)
        action.set_defaults(run=run)
        for option, default in numbers.items():
            action.add_argument(f"--{option.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(msgspec.json.format(json.dumps(options.run(Path(folder), options))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
