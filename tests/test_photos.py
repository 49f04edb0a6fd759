"""Photographs become templates: what is left out, what is refused, and in which words."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from admin_people import at
from conftest import PICTURES

from edge.admin.checks import Crowd, Population, stored_vector, vectors_of
from edge.admin.model import PersonTemplate
from edge.admin.photos import Seen, look_at_file, portrait
from edge.errors import AlreadyEnrolled, EnrolmentError, LooksLikeAnother

NOW = "2026-01-02T03:04:05Z"
MODEL = "facenet-a"


def seen(name: str, vector: np.ndarray | None, reason: str = "", photo: str = "") -> Seen:
    return Seen(name, photo, {"yaw": 0.1}, vector, reason)


def template(vector: np.ndarray, model: str = MODEL) -> PersonTemplate:
    return PersonTemplate(stored_vector(vector), model, NOW)


def enrol(*looks: Seen, own: tuple[PersonTemplate, ...] = (), crowd: Crowd | None = None, **more):
    return portrait("ada", own, looks, crowd or Crowd(Population.of([]), 8), MODEL, 8, NOW, **more)


def used(result) -> dict[str, str]:
    return {photo.name: "used" if photo.used else photo.reason for photo in result.photos}


def test_good_photographs_become_templates_with_their_file_and_quality():
    done = enrol(seen("a", at(0), photo="a" * 64), seen("b", at(0.4)))
    assert used(done) == {"a": "used", "b": "used"}
    assert [(t.photo, t.model, t.enrolled_at_utc, t.quality) for t in done.templates] == [
        ("a" * 64, MODEL, NOW, {"yaw": 0.1}),
        ("", MODEL, NOW, {"yaw": 0.1}),
    ]
    assert vectors_of(done.templates, 8, "ada") == pytest.approx(np.stack([at(0), at(0.4)]), abs=1e-3)
    assert done.warnings == ()


def test_a_photograph_of_no_use_is_left_out_with_its_reason():
    done = enrol(seen("a", at(0)), seen("b", None, "blurred: sharpness 3, expected >= 10"))
    assert used(done) == {"a": "used", "b": "blurred: sharpness 3, expected >= 10"}
    assert done.warnings == (
        "only 1 template: 3 to 5 photographs in different light are recognised more surely",
    )


def test_a_person_without_a_good_photograph_is_refused_with_all_reasons():
    with pytest.raises(EnrolmentError, match=r"^person ada: expected .* got a: no face found; b: blurred$"):
        enrol(seen("a", None, "no face found"), seen("b", None, "blurred"))
    with pytest.raises(EnrolmentError, match="got none was given"):
        enrol()


def test_the_same_file_and_the_same_picture_count_once():
    done = enrol(
        seen("a", at(0), photo="f" * 64),
        seen("b", at(0), photo="f" * 64),
        seen("c", at(0.01)),
        seen("d", at(0.3)),
    )
    assert used(done) == {
        "a": "used",
        "b": "the same file as a",
        "c": "subject ada has this photograph already (distance 0.010)",
        "d": "used",
    }


def test_a_photograph_that_was_enrolled_before_adds_nothing():
    with pytest.raises(
        AlreadyEnrolled, match=r"^person ada: nothing new: every photograph is enrolled already$"
    ):
        enrol(seen("a", at(0)), own=(template(at(0)),))


def test_photographs_of_two_people_refuse_the_person_and_name_the_odd_one():
    with pytest.raises(EnrolmentError, match=r"^b: not the person of a \(distance 1\.41, expected < 1\)$"):
        enrol(seen("a", at(0)), seen("b", at(0, plane=1)), seen("c", at(0.2)))
    with pytest.raises(EnrolmentError, match=r"^b: not the person of subject ada"):
        enrol(seen("b", at(0, plane=1)), own=(template(at(0)),))


def test_a_face_of_somebody_else_is_refused_unless_it_is_known_to_be_a_twins():
    crowd = Crowd(Population.of([("eve", at(0.61)[None])]), 8)
    with pytest.raises(
        LooksLikeAnother, match=r"^person ada: ada looks like eve, 0\.61: same person, twin, or"
    ):
        enrol(seen("a", at(0)), crowd=crowd)
    done = enrol(seen("a", at(0)), crowd=crowd, lookalike_allowed=True)
    assert (done.looks_like.one, done.looks_like.other) == ("ada", "eve")


def test_of_many_photographs_those_that_lie_farthest_apart_are_kept():
    looks = [seen(f"n{i}", at(0.06 * i)) for i in range(5)]
    done = enrol(*looks, seen("far", at(0.9)), most=3)
    assert len(done.templates) == 3
    assert used(done)["far"] == "used"
    assert list(used(done).values()).count("good, but not among the 3 that lie farthest apart") == 3


def test_templates_of_an_older_model_are_replaced():
    done = enrol(seen("a", at(0)), own=(template(at(0, plane=2), "facenet-old"),))
    assert [t.model for t in done.templates] == [MODEL]
    assert done.warnings[0] == "1 templates of another model than facenet-a were replaced"


def test_the_doors_own_models_look_at_a_file(pipeline):
    model = pipeline.embedder.model
    good = look_at_file("obama.jpg", (PICTURES / "obama.jpg").read_bytes(), pipeline, model)
    assert (good.reason, len(good.photo), good.vector.shape) == ("", 64, (512,))
    assert good.quality["eye_distance_px"] > 20
    wall = cv2.imencode(".png", np.full((200, 200, 3), 128, np.uint8))[1].tobytes()
    assert look_at_file("wall", wall, pipeline, model).reason == "no face found"
    assert look_at_file("x.jpg", b"hello", pipeline, model).reason.startswith("expected ")
    small = cv2.resize(cv2.imread(str(PICTURES / "obama.jpg")), None, fx=0.06, fy=0.06)
    tiny = look_at_file("tiny", cv2.imencode(".png", small)[1].tobytes(), pipeline, model)
    assert tiny.vector is None
    assert tiny.reason


def test_photographs_of_one_real_person_hang_together_and_another_is_refused(pipeline):
    model = pipeline.embedder.model
    looks = [
        look_at_file(name, (PICTURES / name).read_bytes(), pipeline, model)
        for name in ("obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg")
    ]
    crowd = Crowd(Population.of([]), 512)
    done = portrait("obama", (), looks[:3], crowd, model, 512, NOW)
    assert len(done.templates) == 3
    with pytest.raises(EnrolmentError, match=r"biden\.jpg: not the person of obama\.jpg"):
        portrait("obama", (), looks, crowd, model, 512, NOW)
    crowd.put("obama", done.vectors)
    with pytest.raises(LooksLikeAnother):
        portrait("eve", (), looks[:1], crowd, model, 512, NOW)
