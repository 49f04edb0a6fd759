"""A line of a gpio-sim chip seen from the kernel's side: what it was driven to, and its level now.

Only where DOORD_TEST_GPIOCHIP names such a chip: tests/vm/run makes one in a virtual machine.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

CHIP = os.environ.get("DOORD_TEST_GPIOCHIP", "")
LABEL = "doord-sim"
_DEVICE = Path("/sys/devices/platform/gpio-sim.0")
_CONFIG = Path("/sys/kernel/config/gpio-sim/doord")
_KEEP_LEVEL = Path("/sys/module/gpio_sim_doord/parameters/keep_level")
_TRACING = Path("/sys/kernel/tracing")
_DRIVEN = re.compile(r"gpio_value: (\d+) set ([01])\s*$", re.MULTILINE)


class SimLine:
    """One line of the chip."""

    def __init__(self, line: int) -> None:
        (device,) = _DEVICE.glob("gpiochip*")
        (base,) = (_DEVICE / "gpio").glob("gpiochip*/base")
        self.chip = f"/dev/{device.name}"  # a chip that was held while it went comes back as another
        self._number = int(base.read_text()) + line
        self._sysfs = device / f"sim_gpio{line}"
        self.pull_path = self._sysfs / "pull"

    @property
    def level(self) -> int:
        """0 or 1, as the kernel has it now."""
        return int((self._sysfs / "value").read_text())

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
    """Make the chip come or go, whoever holds its lines."""
    live = _CONFIG / "live"
    if live.read_text().strip() != str(int(into)):
        live.write_text(str(int(into)))


def keep_level(keep: bool) -> None:
    """Whether a freed line stays as it was driven, as on a Raspberry Pi, or falls back to its pull."""
    _KEEP_LEVEL.write_text("Y" if keep else "N")


def make_chip() -> str:
    """Load the module and plug a chip of 32 lines in; its path."""
    subprocess.run(["modprobe", "gpio-sim-doord"], check=True, timeout=60)
    (_CONFIG / "bank0").mkdir(parents=True)
    (_CONFIG / "bank0/num_lines").write_text("32")
    (_CONFIG / "bank0/label").write_text(LABEL)
    plug(True)
    return SimLine(0).chip
