"""The whole door on a real chip: its thread, its contacts, bounce as a contact makes it, a chip that goes.

pytest is given this file by name (tests/vm/run); nothing here runs elsewhere.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path

import gpiochip
import pytest
from broker import wait_until
from gpiochip import LABELS, SimLine

from edge.door.controller import DoorController, DoorStatus
from edge.door.lines import claim_door
from edge.door_config import ButtonConfig, ContactConfig, DoorConfig, RelayConfig
from edge.errors import LineError
from edge.values import Grant

DPS, REX, RELAY = 27, 22, 17
CLOSED, OPEN = 0, 1
PRESSED, FREE = 0, 1


class Site:
    """A door on the first chip, found by its label, its relay by its name."""

    def __init__(self, active: str) -> None:
        self.unlocked = int(active == "high")
        self.locked = 1 - self.unlocked
        self.relay, self.dps, self.rex = SimLine(RELAY), SimLine(DPS), SimLine(REX)
        self.relay.pull(self.locked)
        rules = DoorConfig(
            RelayConfig("name:RELAY", f"label:{LABELS[0]}", active),
            dps=ContactConfig(DPS, pull="off", debounce_ms=50),
            rex=ButtonConfig(REX, pull="off", debounce_ms=30),
            unlock_s=20,
            extended_unlock_s=20,
        )
        self.dps.pull(CLOSED)
        self.rex.pull(FREE)
        gpiochip.forget()
        self.states: list[DoorStatus] = []
        self.notices: list[str] = []
        lines = claim_door(rules, simulation=False)
        self.door = DoorController(
            lines.relay,
            rules,
            self.states.append,
            lambda kind, _detail: self.notices.append(kind),
            lines.inputs,
            lines.signals,
        )
        self.door.start()

    def driven(self) -> list[str]:
        """What became of the lock since the claim, each change once."""
        levels = (level for level, _ in itertools.groupby(self.relay.driven()))
        return ["UNLOCK" if level == self.unlocked else "LOCK" for level in levels]

    def bounce(self, contact: SimLine, to: int) -> None:
        """Seven edges 2 ms apart, the last of them to `to`."""
        for level in (to, 1 - to) * 3 + (to,):
            contact.pull(level)
            time.sleep(0.002)


def open_chips() -> list[str]:
    """The chips this process has open, as the kernel names them."""
    return [
        target for link in Path("/proc/self/fd").iterdir() if "gpio" in (target := os.path.realpath(link))
    ]


@pytest.fixture(params=["high", "low"])
def site(request):
    gpiochip.plug(True)
    site = Site(request.param)
    yield site
    site.door.stop()
    gpiochip.plug(True)


def test_a_button_that_bounces_unlocks_once(site):
    site.bounce(site.rex, PRESSED)
    wait_until(lambda: site.relay.level == site.unlocked, "unlocked by the exit button")
    site.bounce(site.rex, FREE)
    time.sleep(0.3)
    assert site.driven() == ["LOCK", "UNLOCK"]
    site.door.stop()
    assert site.driven() == ["LOCK", "UNLOCK", "LOCK"]


def test_a_spike_shorter_than_the_debounce_is_nothing(site):
    site.rex.pull(PRESSED)
    site.rex.pull(FREE)
    site.dps.pull(OPEN)
    site.dps.pull(CLOSED)
    time.sleep(0.7)  # longer than a poll of the levels
    assert site.driven() == ["LOCK"]
    assert site.notices == []


def test_the_door_locks_when_it_has_been_opened_and_closed(site):
    site.door.grant(Grant("ada", 0.5), float("inf"), lambda _answer: None)
    wait_until(lambda: site.relay.level == site.unlocked, "unlocked by a grant")
    site.bounce(site.dps, OPEN)
    wait_until(lambda: site.states[-1].dps == "open", "the leaf is seen open")
    site.bounce(site.dps, CLOSED)
    wait_until(lambda: site.relay.level == site.locked, "locked again, long before its time")
    assert site.driven() == ["LOCK", "UNLOCK", "LOCK"]
    assert site.notices == []


def test_a_door_that_is_forced_is_an_alarm_and_stays_locked(site):
    site.bounce(site.dps, OPEN)
    wait_until(lambda: "DoorForcedOpen" in site.notices, "the alarm")
    assert site.driven() == ["LOCK"]


def test_a_chip_that_goes_during_a_pulse_blocks_the_door(site):
    site.door.grant(Grant("ada", 0.5), float("inf"), lambda _answer: None)
    wait_until(lambda: site.relay.level == site.unlocked, "unlocked by a grant")
    gpiochip.plug(False)
    wait_until(lambda: site.states[-1].fault is not None, "the fault is seen")
    assert "DoorFault" in site.notices
    answers: list[object] = []
    site.door.grant(Grant("ada", 0.5), float("inf"), answers.append)
    wait_until(lambda: len(answers) == 1, "the next grant is answered")
    gpiochip.plug(True)
    time.sleep(0.7)
    assert SimLine(RELAY).level == 0, "nobody has driven the chip that came back"
    site.door.stop()
    assert open_chips() == [], "nothing of the chip that went is held"


def edge_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("edges of gpiochip")]


def test_nobody_goes_on_watching_inputs_of_a_chip_that_went(site):
    (thread,) = edge_threads()
    gpiochip.plug(False)
    wait_until(lambda: not thread.is_alive(), "the thread ends by itself")
    wait_until(lambda: site.states[-1].fault is not None, "the fault is seen")
    began = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - began < 0.25, "and nobody spins instead"
    assert edge_threads() == []


def test_a_door_whose_chip_is_missing_does_not_start(site):
    site.door.stop()
    gpiochip.plug(False)
    with pytest.raises(LineError, match=f"label:{LABELS[0]}: expected one chip"):
        claim_door(DoorConfig(RelayConfig("name:RELAY", f"label:{LABELS[0]}")), simulation=False)
