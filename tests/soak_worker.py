"""The process of a soaked door: takes what to do as JSON on stdin, tells what came of it on stdout."""

from __future__ import annotations

import json
import sys

import paho.mqtt.client  # noqa: F401  # before the clock is changed: a broker's time is real
from virtual_time import VirtualTime

if __name__ == "__main__":
    clock = VirtualTime()
    clock.install()
    import soak_door  # and all of edge, which lives by that clock

    print(json.dumps(soak_door.spend(clock, **json.load(sys.stdin))))
