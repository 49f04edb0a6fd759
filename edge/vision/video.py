"""Video files: opened in one way, bounded before a frame is decoded."""

from __future__ import annotations

from pathlib import Path

import cv2

from edge.errors import DoordError
from edge.vision.pictures import MAX_PIXELS

_MAX_FPS = 240.0  # a file that claims more is not believed


def open_video(path: Path, refusal: type[DoordError]) -> cv2.VideoCapture:
    """A video file, on one decoder thread: FFMPEG's default is one a core, taken from what is looked at.

    Raises `refusal`: no file, no video, or pictures of more than MAX_PIXELS.
    """
    if not path.is_file():  # a pipe would block for ever
        got = "something else" if path.exists() else "nothing"
        raise refusal(f"{path}: expected a video file, got {got}")
    if _is_no_text(str(path)):  # OpenCV 4 ends the process
        raise refusal(f"{str(path)!a}: expected a name in UTF-8, got another")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise refusal(f"{path}: expected a video, got a file that is none or is truncated")
    width, height = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if not 0 < width * height <= MAX_PIXELS:
        capture.release()
        limit = f"{MAX_PIXELS / 1e6:g} megapixels"
        raise refusal(f"{path}: expected a video of at most {limit}, got {width:g} x {height:g}")
    return capture


def rate_of(capture: cv2.VideoCapture, otherwise: float) -> float:
    """Frames a second as the file tells, or `otherwise` where it tells none to be believed."""
    told = float(capture.get(cv2.CAP_PROP_FPS))
    return told if 0 < told <= _MAX_FPS else otherwise


def _is_no_text(name: str) -> bool:
    """Whether a file's name has bytes that are no UTF-8 (lone surrogates, PEP 383)."""
    return any("\ud800" <= character <= "\udfff" for character in name)
