"""Which face is asked about, and is it good enough to compare.

Measured on the aligned crop, so that the same limits hold at every distance and resolution.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import QualityConfig
from edge.values import Face, Quality

_NOSE, _MOUTH = 2, 3
_CROP_EYES = 1 / 3  # distance between the eyes of an aligned crop, of its width
_SAME_SIZE = 0.8  # a face at least this times as wide as the largest competes for the centre
_BESIDE = 0.5  # at least this times as wide: may be asked about when the largest is nobody's
_MOST_ASKED = 3  # each takes another run of the embedding model


def ranked(faces: list[Face], size: tuple[int, int]) -> list[Face]:
    """The faces the door may ask about, at most three, the first first: the largest, and who is near it.

    Of those at least 0.8 times as wide as the widest the most central leads: the box's middle
    nearest to the middle of a frame of `size` (w, h). Behind it, by width, those at least half as wide
    as the widest: nobody twice as far away is asked about. (A skull printed on a shirt was 1.2 to 1.7
    times as wide as its wearer's face, in 6 of 20 clips.)
    """
    if not faces:
        return []
    widest = max(face.box[2] for face in faces)
    rivals = [face for face in faces if face.box[2] >= _SAME_SIZE * widest]
    first = min(rivals, key=lambda face: _off_centre(face, size))
    beside = [face for face in faces if face is not first and face.box[2] >= _BESIDE * widest]
    return [first, *sorted(beside, key=lambda face: face.box[2], reverse=True)][:_MOST_ASKED]


def _off_centre(face: Face, size: tuple[int, int]) -> float:
    x, y, w, h = face.box
    return float(np.hypot(x + w / 2 - size[0] / 2, y + h / 2 - size[1] / 2))


def measure(face: Face, crop: NDArray[np.uint8]) -> Quality:
    """The figures of a face and its aligned crop (h, w, 3) RGB."""
    luma = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)
    inner = luma[luma.shape[0] // 5 : -luma.shape[0] // 5, luma.shape[1] // 5 : -luma.shape[1] // 5]
    yaw, pitch = _pose(face)
    native = _at_native_size(inner, face.eye_distance_px, crop.shape[1])
    return Quality(
        eye_distance_px=face.eye_distance_px,
        sharpness=float(cv2.Laplacian(native, cv2.CV_32F).var()),
        exposure=float(inner.mean()),
        contrast=float(inner.std()),
        yaw=yaw,
        pitch=pitch,
    )


def _at_native_size(inner: NDArray[np.uint8], eye_distance_px: float, crop_width: int) -> NDArray[np.uint8]:
    """A small face was enlarged to the crop, which blurs it: undone, so that distance is no blur."""
    scale = eye_distance_px / (_CROP_EYES * crop_width)
    if not scale < 1:
        return inner
    size = tuple(max(8, round(side * scale)) for side in inner.shape[::-1])
    return np.asarray(cv2.resize(inner, size, interpolation=cv2.INTER_AREA), np.uint8)


def _pose(face: Face) -> tuple[float, float]:
    """Yaw and pitch as ratios in the face's own upright frame; see values.Quality."""
    eyes = face.right_eye - face.left_eye
    width = float(np.hypot(*eyes)) or 1e-6
    across = eyes / width
    down = np.array([-across[1], across[0]])
    middle = (face.left_eye + face.right_eye) / 2
    nose, mouth = face.landmarks[_NOSE] - middle, face.landmarks[_MOUTH] - middle
    height = float(mouth @ down)
    return float(nose @ across) / width, float(nose @ down) / (height or 1e-6)


def shortcoming(quality: Quality, gate: QualityConfig) -> str | None:
    """Why a face does not pass the gate, in words with figures; None when it passes.

    A NaN does not pass: each test asks for the good case.
    """
    q = quality
    for good, words in (
        (
            q.eye_distance_px >= gate.min_eye_distance_px,
            f"too far away: {q.eye_distance_px:.0f} px between the eyes, "
            f"expected >= {gate.min_eye_distance_px:g}",
        ),
        (q.exposure >= gate.min_exposure, f"too dark: {q.exposure:.0f}, expected >= {gate.min_exposure:g}"),
        (q.exposure <= gate.max_exposure, f"too bright: {q.exposure:.0f}, expected <= {gate.max_exposure:g}"),
        (
            q.contrast >= gate.min_contrast,
            f"too flat: contrast {q.contrast:.0f}, expected >= {gate.min_contrast:g}",
        ),
        (
            q.sharpness >= gate.min_sharpness,
            f"blurred: sharpness {q.sharpness:.0f}, expected >= {gate.min_sharpness:g}",
        ),
        (abs(q.yaw) <= gate.max_yaw, f"turned aside: yaw {q.yaw:.2f}, expected within +-{gate.max_yaw:g}"),
        (
            gate.min_pitch <= q.pitch <= gate.max_pitch,
            f"turned up or down: pitch {q.pitch:.2f}, expected {gate.min_pitch:g}..{gate.max_pitch:g}",
        ),
    ):
        if not good:
            return words
    return None
