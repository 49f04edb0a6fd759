"""In the guest: the door's side of the daemon, without eyes: it pulses the relay and writes its state.

In each pulse it replaces the configuration, changes the gallery, gives out a card, counts a failed
attempt and begins or lifts a lockdown. What it found at its start, and what it has finished writing, it
says on the file in ACKS, a JSON line each; of a lockdown also that it will write.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import gpiochip
import numpy as np
from acks import Acks

from edge.access import Access
from edge.clock import SystemClock
from edge.config import Config, load_config
from edge.disk import FileKey, StateLock, make_private_folder, write_atomically
from edge.door.gpio import RelayLine
from edge.door.lines import claim_door
from edge.door.stimuli import LockdownCommand, NormalCommand
from edge.doorman import Doorman, tell_doord_lock
from edge.identity.store import SqliteGallery, open_gallery
from edge.journal import notify, start_logging
from edge.values import Template

CONFIG = Path("/etc/doord/config.yaml")
LINE = 17
_TEXT = """site: vm
door_id: cut-{number}
simulation: false
door: {{relay: {{chip: "label:doord-sim-0", line: "name:RELAY", active: {active}}}, unlock_s: 3}}
"""
_FILLING = "# more than one page, so that half a file can be seen\n" * 200


def write_config(number: int, active: str) -> None:
    """A configuration that can be told from the others by its `door_id`."""
    write_atomically(CONFIG, (_TEXT.format(number=number, active=active) + _FILLING).encode())


def start_at_boot(acks: str) -> None:
    """From the next boot on run as doord.service; say what is done on this port."""
    drop_in = Path("/etc/systemd/system/doord.service.d/acks.conf")
    drop_in.write_text(f"[Service]\nEnvironment=ACKS={acks} FLIP=yes\n")
    CONFIG.parent.mkdir(exist_ok=True)
    write_config(0, "high")
    subprocess.run(["systemctl", "enable", "--quiet", "doord"], check=True, timeout=60)
    os.sync()


def template(number: int) -> Template:
    vector = np.zeros(512, np.float32)
    vector[number % 512] = 1
    return Template(f"s{number % 7}-{number}", vector, "model", "2026-01-01T00:00:00Z")


class Obedient:
    """The door's side of a command: it obeys."""

    def order(self, stimulus: object, answer: Callable[[bool], None], valid_until: float) -> None:
        answer(True)


class Rest:
    """What of the state directory is neither configuration nor gallery."""

    def __init__(self, config: Config) -> None:
        folder = Path(config.state_dir)
        self._failures = folder / "failed.json"
        self._access = Access(config, SystemClock(folder / "clock.floor"))
        self._doorman = Doorman(folder)

    def found(self) -> dict[str, int]:
        """Each as a number; -1: it can't be read."""
        kept = json.loads(self._failures.read_text()) if self._failures.exists() else {"kian": [0, 0]}
        return {
            "cards": -1 if self._access.problems else len(self._access.card_file.load().by_digest),
            "failures": kept["kian"][0],
            "lockdown": int(self._doorman.locked_down),
        }

    def change(self, acks: Acks) -> None:
        """One more card, one more failure, the other mode."""
        found = self.found()
        self._access.card_file.add(f"wedge:{found['cards']}", "kian", True, None)
        acks.say(cards=found["cards"] + 1)
        self._access.failed("kian")
        acks.say(failures=found["failures"] + 1)
        acks.say(lockdown=None)  # it may be either from now on
        command = NormalCommand() if found["lockdown"] else LockdownCommand()
        self._doorman.command(Obedient(), command)
        acks.say(lockdown=1 - found["lockdown"])


def pulse_for_ever(relay: RelayLine, config: Config, gallery: SqliteGallery, acks: Acks) -> None:
    number = int(config.door_id.removeprefix("cut-"))
    rest = Rest(config)
    active = config.door.relay.active
    if "FLIP" in os.environ:  # the next boot is of a door wired the other way
        active = "low" if active == "high" else "high"
    held: list[str] = [t.subject for t in gallery.all()]
    while True:
        number += 1
        relay.unlock(30)  # nothing but this process ends it
        write_config(number, active)
        acks.say(config=number)
        new = template(number)
        version = gallery.add([new])
        acks.say(gallery=version)
        held.append(new.subject)
        if len(held) > 5:
            gallery.remove(held.pop(0))
            acks.say(gallery=version + 1)
        rest.change(acks)
        time.sleep(random.uniform(0.05, 0.3))
        relay.lock()
        time.sleep(random.uniform(0.01, 0.1))


def main() -> None:
    """Start as the daemon does: state, line, readiness; then pulse until killed."""
    start_logging()
    config = load_config(CONFIG)
    lines = claim_door(config.door, simulation=False)
    relay = lines.relay
    tell_doord_lock(Path(config.socket).parent / "lines", lines.specs)
    acks = Acks(os.environ.get("ACKS", "/dev/null"))
    make_private_folder(config.gallery_path.parent)
    with StateLock(config.gallery_path.parent):
        gallery = open_gallery(config.gallery_path, FileKey(config.key_path))
        line = gpiochip.SimLine(LINE)
        acks.say(
            start={
                "config": int(config.door_id.removeprefix("cut-")),
                "gallery": gallery.load("model", 512).version,
                **Rest(config).found(),
                "level": line.level,
                "driven": sorted(set(line.driven())),
                "locked": 0 if config.door.relay.active == "high" else 1,
            }
        )
        notify("READY=1")
        pulse_for_ever(relay, config, gallery, acks)


if __name__ == "__main__":
    main()
