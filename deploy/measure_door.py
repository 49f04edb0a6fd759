"""Stimulus to line: how long the door's thread takes while another one burns the processor.

    .venv/bin/python deploy/measure_door.py [--count 500]

The real controller over gpiozero's mock line, and in the same process one thread of pure Python
that never waits. Reported: from the grant, and from the moment a press of the exit button has been
debounced, to the change of the line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable

from edge.door.controller import SWITCH_S, DoorController
from edge.door.lines import DoorLines, claim_door
from edge.door.stimuli import LockCommand
from edge.door_config import ButtonConfig, DoorConfig, RelayConfig
from edge.values import Grant

DEBOUNCE_MS = 5
PATIENCE_S = 10.0
DOOR = DoorConfig(
    RelayConfig(17), rex=ButtonConfig(22, debounce_ms=DEBOUNCE_MS), unlock_s=30, max_unlocked_s_per_hour=3600
)


def burn(until: threading.Event) -> None:
    """A thread that wants the interpreter for itself."""
    count = 0
    while not until.is_set():
        count += 1


def one(lines: DoorLines, door: DoorController, stimulate: Callable[[], float]) -> float:
    """Milliseconds from the stimulus to the line; the door is locked again then."""
    began = stimulate()
    while lines.relay.history[-1][1] != "UNLOCK":
        if time.monotonic() - began > PATIENCE_S:
            raise SystemExit("measure_door: the line did not move")
        time.sleep(0.0005)
    took_ms = (lines.relay.history[-1][0] - began) * 1000
    locked = threading.Event()
    door.order(LockCommand(), lambda _obeyed: locked.set())
    locked.wait(PATIENCE_S)
    return took_ms


def grant(door: DoorController) -> float:
    """Ask for the door; when that was, s monotonic."""
    now = time.monotonic()
    door.grant(Grant("visitor", 0.5), now + 10, lambda _answer: None)
    return now


def press(pin: object) -> float:
    """Press the button for a moment; when the press was debounced at the earliest, s monotonic."""
    time.sleep(4 * DEBOUNCE_MS / 1000)  # the release of the press before has settled
    now = time.monotonic()
    pin.drive_low()  # type: ignore[attr-defined]  # gpiozero's mock
    time.sleep(4 * DEBOUNCE_MS / 1000)
    pin.drive_high()  # type: ignore[attr-defined]
    return now + DEBOUNCE_MS / 1000


def figures(times_ms: list[float]) -> dict[str, float]:
    """p50, p99 and the longest."""
    cuts = statistics.quantiles(times_ms, n=100)
    return {"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2), "max_ms": round(max(times_ms), 2)}


def measure(count: int, burning: bool) -> dict[str, object]:
    """Both stimuli, `count` times each."""
    lines, done = claim_door(DOOR, simulation=True), threading.Event()
    pin = lines.pin("rex")
    pin.drive_high()
    door = DoorController(lines.relay, DOOR, lambda _status: None, inputs=lines.inputs)
    door.start()
    if burning:
        threading.Thread(target=burn, args=[done], daemon=True).start()
    try:
        grants = [one(lines, door, lambda: grant(door)) for _ in range(count)]
        presses = [one(lines, door, lambda: press(pin)) for _ in range(count)]
    finally:
        done.set()
        door.stop()
    return {"grant": figures(grants), "rex": figures(presses)}


def main() -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    count = parser.parse_args().count
    sys.setswitchinterval(SWITCH_S)  # as the daemon does
    print(json.dumps({"idle": measure(count, False), "burning": measure(count, True)}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
