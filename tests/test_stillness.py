"""The stillness veto: what stands scores the tracker's noise, what lives scores more."""

import math

import cv2
import numpy as np
import pytest

from edge.values import Face
from edge.vision.stillness import MIN_SPAN_S, Stillness, rigid_rest

STEP_S = 0.25


@pytest.fixture(scope="module")
def seen(pipeline, picture):
    pixels = picture("obama.jpg")
    return pixels, pipeline(pixels).face


def moved(face, dx=0.0, dy=0.0):
    x, y, w, h = face.box
    return Face((x + dx, y + dy, w, h), face.landmarks + np.float32([dx, dy]), face.score)


def noisy(pixels, seed):
    grain = np.random.default_rng(seed).normal(0, 1.0, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def turned(pixels, face, amount):
    """The middle of the face comes forward to the side, as a nose does when a head turns."""
    height, width = pixels.shape[:2]
    x, y, w, h = face.box
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    hill = np.exp(-(((columns - x - w / 2) / (0.25 * w)) ** 2) - ((rows - y - h / 2) / (0.25 * h)) ** 2)
    return cv2.remap(pixels, (columns - amount * w * hill).astype(np.float32), rows, cv2.INTER_LINEAR)


def scores(shown):
    layer = Stillness()
    return [layer.score(pixels, face, i * STEP_S) for i, (pixels, face) in enumerate(shown)]


def test_there_is_no_verdict_before_there_was_time_to_move(seen):
    got = scores([seen] * 3)
    assert [math.isnan(v) for v in got] == [True, True, False]
    assert MIN_SPAN_S < 2 * STEP_S


def test_a_photograph_on_a_stand_leaves_noise_only(seen):
    pixels, face = seen
    assert scores([(noisy(pixels, i), face) for i in range(5)])[-1] < 0.003


def test_a_photograph_that_slides_tilts_and_nears_is_as_still(seen):
    pixels, face = seen
    height, width = pixels.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    shown = []
    for i in range(5):
        far = corners + np.float32([[3 * i, 2 * i], [-2 * i, 0], [0, 3 * i], [4 * i, -i]])
        shown.append(
            (cv2.warpPerspective(pixels, cv2.getPerspectiveTransform(corners, far), (width, height)), face)
        )
    assert scores(shown)[-1] < 0.006


def test_a_head_that_turns_a_little_is_not_still(seen):
    pixels, face = seen
    got = scores([(turned(noisy(pixels, i), face, 0.03 * np.sin(i)), face) for i in range(5)])
    assert got[-1] > 0.015


def test_another_face_elsewhere_starts_again(seen):
    pixels, face = seen
    got = scores([seen, seen, seen, (pixels, moved(face, dx=0.8 * face.box[2]))])
    assert not math.isnan(got[2])
    assert math.isnan(got[3])


def test_what_was_seen_long_ago_counts_no_more(seen):
    pixels, face = seen
    layer = Stillness()
    assert math.isnan(layer.score(pixels, face, 0.0))
    assert math.isnan(layer.score(pixels, face, 1.5))


@pytest.mark.parametrize("box", [(float("nan"), 0, 50, 50), (0, 0, 0, 0), (5000, 5000, 50, 50)])
def test_a_box_that_is_none_gets_no_verdict(seen, box):
    pixels, face = seen
    layer = Stillness()
    wild = Face(box, face.landmarks, 0.9)
    assert all(math.isnan(layer.score(pixels, wild, i * 0.5)) for i in range(3))


def test_a_black_picture_gets_no_verdict(seen):
    pixels, face = seen
    assert all(math.isnan(v) for v in scores([(np.zeros_like(pixels), face)] * 4))


def test_points_on_a_plane_leave_nothing_and_a_bent_one_does():
    grid = (
        np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2).astype(np.float32) * 20
    )
    plane = np.array([[1.05, 0.02, 3], [0.01, 0.97, -2], [1e-4, 2e-4, 1]])
    there = cv2.perspectiveTransform(grid[:, None], plane)[:, 0]
    bent = there + np.float32([1, 0]) * (4 * np.sin(grid[:, :1] / 15))
    assert rigid_rest(grid, there) < 0.01
    assert rigid_rest(grid, bent) > 1
    assert math.isnan(rigid_rest(grid[:8], there[:8]))
