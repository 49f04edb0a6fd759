"""Enrolment: what becomes a template, and what is refused in which words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.disk import FileKey
from edge.errors import (
    AlreadyEnrolled,
    EnrolmentError,
    GalleryError,
    LooksLikeAnother,
    LowQuality,
    ManyFaces,
    ModelMismatch,
    NoFace,
)
from edge.identity.enrol import Enroller
from edge.identity.likeness import SAME_PERSON, SAME_PHOTO
from edge.identity.match import search
from edge.identity.store import SqliteGallery, open_gallery
from edge.values import Face, Probe
from edge.vision.pipeline import Look, Pipeline

NOW = "2026-01-02T03:04:05Z"
MODEL = "facenet-a"


def face(width: float) -> Face:
    return Face((10.0, 10.0, width, width), np.zeros((6, 2), np.float32), 0.9)


def at(distance: float, plane: int = 0) -> np.ndarray:
    """A unit vector of 8 numbers, `distance` away from at(0) of the same plane; planes are 1.41 apart."""
    vector = np.zeros(8, np.float32)
    angle = 2 * np.arcsin(distance / 2)
    vector[2 * plane : 2 * plane + 2] = np.cos(angle), np.sin(angle)
    return vector


def good(vector: np.ndarray, model: str = MODEL, others: tuple[float, ...] = ()) -> Look:
    faces = [face(100), *(face(width) for width in others)]
    return Look(faces, faces[0], probe=Probe(vector, model, 0.0))


class Looks:
    """A pipeline's sibling: shows prepared looks, and keeps which were asked for."""

    def __init__(self, *looks: Look) -> None:
        self._looks = looks
        self.history: list[int] = []

    def __call__(self, pixels: np.ndarray) -> Look:
        self.history.append(int(pixels[0, 0, 0]))
        return self._looks[self.history[-1]]

    def pictures(self) -> list[tuple[str, np.ndarray]]:
        return [(f"{i}.jpg", np.full((1, 1, 3), i, np.uint8)) for i in range(len(self._looks))]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteGallery]:
    with closing(open_gallery(tmp_path / "gallery.db", FileKey(tmp_path / "gallery.key"))) as opened:
        yield opened


def enrol(store: SqliteGallery, subject: str, *looks: Look, force: bool = False, **settings: float):
    seen = Looks(*looks)
    enroller = Enroller(seen, store, MODEL, 8, **settings)
    return enroller.enrol(subject, seen.pictures(), NOW, force_lookalike=force)


def subjects(store: SqliteGallery) -> list[str]:
    return [row.subject for row in store.all()]


def test_each_photograph_becomes_a_template_and_the_report_counts_them(store: SqliteGallery) -> None:
    report = enrol(store, "ada", good(at(0)), good(at(0.3)), good(at(0.5)), fmr=6.7e-6)
    assert (report.subject, report.added, report.total, report.gallery_size) == ("ada", 3, 3, 3)
    assert report.version == 1
    assert report.expected_fpir == pytest.approx(2.01e-5, rel=0.01)
    assert report.warnings == ()
    kept = store.all()
    assert [row.enrolled_at_utc for row in kept] == [NOW] * 3
    assert np.array_equal(kept[1].vector, at(0.3))
    again = enrol(store, "ada", good(at(0.7)))
    assert (again.added, again.total, again.gallery_size, again.version) == (1, 4, 4, 2)


def test_an_unmeasured_model_has_no_expected_fpir(store: SqliteGallery) -> None:
    assert enrol(store, "ada", good(at(0))).expected_fpir is None


def test_a_picture_without_a_face_is_refused_and_nothing_of_the_set_is_kept(store: SqliteGallery) -> None:
    with pytest.raises(NoFace, match=r"^1\.jpg: no face found$"):
        enrol(store, "ada", good(at(0)), Look([]))
    assert store.all() == []


@pytest.mark.parametrize(
    ("width", "refused"), [(100, True), (51, True), (50, True), (49, False), (10, False)]
)
def test_a_second_face_counts_from_half_the_width_of_the_widest(
    store: SqliteGallery, width: float, refused: bool
) -> None:
    if refused:
        with pytest.raises(ManyFaces, match=r"^0\.jpg: expected one face, got 2 of like size"):
            enrol(store, "ada", good(at(0), others=(width, 5)))
    else:
        assert enrol(store, "ada", good(at(0), others=(width, 5))).added == 1


def test_several_faces_are_told_before_the_quality_of_one(store: SqliteGallery) -> None:
    with pytest.raises(ManyFaces):
        enrol(store, "ada", Look([face(100), face(90)], face(100), shortcoming="blurred"))


def test_what_the_doors_gate_refuses_is_refused_in_the_gates_words(store: SqliteGallery) -> None:
    with pytest.raises(LowQuality, match=r"^0\.jpg: too dark: 12, expected >= 25$"):
        enrol(store, "ada", Look([face(100)], face(100), shortcoming="too dark: 12, expected >= 25"))


@pytest.mark.parametrize("subject", ["", "Ada", "a b", "../ada", "x" * 33])
def test_a_malformed_subject_is_refused_before_any_picture_is_looked_at(
    store: SqliteGallery, subject: str
) -> None:
    looks = Looks(good(at(0)))
    with pytest.raises(GalleryError, match="expected 1 to 32 of a-z"):
        Enroller(looks, store, MODEL, 8).enrol(subject, looks.pictures(), NOW)
    assert looks.history == []


def test_no_pictures_is_an_error(store: SqliteGallery) -> None:
    with pytest.raises(EnrolmentError, match="expected at least one picture"):
        enrol(store, "ada")


def test_a_time_that_is_not_utc_is_refused(store: SqliteGallery) -> None:
    looks = Looks(good(at(0)))
    with pytest.raises(GalleryError, match="expected a UTC time"):
        Enroller(looks, store, MODEL, 8).enrol("ada", looks.pictures(), "yesterday")


def test_a_photograph_is_enrolled_once(store: SqliteGallery) -> None:
    enrol(store, "ada", good(at(0)))
    with pytest.raises(AlreadyEnrolled, match=r"^0\.jpg: subject ada has this photograph already"):
        enrol(store, "ada", good(at(SAME_PHOTO - 0.01)))
    with pytest.raises(AlreadyEnrolled, match=r"^1\.jpg: subject ada"):
        enrol(store, "ada", good(at(0.4)), good(at(0.4)))
    assert enrol(store, "ada", good(at(SAME_PHOTO + 0.01))).total == 2


def test_a_face_like_another_subjects_is_refused_by_name_and_distance(store: SqliteGallery) -> None:
    enrol(store, "ada", good(at(0)))
    with pytest.raises(
        LooksLikeAnother, match=r"^0\.jpg: looks like subject ada \(distance 0\.69, expected >= 0\.7\)"
    ):
        enrol(store, "bob", good(at(0.69)))
    assert subjects(store) == ["ada"]
    assert enrol(store, "bob", good(at(0.71))).added == 1


def test_the_same_photograph_under_another_subject_looks_like_that_one(store: SqliteGallery) -> None:
    enrol(store, "ada", good(at(0)))
    with pytest.raises(LooksLikeAnother, match="looks like subject ada"):
        enrol(store, "bob", good(at(0)))


def test_a_door_with_a_stricter_threshold_has_fewer_lookalikes_and_none_has_more(
    store: SqliteGallery,
) -> None:
    enrol(store, "ada", good(at(0)))
    assert enrol(store, "bob", good(at(0.55)), threshold=0.5).added == 1
    enrol(store, "eve", good(at(0, plane=1)), threshold=1.5)  # the ceiling holds: 1.41 is far enough


def test_twins_can_be_enrolled_on_purpose_and_the_report_warns(store: SqliteGallery) -> None:
    enrol(store, "ada", good(at(0)))
    report = enrol(store, "bob", good(at(0.4)), good(at(0.9)), force=True)
    assert subjects(store) == ["ada", "bob", "bob"]
    assert [note for note in report.warnings if "0.jpg: looks like subject ada (distance 0.40" in note]
    assert not [note for note in report.warnings if note.startswith("1.jpg")]


def test_a_stranger_among_the_photographs_keeps_all_out(store: SqliteGallery) -> None:
    with pytest.raises(
        EnrolmentError, match=r"^1\.jpg: not the person of 0\.jpg \(distance 1\.41, expected < 1\)"
    ):
        enrol(store, "ada", good(at(0)), good(at(0, plane=1)), good(at(0.4)))
    assert store.all() == []


def test_a_stranger_does_not_join_a_subject(store: SqliteGallery) -> None:
    enrol(store, "ada", good(at(0)))
    with pytest.raises(EnrolmentError, match=r"^0\.jpg: not the person of subject ada \(distance 1\.41"):
        enrol(store, "ada", good(at(0, plane=1)))


def test_two_pairs_of_strangers_are_not_one_person(store: SqliteGallery) -> None:
    with pytest.raises(EnrolmentError, match="not the person of"):
        enrol(store, "ada", *(good(at(away, plane)) for plane in (0, 1) for away in (0, 0.3)))


def test_looks_far_apart_are_one_person_with_a_picture_between(store: SqliteGallery) -> None:
    apart = at(1.3)
    with pytest.raises(EnrolmentError, match=r"^1\.jpg: not the person of 0\.jpg"):
        enrol(store, "ada", good(at(0)), good(apart))
    assert enrol(store, "ada", good(at(0)), good(apart), good(at(0.7))).added == 3


def test_a_picture_just_within_the_limit_joins_and_one_at_the_limit_does_not(store: SqliteGallery) -> None:
    enrol(store, "ada", good(at(0)))
    with pytest.raises(EnrolmentError, match="not the person"):
        enrol(store, "ada", good(at(SAME_PERSON + 1e-3)))
    assert enrol(store, "ada", good(at(SAME_PERSON - 1e-3))).total == 2


def test_one_template_and_photographs_that_differ_much_are_warned_of(store: SqliteGallery) -> None:
    assert enrol(store, "ada", good(at(0))).warnings == (
        "only 1 template: 3 to 5 photographs in different light are recognised more surely",
    )
    assert enrol(store, "ada", good(at(0.95))).warnings == (
        "the photographs differ much (mean distance 0.95): add some like the door's view",
    )


def test_an_enrolment_that_would_disarm_the_door_is_refused(store: SqliteGallery) -> None:
    enrol(store, "ada", good(at(0)), good(at(0.3)), fmr=1e-4, max_fpir=2.5e-4)
    with pytest.raises(EnrolmentError, match=r"4 templates: expected FPIR 4\.0e-04 is above"):
        enrol(store, "bob", good(at(0, 1)), good(at(0.3, 1)), fmr=1e-4, max_fpir=2.5e-4)
    assert len(store.all()) == 2
    many = enrol(store, "bob", good(at(0, 1)), good(at(0.3, 1)), fmr=1e-4, max_fpir=1.0)
    assert many.expected_fpir == pytest.approx(4e-4, rel=1e-3)


def test_a_probe_of_another_model_is_not_enrolled(store: SqliteGallery) -> None:
    with pytest.raises(ModelMismatch, match=r"0\.jpg: expected a probe of facenet-a, got one of facenet-b"):
        enrol(store, "ada", good(at(0), model="facenet-b"))


def test_a_gallery_that_changed_while_looking_is_not_added_to(store: SqliteGallery) -> None:
    class Meddling(SqliteGallery):
        def load(self, model: str, dimension: int):
            before = store.load(model, dimension)
            enrol(store, "eve", good(at(0)))
            return before

    looks = Looks(good(at(0)))
    meddling = Meddling.__new__(Meddling)
    meddling.__dict__ = store.__dict__
    with pytest.raises(GalleryError, match="expected version 0, got 1: try again"):
        Enroller(looks, meddling, MODEL, 8).enrol("bob", looks.pictures(), NOW)
    assert subjects(store) == ["eve"]


# the real models on real photographs


@pytest.fixture
def real(pipeline: Pipeline, store: SqliteGallery) -> Enroller:
    return Enroller(pipeline, store, pipeline.embedder.model, pipeline.embedder.dimension)


def test_photographs_of_one_person_are_enrolled_one_after_another(real: Enroller, picture) -> None:
    for count, name in enumerate(("obama.jpg", "obama2.jpg", "obama3.jpg"), start=1):
        assert real.enrol("obama", [(name, picture(name))], NOW).total == count
    assert real.enrol("biden", [("biden.jpg", picture("biden.jpg"))], NOW).gallery_size == 4
    gallery = real.store.load(real.model, real.dimension)
    match = search(real.look(picture("obama2.jpg")).probe, gallery)
    assert (match.best.subject, match.runner_up.subject) == ("obama", "biden")


def test_three_photographs_of_one_person_need_no_warning(real: Enroller, picture) -> None:
    report = real.enrol("obama", [(n, picture(n)) for n in ("obama.jpg", "obama2.jpg", "obama3.jpg")], NOW)
    assert (report.added, report.warnings) == (3, ())


def test_another_person_does_not_become_a_template_of_the_subject(real: Enroller, picture) -> None:
    real.enrol("obama", [("obama.jpg", picture("obama.jpg"))], NOW)
    with pytest.raises(EnrolmentError, match=r"^biden\.jpg: not the person of subject obama"):
        real.enrol("obama", [("biden.jpg", picture("biden.jpg"))], NOW)


def test_one_person_does_not_become_two_subjects(real: Enroller, picture) -> None:
    real.enrol("obama", [("obama.jpg", picture("obama.jpg"))], NOW)
    with pytest.raises(LooksLikeAnother, match=r"^obama2\.jpg: looks like subject obama"):
        real.enrol("barack", [("obama2.jpg", picture("obama2.jpg"))], NOW)


@pytest.mark.parametrize("quality", [95, 100])
def test_a_photograph_saved_again_at_high_quality_is_the_same_photograph(
    real: Enroller, picture, quality: int
) -> None:
    pixels = picture("obama.jpg")
    real.enrol("obama", [("obama.jpg", pixels)], NOW)
    _, saved = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    with pytest.raises(AlreadyEnrolled):
        real.enrol("obama", [("again.jpg", cv2.imdecode(saved, cv2.IMREAD_COLOR))], NOW)


def test_a_picture_of_two_people_is_refused(real: Enroller, picture) -> None:
    one, two = picture("obama.jpg"), picture("biden.jpg")
    together = np.hstack([one, cv2.resize(two, None, fx=1.5, fy=1.5)[: one.shape[0]]])
    with pytest.raises(ManyFaces, match=r"^two\.jpg: expected one face, got 2"):
        real.enrol("obama", [("two.jpg", together)], NOW)


def portrait(look: Pipeline, pixels: np.ndarray, side: int) -> np.ndarray:
    """A square of `side` px around the one face, twice as wide as its box."""
    x, y, w, h = (round(n) for n in look(pixels).faces[0].box)
    around = pixels[max(0, y - h // 2) : y + h + h // 2, max(0, x - w // 2) : x + w + w // 2]
    return cv2.resize(around, (side, side), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(("side", "refused"), [(150, False), (300, True)])
def test_a_small_face_in_the_background_is_no_second_face(
    real: Enroller, pipeline: Pipeline, picture, side: int, refused: bool
) -> None:
    together = np.zeros((400, 400 + side, 3), np.uint8)
    together[:, :400] = portrait(pipeline, picture("obama.jpg"), 400)
    together[:side, 400:] = portrait(pipeline, picture("biden.jpg"), side)
    assert len(pipeline(together).faces) == 2
    if refused:
        with pytest.raises(ManyFaces):
            real.enrol("obama", [("background.jpg", together)], NOW)
    else:
        assert real.enrol("obama", [("background.jpg", together)], NOW).added == 1


def test_a_picture_of_nobody_is_refused(real: Enroller) -> None:
    with pytest.raises(NoFace, match=r"^wall\.jpg: no face found$"):
        real.enrol("obama", [("wall.jpg", np.full((480, 640, 3), 128, np.uint8))], NOW)


def test_a_blurred_picture_is_refused_in_the_gates_words(real: Enroller, picture) -> None:
    blurred = cv2.GaussianBlur(picture("obama.jpg"), (0, 0), 9)
    with pytest.raises(LowQuality, match=r"^blurred\.jpg: blurred: sharpness"):
        real.enrol("obama", [("blurred.jpg", blurred)], NOW)
    assert real.store.all() == []
