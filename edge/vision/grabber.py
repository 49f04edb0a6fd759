"""Drains the camera on a thread of its own and keeps only the newest frame."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from edge.config import CameraConfig
from edge.errors import CameraError, ClipEnded
from edge.ports import CameraSource
from edge.values import Frame

log = logging.getLogger(__name__)

# before the source is opened again: doubles from the first to the last. A camera that comes back shows
# frames within the last, its opening and `stall_s`: 5 s for a network camera
_PAUSE_S = (0.2, 2.0)
_SETTLED_S = 5.0  # after so long without a failure the first pause counts again
_MAX_READERS = 4  # one that works and three stuck in a driver
_REPEAT_LOG_S = 60.0  # the same words are logged once in this time


class Grabber:
    """Opens the source, reads it dry, and opens it again, for ever, when it fails.

    A read that blocks for ever in a driver can't be interrupted. Its thread is abandoned once it
    shows no sign of life for `stuck_s` and a new one opens the source; should the old one ever
    return, it closes its source and ends. At most three are abandoned at a time: then nothing new
    is started until one returns, and the camera's health says that no frames come. `newest` looks
    after all this, so it must be called now and then.
    """

    def __init__(
        self, open_source: Callable[[], CameraSource], config: CameraConfig, stuck_s: float | None = None
    ) -> None:
        """`stuck_s`: longer than any honest open or read; by default 3 x `stall_s` + 5."""
        self._open_source = open_source
        self._stall_s = config.stall_s
        self._stuck_s = _stuck_s(config) if stuck_s is None else stuck_s
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._readers: list[threading.Thread] = []
        self._turn = 0  # only the reader of this turn may deliver
        self._beat = 0.0
        self._frame: Frame | None = None
        self._ended = False
        self._problem: str | None = None
        self.delivered = 0  # frames since the start, those that nobody looked at too
        self._logged = ("", float("-inf"))

    @property
    def ended(self) -> bool:
        """Whether a clip has shown its last picture; nothing is opened again then."""
        return self._ended

    @property
    def problem(self) -> str | None:
        """Why no frames come, in words; None while they do."""
        return self._problem

    def start(self) -> None:
        """Begin; returns at once."""
        with self._changed:
            self._start_reader()

    def switch(self, open_source: Callable[[], CameraSource], config: CameraConfig) -> None:
        """Another source from now on; the one before is closed by its own thread."""
        with self._changed:
            self._open_source = open_source
            self._stall_s, self._stuck_s = config.stall_s, _stuck_s(config)
            self._ended, self._problem, self._frame = False, None, None
            if self._readers and not self._stopping.is_set():
                self._start_reader()

    def newest(self, timeout_s: float) -> Frame | None:
        """A frame newer than the last one returned, waiting for it; None after `timeout_s`."""
        self._replace_stuck()
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None, timeout_s)
            frame, self._frame = self._frame, None
            return frame

    def ask_to_stop(self) -> None:
        """The reader ends after its frame; returns at once."""
        with self._changed:
            self._stopping.set()
            self._turn += 1

    def stop(self, timeout_s: float | None = None) -> None:
        """End; takes at most `timeout_s`, by default `stall_s` + 1: then a stuck reader is left behind."""
        self.ask_to_stop()
        reader = self._readers[-1] if self._readers else None
        if reader is not None:
            reader.join(self._stall_s + 1 if timeout_s is None else timeout_s)

    def _start_reader(self) -> None:
        self._turn += 1
        self._beat = time.monotonic()
        reader = threading.Thread(target=self._run, args=(self._turn,), name="camera", daemon=True)
        self._readers = [r for r in self._readers if r.is_alive()] + [reader]
        reader.start()

    def _replace_stuck(self) -> None:
        with self._changed:
            silent_s = time.monotonic() - self._beat
            if not self._readers or self._ended or self._stopping.is_set() or silent_s < self._stuck_s:
                return
            if sum(r.is_alive() for r in self._readers) < _MAX_READERS:
                self._fail(f"camera: expected an answer in {self._stuck_s:g} s, got none: opened again")
                self._start_reader()
            else:
                self._fail(f"camera: expected an answer, got {_MAX_READERS} readers stuck in the driver")

    def _run(self, turn: int) -> None:
        pause_s = _PAUSE_S[0]
        while self._alive(turn):
            began = time.monotonic()
            problem = self._serve(turn)
            if problem is None or not self._alive(turn):
                return
            self._fail(problem)
            if time.monotonic() - began > _SETTLED_S:  # it worked for a while: soon again
                pause_s = _PAUSE_S[0]
            jitter = random.uniform(0.5, 1.0)  # noqa: S311  # doors must not knock in step, no secret
            self._stopping.wait(pause_s * jitter)
            pause_s = min(_PAUSE_S[1], 2 * pause_s)

    def _serve(self, turn: int) -> str | None:
        """Read one opened source until it fails; why, or None when there is no more to do."""
        try:
            source = self._open_source()
            try:
                while self._alive(turn) and self._deliver(turn, source.read()):
                    pass
            finally:
                source.close()
        except ClipEnded:
            self._ended = self._alive(turn)
        except CameraError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  # the boundary where a camera's bytes enter
            return f"camera: {type(error).__name__}: {error}"
        return None

    def _alive(self, turn: int) -> bool:
        """Whether this reader is still the one; also its sign of life."""
        with self._changed:
            if turn != self._turn:
                return False
            self._beat = time.monotonic()
            return True

    def _deliver(self, turn: int, frame: Frame) -> bool:
        with self._changed:
            if turn != self._turn:
                return False
            self._frame = frame
            self.delivered += 1
            self._problem = None
            self._changed.notify()
            return True

    def _fail(self, problem: str) -> None:
        self._problem = problem
        now = time.monotonic()
        if problem != self._logged[0] or now - self._logged[1] > _REPEAT_LOG_S:
            self._logged = (problem, now)
            log.warning("%s; it is tried again for ever", problem)


def _stuck_s(config: CameraConfig) -> float:
    """Longer than any honest open or read."""
    return 3 * config.stall_s + _SETTLED_S
