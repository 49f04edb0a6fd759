"""multipart/x-mixed-replace, the framing of MJPEG over HTTP. Pure: bytes in, whole parts out.

Tolerant where cameras differ (line ends, quotes and dashes of the boundary, with and without
Content-Length), strict about memory: whatever comes, the buffer stays below the limits here.
Source: RFC 2046 section 5.1; x-mixed-replace itself was never standardised.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from edge.errors import CameraError

MAX_HEADER_BYTES = 8 * 2**10
MAX_PART_BYTES = 16 * 2**20  # a 4096 x 4096 JPEG of good quality has about 6 MiB

_TOGETHER_S = 0.001  # what comes within this came when the first of it did
_EXTRA_DASHES = 8  # some cameras repeat the dashes that the header's boundary already has
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,12})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_BOUNDARY = re.compile(r";\s*boundary=\s*\"?([^\s\";]{1,100})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part's content."""

    body: bytes
    arrived_at: float  # when its first byte came; the clock of `feed`


def boundary_of(content_type: str) -> bytes | None:
    """The boundary a Content-Type names, without leading dashes; None when it's no MJPEG stream."""
    named = _BOUNDARY.search(content_type)
    if named is None or not content_type.lower().startswith("multipart/"):
        return None
    return named[1].lstrip("-").encode("latin-1") or None


class PartParser:
    """Fed with bytes as they come; `take` gives the parts that are whole."""

    def __init__(self, boundary: bytes, where: str) -> None:
        self._where = where
        self._delimiter = b"--" + boundary
        self._next = re.compile(rb"\r?\n-{0,%d}" % _EXTRA_DASHES + re.escape(self._delimiter))
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first byte in the stream
        self._arrivals: deque[tuple[int, float]] = deque()  # (offset behind the last byte, when)
        self._started = 0  # the buffer holds no delimiter of this part before this,
        self._searched = 0  # and none of the next before this

    def feed(self, data: bytes, at: float) -> None:
        """More of the stream, that came at `at`."""
        self._buffer += data
        end = self._offset + len(self._buffer)
        if (
            self._arrivals and at - self._arrivals[-1][1] < _TOGETHER_S
        ):  # a byte at a time would fill the memory
            at = self._arrivals.pop()[1]
        self._arrivals.append((end, at))

    def take(self) -> Part | None:
        """The next whole part, or None while more bytes are needed.

        Raises:
            CameraError: the stream says it ends, or a header or part is larger than allowed.
        """
        start = self._buffer.find(self._delimiter, self._started)
        if start < 0:
            self._bound(len(self._buffer), MAX_PART_BYTES, "a part boundary")
            self._started = max(0, len(self._buffer) - len(self._delimiter) + 1)
            return None
        self._started = start
        behind = start + len(self._delimiter)
        if self._buffer[behind : behind + 2] == b"--":
            raise CameraError(f"{self._where}: expected more frames, got the end of the stream")
        blank = _BLANK_LINE.search(self._buffer, behind, behind + MAX_HEADER_BYTES)
        if blank is None:
            self._bound(len(self._buffer) - behind, MAX_HEADER_BYTES, "the end of a part's header")
            return None
        end = self._end_of_body(blank.end(), _LENGTH.search(self._buffer, behind, blank.end()))
        return None if end is None else self._cut(start, blank.end(), end)

    def _end_of_body(self, body: int, length: re.Match[bytes] | None) -> int | None:
        if length is not None:
            size = int(length[1])
            self._bound(size, MAX_PART_BYTES, "the end of a part")
            return body + size if len(self._buffer) >= body + size else None
        ends = self._next.search(self._buffer, max(body - 2, self._searched))
        if ends is None:
            self._bound(len(self._buffer) - body, MAX_PART_BYTES, "the end of a part")
            self._searched = max(0, len(self._buffer) - len(self._delimiter) - _EXTRA_DASHES - 2)
            return None
        return max(body, ends.start())

    def _cut(self, start: int, body: int, end: int) -> Part:
        while self._arrivals[0][0] <= self._offset + start:
            self._arrivals.popleft()
        part = Part(bytes(self._buffer[body:end]), self._arrivals[0][1])
        del self._buffer[:end]
        self._offset += end
        self._started = self._searched = 0
        return part

    def _bound(self, size: int, limit: int, what: str) -> None:
        if size > limit:
            raise CameraError(f"{self._where}: expected {what} within {limit} bytes, got {size} bytes")
