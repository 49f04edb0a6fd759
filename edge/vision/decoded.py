"""Cameras that a child process opens: RTSP, a Raspberry Pi's CSI camera, a GStreamer pipeline."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import cv2

from edge.camera_config import camera_url, shown_source
from edge.config import CameraConfig
from edge.errors import CameraError
from edge.vision.child import PROGRAM, ChildCamera, Program

SYSTEM_PYTHON = "/usr/bin/python3"
"""picamera2 and an OpenCV with GStreamer come as the system's packages, for its Python alone."""
_PORTS = {"rtsp": 554, "rtsps": 322}  # IANA


def stream_camera(config: CameraConfig) -> ChildCamera:
    """`rtsp://` or `rtsps://[user:password@]host[:port]/path`, decoded by OpenCV's FFMPEG.

    `taken_at` is a frame's arrival at the decoder, less what it waited in our own queue: the protocol
    has no clock to be trusted, so a delay inside the camera or the network stays unseen.

    Raises:
        CameraError: malformed, unreachable, refused, not verified, no video.
    """
    url = camera_url(str(config.source))
    if url is None or url.scheme not in _PORTS:
        raise CameraError("camera.source: expected rtsp://host[:port]/path, got a malformed URL")
    request = {
        "kind": "stream",
        "libraries": [str(Path(cv2.__file__).parents[1])],  # the package's Python has it on no path
        "url": str(config.source),
        "host": url.hostname,
        "port": url.port or _PORTS[url.scheme],
        "tls": url.scheme == "rtsps",
        "ca_file": config.ca_file,
        "transport": config.transport,
        "stall_s": config.stall_s,
    }
    return _open(sys.executable, request, config)


def picamera(config: CameraConfig) -> ChildCamera:
    """`picamera2[:index]`: libcamera's, at the configured size and rate; stamped by the sensor.

    Raises:
        CameraError: picamera2 is not installed, no such camera, or it's busy.
    """
    index = str(config.source).partition(":")[2] or "0"
    if not index.isdecimal():
        raise CameraError(f"camera.source: expected picamera2[:index], got {index!r}")
    request = {
        "kind": "picamera2",
        "index": int(index),
        "width": config.width,
        "height": config.height,
        "fps": config.fps,
    }
    return _open(SYSTEM_PYTHON, request, config)


def gstreamer_camera(config: CameraConfig) -> ChildCamera:
    """`gstreamer:PIPELINE`, which ends in `appsink` and delivers BGR; the system's OpenCV runs it.

    Raises:
        CameraError: no OpenCV with GStreamer, or the pipeline doesn't play.
    """
    request = {"kind": "gstreamer", "pipeline": str(config.source).partition(":")[2].strip()}
    return _open(SYSTEM_PYTHON, request, config)


def _open(python: str, request: Mapping[str, object], config: CameraConfig) -> ChildCamera:
    program = Program((python, "-IB", str(PROGRAM)), request, shown_source(config.source))
    return ChildCamera(program, config.stall_s)
