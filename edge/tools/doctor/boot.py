"""Before Linux: does a Raspberry Pi's firmware drive the relay's line to its locked level? Pure.

Between power-on and the daemon's start nothing of doord runs. On a Pi the lines `gpio=` of config.txt
act some seconds after power-on (raspberrypi.com, "config.txt", GPIO control); deploy/boot/README.md of
the sources has the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

HEADER_CHIPS = ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")
"""Labels of the chips whose offsets are the header's GPIO numbers: Pi 3 and older, 4, 5."""
_GPIO = re.compile(r"gpio\s*=\s*([\d,\- ]+)=\s*([a-z0-9,\s]+)")
_PINS = re.compile(r"(\d+)(?:-(\d+))?")
_LEVELS = {"dl": 0, "dh": 1}
_FUNCTIONS = {"ip", "op", "a0", "a1", "a2", "a3", "a4", "a5"}


def is_pi(model: str) -> bool:
    """Whether the device tree's model is a Raspberry Pi."""
    return model.startswith("Raspberry Pi")


def wanted(line: int, locked: int) -> str:
    """The line of config.txt that drives a GPIO to its locked level, 0 or 1."""
    return f"gpio={line}=op,{'dh' if locked else 'dl'}"


def shortcoming(config_txt: str, line: int, locked: int) -> str:
    """Why the firmware does not drive the GPIO to its locked level, in words; empty: it does."""
    function, level = "", -1
    for section, attributes in _entries(config_txt, line):
        if section != "all":
            return f"a gpio= line under [{section}], which may not hold here"
        for attribute in attributes:  # in order: later ones override
            function = attribute if attribute in _FUNCTIONS else function
            level = _LEVELS.get(attribute, level)
    if not function and level < 0:
        return "none"
    if function != "op":
        return f"it is no output there ({function or 'no op'})"
    if level != locked:
        return "it is driven to unlocked there" if level >= 0 else "an output without dl or dh"
    return ""


def _entries(config_txt: str, line: int) -> Iterator[tuple[str, list[str]]]:
    """(section, attributes) of each `gpio=` line that names this GPIO, in the file's order."""
    section = "all"
    for text in config_txt.splitlines():
        text = text.split("#", 1)[0].strip()
        if text.startswith("[") and text.endswith("]"):
            section = text[1:-1].strip().lower()
        elif (found := _GPIO.fullmatch(text)) and line in _pins(found[1]):
            yield section, [attribute.strip() for attribute in found[2].split(",")]


def _pins(text: str) -> set[int]:
    """`3-4,6,8` as numbers; a range of any size is cut to what a chip can have."""
    pins: set[int] = set()
    for first, last in _PINS.findall(text.replace(" ", "")):
        pins.update(range(int(first), min(int(last or first), 511) + 1))
    return pins
