"""Rotation and region, by the letter of the picture: pure, and through a real source."""

import numpy as np
import pytest
from fakes import shot

from edge.config import CameraConfig
from edge.vision.camera import open_camera
from edge.vision.pictures import save_picture
from edge.vision.view import turned

WHOLE = (0.0, 0.0, 1.0, 1.0)
#   1 2 3
#   4 5 6
PICTURE = np.repeat(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (0, [[1, 2, 3], [4, 5, 6]]),
        (90, [[4, 1], [5, 2], [6, 3]]),
        (180, [[6, 5, 4], [3, 2, 1]]),
        (270, [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_rotation_is_clockwise(rotation, expected):
    assert turned(PICTURE, rotation, WHOLE)[:, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ((0.0, 0.0, 0.34, 0.5), [[1]]),
        ((1 / 3, 0.0, 2 / 3, 1.0), [[2, 3], [5, 6]]),
        ((0.0, 0.5, 1.0, 0.5), [[4, 5, 6]]),
        ((0.99, 0.99, 0.001, 0.001), [[6]]),
        ((1.0, 1.0, 0.0, 0.0), [[6]]),
    ],
)
def test_a_region_is_parts_of_the_picture_and_never_empty(region, expected):
    assert turned(PICTURE, 0, region)[:, :, 0].tolist() == expected


def test_the_region_is_cut_from_the_picture_as_rotated():
    assert turned(PICTURE, 90, (0.0, 0.0, 1.0, 1 / 3))[:, :, 0].tolist() == [[4, 1]]


def test_what_comes_out_is_the_cameras_own_pixels_contiguous_and_read_only():
    picture = shot(3, (64, 48))
    out = turned(picture, 90, (0.25, 0.25, 0.5, 0.5))
    assert out.flags.c_contiguous
    assert not out.flags.writeable
    assert np.array_equal(out, np.rot90(picture, -1)[16:48, 12:36])


def test_every_source_is_turned_in_one_place(tmp_path):
    save_picture(tmp_path / "1.png", shot(1, (64, 48)))
    config = CameraConfig(source=f"folder:{tmp_path}", rotation=90, region=(0.0, 0.5, 1.0, 0.5))
    camera = open_camera(config)
    try:
        frame = camera.read()
    finally:
        camera.close()
    assert np.array_equal(frame.pixels, np.rot90(shot(1, (64, 48)), -1)[32:, :])
