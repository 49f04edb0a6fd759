"""The parent's side of a camera's child process: starts it, copies its frames, ends it.

What comes from the child is foreign: it decodes what a network sends. Every size is bounded before it is
used, a slot is copied before it is looked at, and the memory is sealed, so that no child can shrink it
under the parent (which would be SIGBUS).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import mmap
import os
import re
import secrets
import select
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import CameraError
from edge.values import Frame, read_only
from edge.vision.decoder import HEADER, MAGIC, RECORD, SLOTS

log = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("decoder.py")
MAX_PIXELS = 4096 * 4096  # the largest width and height the config knows; pages are used as they are written
OPENING_S = 5.0  # beside `stall_s`: an interpreter, its libraries, and the wait for a key frame

_SLOT_BYTES = HEADER.size + 3 * MAX_PIXELS
_CHUNK_BYTES = 64 * 2**10  # all that a pipe holds by default, pipe(7)
_KEPT_LINES, _LINE_CHARS = 20, 300
_REAP_S = 1.0  # after SIGKILL; a child stuck in a driver is left to the next child's start
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_CAUSES = (
    (r"failed: 401\b", "wrong user or password (401)"),
    (r"failed: 403\b", "access is forbidden (403)"),
    (r"failed: 404\b", "no such path on the camera (404)"),
    (r"failed: 4[0-9][0-9]\b", "the camera refuses the request"),
    (r"failed: 5[0-9][0-9]\b", "the camera reports an error of its own"),
    (r"Connection refused", "connection refused"),
    (r"No route to host|Network is unreachable", "no route to the camera"),
    (r"resolve hostname|Name or service", "no address for this host name"),
    (r"timed out|timeout", "nothing in time"),
    (r"Cannot allocate|ENOMEM|OutOfMemory", "a picture larger than the decoder's memory"),
    (r"Invalid data", "a stream that can't be decoded"),
)
"""What a decoder's libraries complain of, in our words: theirs may hold what a server sent, or a password."""

_SIZE = re.compile(r"Reinit context to ([0-9]+x[0-9]+)")
"""FFMPEG's H.264 decoder at each change of size. OpenCV goes on with pictures of the first size, cut or
stretched, or reads beyond them (opencv issues 27116 and 29699): a camera that changes is opened again."""

_noted: set[str] = set()  # said once in a process


@dataclass(frozen=True, slots=True)
class Program:
    """A child to run."""

    command: Sequence[str]  # the memory's descriptor is appended
    request: Mapping[str, object]  # one line of JSON on its stdin
    where: str  # what messages call the camera: no password in it


class ChildCamera:
    """Port CameraSource over a child process that decodes.

    Each frame is the newest that the child wrote. Belongs to one thread, which must live as long: the
    child dies with the thread that made it (PR_SET_PDEATHSIG).
    """

    def __init__(self, program: Program, stall_s: float) -> None:
        """Start, and wait for the first frame. Raises CameraError, within `stall_s` + 5 s."""
        self._where, self._stall_s = program.where, stall_s
        self._mark = secrets.token_hex(8)  # of the program's own lines: what a library logs is a server's too
        self._told: deque[str] = deque(maxlen=_KEPT_LINES)  # by the program itself
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)  # by its libraries
        self._sizes: set[str] = set()  # of this stream's pictures
        self._sequence = 0
        self._process: subprocess.Popen[bytes] | None = None
        memory = -1
        try:
            memory = os.memfd_create("doord-camera", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(memory, SLOTS * _SLOT_BYTES)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
            self._memory = mmap.mmap(memory, SLOTS * _SLOT_BYTES, prot=mmap.PROT_READ)
            self._start(program, memory)
            self._first: Frame | None = self._next(time.monotonic() + stall_s + OPENING_S)
        except CameraError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise CameraError(f"{self._where}: expected a decoder, got: {error.strerror or error}") from None
        finally:
            if memory >= 0:
                os.close(memory)

    def _start(self, program: Program, memory: int) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # an interpreter of ours with a program of ours
            [*program.command, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,  # no credentials' folder, no notify socket
            cwd="/",
            pass_fds=(memory,),
            bufsize=0,
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._records, self._complaints = self._process.stdout.fileno(), self._process.stderr.fileno()
        for pipe in (self._records, self._complaints):
            os.set_blocking(pipe, False)
        self._half = self._half_line = b""
        request = {**program.request, "parent": os.getpid(), "mark": self._mark}
        with contextlib.suppress(BrokenPipeError):  # it ended at once: its stderr says why
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.close()

    def read(self) -> Frame:
        """The newest frame. Raises CameraError within `stall_s`; the source is dead then."""
        if self._process is None:
            raise CameraError(f"{self._where}: expected an open camera, got a closed one")
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        return self._next(time.monotonic() + self._stall_s)

    def _next(self, deadline: float) -> Frame:
        began, got = time.monotonic(), "none"
        poll = select.poll()
        poll.register(self._records, select.POLLIN)
        poll.register(self._complaints, select.POLLIN)
        while (left_s := deadline - time.monotonic()) > 0:
            if not (ready := poll.poll(left_s * 1000)):
                continue
            if any(fd == self._complaints for fd, _ in ready) and not self._listen():
                poll.unregister(self._complaints)
            if len(self._sizes) > 1:
                raise CameraError(f"{self._where}: expected pictures of one size, got another: opened again")
            if any(fd == self._records for fd, _ in ready):
                frame = self._take()
                if frame is not None:
                    return frame
                got = "torn ones"
        because = self._cause()
        got += f": {because}" if because else ""
        raise CameraError(f"{self._where}: expected a frame in {deadline - began:.3g} s, got {got}")

    def _take(self) -> Frame | None:
        """The newest frame told; None: none whole. Raises CameraError: the child ended or talks nonsense."""
        data = self._read(self._records)
        if not data:
            raise CameraError(f"{self._where}: {self._ending()}")
        data = self._half + data
        whole = len(data) // RECORD.size * RECORD.size
        self._half = data[whole:]
        newest = None
        for record in RECORD.iter_unpack(data[:whole]):
            self._check(*record)
            newest = record
        return self._copy(*newest[1:]) if newest else None

    def _check(self, magic: bytes, slot: int, width: int, height: int, _at: int, sequence: int) -> None:
        if magic != MAGIC or slot >= SLOTS:
            raise CameraError(f"{self._where}: expected a record of the decoder, got {magic!r}, slot {slot}")
        if not 0 < width * height <= MAX_PIXELS:
            limit = f"{MAX_PIXELS / 1e6:.3g} megapixels"
            raise CameraError(f"{self._where}: expected at most {limit}, got {width} x {height}")
        if sequence <= self._sequence:
            raise CameraError(f"{self._where}: expected a frame after {self._sequence}, got {sequence}")
        self._sequence = sequence

    def _copy(self, slot: int, width: int, height: int, taken_at_ns: int, sequence: int) -> Frame | None:
        """A slot's frame; None: it was written again meanwhile."""
        at = slot * _SLOT_BYTES
        flat = np.frombuffer(self._memory, np.uint8, width * height * 3, at + HEADER.size)
        pixels = read_only(flat.reshape(height, width, 3).copy())
        del flat  # a view would keep the memory from being closed
        if HEADER.unpack_from(self._memory, at)[0] != sequence:
            return None
        # a stamp of the future would make an old frame look fresh
        return Frame(pixels, min(taken_at_ns / 1e9, time.monotonic()))

    def _listen(self) -> bool:
        """Keep the last lines of stderr; False: it is closed."""
        data = self._read(self._complaints)
        *lines, half = (self._half_line + data).split(b"\n")
        self._half_line = half[-_LINE_CHARS:]
        for line in lines:
            text = "".join(c for c in line[:_LINE_CHARS].decode("utf-8", "replace") if c.isprintable())
            if text.startswith(self._mark):
                self._heed(text.removeprefix(f"{self._mark} "))
                continue
            self._lines.append(text)
            if size := _SIZE.search(text):
                self._sizes.add(size[1])
        return bool(data)

    def _heed(self, told: str) -> None:
        """A line of the program's own."""
        self._told.append(told)
        if told.startswith("note: ") and told not in _noted and len(_noted) < _KEPT_LINES:
            _noted.add(told)
            log.warning("%s: %s", self._where, told.removeprefix("note: "))

    @staticmethod
    def _read(pipe: int) -> bytes:
        try:
            return os.read(pipe, _CHUNK_BYTES)
        except BlockingIOError:
            return b""

    def _ending(self) -> str:
        """Why there is nothing more, in one line."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_S)
        for _ in range(_KEPT_LINES):  # a child without records may still talk for ever
            if not self._listen():
                break
        errors = [line.removeprefix("error: ") for line in self._told if line.startswith("error: ")]
        because = self._cause()
        if errors:
            return errors[-1] + (f": {because}" if because else "")
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        return f"expected more frames, got the end of the decoder ({how}{', ' + because if because else ''})"

    def _cause(self) -> str:
        """What a library said of it, in our words; empty: nothing that is known."""
        for line in reversed(self._lines):
            for pattern, words in _CAUSES:
                if re.search(pattern, line, re.IGNORECASE):
                    return words
        return ""

    def close(self) -> None:
        """Kill the child, and let the memory go."""
        process, self._process = self._process, None
        self._first = None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_S)
        self._memory.close()
