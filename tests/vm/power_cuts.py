"""Power cuts: a machine killed at a random instant and booted from its disk, again and again.

What runs in it says at its start what it found on the disk, then what it has finished writing.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from machine import Machine, VmError

START_S = 240.0  # from the boot to the first word; for a busy host
STALLED = 10  # requests a second of a disk that stalls: a commit takes some
STALL_S = (0.1, 1.0)


@dataclass(frozen=True)
class Life:
    """From one boot to the cut."""

    start: dict  # what was found on the disk
    said: list[dict]  # what was finished since, in order

    def left(self) -> dict:
        """What the disk should hold behind the cut."""
        left = dict(self.start)
        for fact in self.said:
            left.update(fact)
        return left

    def finished(self, key: str) -> int:
        """How many writes of that kind were."""
        return sum(fact.get(key) is not None for fact in self.said)


def wait(_machine: Machine, seconds: float) -> None:
    """Leave it alone."""
    time.sleep(seconds)


def stall(machine: Machine, seconds: float) -> None:
    """Let its disk take its time now and then, as a worn card does."""
    until = time.monotonic() + seconds
    for requests_per_s in itertools.cycle((0, STALLED)):
        left_s = until - time.monotonic()
        if left_s <= 0:
            return
        machine.slow_disk(requests_per_s)
        time.sleep(min(left_s, random.uniform(*STALL_S)))


def live(
    boot: Callable[[], AbstractContextManager[Machine]],
    cuts: int,
    between_s: tuple[float, float],
    meanwhile: Callable[[Machine, float], None] = wait,
) -> list[Life]:
    """A life for each of the cuts, and one more behind the last; a cut comes `between_s` after the start.

    `meanwhile` takes so many seconds of a machine. Raises VmError: nothing was said after a boot.
    """
    lives = []
    for _ in range(cuts + 1):
        with boot() as machine:
            start = _found_at_start(machine)
            meanwhile(machine, random.uniform(*between_s))
            machine.kill()
            lives.append(Life(start, _said(machine)[1:]))
    return lives


def last_or_next(_key: str, done: int | None, found: int) -> bool:
    """Whether what was found is what was last finished, or what was being written next; -1 is damaged."""
    return done is not None and max(0, done) <= found <= done + 1


def differing(
    lives: Sequence[Life],
    keys: Sequence[str],
    right: Callable[[str, int | None, int], bool] = last_or_next,
) -> list[str]:
    """What was found behind a boot though `right(key, finished, found)` denies it. Before the first: 0."""
    begin = Life(dict.fromkeys(keys, 0), [])
    return [
        f"{key} {before.left()[key]} finished, {after.start[key]} found"
        for before, after in itertools.pairwise([begin, *lives])
        for key in keys
        if not right(key, before.left()[key], after.start[key])
    ]


def _said(machine: Machine) -> list[dict]:
    """What was said so far, whole lines only."""
    return [json.loads(line) for line in machine.said.read_text().split("\n")[:-1]]


def _found_at_start(machine: Machine) -> dict:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if said := _said(machine):
            return dict(said[0]["start"])
        time.sleep(0.05)
    raise VmError(f"nothing was said after the boot; console: {machine.console()}")
