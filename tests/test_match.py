"""The search and the verdict on one frame, against a reference that can be read at a glance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.identity.gallery import build_gallery
from edge.identity.match import distances, expected_fpir, identify, most_templates, search, verify
from edge.values import DISTANCE_CEILING, Candidate, Deny, Gallery, Grant, Match, Probe, Reason, Template

DIMENSION = 8
MODEL = "facenet-a"
NOW = "2026-01-02T03:04:05Z"
seeds = st.integers(0, 2**32 - 1)
thresholds = st.floats(0, 3, width=32)
margins = st.floats(0, 1, width=32)
any_distance = st.one_of(st.floats(0, 2, width=32), st.just(float("nan")))


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def probe_of(vector: np.ndarray, model: str = MODEL) -> Probe:
    return Probe(np.asarray(vector, np.float32), model, taken_at=0.0)


def some_gallery(rng: np.random.Generator, templates: int, subjects: int) -> Gallery:
    rows = [
        Template(f"s-{rng.integers(subjects)}", unit(rng.normal(size=DIMENSION)), MODEL, NOW)
        for _ in range(templates)
    ]
    return build_gallery(rows, MODEL, DIMENSION, version=1)


@st.composite
def cases(draw: st.DrawFn, least: int = 0) -> tuple[Probe, Gallery]:
    """A probe and a gallery; the probe is often near one of the templates."""
    rng = np.random.default_rng(draw(seeds))
    gallery = some_gallery(rng, draw(st.integers(least, 12)), draw(st.integers(1, 5)))
    vector = rng.normal(size=DIMENSION)
    if len(gallery) and draw(st.booleans()):
        vector = gallery.templates[rng.integers(len(gallery))] + draw(st.sampled_from([0, 0.1, 0.3])) * vector
    return probe_of(unit(vector)), gallery


def reference(probe: Probe, gallery: Gallery) -> dict[str, float]:
    """Each subject's distance, by the definition and in float64."""
    nearest: dict[str, float] = {}
    for row, owner in zip(gallery.templates, gallery.owners, strict=True):
        away = float(np.linalg.norm(row.astype(float) - probe.vector.astype(float)))
        subject = gallery.subjects[owner]
        nearest[subject] = min(away, nearest.get(subject, 9.0))
    return nearest


def decide(probe: Probe, gallery: Gallery, threshold: float, margin: float) -> Grant | Deny:
    return identify(search(probe, gallery), threshold, margin)


@given(cases(least=1))
def test_the_search_finds_what_a_reference_finds(case: tuple[Probe, Gallery]) -> None:
    probe, gallery = case
    expected = reference(probe, gallery)
    match = search(probe, gallery)
    assert match is not None
    assert match.best is not None
    # float32 leaves 1e-3 at distance 0, where the square root is steepest
    assert match.best.distance == pytest.approx(min(expected.values()), abs=2e-3)
    assert expected[match.best.subject] == pytest.approx(match.best.distance, abs=2e-3)
    others = [away for subject, away in expected.items() if subject != match.best.subject]
    if others:
        assert match.runner_up is not None
        assert match.runner_up.distance == pytest.approx(min(others), abs=2e-3)
        assert expected[match.runner_up.subject] == pytest.approx(match.runner_up.distance, abs=2e-3)
    else:
        assert match.runner_up is None


@given(cases(least=1))
def test_the_runner_up_is_always_another_subject_and_never_nearer(case: tuple[Probe, Gallery]) -> None:
    match = search(*case)
    assert match is not None
    assert match.best is not None
    if match.runner_up is not None:
        assert match.runner_up.subject != match.best.subject
        assert match.runner_up.distance >= match.best.distance


def test_five_templates_of_one_subject_leave_no_runner_up() -> None:
    rows = [Template("ada", unit(np.eye(DIMENSION)[i] + 1), MODEL, NOW) for i in range(5)]
    match = search(probe_of(rows[2].vector), build_gallery(rows, MODEL, DIMENSION, 1))
    assert match == Match(Candidate("ada", pytest.approx(0, abs=1e-3)), None)


@given(cases(), thresholds, thresholds, margins, margins)
def test_stricter_settings_never_grant_more(
    case: tuple[Probe, Gallery], t1: float, t2: float, m1: float, m2: float
) -> None:
    strict = decide(*case, min(t1, t2), max(m1, m2))
    loose = decide(*case, max(t1, t2), min(m1, m2))
    if isinstance(strict, Grant):
        assert loose == strict


@given(any_distance, any_distance, thresholds, margins)
@example(0.7, 2.0, 0.7, 0.0)
@example(0.5, 0.55, 0.7, 0.1)
def test_a_grant_is_exactly_near_enough_and_clear_enough(
    best: float, other: float, threshold: float, margin: float
) -> None:
    verdict = identify(Match(Candidate("ada", best), Candidate("bob", other)), threshold, margin)
    good = best < threshold and best < DISTANCE_CEILING and other - best >= margin
    assert (verdict == Grant("ada", best)) is good


def test_a_distance_equal_to_the_threshold_is_refused() -> None:
    below = float(np.nextafter(0.6, 0))
    assert identify(Match(Candidate("ada", 0.6)), 0.6, 0.1) == Deny(Reason.NO_MATCH)
    assert identify(Match(Candidate("ada", below)), 0.6, 0.1) == Grant("ada", below)


@given(st.floats(min_value=0.7, allow_nan=False), st.floats(0.7, 2))
def test_no_threshold_grants_at_or_above_the_ceiling(threshold: float, distance: float) -> None:
    assert identify(Match(Candidate("ada", distance)), threshold, 0) == Deny(Reason.NO_MATCH)


@given(margins, st.floats(0, 0.5))
def test_a_runner_up_nearer_than_the_margin_is_ambiguous(margin: float, best: float) -> None:
    rival = float(np.nextafter(best + margin, -1))
    if rival - best < margin:
        match = Match(Candidate("ada", best), Candidate("bob", rival))
        assert identify(match, 0.7, margin) == Deny(Reason.AMBIGUOUS)


def test_one_face_under_two_subjects_opens_for_neither() -> None:
    face = unit(np.ones(DIMENSION))
    gallery = build_gallery([Template(s, face, MODEL, NOW) for s in ("ada", "bob")], MODEL, DIMENSION, 1)
    assert decide(probe_of(face), gallery, 0.7, 0.1) == Deny(Reason.AMBIGUOUS)


@given(cases(), thresholds, margins)
def test_a_probe_of_another_model_is_never_compared(
    case: tuple[Probe, Gallery], threshold: float, margin: float
) -> None:
    probe, gallery = replace(case[0], model="facenet-b"), case[1]
    assert search(probe, gallery) is None
    assert decide(probe, gallery, threshold, margin) == Deny(Reason.WRONG_MODEL)
    for subject in gallery.subjects:
        assert verify(probe, gallery, subject, threshold) == (Deny(Reason.WRONG_MODEL), None)


@given(seeds, thresholds, margins)
def test_an_empty_gallery_never_grants(seed: int, threshold: float, margin: float) -> None:
    empty = build_gallery([], MODEL, DIMENSION, 0)
    probe = probe_of(unit(np.random.default_rng(seed).normal(size=DIMENSION)))
    assert decide(probe, empty, threshold, margin) == Deny(Reason.NO_MATCH)
    assert verify(probe, empty, "ada", threshold) == (Deny(Reason.UNAUTHORIZED), None)


broken_numbers = st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e15, 1e10, 50.0])


@given(cases(least=1), broken_numbers, st.integers(0, DIMENSION - 1))
def test_a_probe_that_is_no_unit_vector_never_grants(
    case: tuple[Probe, Gallery], broken: float, at: int
) -> None:
    vector = case[0].vector.copy()
    vector[at] = broken
    probe, gallery = probe_of(vector), case[1]
    assert search(probe, gallery) == Match()
    for subject in gallery.subjects:
        assert verify(probe, gallery, subject, 0.7) == (Deny(Reason.NO_MATCH), None)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.01, 3.0])
def test_a_probe_of_the_wrong_length_never_grants_however_near(factor: float) -> None:
    face = unit(np.ones(DIMENSION))
    gallery = build_gallery([Template("ada", face, MODEL, NOW)], MODEL, DIMENSION, 1)
    probe = probe_of(face * np.float32(factor))
    assert decide(probe, gallery, 0.7, 0) == Deny(Reason.NO_MATCH)
    assert verify(probe, gallery, "ada", 0.7) == (Deny(Reason.NO_MATCH), None)


@given(cases(), any_distance)
def test_a_nan_in_the_search_never_grants(case: tuple[Probe, Gallery], threshold: float) -> None:
    nan = float("nan")
    assert isinstance(identify(Match(Candidate("ada", nan)), threshold, 0), Deny)
    assert isinstance(identify(Match(Candidate("ada", 0.1), Candidate("bob", nan)), 0.7, 0.1), Deny)
    assert isinstance(identify(Match(Candidate("ada", 0.1)), nan, 0), Deny)
    assert isinstance(identify(Match(Candidate("ada", 0.1), Candidate("bob", 1)), 0.7, nan), Deny)
    probe, gallery = case
    if len(gallery):
        rows = gallery.templates.copy()
        rows[0] = nan  # a gallery can't be built so; memory can go bad
        assert isinstance(decide(probe, replace(gallery, templates=rows), 0.7, 0), Deny)


@given(cases(least=1), thresholds, thresholds)
def test_verification_agrees_with_the_reference_and_stricter_grants_no_more(
    case: tuple[Probe, Gallery], t1: float, t2: float
) -> None:
    probe, gallery = case
    expected = reference(probe, gallery)
    for subject in gallery.subjects:
        strict, away = verify(probe, gallery, subject, min(t1, t2))
        loose, _ = verify(probe, gallery, subject, max(t1, t2))
        assert away == pytest.approx(expected[subject], abs=2e-3)
        assert isinstance(strict, Grant) is (away < min(t1, t2, DISTANCE_CEILING))
        if isinstance(strict, Grant):
            assert loose == strict == Grant(subject, away)


@given(cases(least=1))
def test_verification_of_an_unknown_subject_is_unauthorized(case: tuple[Probe, Gallery]) -> None:
    assert verify(*case, "nobody", 0.7) == (Deny(Reason.UNAUTHORIZED), None)


@given(seeds)
def test_distances_lie_between_0_and_2(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vector = unit(rng.normal(size=DIMENSION))
    away = distances(vector, np.stack([vector, -vector, unit(rng.normal(size=DIMENSION))]))
    assert away.dtype == np.float32
    assert away[0] == pytest.approx(0, abs=1e-3)
    assert away[1] == pytest.approx(2, abs=1e-3)
    assert 0 <= away[2] <= 2.0001


def test_the_expected_fpir_has_the_figures_of_the_design() -> None:
    assert expected_fpir(6.7e-6, 150) == pytest.approx(1.0e-3, rel=0.01)
    assert expected_fpir(6.7e-6, 5000) == pytest.approx(3.3e-2, rel=0.01)
    assert expected_fpir(6.7e-6, 0) == 0
    assert expected_fpir(1e-12, 1) == pytest.approx(1e-12)  # not lost in rounding


@pytest.mark.parametrize(("fmr", "max_fpir"), [(7.2e-6, 1e-3), (1e-4, 1e-2), (1e-6, 0.5)])
def test_most_templates_is_the_last_size_whose_fpir_is_allowed(fmr, max_fpir):
    most = most_templates(fmr, max_fpir)
    assert expected_fpir(fmr, most) <= max_fpir < expected_fpir(fmr, most + 1)


def test_without_a_usable_fmr_no_template_is_allowed():
    assert [most_templates(f, 1e-3) for f in (0.0, 1.0, float("nan"))] == [0, 0, 0]
