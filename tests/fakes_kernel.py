"""The kernel's GPIO structures as ctypes lays them out, and a sibling of its ioctls."""

from __future__ import annotations

import ctypes
import errno
import os

from edge import gpio_uapi

u32, u64, s32 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32


class ChipInfo(ctypes.Structure):
    """struct gpiochip_info of linux/gpio.h."""

    _fields_ = [("name", ctypes.c_char * 32), ("label", ctypes.c_char * 32), ("lines", u32)]


class Attribute(ctypes.Structure):
    """struct gpio_v2_line_attribute; the union's widest member."""

    _fields_ = [("id", u32), ("padding", u32), ("values", u64)]


class ConfigAttribute(ctypes.Structure):
    """struct gpio_v2_line_config_attribute."""

    _fields_ = [("attr", Attribute), ("mask", u64)]


class LineConfig(ctypes.Structure):
    """struct gpio_v2_line_config."""

    _fields_ = [("flags", u64), ("num_attrs", u32), ("padding", u32 * 5), ("attrs", ConfigAttribute * 10)]


class LineRequest(ctypes.Structure):
    """struct gpio_v2_line_request."""

    _fields_ = [
        ("offsets", u32 * 64),
        ("consumer", ctypes.c_char * 32),
        ("config", LineConfig),
        ("num_lines", u32),
        ("event_buffer_size", u32),
        ("padding", u32 * 5),
        ("fd", s32),
    ]


class LineInfo(ctypes.Structure):
    """struct gpio_v2_line_info."""

    _fields_ = [
        ("name", ctypes.c_char * 32),
        ("consumer", ctypes.c_char * 32),
        ("offset", u32),
        ("num_attrs", u32),
        ("flags", u64),
        ("attrs", Attribute * 10),
        ("padding", u32 * 4),
    ]


class Kernel:
    """Where fcntl.ioctl would go: chips of named lines; every request kept."""

    def __init__(self, label: str = "pinctrl-rp1", names: tuple[str, ...] = ("", "RELAY", "")) -> None:
        self.label = label
        self.names = names
        self.requests: list[tuple[int, int]] = []  # (offset, level)
        self.holders: dict[int, str] = {}
        self.busy = 0  # how many requests find the line held

    def ioctl(self, fd: int, number: int, data: bytearray) -> int:
        if number == gpio_uapi.GET_CHIPINFO:
            data[:] = bytes(ChipInfo(b"gpiochip0", self.label.encode(), len(self.names)))
        elif number == gpio_uapi.GET_LINEINFO:
            offset = LineInfo.from_buffer(data).offset
            name, holder = self.names[offset].encode(), self.holders.get(offset, "").encode()
            data[:] = bytes(LineInfo(name=name, consumer=holder, offset=offset))
        else:
            self._request(LineRequest.from_buffer(data))
        return 0

    def _request(self, request: LineRequest) -> None:
        if self.busy:
            self.busy -= 1
            raise OSError(errno.EBUSY, "Device or resource busy")
        self.requests.append((request.offsets[0], request.config.attrs[0].attr.values))
        request.fd = os.dup(0)
