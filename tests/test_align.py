"""The crop: landmarks that lie on the template must land where the embedder expects them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.values import Face
from edge.vision.align import align, crop_transform
from edge.vision.manifest import Crop

CROP = Crop(left_eye=(0.345, 0.414), right_eye=(0.678, 0.414), mouth=(0.516, 0.702))
SIZE = (160, 160)
UPRIGHT = np.array([122 / 153, 1.0])  # the crop before it is made square, height 1


def face_at(scale: float, degrees: float, shift: tuple[float, float]) -> Face:
    """A face whose landmarks are the template's, scaled, turned and shifted."""
    points = (
        np.array([CROP.left_eye, CROP.right_eye, (0.51, 0.55), CROP.mouth, (0.2, 0.45), (0.8, 0.45)])
        * UPRIGHT
    )
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Face((0, 0, 1, 1), (points * scale @ turn.T + shift).astype(np.float32), 0.9)


@pytest.mark.parametrize("scale", [40.0, 153.0, 900.0])
@pytest.mark.parametrize("degrees", [0, 20, -35])
def test_landmarks_on_the_template_land_on_its_fractions(scale, degrees):
    face = face_at(scale, degrees, (300, 200))
    matrix = crop_transform(face, CROP, SIZE)
    landed = face.landmarks[[0, 1, 3]] @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(landed, np.array([CROP.left_eye, CROP.right_eye, CROP.mouth]) * 160, atol=0.01)


def test_the_crop_of_a_122_by_153_face_is_stretched_to_the_square_and_nothing_else():
    matrix = crop_transform(face_at(153, 0, (10, 20)), CROP, SIZE)
    np.testing.assert_allclose(
        matrix, [[160 / 122, 0, -10 * 160 / 122], [0, 160 / 153, -20 * 160 / 153]], atol=1e-3
    )


@pytest.mark.parametrize("scale", [153.0, 700.0, 1500.0])
def test_a_dot_at_an_eye_stays_at_the_eye_however_large_the_face(scale):
    face = face_at(scale, 15, (scale * 0.8, scale * 0.4))
    pixels = np.zeros((int(scale * 2), int(scale * 2), 3), np.uint8)
    x, y = face.left_eye
    cv2.circle(pixels, (round(float(x)), round(float(y))), max(3, int(scale / 40)), (0, 255, 0), -1)
    crop = align(pixels, face, CROP, SIZE)
    ys, xs = np.nonzero(crop[..., 1] > 100)
    assert abs(xs.mean() - 0.345 * 160) < 1
    assert abs(ys.mean() - 0.414 * 160) < 1
    assert not crop[..., 0].any()
    assert not crop[..., 2].any()


def test_a_face_whose_landmarks_are_one_point_gives_a_crop_and_no_crash():
    face = Face((0, 0, 1, 1), np.full((6, 2), 50, np.float32), 0.9)
    assert align(np.zeros((100, 100, 3), np.uint8), face, CROP, SIZE).shape == (160, 160, 3)


def test_a_face_at_the_border_is_filled_with_black():
    crop = align(np.full((200, 200, 3), 255, np.uint8), face_at(153, 0, (-60, -60)), CROP, SIZE)
    assert not crop[:20, :20].any()
    assert crop[150, 100].all()
