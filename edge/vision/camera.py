"""Where frames come from: siblings of port CameraSource, and the table that chooses one."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera_config import WHOLE, is_device
from edge.config import CameraConfig
from edge.errors import CameraError, ClipEnded, ImageError
from edge.ports import CameraSource
from edge.values import Frame, read_only
from edge.vision.decoded import gstreamer_camera, picamera, stream_camera
from edge.vision.mjpeg import MjpegCamera
from edge.vision.pictures import PICTURE_SUFFIXES, load_picture
from edge.vision.video import open_video, rate_of
from edge.vision.view import turned

_OLDEST_STAMP_S = 10.0  # a first stamp further back than this is of another clock
_TRUNCATED = 0.9  # a video that ends before this part of its announced frames was cut off


def open_camera(config: CameraConfig) -> CameraSource:
    """The source that `config.source` names, opened; its frames rotated and cut as configured.

    Raises:
        CameraError: no such source, or it can't be opened.
    """
    source = _open_source(config)
    return source if (config.rotation, config.region) == (0, WHOLE) else _Turned(source, config)


def _open_source(config: CameraConfig) -> CameraSource:
    source = str(config.source)
    scheme = source.partition(":")[0]
    if scheme in _SOURCES:
        return _SOURCES[scheme](config)
    if is_device(source):
        return V4l2Camera(config)
    kinds = "an index, a /dev path" + "".join(f", {name}:..." for name in _SOURCES)
    got = f"{scheme}:..." if ":" in source else repr(source)  # behind the colon may be a password
    raise CameraError(f"camera.source: expected {kinds}, got {got}")


class _Turned:
    """A source whose frames are rotated and cut."""

    def __init__(self, source: CameraSource, config: CameraConfig) -> None:
        self._source = source
        self._rotation, self._region = config.rotation, config.region

    def read(self) -> Frame:
        frame = self._source.read()
        return Frame(turned(frame.pixels, self._rotation, self._region), frame.taken_at)

    def close(self) -> None:
        self._source.close()


class V4l2Camera:
    """A camera of this machine: a V4L2 index or device path.

    Asks for MJPG (USB 2 has no room for raw frames at full rate) and the configured size and
    rate; the driver decides. `taken_at` is the driver's stamp where that is of the monotonic clock.
    """

    def __init__(self, config: CameraConfig) -> None:
        """Open. Raises CameraError: no such device, no permission, busy, not a camera."""
        source = str(config.source)
        self._device = f"/dev/video{source}" if source.isdigit() else source
        if not Path(self._device).exists():
            raise CameraError(f"{self._device}: expected a camera, got no such device")
        if not os.access(self._device, os.R_OK | os.W_OK):
            raise CameraError(f"{self._device}: expected read and write permission (group video), got none")
        # OpenCV knows no other way; it reads this once, in whole seconds, default 10
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(config.stall_s)))
        self._stamps = DriverStamps()
        self._capture = cv2.VideoCapture(self._device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraError(f"{self._device}: expected a camera, got a busy or unsuitable device")
        for key, value in (
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, config.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, config.height),
            (cv2.CAP_PROP_FPS, config.fps),
        ):
            self._capture.set(key, value)

    def read(self) -> Frame:
        """The next frame. Raises CameraError; a stalled driver is noticed in `stall_s`, rounded up."""
        there, bgr = self._capture.read()
        if not there or bgr is None:
            raise CameraError(f"{self._device}: expected a frame, got none: unplugged or stalled")
        now = time.monotonic()
        return Frame(_rgb(bgr), self._stamps.taken_at(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, now))

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


class DriverStamps:
    """Whether a driver's stamps are of the monotonic clock: settled by the first frame, once.

    Drivers may stamp with the realtime clock or not at all (Documentation/userspace-api/media/v4l,
    V4L2_BUF_FLAG_TIMESTAMP_*), and OpenCV does not tell which. Once believed, a stamp is believed
    however old it is: frames that lay in the driver while the process slept must look stale.
    """

    def __init__(self) -> None:
        self._believed: bool | None = None

    def taken_at(self, stamp_s: float, now: float) -> float:
        """When the frame was taken, s monotonic: the driver's stamp, or `now`."""
        if self._believed is None:
            self._believed = now - _OLDEST_STAMP_S <= stamp_s <= now
        return min(stamp_s, now) if self._believed else now


class VideoFile:
    """A video in place of a camera, at the rate it was filmed at, or `fps` when it tells none.

    Simulation only. With `loop` it starts again at its end.
    """

    def __init__(self, config: CameraConfig) -> None:
        """Open. Raises CameraError: no such file, not a video, too large a picture."""
        self._path = Path(str(config.source).partition(":")[2])
        self._loop = config.loop
        self._capture = open_video(self._path, CameraError)
        self._pace = _Pace(rate_of(self._capture, config.fps), config.stall_s)
        self._announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._shown = 0

    def read(self) -> Frame:
        """The next frame, when it is due. Raises CameraError (truncated), ClipEnded."""
        there, bgr = self._capture.read()
        if not there:
            self._rewind()
            there, bgr = self._capture.read()
        if not there or bgr is None:
            raise CameraError(f"{self._path}: expected a frame, got none")
        self._shown += 1
        return Frame(_rgb(bgr), self._pace.wait())

    def _rewind(self) -> None:
        if self._shown < max(1.0, _TRUNCATED * self._announced):
            expected = f"{self._announced:g} frames" if self._announced > 0 else "frames"
            raise CameraError(f"{self._path}: expected {expected}, got {self._shown}: truncated or damaged")
        if not self._loop:
            raise ClipEnded(f"{self._path}: the clip has ended")
        self._capture.release()
        self._capture = open_video(self._path, CameraError)
        self._shown = 0

    def close(self) -> None:
        """Release the file."""
        self._capture.release()


class FolderCamera:
    """The pictures of a folder in name order, `fps` of them a second; any sizes.

    Simulation only. With `loop` it starts again at its end.
    """

    def __init__(self, config: CameraConfig) -> None:
        """List. Raises CameraError: no such folder, or no picture in it."""
        folder = Path(str(config.source).partition(":")[2])
        try:
            self._paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        except OSError as error:
            raise CameraError(f"{folder}: expected a folder, got: {error.strerror}") from None
        if not self._paths:
            raise CameraError(f"{folder}: expected JPEG, PNG, WebP or BMP pictures, got none")
        self._pace = _Pace(config.fps, config.stall_s)
        self._folder, self._loop, self._next = folder, config.loop, 0

    def read(self) -> Frame:
        """The next picture, when it is due. Raises CameraError, ClipEnded."""
        if self._next == len(self._paths):
            if not (self._loop and self._paths):
                raise ClipEnded(f"{self._folder}: the last picture was shown")
            self._next = 0
        path = self._paths[self._next]
        self._next += 1
        try:
            pixels = load_picture(path)
        except ImageError as error:
            raise CameraError(str(error)) from None
        return Frame(pixels, self._pace.wait())

    def close(self) -> None:
        """Forget the pictures: nothing is held open."""
        self._paths, self._next = [], 0


class _Pace:
    """Lets frames through at a steady rate; who comes late starts a new beat instead of a burst."""

    def __init__(self, fps: float, stall_s: float) -> None:
        self._apart_s = min(1 / fps, stall_s / 2)  # slower would be a stall
        self._due = -math.inf

    def wait(self) -> float:
        """Until the next frame is due; the time then, s monotonic."""
        now = time.monotonic()
        self._due = max(self._due + self._apart_s, now)
        time.sleep(self._due - now)
        return time.monotonic()


def _rgb(bgr: cv2.typing.MatLike) -> NDArray[np.uint8]:
    """Read-only RGB of OpenCV's BGR. Raises CameraError when it's no (H, W, 3) uint8."""
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise CameraError(f"camera: expected (H, W, 3) uint8, got {bgr.shape} {bgr.dtype}")
    return read_only(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))


_SOURCES: dict[str, Callable[[CameraConfig], CameraSource]] = {
    "http": MjpegCamera,
    "https": MjpegCamera,
    "rtsp": stream_camera,
    "rtsps": stream_camera,
    "picamera2": picamera,
    "gstreamer": gstreamer_camera,
    "file": VideoFile,
    "folder": FolderCamera,
}
"""By scheme. A new kind of camera is one more class and one more line here."""
