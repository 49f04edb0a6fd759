"""The daemon of a soaked door, looked at from inside its process while its time stands still."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import logging
import os
import re
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from door_site import PICTURES
from soak_day import ENROLLED, Day, Shot, shots
from virtual_time import VirtualTime

import edge.daemon
from edge.clock import SystemClock
from edge.config import Config, load_config
from edge.disk import FileKey
from edge.door.controller import SWITCH_S
from edge.door.lines import DoorLines, claim_door
from edge.identity.store import open_gallery
from edge.journal import Journal, Voice
from edge.values import Template
from edge.vision.pictures import load_picture
from edge.vision.pipeline import Pipeline

STRANGERS, EACH = 999, 5  # in the gallery, beside who is enrolled for this
_SECTOR_BYTES = 512  # of /sys/class/block/*/stat, whatever the disk has
_AT = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Sample:
    """The process between two visits, after a garbage collection and malloc_trim(3)."""

    visits: int
    virtual_s: float
    rss_kb: int
    private_kb: int  # of it, what is nobody's file
    fds: int
    threads: int  # the models' too
    objects: int  # that Python's collector knows
    blocks: int  # of memory that Python's objects have
    written: int  # bytes the process had the kernel write, proc(5): write_bytes
    card: int  # bytes that reached the card's device; 0: there is none
    logged: int  # bytes that went to journald
    seq: int  # of the last event


class Journald:
    """Counts what the door logs, at a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self.bytes = self.lines = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "journal.sock"))
        threading.Thread(target=self._count, name="ticker-journald", daemon=True).start()
        logger = logging.getLogger("edge")
        logger.handlers[:] = [Voice(Journal(str(folder / "journal.sock"), {"SYSLOG_IDENTIFIER": "doord"}))]
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def _count(self) -> None:
        while True:
            self.bytes += len(self._socket.recv(1 << 20))
            self.lines += 1


class Watcher:
    """Holds time while the broker has something to answer, and takes samples."""

    def __init__(
        self, clock: VirtualTime, journald: Journald, card: str | None, first: int, every: int
    ) -> None:
        """What to look at, and when.

        Args:
            clock: the door's.
            journald: the door's.
            card: the kernel's file of figures about its device.
            first: the number of visits before the first sample.
            every: visits between this and the next.
        """
        self.daemon: edge.daemon.Daemon | None = None
        self.samples: list[Sample] = []
        self.problem: Exception | None = None
        self._clock = clock
        self._journald = journald
        self._card = card
        self._first, self._every = first, every

    def hold(self) -> None:
        """Until the broker has all there is to send."""
        daemon = self.daemon
        assert daemon is not None
        self._clock.stand_still_until(lambda: daemon.link.connected and not daemon.recorder.undelivered)

    def looked(self, shot: Shot) -> None:
        """Before a visit."""
        done = shot.visit - 1
        if done >= self._first and (done - self._first) % self._every == 0:
            self.take(done)

    def over(self, visits: int, problem: Exception | None) -> None:
        """After the last, or when something went wrong."""
        assert self.daemon is not None
        self.problem = problem
        if problem is None:
            self.take(visits)
        self.daemon.ask_to_stop()

    def take(self, visits: int) -> None:
        """A sample."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        rollup = Path("/proc/self/smaps_rollup").read_text()
        daemon = self.daemon
        assert daemon is not None
        self.samples.append(
            Sample(
                visits,
                self._clock.monotonic(),
                _number("Rss", rollup),
                _number("Private_Dirty", rollup),
                _entries("/proc/self/fd") - 1,  # less that of the listing
                _entries("/proc/self/task"),
                len(gc.get_objects()),
                sys.getallocatedblocks(),
                written(),
                self._reached(),
                self._journald.bytes,
                daemon.ledger.head.seq,
            )
        )

    def _reached(self) -> int:
        if self._card is None:
            return 0
        os.sync()
        return int(Path(self._card).read_text().split()[6]) * _SECTOR_BYTES


def spend(
    clock: VirtualTime,
    config: str,
    card: str | None,
    attempts: int,
    idle_s: int,
    warm_up: int,
    samples: int,
) -> dict:
    """Live through a day; what was seen.

    Args:
        clock: of everything here.
        config: path of the door's configuration.
        card: /sys/class/block/*/stat of what its state lies on, where that is a device of its own.
        attempts: in all.
        idle_s: in all.
        warm_up: attempts before the first sample.
        samples: after the first one.
    """
    door = load_config(config)
    _fill_gallery(door)
    journald = Journald(Path(config).parent)
    watcher = Watcher(clock, journald, card, warm_up, max(1, (attempts - warm_up) // samples))
    lines = claim_door(door.door, simulation=True)
    plan, move = shots(attempts, idle_s), _contacts(lines)
    day = Day(plan, move, watcher.hold, watcher.looked, functools.partial(watcher.over, attempts))
    began = written()
    daemon = watcher.daemon = _build(door, lines, day)
    sys.setswitchinterval(SWITCH_S)
    try:
        daemon.start()
        daemon.wait()
    finally:
        clock.give_up()
        daemon.stop()
    if watcher.problem is not None:
        raise watcher.problem
    return {
        "samples": [asdict(sample) for sample in watcher.samples],
        "written": written() - began,
        "log_lines": journald.lines,
        "log_bytes": journald.bytes,
        "lost": daemon.recorder.lost,
        "ledger_bytes": door.events_path.stat().st_size,
    }


def _build(door: Config, lines: DoorLines, day: Day) -> edge.daemon.Daemon:
    # the one thing that build takes from the machine by itself: whether its clock is trusted
    edge.daemon.SystemClock = functools.partial(SystemClock, believed=lambda: True)
    return edge.daemon.build(door, lines.relay, lambda: day, lines.inputs, lines.signals)


def _contacts(lines: DoorLines):
    pins = {role: lines.pin(role) for role in lines.places}

    def move(role: str, high: bool) -> None:
        pin = pins[role]
        (pin.drive_high if high else pin.drive_low)()
        for any_pin in pins.values():
            any_pin.clear_states()  # a mock pin remembers all it ever was

    move("dps", False)
    move("rex", True)
    return move


def _fill_gallery(door: Config) -> None:
    """Who is enrolled, from photographs, and strangers at random."""
    pipeline = Pipeline.load(door.models, door.quality)
    random, model = np.random.default_rng(2), pipeline.embedder.model
    vectors = random.normal(size=(STRANGERS * EACH, pipeline.embedder.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [Template(f"s{i // EACH}", vector, model, _AT) for i, vector in enumerate(vectors)]
    for subject, names in ENROLLED.items():
        for name in names:
            probe = pipeline(load_picture(PICTURES / name)).probe
            assert probe is not None, name
            rows.append(Template(subject, probe.vector, model, _AT))
    with contextlib.closing(open_gallery(door.gallery_path, FileKey(door.key_path))) as store:
        store.add(rows)


def written() -> int:
    """Bytes this process has had the kernel write to a disk; nothing of a tmpfs."""
    return _number("write_bytes", Path("/proc/self/io").read_text())


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _number(name: str, text: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", text, re.MULTILINE)
    assert found is not None, (name, text)
    return int(found[1])
