"""The cameras and GPIO chips that this machine has."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from edge.door.chips import ChipLines

# struct v4l2_capability of linux/videodev2.h: driver, card, bus_info, version, capabilities, device_caps
_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability)
_HAS_DEVICE_CAPS, _VIDEO_CAPTURE = 0x80000000, 0x00000001
_NAMES = 12  # of a chip's lines that are shown
# devices of a Pi that take pictures in and give others out: no cameras
_CONVERTERS = ("bcm2835-codec", "bcm2835-isp", "pispbe", "rpi-hevc-dec")


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of this machine."""

    source: str  # as the configuration names it: the name that stays, where udev made one
    device: str
    card: str


def cameras(dev: Path = Path("/dev")) -> list[Camera]:
    """The V4L2 devices that deliver pictures, in the order of their numbers."""
    lasting = {str(link.resolve()): str(link) for link in sorted((dev / "v4l/by-id").glob("*"))}
    found = []
    for path in sorted(dev.glob("video*"), key=lambda p: (len(p.name), p.name)):
        with contextlib.suppress(OSError):
            card = _card(path)
            if card is not None:
                found.append(Camera(lasting.get(str(path), str(path)), str(path), card))
    return found


def _card(path: Path) -> str | None:
    """The name of a camera; None: it delivers no pictures. Raises OSError: no V4L2 device."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        answer = bytearray(_CAPABILITY.size)
        fcntl.ioctl(fd, _QUERYCAP, answer)
    finally:
        os.close(fd)
    driver, card, _, _, capabilities, device = _CAPABILITY.unpack(answer)
    can = device if capabilities & _HAS_DEVICE_CAPS else capabilities
    if not can & _VIDEO_CAPTURE or _text(driver).startswith(_CONVERTERS):
        return None
    return _text(card)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def chip_words(chip: ChipLines) -> str:
    """A chip in one line: where, what, how large, which lines have names."""
    named = [f"{offset}={name}" for offset, name in enumerate(chip.names) if name]
    more = " ..." if len(named) > _NAMES else ""
    names = f": {' '.join(named[:_NAMES])}{more}" if named else ""
    return f"{chip.path} {chip.label!r}, {len(chip.names)} lines{names}"
