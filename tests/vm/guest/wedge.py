"""In the guest: a card reader that types, made of uinput; it types each line of a pipe, and Enter."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

PIPE = Path("/run/doord-wedge")
NAME = b"doord-wedge"
_SET_EVBIT, _SET_KEYBIT, _CREATE = 0x40045564, 0x40045565, 0x5501  # <linux/uinput.h>
_EV_SYN, _EV_KEY, _ENTER = 0, 1, 28
_KEYS = {digit: 2 + at for at, digit in enumerate("1234567890")}
_EVENT = struct.Struct("@llHHi")
_BETWEEN_S = 0.005


def make_device() -> int:
    """A keyboard with ten digits and Enter."""
    device = os.open("/dev/uinput", os.O_WRONLY)
    fcntl.ioctl(device, _SET_EVBIT, _EV_KEY)
    for key in (*_KEYS.values(), _ENTER):
        fcntl.ioctl(device, _SET_KEYBIT, key)
    usb, no_limits = 3, bytes(4 * 4 * 64)
    os.write(device, struct.pack("@80s4HI", NAME, usb, 1, 1, 1, 0) + no_limits)
    fcntl.ioctl(device, _CREATE)
    return device


def press(device: int, key: int) -> None:
    for value in (1, 0):
        os.write(device, _EVENT.pack(0, 0, _EV_KEY, key, value) + _EVENT.pack(0, 0, _EV_SYN, 0, 0))
    time.sleep(_BETWEEN_S)


def main() -> None:
    """Type for ever."""
    device = make_device()
    os.mkfifo(PIPE)
    while True:
        with PIPE.open() as lines:
            for line in lines:
                for key in [_KEYS[digit] for digit in line.strip()] + [_ENTER]:
                    press(device, key)


if __name__ == "__main__":
    main()
