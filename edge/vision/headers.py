"""What a picture file's header says, read without decoding it. Pure: bytes in, figures out.

OpenCV allocates before it asks, and it fills a truncated JPEG with grey and only a warning. So
size and completeness are settled here first. Only four formats are let through, so only their
decoders ever meet foreign bytes.

Sources: ITU-T T.81 annex B (JPEG), W3C PNG third edition, RFC 9649 (WebP), BITMAPINFOHEADER.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from edge.errors import ImageError


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What the header claims. The pixels may still be damaged."""

    kind: str  # JPEG, PNG, WebP, BMP
    width: int  # px, as stored: before any EXIF rotation
    height: int  # px
    complete: bool  # the file reaches its own end
    alpha: bool  # it may carry transparency
    scans: int = 1  # that a progressive JPEG comes in


def read_header(data: bytes, where: str) -> PictureHeader:
    """The header of a JPEG, PNG, WebP or BMP file.

    Raises:
        ImageError: empty, another kind of file, cut off inside the header, without pixels, or in so many
            scans that it was made to be decoded for minutes.
    """
    if not data:
        raise ImageError(f"{where}: expected a picture, got an empty file")
    parse = next((parse for magic, parse in _PARSERS if magic.match(data)), None)
    if parse is None:
        raise ImageError(f"{where}: expected a JPEG, PNG, WebP or BMP picture, got {bytes(data[:8])!r}")
    try:
        header = parse(data)
    except (struct.error, IndexError):
        raise ImageError(f"{where}: expected a whole picture, got one cut off in its header") from None
    if header.width < 1 or header.height < 1:
        raise ImageError(f"{where}: expected a picture with pixels, got {header.width} x {header.height}")
    if header.scans > _MAX_SCANS:
        raise ImageError(f"{where}: expected at most {_MAX_SCANS} scans, got {header.scans}")
    return header


_MARKER = re.compile(rb"\xff+([^\x00\xff])")  # as libjpeg does, stray bytes before it are skipped
_MAX_SEGMENTS = 4096  # a real photograph has some dozens
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # frame headers; those three are tables
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_SOS, _EOI = 0xDA, b"\xff\xd9"
_MAX_SCANS = 100  # a photograph has ten or so. Each is a pass over all of the picture: 34 bytes, 2 ms


def _jpeg(data: bytes) -> PictureHeader:
    at, size = 2, (0, 0)
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, at)
        if marker is None:
            raise IndexError
        code, at = marker[1][0], marker.end()
        if code in _BARE:
            continue
        if code in _SOF:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size = (width, height)
        if code == _SOS:  # coded data stuffs every 0xff, so the next EOI is the picture's own
            scans = 1 + data.count(bytes((0xFF, _SOS)), at)
            return PictureHeader("JPEG", *size, complete=data.find(_EOI, at) >= 0, alpha=False, scans=scans)
        at += struct.unpack_from(">H", data, at)[0]
    raise IndexError


def _png(data: bytes) -> PictureHeader:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    palette_with_alpha = colour == 3 and b"tRNS" in data[:65536]
    alpha = colour in (4, 6) or palette_with_alpha
    return PictureHeader("PNG", width, height, complete=data.rfind(b"IEND") >= 0, alpha=alpha)


def _webp(data: bytes) -> PictureHeader:
    complete = len(data) >= struct.unpack_from("<I", data, 4)[0] + 8
    kind = data[12:16]
    if kind == b"VP8X":  # extended: flags, then 24-bit sizes minus one
        flags, low, high = struct.unpack_from("<B3xIH", data, 20)
        size, alpha = (low & 0xFFFFFF, low >> 24 | high << 8), bool(flags & 0x10)
        return PictureHeader("WebP", size[0] + 1, size[1] + 1, complete, alpha)
    if kind == b"VP8L":  # lossless: 14-bit sizes minus one after the signature byte
        bits = struct.unpack_from("<I", data, 21)[0]
        return PictureHeader("WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, complete, True)
    width, height = struct.unpack_from("<HH", data, 26)  # lossy: after frame tag and start code
    return PictureHeader("WebP", width & 0x3FFF, height & 0x3FFF, complete, False)


def _bmp(data: bytes) -> PictureHeader:
    offset, _, width, height, _, bits, packed, stored = struct.unpack_from("<IIiiHHII", data, 10)
    rows = abs(height)  # negative: stored top down
    stride = (width * bits + 31) // 32 * 4
    body = stored if packed in (1, 2) else stride * rows  # 1, 2: run lengths
    return PictureHeader("BMP", width, rows, len(data) >= offset + body, bits == 32)


_PARSERS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], PictureHeader]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    (re.compile(rb"BM"), _bmp),
)
