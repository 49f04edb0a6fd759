"""Which face is picked, and what the gate refuses."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from edge.config import QualityConfig
from edge.values import Face, Quality
from edge.vision.quality import measure, ranked, shortcoming

GOOD = Quality(eye_distance_px=60, sharpness=300, exposure=120, contrast=50, yaw=0.02, pitch=0.6)
SIZE = (640, 480)


def face(
    x: float, y: float, w: float, eyes=((0.3, 0.4), (0.7, 0.4)), nose=(0.5, 0.55), mouth=(0.5, 0.75)
) -> Face:
    points = np.array([*eyes, nose, mouth, (0.1, 0.4), (0.9, 0.4)]) * w + (x, y)
    return Face((x, y, w, w), points.astype(np.float32), 0.9)


def first(faces: list[Face]) -> Face:
    return ranked(faces, SIZE)[0]


def test_nobody_is_asked_about_where_no_face_is():
    assert ranked([], SIZE) == []


def test_the_largest_face_is_first():
    near, far = face(400, 200, 200), face(300, 200, 100)
    assert first([far, near]) is near


def test_of_nearly_equal_faces_the_more_central_is_first():
    side, centre = face(0, 140, 210), face(220, 140, 200)
    assert first([side, centre]) is centre


def test_a_small_central_face_does_not_beat_a_large_one_at_the_side():
    side, centre = face(0, 140, 210), face(270, 190, 100)
    assert first([centre, side]) is side


def test_the_order_of_detection_does_not_change_who_is_first():
    faces = [face(0, 0, 100), face(270, 190, 95), face(500, 300, 99)]
    assert {id(first(list(order))) for order in (faces, faces[::-1])} == {id(faces[1])}


def test_behind_the_first_come_those_at_least_half_as_wide_by_width_three_in_all():
    widths = (100, 49, 70, 51, 60)
    faces = [face(i * 120, 200, width) for i, width in enumerate(widths)]
    assert [one.box[2] for one in ranked(faces, SIZE)] == [100, 70, 60]
    assert ranked(faces[:2], SIZE) == faces[:1]


def test_a_good_face_passes():
    assert shortcoming(GOOD, QualityConfig()) is None


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"eye_distance_px": 10}, "too far away: 10 px between the eyes, expected >= 20"),
        ({"sharpness": 0.5}, "blurred"),
        ({"exposure": 3}, "too dark"),
        ({"exposure": 250}, "too bright"),
        ({"contrast": 1}, "too flat"),
        ({"yaw": -1.1}, "turned aside"),
        ({"pitch": 1.4}, "turned up or down"),
    ],
)
def test_each_shortcoming_is_named_with_its_figure(figures, words):
    assert (shortcoming(replace(GOOD, **figures), QualityConfig()) or "").startswith(words)


@pytest.mark.parametrize("field", list(Quality.__dataclass_fields__))
def test_a_figure_that_is_not_a_number_does_not_pass(field):
    assert shortcoming(replace(GOOD, **{field: float("nan")}), QualityConfig()) is not None


def test_a_stricter_gate_refuses_what_a_looser_one_let_through():
    gate = msgspec.structs.replace(QualityConfig(), min_eye_distance_px=80)
    assert shortcoming(GOOD, gate) is not None


def test_a_frontal_face_has_no_yaw_and_a_turned_one_has_its_sign():
    crop = np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    assert measure(face(0, 0, 100), crop).yaw == pytest.approx(0, abs=1e-6)
    assert measure(face(0, 0, 100, nose=(0.62, 0.55)), crop).yaw == pytest.approx(0.3, abs=1e-4)
    assert measure(face(0, 0, 100, nose=(0.38, 0.55)), crop).yaw == pytest.approx(-0.3, abs=1e-4)


def test_pose_does_not_depend_on_roll():
    crop = np.zeros((160, 160, 3), np.uint8)
    straight = face(0, 0, 100, nose=(0.6, 0.55))
    turn = np.array([[0.8, -0.6], [0.6, 0.8]], np.float32)
    tilted = Face(straight.box, straight.landmarks @ turn.T, 0.9)
    a, b = measure(straight, crop), measure(tilted, crop)
    assert (a.yaw, a.pitch) == (pytest.approx(b.yaw, abs=1e-5), pytest.approx(b.pitch, abs=1e-5))


def test_blur_lowers_sharpness_and_darkness_lowers_exposure():
    noisy = np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8)
    flat = np.full((160, 160, 3), 7, np.uint8)
    assert measure(face(0, 0, 100), noisy).sharpness > 1000
    assert measure(face(0, 0, 100), flat).sharpness == 0
    assert measure(face(0, 0, 100), flat).exposure == 7
