"""H.264 clips for tests: pictures encoded by PyAV's x264, as a camera would send them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

_START_CODE = re.compile(rb"\x00\x00\x00?\x01")


@dataclass(frozen=True)
class Clip:
    """Access units, each a list of NAL units without start codes; the first of them a key frame."""

    units: list[list[bytes]]
    fps: int

    @property
    def parameters(self) -> list[bytes]:
        """Its sequence and picture parameter sets."""
        return [nal for nal in self.units[0] if nal[0] & 0x1F in (7, 8)]


def encode(pictures: Sequence[NDArray[np.uint8]], fps: int = 25, key_every: int = 5) -> Clip:
    """(H, W, 3) RGB pictures of one even size as H.264, parameter sets before each key frame, no B frames."""
    height, width = pictures[0].shape[:2]
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
    context.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "g": str(key_every),
        "x264-params": "annexb=1:repeat-headers=1:scenecut=0:slices=1",
    }
    units = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = number
        units += [split(bytes(packet)) for packet in context.encode(frame)]
    units += [split(bytes(packet)) for packet in context.encode(None)]
    return Clip([unit for unit in units if unit], fps)


def split(stream: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream (H.264, annex B)."""
    return [nal for nal in _START_CODE.split(stream) if nal]
