"""The program of a camera's child process: opens one camera, writes its frames into shared memory.

Stand-alone: run as `python -I decoder.py MEMORY_FD`, by doord's Python or the system's (picamera2 and
a Jetson's OpenCV come with that one only). It gets by with the standard library, this folder's confine.py
and relay.py, and OpenCV or picamera2; Python 3.8. It holds no key, no line and no state.

stdin: one line of JSON, the request: a URL's password stands neither in argv nor in an environment. Its
`libraries` are folders of modules that come first.
MEMORY_FD: a ring of SLOTS slots, each a HEADER (sequence; 0 while it is written) and an RGB picture.
stdout: one RECORD a frame: MAGIC, slot, width, height (px), taken_at (ns, CLOCK_MONOTONIC), sequence.
stderr: lines `MARK error: ...` and `MARK note: ...` of this program's, MARK being the request's; all else
is a library's, which logs what a server sent: a whole SDP, whose lines begin as the server likes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import json
import mmap
import os
import socket
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

RECORD = struct.Struct("<4sIIIQQ")
HEADER = struct.Struct("<Q56x")  # the pixels begin at a cache line
MAGIC = b"DFR1"
SLOTS = 3  # one is read, one is written, one is the newest
MAX_REQUEST_BYTES = 64 * 2**10

_DATA_BYTES = 512 * 2**20  # 16 reference pictures of 3840 x 2160 are 200 MiB; hostile ones want more
_LOG_VERBOSE = "40"  # AV_LOG_VERBOSE: tells when pictures of another size begin, see child.py
_QUEUE_BYTES = 64 * 2**10  # less than so much is being read, more is waiting; a key frame is about as large
_SO_MEMINFO = 55  # asm-generic/socket.h; its first figure is what lies in the receive queue
_CATCHING_UP_NS = 5 * 10**6  # a frame that comes so much sooner than its stamp says was waiting
_SETTLING_NS = 2 * 10**9
_JUMP_NS = 5 * 10**9  # stamps that leap further have begun anew
_OLDEST_NS = 10 * 10**9  # a first stamp further back than this is of another clock

if TYPE_CHECKING:
    Shot = tuple[Any, int]  # an (H, W, 3) RGB or BGR array, taken_at ns


class Failure(Exception):
    """What ends the child, in one line for the log."""


class Ring:
    """The writing side of the shared memory."""

    def __init__(self, fd: int, records: int) -> None:
        size = os.fstat(fd).st_size
        self._memory = mmap.mmap(fd, size)
        self._slot_bytes = size // SLOTS
        self._records = records
        self._sequence = 0
        os.set_blocking(records, False)

    def put(self, width: int, height: int, taken_at_ns: int, paint: Callable[[Any], None]) -> None:
        """A frame; `paint` fills an (H, W, 3) RGB view. Raises Failure: too large; OSError: nobody reads."""
        import numpy as np

        room = self._slot_bytes - HEADER.size
        if not 0 < width * height * 3 <= room:
            raise Failure(f"expected a picture of at most {room // 3} pixels, got {width} x {height}")
        self._sequence += 1
        slot = self._sequence % SLOTS
        at = slot * self._slot_bytes
        HEADER.pack_into(self._memory, at, 0)
        flat = np.frombuffer(self._memory, np.uint8, width * height * 3, at + HEADER.size)
        paint(flat.reshape(height, width, 3))
        HEADER.pack_into(self._memory, at, self._sequence)
        record = RECORD.pack(MAGIC, slot, width, height, taken_at_ns, self._sequence)
        with contextlib.suppress(BlockingIOError):  # who reads so late gets the next one
            os.write(self._records, record)


class Arrivals:
    """When a frame of a stream was there: its arrival, less what it waited in our own queues.

    A stream's stamps tell how far apart frames were taken, not when; many cameras' run unevenly. So
    they are believed only from one moment when nothing waited to the next: a decoder that falls behind
    delivers frames that look as old as they are. A delay in the camera or the network stays unseen.
    """

    def __init__(self) -> None:
        self._behind_ns: float | None = None  # our clock less the stream's when nothing waited
        self._last_ns: float | None = None  # the same of the frame before
        self._settled_by_ns: int | None = None

    def taken_at(self, stamp_ms: float, now_ns: int, queued: int) -> int | None:
        """ns of the clock of `now_ns`; None: a frame of the backlog of the opening, not to be shown.

        `queued`: bytes that wait in the sockets. A stamp of 0 or less is none: OpenCV tells 0 for the
        first frames of each stream, and for all of one without stamps.
        """
        if self._settled_by_ns is None:
            self._settled_by_ns = now_ns + _SETTLING_NS
        if not stamp_ms > 0:
            return None if now_ns < self._settled_by_ns else now_ns
        behind_ns = now_ns - stamp_ms * 1e6
        catching_up = self._last_ns is None or behind_ns < self._last_ns - _CATCHING_UP_NS
        self._last_ns = behind_ns
        if catching_up and now_ns < self._settled_by_ns:
            return None
        self._settled_by_ns = 0
        if queued <= _QUEUE_BYTES or self._behind_ns is None or abs(behind_ns - self._behind_ns) > _JUMP_NS:
            self._behind_ns = behind_ns
        return min(now_ns, int(now_ns - (behind_ns - self._behind_ns)))


class SensorClock:
    """libcamera's SensorTimestamp on the monotonic clock.

    Documented as CLOCK_BOOTTIME, on a Raspberry Pi it is the kernel driver's CLOCK_MONOTONIC (picamera2
    issues 703 and 787; libcamera bug 254). They differ by the time spent suspended: settled once, by
    which of them the first stamp lies just before.
    """

    def __init__(self) -> None:
        self._ahead_ns: int | None = None

    def taken_at(self, stamp_ns: int | None, now_ns: int, boot_ns: int) -> int:
        """ns of the clock of `now_ns` (CLOCK_MONOTONIC); `boot_ns` is CLOCK_BOOTTIME now."""
        if stamp_ns is None:
            return now_ns
        if self._ahead_ns is None:
            monotonic = now_ns - _OLDEST_NS <= stamp_ns <= now_ns
            self._ahead_ns = 0 if monotonic else boot_ns - now_ns
        return min(stamp_ns - self._ahead_ns, now_ns)


def _stream(request: dict[str, Any]) -> Iterator[Shot]:
    """RTSP, decoded by OpenCV's FFMPEG; inside TLS through a relay of ours."""
    try:  # before the confinement: a name may be asked of avahi or resolved, by unix sockets
        found = socket.getaddrinfo(request["host"], request["port"], type=socket.SOCK_STREAM)
    except OSError:
        raise Failure("expected a camera, got no address for this host name") from None
    relay = _beside("relay")  # nothing of this folder can be read later
    address = str(found[0][4][0]), request["port"]
    if request["tls"]:
        url = _relayed(relay, request, address)
    else:
        _confine(request["mark"], (), [request["port"]])
        url = relay.at(request["url"], address)
    import cv2

    microseconds = int(request["stall_s"] * 1e6)
    options = {
        "rtsp_transport": request["transport"],
        "allowed_media_types": "video",
        "protocol_whitelist": "rtsp,rtp,udp,tcp",  # no file, no http: whatever an SDP or a redirect says
        "flags": "low_delay",
        "max_delay": 200000,  # us that a packet out of order (UDP) is waited for
        "reorder_queue_size": 64,
        "analyzeduration": 3000000,  # us; ends with the first key frame
        "fpsprobesize": 0,
        "timeout": microseconds,
    }
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = _LOG_VERBOSE
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "|".join(f"{key};{value}" for key, value in options.items())
    wait_ms = max(1, microseconds // 1000)
    capture = cv2.VideoCapture(
        url,
        cv2.CAP_FFMPEG,
        # one thread: FFMPEG's frame threads each hold one frame back
        [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait_ms + 3000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait_ms]
        + [cv2.CAP_PROP_N_THREADS, 1],
    )
    if not capture.isOpened():
        raise Failure("expected a video stream, got none that can be decoded")
    return _captured(cv2, capture)


def _relayed(relay: ModuleType, request: dict[str, Any], address: tuple[str, int]) -> str:
    """The URL on loopback behind which the verified connection is."""
    try:
        context = relay.trusting(request["ca_file"])  # it may lie where nothing can be read later
    except OSError as error:
        raise Failure(f"expected certificates in camera.ca_file, got: {error.strerror or error}") from None
    listener = relay.listen()
    _confine(request["mark"], (), [request["port"], listener.getsockname()[1]])
    try:
        relay.through(listener, context, address, request["host"], request["stall_s"])
    except OSError as error:
        raise Failure(relay.words(error)) from None
    return str(relay.at(request["url"], listener.getsockname()[:2]))


def _gstreamer(request: dict[str, Any]) -> Iterator[Shot]:
    """A pipeline that ends in an appsink, as a Jetson's CSI cameras want it."""
    # Argus is asked over a unix socket and plugins are looked at by a program: no filter of calls
    _confine(request["mark"], ("/dev", "/tmp"), None, filtered=False)  # noqa: S108  # which devices, the unit says
    want = f"expected an OpenCV with GStreamer in {sys.executable}, got"
    try:
        import cv2
    except ImportError:
        raise Failure(f"{want} none: install JetPack's OpenCV, or Debian's python3-opencv") from None
    if not any("GStreamer" in line and "YES" in line for line in cv2.getBuildInformation().splitlines()):
        raise Failure(f"{want} {cv2.__version__} without: a wheel hides the system's; remove it")
    capture = cv2.VideoCapture(request["pipeline"], cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise Failure("expected a pipeline that plays, got none: try it with gst-launch-1.0")
    return _captured(cv2, capture)


def _captured(cv2: Any, capture: Any) -> Iterator[Shot]:
    arrivals, sockets = Arrivals(), _streams()
    while True:
        there = capture.grab()
        now_ns, queued = time.monotonic_ns(), sum(map(_queued, sockets))
        if not there:
            raise Failure("expected more frames, got none: the stream ended or stalled")
        taken_at = arrivals.taken_at(capture.get(cv2.CAP_PROP_POS_MSEC), now_ns, queued)
        if taken_at is None:
            continue
        there, bgr = capture.retrieve()
        if not there or bgr is None:
            raise Failure("expected a picture, got none that can be decoded")
        if str(bgr.dtype) != "uint8" or bgr.ndim != 3 or bgr.shape[2] != 3:
            raise Failure(f"expected (H, W, 3) uint8 BGR, got {bgr.shape} {bgr.dtype}: convert it to BGR")
        yield bgr, taken_at


def _streams() -> list[socket.socket]:
    """This process's connections: the decoder's library tells nobody which is its own."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            copy = socket.socket(fileno=os.dup(int(name)))
            if copy.family in (socket.AF_INET, socket.AF_INET6):
                found.append(copy)
            else:
                copy.close()
    return found


def _queued(connection: socket.socket) -> int:
    """Bytes that wait in a socket to be read; of datagrams with what the kernel keeps beside them.

    FIONREAD, tcp(7), tells of datagrams the first one's size alone.
    """
    try:
        if connection.type == socket.SOCK_STREAM:
            return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))[0])
        return int(struct.unpack_from("I", connection.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))[0])
    except OSError:
        return 0


def _picamera(request: dict[str, Any]) -> Iterator[Shot]:
    """A CSI camera of a Raspberry Pi, by libcamera."""
    _confine(
        request["mark"], ("/dev",), (), may_exec=True
    )  # libcamera may run a camera's algorithms as a program
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        cure = "apt-get install python3-picamera2 --no-install-recommends"
        raise Failure(f"expected picamera2 in {sys.executable}, got: {error}: {cure}") from None
    index, cameras = request["index"], Picamera2.global_camera_info()
    if index >= len(cameras):
        cure = "look at its cable and at rpicam-hello --list-cameras"
        raise Failure(f"expected camera {index}, got {len(cameras)} cameras: {cure}")
    try:
        camera = Picamera2(index)
        # libcamera names formats by the word, picamera2's arrays by the byte: BGR888 is R, G, B in memory
        main = {"format": "BGR888", "size": (request["width"], request["height"])}
        camera.configure(camera.create_video_configuration(main=main, controls={"FrameRate": request["fps"]}))
        camera.start()
    except (RuntimeError, OSError) as error:
        raise Failure(_camera_words(error)) from None
    return _requested(camera)


def _requested(camera: Any) -> Iterator[Shot]:
    clock = SensorClock()
    while True:
        request = camera.capture_request()
        try:
            now_ns, boot_ns = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            stamp_ns = request.get_metadata().get("SensorTimestamp")
            yield request.make_array("main"), clock.taken_at(stamp_ns, now_ns, boot_ns)
        finally:
            request.release()


def _camera_words(error: BaseException) -> str:
    """picamera2 hides libcamera's reason behind 'Camera __init__ sequence did not complete'."""
    reasons: list[str] = []
    at: BaseException | None = error
    while at is not None:
        reasons.append(str(at))
        at = at.__cause__ or at.__context__
    text = " ".join(reasons)
    if any(word in text for word in ("busy", "-16", "acquire", "in use")):
        return "expected a free camera, got a busy one: another process has it"
    return f"expected a camera that starts, got: {reasons[-1]}"


_SOURCES: dict[str, tuple[Callable[[dict[str, Any]], Iterator[Shot]], bool, int | None]] = {
    "stream": (_stream, True, _DATA_BYTES),
    "gstreamer": (_gstreamer, True, None),  # NVIDIA's and libcamera's libraries map what they like
    "picamera2": (_picamera, False, None),
}
"""By the request's kind: how it is opened, whether its frames are BGR, and how much memory it may own."""


def _paint(array: Any, bgr: bool) -> Callable[[Any], None]:
    import numpy as np

    def paint(view: Any) -> None:
        if bgr:
            import cv2

            cv2.cvtColor(array, cv2.COLOR_BGR2RGB, dst=view)
        else:
            np.copyto(view, array)

    return paint


def _confine(
    mark: str, devices: tuple[str, ...], ports: Any, may_exec: bool = False, filtered: bool = True
) -> None:
    confine = _beside("confine")
    reason = confine.confine(devices, ports)
    if reason is not None:
        _say(mark, f"note: the decoder is not confined to its files: {reason}")
    reason = confine.filter_calls(may_exec) if filtered else None
    if reason is not None:
        _say(mark, f"note: the decoder's system calls are not filtered: {reason}")


def _beside(name: str) -> ModuleType:
    """A module of this folder: it is on no path (`-I`), and must not be, or it would hide others."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _keep_prints_apart() -> None:
    """What libraries print is no record: it goes to stderr, line by line (OpenCV prints FFMPEG's log)."""
    os.dup2(2, 1)
    libc = ctypes.CDLL(None)
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, 1, 0)  # _IOLBF, stdio.h


def _say(mark: str, line: str) -> None:
    # a line of its own, whatever a library left unfinished
    os.write(2, f"\n{mark} {' '.join(line.split())[:400]}\n".encode())


def main() -> int:
    """Serve one request until the parent leaves; 0, or 1 with a line on stderr."""
    request = json.loads(sys.stdin.buffer.readline(MAX_REQUEST_BYTES))
    sys.path[:0] = request.get("libraries", [])
    open_source, bgr, data_bytes = _SOURCES[request["kind"]]
    _beside("confine").leash(data_bytes)
    if os.getppid() != request["parent"]:
        return 0  # it died before it could be watched
    try:
        records = os.dup(1)
        _keep_prints_apart()
        ring = Ring(int(sys.argv[1]), records)
        for array, taken_at_ns in open_source(request):
            height, width = array.shape[:2]
            ring.put(width, height, taken_at_ns, _paint(array, bgr))
    except Failure as failure:
        _say(request["mark"], f"error: {failure}")
        return 1
    except BrokenPipeError:
        return 0
    except Exception as error:  # noqa: BLE001  # the boundary where a camera's bytes enter
        _say(request["mark"], f"error: {type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # a library's own end may hang, and there is nothing to tidy up
