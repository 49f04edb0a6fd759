"""In the guest: frames on two lines of the chip, pulse by pulse, into the door's own Wiegand reader.

frames.py COUNT: one JSON object on stdout. The sender is a process of its own, paced by the clock;
a frame that it could not pace itself (the host was busy) is sent again and counted as `uneven`. Its
edges count all the same: `edges` were sent, `edges_lost` never came.

Sender and interrupt threads share a processor. A chip's interrupt and its thread do so on a board;
gpio-sim's do not, and where the host holds up one of the guest's processors the kernel takes two
interrupts for one before it has told the first.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import gpiochip

from edge.door.edges import KernelEdges
from edge.door.readers import WiegandReader
from edge.ports import Edge

DATA = (5, 6)
SPACING_S = 0.001
PULSE_S = 0.00005
EVEN_S = (0.7 * SPACING_S, 1.4 * SPACING_S)
PAUSE_S = 0.06
FORMATS = {26: (8, 16), 34: (16, 16), 37: (16, 19)}  # bits of the facility, of the number


class Heard(KernelEdges):
    """The door's source of edges; `edges` has all that came."""

    def __init__(self, chip: str) -> None:
        super().__init__({f"readers.wiegand.data{i}": (chip, line) for i, line in enumerate(DATA)})
        self.edges: list[Edge] = []

    def wait(self, timeout_s: float) -> list[Edge]:
        edges = super().wait(timeout_s)
        self.edges += edges
        return edges


def frame(bits: int, facility: int, number: int) -> list[int]:
    """The bits on the wire: even parity first, odd parity last, each over its half."""
    lengths = FORMATS[bits]
    body = [int(b) for n, width in zip((facility, number), lengths, strict=True) for b in f"{n:0{width}b}"]
    half = (len(body) + 1) // 2  # of 35 bits both halves have the middle one
    return [sum(body[:half]) % 2, *body, 1 - sum(body[-half:]) % 2]


def send(wire: list[int], pulls: list[int]) -> bool:
    """Put one frame on the lines; whether it was evenly paced."""
    at, sent = time.monotonic() + 0.002, []
    for bit in wire:
        time.sleep(max(0.0, at - time.monotonic()))  # whoever reads may have but this processor
        before = time.monotonic()
        os.pwrite(pulls[bit], b"pull-down", 0)
        sent.append((before, time.monotonic()))  # the kernel's time stamp lies between
        while time.monotonic() < before + PULSE_S:
            pass
        os.pwrite(pulls[bit], b"pull-up", 0)
        at += SPACING_S
    pairs = list(itertools.pairwise(sent))
    shortest = min(later[0] - earlier[1] for earlier, later in pairs)
    longest = max(later[1] - earlier[0] for earlier, later in pairs)
    return EVEN_S[0] < shortest and longest < EVEN_S[1]


def sender(count: int) -> None:
    """Send until `count` frames were even; a line each: even or not, what it said, its bits."""
    os.sched_setaffinity(0, {0})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    pulls = [os.open(gpiochip.SimLine(line).pull_path, os.O_WRONLY) for line in DATA]
    even = 0
    for tries in range(4 * count):
        bits = tuple(FORMATS)[tries % 3]
        facility, number = (random.randrange(2**width) for width in FORMATS[bits])
        wire = frame(bits, facility, number)
        right = send(wire, pulls)
        print(json.dumps([right, f"wiegand{bits}:{facility}-{number}", wire]), flush=True)
        even += right
        time.sleep(PAUSE_S)
        if even == count:
            return


def settle_interrupts() -> None:
    """Have the lines' interrupt threads run on the sender's processor; they must have run once."""
    for line in DATA:
        gpiochip.SimLine(line).pull(0)
        time.sleep(0.1)
        gpiochip.SimLine(line).pull(1)
    time.sleep(0.5)
    names = {path.parent: path.read_text() for path in Path("/proc").glob("[0-9]*/comm")}
    threads = [folder for folder, name in names.items() if name.startswith("irq/") and "doord" in name]
    assert len(threads) == len(DATA), names
    for folder in threads:
        os.sched_setaffinity(int(folder.name), {0})


def main() -> None:
    """Read what the sender sends; compare."""
    told: list[str] = []
    heard = Heard(gpiochip.SimLine(0).chip)
    reader = WiegandReader(heard, tuple(FORMATS), told.append)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            reader.step()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    settle_interrupts()
    heard.edges.clear()
    run = subprocess.run(
        [sys.executable, __file__, "send", sys.argv[1]],
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    )
    time.sleep(0.5)
    done.set()
    thread.join(2)
    reader.close()
    print(json.dumps(compared([json.loads(line) for line in run.stdout.splitlines()], heard.edges, told)))


def compared(
    sent: list[tuple[bool, str, list[int]]], heard: list[Edge], told: list[str]
) -> dict[str, object]:
    """What became of the frames (even or not, what each said, its bits) and of their edges."""
    even = [said for right, said, _ in sent if right]
    known = {said for _, said, _ in sent}
    bits = [bit for *_, wire in sent for bit in wire]
    lines = [edge.line for edge in sorted(heard, key=lambda edge: edge.number)]
    return {
        "frames": len(even),
        "uneven": len(sent) - len(even),
        "lost": len([said for said in even if said not in told]),
        "wrong": len([said for said in told if said not in known]),
        "in_order": [said for said in told if said in even] == even,
        "edges": len(bits),
        "edges_lost": len(bits) - len(lines),
        "edges_right": lines == bits,
    }


if __name__ == "__main__":
    if sys.argv[1] == "send":
        sender(int(sys.argv[2]))
    else:
        main()
