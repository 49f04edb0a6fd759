"""The detector's arithmetic, against MediaPipe's published anchors and hand-made tensors."""

from __future__ import annotations

import numpy as np
import pytest

from edge.vision.detect import anchor_centres, average_overlapping, letterbox


def test_short_range_anchors_are_mediapipes_896():
    anchors = anchor_centres((128, 128), [8, 16, 16, 16], 2)
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(
        anchors[[0, 1, 2, 31, 511]],
        [[1 / 32] * 2, [1 / 32] * 2, [3 / 32, 1 / 32], [31 / 32, 1 / 32], [31 / 32] * 2],
    )
    np.testing.assert_allclose(
        anchors[[512, 517, 518, 895]], [[1 / 16] * 2, [1 / 16] * 2, [3 / 16, 1 / 16], [15 / 16] * 2]
    )


def test_full_range_anchors_are_mediapipes_2304():
    anchors = anchor_centres((192, 192), [4], 1)
    assert anchors.shape == (2304, 2)
    np.testing.assert_allclose(
        anchors[[0, 1, 48, 2303]],
        [[0.5 / 48] * 2, [1.5 / 48, 0.5 / 48], [0.5 / 48, 1.5 / 48], [47.5 / 48] * 2],
        rtol=1e-6,
    )


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (100, 100), (1920, 1080), (50, 30)])
def test_a_point_survives_the_letterbox_and_back(width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    cx, cy = width * 3 // 5, height // 3
    r = max(2, width // 40)
    pixels[cy - r : cy + r, cx - r : cx + r] = 255
    canvas, scale, offset = letterbox(pixels, (128, 128))
    assert canvas.shape == (128, 128, 3)
    ys, xs = np.nonzero(canvas[..., 0] > 60)
    # the centres of n px blocks: subtract half a px on either side
    x = ((xs.mean() + 0.5) - offset[0]) / scale
    y = ((ys.mean() + 0.5) - offset[1]) / scale
    assert abs(x - cx) < 1.5 / scale
    assert abs(y - cy) < 1.5 / scale


def test_the_letterbox_keeps_colour_order_and_fills_with_black():
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    canvas, scale, offset = letterbox(pixels, (128, 128))
    assert tuple(canvas[64, 64]) == (200, 100, 50)
    assert not canvas[:30].any()
    assert (scale, offset) == (pytest.approx(128 / 120), (0, 32))


def box(x, y, w, h):
    return [[x, y], [x + w, y + h]] + [[x + w / 2, y + h / 2]] * 6


def test_overlapping_detections_become_their_score_weighted_mean():
    points = np.array([box(0, 0, 10, 10), box(2, 0, 10, 10), box(50, 50, 10, 10)], np.float32)
    faces = average_overlapping(points, np.array([0.9, 0.6, 0.5], np.float32))
    assert len(faces) == 2
    np.testing.assert_allclose(faces[0][0][0], [0.8, 0], atol=1e-6)
    assert faces[0][1] == pytest.approx(0.9)
    np.testing.assert_allclose(faces[1][0][0], [50, 50])


def test_an_empty_box_does_not_hang_the_grouping():
    points = np.array([box(5, 5, 0, 0), box(5, 5, 0, 0)], np.float32)
    assert len(average_overlapping(points, np.array([0.9, 0.8], np.float32))) == 2
