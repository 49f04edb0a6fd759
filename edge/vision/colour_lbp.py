"""What the surface of a face is like, in numbers: colour LBP, by which print and screen differ from skin.

Uniform local binary patterns (Ojala, Pietikainen and Maenpaa 2002) of each channel of HSV and YCrCb, one
histogram a channel over the whole face (Boulkenafet, Komulainen and Hadid 2015). No picture comes back
out of it: where in the face a pattern was is not in the histogram.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64  # px: the detector's box is brought to this size
_BINS = 59  # 58 uniform patterns of eight neighbours, and one for all others
_SPACES = (cv2.COLOR_RGB2HSV, cv2.COLOR_RGB2YCrCb)
SIZE = _BINS * 3 * len(_SPACES)
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # a ring, in order


def colour_lbp(face: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(354,) square roots of the patterns' shares, 0..1, of an (H, W, 3) RGB cut-out of a face.

    By the root a linear classifier weighs rare patterns as it should (Hellinger's distance). Shrunk by
    averaging: sampling alone would make patterns that the surface has not.
    """
    face = np.asarray(cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    channels = [channel for space in _SPACES for channel in cv2.split(cv2.cvtColor(face, space))]
    shares = [np.bincount(_patterns(np.asarray(c, np.uint8)).ravel(), minlength=_BINS) for c in channels]
    return np.sqrt(np.concatenate(shares) / (SIDE - 2) ** 2).astype(np.float32)


def _patterns(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H - 2, W - 2) the pattern of each inner pixel, 0..58."""
    height, width = channel.shape
    middle = channel[1:-1, 1:-1]
    code = np.zeros(middle.shape, np.uint8)
    for bit, (down, right) in enumerate(_AROUND):
        neighbour = channel[1 + down : height - 1 + down, 1 + right : width - 1 + right]
        code |= (neighbour >= middle).astype(np.uint8) << np.uint8(bit)
    return np.asarray(_UNIFORM[code])


def _uniform() -> NDArray[np.uint8]:
    """(256,) the bin of each code: its own when round the ring it changes at most twice."""
    ring = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    is_uniform = (ring != np.roll(ring, 1, axis=1)).sum(axis=1) <= 2
    return np.where(is_uniform, np.cumsum(is_uniform) - 1, _BINS - 1).astype(np.uint8)


_UNIFORM = _uniform()
