"""What time it is, and whether to believe it.

Trusted is a clock that the kernel calls synchronised (NTP, PTP, GPS), or that the kernel has set
from a hardware clock at boot, and that is not behind the highest time this door has trusted
before. Only trusted time is remembered, so that a wrong future is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from edge.disk import write_atomically

log = logging.getLogger(__name__)

_STA_UNSYNC = 0x0040  # <sys/timex.h>
_STEP_BACK_S = 5.0  # how far a running clock may be set back and be trusted still
_KEEP_EVERY_S = 600.0  # how much of the floor a power cut may cost; spares the card
_RTC = Path("/sys/class/rtc")


class _Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long))


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2); a tail longer than any libc's, since the kernel writes it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("tail", ctypes.c_long * 64),
    )


def kernel_synchronised() -> bool:
    """Whether the kernel's clock is kept by NTP or the like. A kernel that does not tell: no."""
    timex = _Timex()  # modes 0: read only, allowed to everybody
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    return state >= 0 and not timex.status & _STA_UNSYNC


def set_from_hardware(rtc: Path = _RTC) -> bool:
    """Whether a hardware clock has set the kernel's at boot (the file hctosys of one reads 1)."""
    found = False
    for path in rtc.glob("rtc*/hctosys"):
        with contextlib.suppress(OSError):
            found |= path.read_text().strip() == "1"
    return found


def believed_by_kernel() -> bool:
    """Either of the two."""
    return kernel_synchronised() or set_from_hardware()


class SystemClock:
    """Port Clock over the system's. `keep` belongs to one thread, the rest to any."""

    def __init__(
        self,
        floor: Path,
        believed: Callable[[], bool] = believed_by_kernel,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`floor`: the file with the highest UTC ever trusted, whole seconds since 1970."""
        self._path = floor
        self._believed = believed
        self._wall = wall
        self._floor_s = self._kept_s = self._read()

    def now_utc(self) -> datetime:
        """The time, never below the highest ever trusted."""
        return datetime.fromtimestamp(max(self._wall(), self._floor_s), timezone.utc)

    @property
    def trusted(self) -> bool:
        """Whether rights may depend on it now."""
        return self._wall() >= self._floor_s - _STEP_BACK_S and self._believed()

    def keep(self, at_once: bool = False) -> None:
        """Remember the time; to be called every few seconds, and `at_once` at the end."""
        if not self.trusted:
            return
        self._floor_s = max(self._floor_s, self._wall())
        if self._floor_s - self._kept_s < (1 if at_once else _KEEP_EVERY_S):
            return
        self._kept_s = self._floor_s
        try:
            write_atomically(self._path, f"{int(self._floor_s)}\n".encode())
        except OSError as error:
            log.warning("%s: the time can't be remembered: %s", self._path, error.strerror)

    def _read(self) -> float:
        try:
            text = self._path.read_text()[:20].strip()
        except FileNotFoundError:
            return 0.0
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s: the highest time seen can't be read: %s", self._path, error)
            return 0.0
        if text.isascii() and text.isdigit() and len(text) <= 11:
            return float(text)
        log.warning("%s: expected whole seconds since 1970, got %r", self._path, text)
        return 0.0
