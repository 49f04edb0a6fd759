"""In the guest: frames on two lines of the chip, pulse by pulse, into the door's own Wiegand reader.

frames.py COUNT: one JSON object on stdout. The sender is a process of its own, paced by the clock;
a frame that it could not pace itself (the host was busy) is sent again and counted as `uneven`.
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

import gpiochip

from edge.config import WiegandConfig
from edge.door.readers import WiegandReader, lgpio_inputs

DATA = (5, 6)
SPACING_S = 0.001
PULSE_S = 0.00005
EVEN_S = (0.7 * SPACING_S, 1.4 * SPACING_S)
PAUSE_S = 0.06
FORMATS = {26: (8, 16), 34: (16, 16), 37: (16, 19)}  # bits of the facility, of the number


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
        sent.append(time.monotonic())
        os.pwrite(pulls[bit], b"pull-down", 0)
        while time.monotonic() < sent[-1] + PULSE_S:
            pass
        os.pwrite(pulls[bit], b"pull-up", 0)
        at += SPACING_S
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    return EVEN_S[0] < min(gaps) and max(gaps) < EVEN_S[1]


def sender(count: int) -> None:
    """Send until `count` frames were even; a line each: even or not, and what it said."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    pulls = [os.open(gpiochip.SimLine(line).pull_path, os.O_WRONLY) for line in DATA]
    even = 0
    for tries in range(4 * count):
        bits = tuple(FORMATS)[tries % 3]
        facility, number = (random.randrange(2**width) for width in FORMATS[bits])
        right = send(frame(bits, facility, number), pulls)
        print(json.dumps([right, f"wiegand{bits}:{facility}-{number}"]), flush=True)
        even += right
        time.sleep(PAUSE_S)
        if even == count:
            return


def main() -> None:
    """Read what the sender sends; compare."""
    told: list[str] = []
    config = WiegandConfig(data0=DATA[0], data1=DATA[1], chip=gpiochip.SimLine(0).chip, bits=tuple(FORMATS))
    reader = WiegandReader(config, lgpio_inputs(config), told.append)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            reader.step()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    run = subprocess.run(
        [sys.executable, __file__, "send", sys.argv[1]],
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    time.sleep(0.5)
    done.set()
    thread.join(2)
    reader.close()
    sent = [json.loads(line) for line in run.stdout.splitlines()]
    even = [said for right, said in sent if right]
    known = {said for _, said in sent}
    print(
        json.dumps(
            {
                "frames": len(even),
                "uneven": len(sent) - len(even),
                "lost": len([said for said in even if said not in told]),
                "wrong": len([said for said in told if said not in known]),
                "in_order": [said for said in told if said in even] == even,
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1] == "send":
        sender(int(sys.argv[2]))
    else:
        main()
