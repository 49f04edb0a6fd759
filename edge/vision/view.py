"""How a camera's picture is turned and cut before anybody looks at it. Pure: pixels in, pixels out."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.values import read_only

Region = tuple[float, float, float, float]


def turned(
    pixels: NDArray[np.uint8], rotation: Literal[0, 90, 180, 270], region: Region
) -> NDArray[np.uint8]:
    """An (H, W, 3) picture rotated clockwise by `rotation` degrees, then cut; read-only, contiguous.

    `region` is x, y, w, h in parts of the rotated picture, 0..1; never less than a pixel remains.
    The pixels are those of the camera: nothing is scaled.
    """
    upright = np.rot90(pixels, -rotation // 90)
    height, width = upright.shape[:2]
    x, y, w, h = region
    left, top = min(int(x * width), width - 1), min(int(y * height), height - 1)
    right, bottom = max(left + 1, round((x + w) * width)), max(top + 1, round((y + h) * height))
    return read_only(np.ascontiguousarray(upright[top:bottom, left:right]))
