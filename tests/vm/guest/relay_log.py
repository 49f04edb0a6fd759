"""In the guest: says each level of the relay's line on the third serial port, until the kernel stops.

systemd does not stop it at a shutdown, so it sees what the door's stop does to the line.
"""

from __future__ import annotations

import json
import time

import gpiochip

LINE = 17
_EVERY_S = 0.01

relay = gpiochip.SimLine(LINE)
last = None
with open("/dev/ttyS2", "w", buffering=1) as said:  # noqa: PTH123  # a terminal
    while True:
        level = relay.level
        if level != last:
            said.write(json.dumps({"level": level, "at": round(time.monotonic(), 2)}) + "\n")
            last = level
        time.sleep(_EVERY_S)
