"""Events: what one costs on the way to the door, how many wait offline and how fast they leave.

    .venv/bin/python deploy/measure_events.py cost [--events 500]
    .venv/bin/python deploy/measure_events.py away [--events 100000]
    .venv/bin/python deploy/measure_events.py syncs [--events 20]

`cost`: from the hand-over of a grant's event to the moment the door is asked, and what the caller's
thread spends; beside it, what the same disk takes for nothing but writing and fdatasync. `away`: no
broker for so many events, then one and a collector that acks. `syncs`: under strace, whether the
ledger's fdatasync returned before each unlock. How events fare when everything is killed:
tests/event_campaign.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import broker
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from securesystemslib.signer import CryptoSigner

from edge.config import MqttConfig
from edge.door.controller import SWITCH_S, DoorController
from edge.door_config import DoorConfig, RelayConfig
from edge.link import dsse, orders, wire
from edge.link.acks import AckDesk
from edge.link.broker import Login
from edge.link.ledger import Ledger
from edge.link.mqtt import MqttLink
from edge.recorder import Recorder
from edge.values import Grant

SETTING = wire.Setting(0.7, "facenet-512-int8-1", 1, simulation=True)
TOPICS = wire.Topics("hq", "front")
PATIENCE_S = 300.0
_FIRST = 250
AT_ONCE = 500  # events that may wait for the disk


def granted(number: int) -> wire.Granted:
    """An event of the usual size."""
    stamp = wire.Stamp.of(time.time(), os.urandom(10))
    quality = wire.Measured(61.5, 240.25, 121.5, 48.75, 0.12, 0.58)
    stages = {"detect": 1.512, "quality": 0.211, "align": 0.304, "embed": 2.901, "search": 0.122}
    return wire.Granted(
        stamp.id, 0, "", stamp.at, SETTING.model, 1, True, 0.7, 0.1, quality, None, stages, 21.5, 2, 0,
        "AccessGranted", f"subject-{number % 1000}", 0.52,
    )  # fmt: skip


def recording(folder: Path) -> tuple[Ledger, Recorder]:
    """A ledger and its recorder, open."""
    ledger = Ledger(folder / "events.db")
    recorder = Recorder(ledger, lambda: SETTING, lambda: None)
    recorder.start()
    until(lambda: recorder.fault is None, "the ledger is open")
    return ledger, recorder


def until(condition: object, what: str) -> None:
    """Wait for something another thread does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit(f"measure_events: waited in vain: {what}")
        time.sleep(0.01)


def figures(times_ms: list[float]) -> dict[str, float]:
    """p50, p99 and the longest, ms."""
    cuts = statistics.quantiles(times_ms, n=100)
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(max(times_ms), 2)}


def bare_disk(folder: Path, count: int) -> dict[str, float]:
    """A kilobyte written over and over at the same place, and on the disk each time."""
    handle, times = os.open(folder / "bare", os.O_RDWR | os.O_CREAT), []
    os.write(handle, bytes(8192))
    os.fsync(handle)
    for _ in range(count):
        began = time.perf_counter()
        os.pwrite(handle, os.urandom(1024), 0)
        os.fdatasync(handle)
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.02)
    os.close(handle)
    return figures(times)


def cost(folder: Path, count: int) -> dict[str, object]:
    """One grant after the other, as people come; the first fill the log to its size and don't count."""
    _, recorder = recording(folder)
    details = bytes(500)
    waits, calls = [], []
    for number in range(count + _FIRST):
        event, done = granted(number), threading.Event()
        at: list[float] = []

        def then(at: list[float] = at, done: threading.Event = done) -> None:
            at.append(time.perf_counter())
            done.set()

        began = time.perf_counter()
        recorder.post_then(event, details, then, math.inf)
        calls.append((time.perf_counter() - began) * 1000)
        done.wait(PATIENCE_S)
        waits.append((at[0] - began) * 1000)
        time.sleep(0.02)
    recorder.stop()
    found = {"caller_ms": figures(calls[_FIRST:]), "until_the_door_is_asked_ms": figures(waits[_FIRST:])}
    return {**found, "bare_disk_ms": bare_disk(folder, count)}


def rss_mb() -> float:
    """Resident memory of this process."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@contextmanager
def collector(port: int, signer: CryptoSigner, count: int) -> Iterator[list[int]]:
    """The numbers of all events that come to a client, in that order; it acks every hundredth."""
    came: list[int] = []
    ready = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)

    def on_message(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        seq = wire.decode_event(bytes(message.payload)).seq
        came.append(seq)
        if seq % 100 == 0 or seq == count:
            digest = hashlib.sha256(message.payload).hexdigest()
            ack = orders.Ack("hq", "front", seq, digest, wire.rfc3339(time.time()))
            client.publish(TOPICS.ack, dsse.sign(orders.encode(ack), orders.ACK_TYPE, signer), qos=1)

    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.subscribe(TOPICS.event, qos=1)
    client.loop_start()
    ready.wait(PATIENCE_S)
    try:
        yield came
    finally:
        client.disconnect()
        client.loop_stop()


def away(folder: Path, count: int) -> dict[str, object]:
    """So many events while no broker is there; then all of them go."""
    ledger, recorder = recording(folder)
    rss = [rss_mb()]
    began = time.monotonic()
    for number in range(count):
        while number - ledger.head.seq > AT_ONCE:
            time.sleep(0.001)
        recorder.post(granted(number), bytes(500))
    until(lambda: ledger.head.seq == count, "all are on the disk")
    stored_s = time.monotonic() - began
    rss.append(rss_mb())
    signer = CryptoSigner.generate_ed25519()
    keys = {signer.public_key.keyid: signer.public_key}
    desk = AckDesk("hq", "front", ledger, lambda: keys, print)
    with broker(folder) as port, collector(port, signer, count) as came:
        link = MqttLink(Login(MqttConfig(host="127.0.0.1", port=port)), TOPICS, ledger, True, acks=desk)
        link.start()
        until(lambda: link.connected, "the broker is there")
        began = time.monotonic()
        until(lambda: ledger.undelivered == 0, "the collector has acked all")
        drained_s = time.monotonic() - began
        rss.append(rss_mb())
        link.close()
    recorder.stop()
    began = time.monotonic()
    flaw = ledger.verify()
    verify_s = time.monotonic() - began
    size_mb = sum(path.stat().st_size for path in folder.glob("events.db*")) / 1e6
    return {
        "events": count,
        "stored_per_s": round(count / stored_s),
        "drained_per_s": round(count / drained_s),
        "rss_growth_mb": [round(after - rss[0], 1) for after in rss[1:]],
        "ledger_mb": round(size_mb),
        "came_in_order": came == list(range(1, count + 1)),
        "lost": recorder.lost,
        "flaw": flaw,
        "verify_s": round(verify_s, 1),
    }


class MarkedLines:
    """Port LockLines: each call is a write that strace sees."""

    def __init__(self, marks: int) -> None:
        self._marks = marks

    def lock(self) -> None:
        """See LockLines."""
        os.write(self._marks, b"LOCK\n")

    def unlock(self, for_at_most_s: float, free: bool = False) -> None:
        """See LockLines."""
        os.write(self._marks, f"UNLOCK {for_at_most_s:.1f} {free}\n".encode())

    def close(self) -> None:
        """See LockLines."""


def grants(folder: Path, count: int) -> None:
    """What is traced: grants that open a door, one after the other."""
    marks = os.open(folder / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    rules = DoorConfig(RelayConfig(17), unlock_s=0.05)
    door = DoorController(MarkedLines(marks), rules, lambda _status: None)
    _, recorder = recording(folder)
    door.start()
    for number in range(count):
        opened, until_s = threading.Event(), time.monotonic() + PATIENCE_S
        grant = Grant(f"subject-{number}", 0.5)

        def ask(grant: Grant = grant, until_s: float = until_s, opened: threading.Event = opened) -> None:
            door.grant(grant, until_s, lambda _answer: opened.set())

        os.write(marks, f"GRANT {number}\n".encode())
        recorder.post_then(granted(number), None, ask, math.inf)
        opened.wait(PATIENCE_S)
        time.sleep(0.2)
    door.stop()
    recorder.stop()


def syncs(folder: Path, count: int) -> dict[str, object]:
    """Between the hand-over and the unlock the ledger's log was synced, each time."""
    trace = folder / "trace"
    strace = ["strace", "-f", "-y", "-e", "trace=fdatasync,fsync,write", "-o", str(trace)]
    script = [sys.executable, __file__, "grants", "--events", str(count), "--folder", str(folder)]
    subprocess.run([*strace, *script], check=True, timeout=PATIENCE_S)
    unlocked, synced, now = 0, 0, False
    for line in trace.read_text(errors="replace").splitlines():
        if '"GRANT ' in line:
            now = False
        elif re.search(r"fdatasync\(\d+<[^>]*events\.db-wal>\) += 0|<\.\.\. fdatasync resumed>\) += 0", line):
            now = True
        elif '"UNLOCK ' in line:
            unlocked, synced = unlocked + 1, synced + now
    return {"grants": count, "unlocked": unlocked, "synced_before": synced}


def main() -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "away", "syncs", "grants"))
    parser.add_argument("--events", type=int)
    parser.add_argument("--folder", type=Path, help="on the disk that is measured; else a temporary one")
    asked = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)  # as the daemon does
    if asked.what == "grants":
        grants(asked.folder, asked.events)
        return 0
    count = asked.events or {"cost": 500, "away": 100_000, "syncs": 20}[asked.what]
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        found = {"cost": cost, "away": away, "syncs": syncs}[asked.what](Path(folder), count)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
