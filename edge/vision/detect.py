"""BlazeFace: a letterboxed picture in, faces with six key points out.

Decoding follows MediaPipe's SSD calculators (Bazarevsky et al. 2019, arXiv:1907.05047): anchors
are cell centres with a fixed size of 1, raw offsets are pixels of the input, scores are a
sigmoid, and overlapping detections are averaged by score instead of suppressed, which steadies
the landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.values import Face, read_only
from edge.vision.runtime import Model

_OVERLAP = 0.3  # MediaPipe's min_suppression_threshold, intersection over union
_LOGIT_CLIP = 100.0  # MediaPipe's score_clipping_thresh


def anchor_centres(size: tuple[int, int], strides: Sequence[int], per_cell: int) -> NDArray[np.float32]:
    """(A, 2) cell centres (x, y) as fractions of the input, in the model's output order.

    Layers of one stride that follow each other share their cells (MediaPipe's SsdAnchors).
    """
    layers: list[tuple[int, int]] = []
    for stride in strides:
        if layers and layers[-1][0] == stride:
            layers[-1] = (stride, layers[-1][1] + per_cell)
        else:
            layers.append((stride, per_cell))
    parts = []
    for stride, repeats in layers:
        columns, rows = -(-size[0] // stride), -(-size[1] // stride)
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + np.float32(0.5)
        grid = np.stack([x / columns, y / rows], axis=-1).reshape(-1, 2)
        parts.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(parts)


def letterbox(
    pixels: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], float, tuple[float, float]]:
    """The picture shrunk to fit `size` (w, h), centred on black.

    Returns the canvas, the scale (input px per frame px) and the offset (x, y) in input px.
    """
    height, width = pixels.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    x, y = (size[0] - w) // 2, (size[1] - h) // 2
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[y : y + h, x : x + w] = cv2.resize(pixels, (w, h), interpolation=how)
    return canvas, scale, (x, y)


class BlazeFace:
    """The detector over a loaded model (short or full range: the manifest's anchors tell)."""

    def __init__(self, model: Model, min_score: float) -> None:
        """Raises ModelError when the manifest's anchors and the outputs do not fit."""
        if model.entry.anchors is None:
            raise ModelError(f"{model.entry.id}: expected anchors in the manifest, got none")
        self._model = model
        self._anchors = anchor_centres(model.size, model.entry.anchors.strides, model.entry.anchors.per_cell)
        expected = model.entry.outputs[0].shape[1]
        if len(self._anchors) != expected:
            raise ModelError(f"{model.entry.id}: expected {expected} anchors, got {len(self._anchors)}")
        self._min_logit = float(np.log(min_score / (1 - min_score)))

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Faces in an (H, W, 3) RGB picture, best score first, in pixels of that picture."""
        canvas, scale, offset = letterbox(pixels, self._model.size)
        raw, logits = self._model(canvas)
        logits = logits[:, 0]
        kept = np.flatnonzero(logits > self._min_logit)
        kept = kept[np.argsort(-logits[kept], kind="stable")]
        if not len(kept):
            return []
        scores = 1 / (1 + np.exp(-np.clip(logits[kept], -_LOGIT_CLIP, _LOGIT_CLIP)))
        points = self._decode(raw[kept], kept)
        points = (points - np.asarray(offset, np.float32)) / np.float32(scale)
        return [_face(p, s) for p, s in average_overlapping(points, scores.astype(np.float32))]

    def _decode(self, raw: NDArray[np.float32], kept: NDArray[np.intp]) -> NDArray[np.float32]:
        """(n, 8, 2) input px: box corner, opposite corner, six key points."""
        centre = self._anchors[kept] * np.asarray(self._model.size, np.float32)
        points = raw.reshape(len(kept), -1, 2)
        middle, half = points[:, 0] + centre, points[:, 1] / 2
        keys = points[:, 2:] + centre[:, None]
        return np.concatenate([(middle - half)[:, None], (middle + half)[:, None], keys], axis=1)


def average_overlapping(
    points: NDArray[np.float32], scores: NDArray[np.float32]
) -> list[tuple[NDArray[np.float32], float]]:
    """Groups of overlapping detections, each as its score-weighted mean and its best score.

    `points` is (n, 2 + K, 2), box corners first, sorted by falling score.
    """
    faces = []
    left = np.arange(len(scores))
    while len(left):
        overlap = _iou(points[left[0]], points[left]) > _OVERLAP
        overlap[0] = True  # an empty box overlaps nothing, not even itself
        group, left = left[overlap], left[~overlap]
        weights = (scores[group] / scores[group].sum())[:, None, None]
        faces.append(((points[group] * weights).sum(axis=0).astype(np.float32), float(scores[group[0]])))
    return faces


def _iou(one: NDArray[np.float32], many: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(one[0], many[:, 0])
    high = np.minimum(one[1], many[:, 1])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    area = np.prod(np.maximum(many[:, 1] - many[:, 0], 0), axis=1)
    union = area[0] + area - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _face(points: NDArray[np.float32], score: float) -> Face:
    (x, y), (w, h) = points[0], points[1] - points[0]
    return Face((float(x), float(y), float(w), float(h)), read_only(points[2:]), score)
