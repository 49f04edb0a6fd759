"""The few calls of Linux's GPIO character device (linux/gpio.h, v2, kernel 5.10) that need no driver.

Standard library only and no package of doord's, for `doord-lock` must start on a broken system.
Layout of what the kernel reads and writes, in the machine's byte order:

    gpiochip_info          char name[32], label[32]; u32 lines                                = 68
    gpio_v2_line_attribute u32 id, padding; u64 values                                        = 16
    gpio_v2_line_config    u64 flags; u32 num_attrs, padding[5]; {attribute, u64 mask}[10]    = 272
    gpio_v2_line_request   u32 offsets[64]; char consumer[32]; config; u32 num_lines,
                           event_buffer_size, padding[5]; s32 fd                              = 592
    gpio_v2_line_info      char name[32], consumer[32]; u32 offset, num_attrs; u64 flags;
                           attribute[10]; u32 padding[4]                                      = 256
"""

import fcntl
import os
import struct

_CHIP_INFO = struct.Struct("=32s32sI")
_LINE_INFO = struct.Struct("=32s32sIIQ160s16s")
_LINE_REQUEST = struct.Struct("=256s32sQI20sIIQQ216sII20si")

_IOC_READ, _IOC_WRITE = 2, 1


def _ioc(direction: int, number: int, size: int) -> int:
    """The number of an ioctl (asm-generic/ioctl.h: the same on x86, arm and riscv)."""
    return direction << 30 | size << 16 | 0xB4 << 8 | number


GET_CHIPINFO = _ioc(_IOC_READ, 0x01, _CHIP_INFO.size)
GET_LINEINFO = _ioc(_IOC_READ | _IOC_WRITE, 0x05, _LINE_INFO.size)
GET_LINE = _ioc(_IOC_READ | _IOC_WRITE, 0x07, _LINE_REQUEST.size)

_FLAG_OUTPUT = 1 << 3
_ATTR_OUTPUT_VALUES = 2


def output_request(offset: int, level: int, consumer: str) -> bytes:
    """A gpio_v2_line_request for one line as an output that starts at `level` (0 or 1)."""
    return _LINE_REQUEST.pack(
        struct.pack("=I", offset),
        consumer.encode()[:31],
        _FLAG_OUTPUT,
        1,  # one attribute: the level
        b"",
        _ATTR_OUTPUT_VALUES,
        0,
        level,
        1,  # mask: the first line
        b"",
        1,  # one line
        0,
        b"",
        0,
    )


def drive(chip: str, offset: int, level: int, consumer: str) -> None:
    """Make the line an output at `level` and let it go; a Pi's pin then keeps it.

    Raises:
        OSError: no such chip or line, not permitted, or the line is held (EBUSY).
    """
    fd = os.open(chip, os.O_RDWR | os.O_CLOEXEC)
    try:
        answer = bytearray(output_request(offset, level, consumer))
        fcntl.ioctl(fd, GET_LINE, answer)
        os.close(_LINE_REQUEST.unpack(answer)[-1])
    finally:
        os.close(fd)


def chip_info(fd: int) -> tuple[str, int]:
    """(label, number of lines) of an open chip. Raises OSError: not a GPIO chip."""
    answer = bytearray(_CHIP_INFO.size)
    fcntl.ioctl(fd, GET_CHIPINFO, answer)
    _, label, lines = _CHIP_INFO.unpack(answer)
    return _text(label), lines


def line_info(fd: int, offset: int) -> tuple[str, str]:
    """(name, who holds it) of a line; empty where there is none. Raises OSError."""
    answer = bytearray(_LINE_INFO.pack(b"", b"", offset, 0, 0, b"", b""))
    fcntl.ioctl(fd, GET_LINEINFO, answer)
    name, consumer, *_ = _LINE_INFO.unpack(answer)
    return _text(name), _text(consumer)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
