"""Lines of two gpio-sim chips, seen from the kernel's side: what they were driven to, their level now.

Only where DOORD_TEST_GPIOCHIP names the first: tests/vm/run makes them in a virtual machine.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

CHIP = os.environ.get("DOORD_TEST_GPIOCHIP", "")
LABELS = ("doord-sim-0", "doord-sim-1")
_CONFIG = Path("/sys/kernel/config/gpio-sim/doord")
_DEVICE = Path("/sys/devices/platform/gpio-sim.0")
_KEEP_LEVEL = Path("/sys/module/gpio_sim_doord/parameters/keep_level")
_TRACING = Path("/sys/kernel/tracing")
_CHIPS = re.compile(r"^(gpiochip\d+): GPIOs (\d+)-\d+, parent: platform/gpio-sim\.0, ([^,]+),", re.MULTILINE)
_DRIVEN = re.compile(r"gpio_value: (\d+) set ([01])\s*$", re.MULTILINE)


class SimLine:
    """One line of the first or the second chip."""

    def __init__(self, line: int, chip: int = 0) -> None:
        listed = _CHIPS.findall(Path("/sys/kernel/debug/gpio").read_text())
        # a chip that was held while it went comes back under another number: it is known by its label
        ((name, base),) = [(name, int(base)) for name, base, label in listed if label == LABELS[chip]]
        self.chip = f"/dev/{name}"
        self.pull_path = _DEVICE / name / f"sim_gpio{line}/pull"
        self._value = _DEVICE / name / f"sim_gpio{line}/value"
        self._number = base + line

    @property
    def level(self) -> int:
        """0 or 1, as the kernel has it now."""
        return int(self._value.read_text())

    def pull(self, level: int) -> None:
        """What an input reads, and an output falls back to when it is freed."""
        self.pull_path.write_text("pull-up" if level else "pull-down")

    def driven(self) -> list[int]:
        """Every level the kernel was told to drive since `forget`, in order, repeats too."""
        found = _DRIVEN.findall((_TRACING / "trace").read_text())
        return [int(level) for number, level in found if int(number) == self._number]


def forget() -> None:
    """Begin the kernel's record of driven levels anew."""
    (_TRACING / "events/gpio/gpio_value/enable").write_text("1")
    (_TRACING / "trace").write_text("")


def plug(into: bool) -> None:
    """Make the chips come or go, whoever holds their lines."""
    live = _CONFIG / "live"
    if live.read_text().strip() != str(int(into)):
        live.write_text(str(int(into)))


def keep_level(keep: bool) -> None:
    """Whether a freed line stays as it was driven, as on a Raspberry Pi, or falls back to its pull."""
    _KEEP_LEVEL.write_text("Y" if keep else "N")


def make_chips() -> None:
    """Load the module and plug in two chips of 32 lines; line 17 of the first is named RELAY."""
    subprocess.run(["modprobe", "gpio-sim-doord"], check=True, timeout=60)
    for bank, label in enumerate(LABELS):
        folder = _CONFIG / f"bank{bank}"
        folder.mkdir(parents=True)
        (folder / "num_lines").write_text("32")
        (folder / "label").write_text(label)
    (_CONFIG / "bank0/line17").mkdir()
    (_CONFIG / "bank0/line17/name").write_text("RELAY")
    plug(True)
