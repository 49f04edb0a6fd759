"""What may enter a gallery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import GalleryError, ModelMismatch
from edge.identity.gallery import build_gallery, check_subject, check_template
from edge.values import Template

NOW = "2026-01-02T03:04:05Z"
GOOD = Template("ada", np.array([0.6, 0.8], np.float32), "facenet-a", NOW)


def test_a_gallery_keeps_each_template_with_its_subject() -> None:
    rows = [
        replace(GOOD, subject="bob"),
        replace(GOOD, vector=np.array([1, 0], np.float32)),
        replace(GOOD, subject="bob", vector=np.array([0, 1], np.float32)),
    ]
    gallery = build_gallery(rows, "facenet-a", 2, version=7)
    assert (gallery.version, gallery.model, gallery.subjects) == (7, "facenet-a", ("ada", "bob"))
    assert [gallery.subjects[i] for i in gallery.owners] == ["bob", "ada", "bob"]
    assert np.array_equal(gallery.templates, np.array([[0.6, 0.8], [1, 0], [0, 1]], np.float32))


def test_a_gallery_can_not_be_written_to() -> None:
    gallery = build_gallery([GOOD], "facenet-a", 2, version=1)
    with pytest.raises(ValueError, match="read-only"):
        gallery.templates[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        gallery.owners[0] = 0


def test_an_empty_gallery_has_the_shape_a_search_expects() -> None:
    gallery = build_gallery([], "facenet-a", 512, version=0)
    assert gallery.templates.shape == (0, 512)
    assert len(gallery) == 0


def test_a_template_of_another_model_is_refused() -> None:
    with pytest.raises(ModelMismatch, match="expected templates of facenet-b, got one of facenet-a: enrol"):
        build_gallery([GOOD], "facenet-b", 2, version=1)


def test_a_template_of_another_dimension_is_refused() -> None:
    with pytest.raises(GalleryError, match="expected 3 numbers, got \\(2,\\)"):
        build_gallery([GOOD], "facenet-a", 3, version=1)


@pytest.mark.parametrize(
    "vector",
    [
        [float("nan"), 0],
        [float("inf"), 0],
        [0, 0],
        [1, 1],
        [0.5, 0],
        [[0.6, 0.8]],
        [],
    ],
)
def test_what_is_no_finite_unit_vector_is_refused(vector: list[float]) -> None:
    with pytest.raises(GalleryError, match="ada"):
        check_template(replace(GOOD, vector=np.array(vector, np.float32)))


def test_numbers_of_another_kind_are_refused() -> None:
    with pytest.raises(GalleryError, match="float32 numbers, got float64"):
        check_template(replace(GOOD, vector=np.array([0.6, 0.8])))


@pytest.mark.parametrize("now", ["", "yesterday", "2026-01-02 03:04:05", NOW + "\n", "2026-01-02T03:04:05"])
def test_a_time_that_is_not_utc_is_refused(now: str) -> None:
    with pytest.raises(GalleryError, match="expected a UTC time"):
        check_template(replace(GOOD, enrolled_at_utc=now))


@pytest.mark.parametrize("model", ["", "FaceNet", "a\nb", "x" * 33])
def test_a_malformed_model_id_is_refused(model: str) -> None:
    with pytest.raises(GalleryError, match="expected a model id"):
        check_template(replace(GOOD, model=model))


@pytest.mark.parametrize(
    "subject", ["", "Ada", "a b", "ada\n", "../x", "x" * 33, "é", "\u0661", "x" * 10_000]
)
def test_a_malformed_subject_is_refused_in_one_short_line(subject: str) -> None:
    with pytest.raises(GalleryError, match="expected 1 to 32 of a-z") as refused:
        check_subject(subject)
    assert len(str(refused.value)) < 140
    assert "\n" not in str(refused.value)


@given(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True))
def test_every_wellformed_subject_is_accepted(subject: str) -> None:
    assert check_subject(subject) == subject
    check_template(replace(GOOD, subject=subject))
