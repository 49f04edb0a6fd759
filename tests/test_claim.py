"""A claimed identity, verified 1:1: the same confirmation as 1:N, no margin, one event each."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import DecisionConfig
from edge.identity.claim import Claim, Verifier
from edge.identity.match import compare
from edge.identity.throttle import Rule
from edge.values import Attempt, Candidate, Deny, Gallery, Grant, Match, Observation, Probe, Reason

CONFIG = DecisionConfig()
NEED = Rule(2, 3, 0.1)
PROBE = Probe(np.eye(1, 8, dtype=np.float32)[0], "m", 0.0)


def face(at: float, distance: float = 0.4, subject: str = "kian") -> Observation:
    return Observation(at, PROBE, Match(Candidate(subject, distance)))


def blurred(at: float) -> Observation:
    return Observation(at, refused=Reason.LOW_QUALITY)


def nobody(at: float) -> Observation:
    return Observation(at)


def run(seen, need: Rule = NEED, lag: float = 0.02, config: DecisionConfig = CONFIG) -> Attempt | None:
    """What a card shown at 0 ends in; None: it goes on."""
    verifier = Verifier(config, 0.5, 10.0)
    claim = Claim("kian", 0.0)
    for observation in seen:
        step = verifier.observe(claim, observation, need, observation.taken_at + lag)
        if step.claim is None:
            return step.attempt
        claim = step.claim
    return None


def frames(count: int, start: float = 0.1, apart: float = 0.1) -> list[float]:
    return [round(start + i * apart, 3) for i in range(count)]


def decision(seen, **more):
    attempt = run(seen, **more)
    return attempt and attempt.decision


def test_the_cards_own_face_is_granted_by_two_frames():
    attempt = run([face(0.1), face(0.2)])
    assert attempt is not None
    assert (attempt.decision, attempt.frames, attempt.began_at) == (Grant("kian", 0.4), 2, 0.0)


def test_one_frame_is_not_enough_and_three_of_three_when_the_door_is_throttled():
    assert run([face(0.1)]) is None
    strict = Rule(3, 3, 0.2)
    assert run([face(0.1), face(0.2)], need=strict) is None
    assert decision([face(0.1), face(0.2), face(0.3)], need=strict) == Grant("kian", 0.4)


def test_another_face_is_not_the_cards():
    seen = [*(face(t, 1.2) for t in frames(5)), *map(nobody, frames(15, 0.6))]
    attempt = run(seen)
    assert attempt is not None
    assert attempt.decision == Deny(Reason.FACE_NOT_CARDS)
    assert attempt.frames == 5


def test_another_face_that_stays_is_refused_after_the_length_of_an_attempt():
    attempt = run([face(t, 0.9) for t in frames(60)])
    assert attempt is not None
    assert attempt.decision == Deny(Reason.FACE_NOT_CARDS)
    assert 3.0 <= attempt.decided_at <= 3.3


def test_a_card_without_a_face_is_refused_in_time():
    assert run([nobody(t) for t in frames(99)]) is None
    assert decision([nobody(t) for t in frames(101)]) == Deny(Reason.NO_FACE_IN_TIME)
    step = Verifier(CONFIG, 0.5, 10.0).tick(Claim("kian", 0.0), 10.0)
    assert step.attempt is not None
    assert (step.attempt.decision, step.attempt.frames) == (Deny(Reason.NO_FACE_IN_TIME), 0)


def test_a_face_that_never_passes_the_gate_is_no_face():
    assert decision([blurred(t) for t in frames(101)]) == Deny(Reason.NO_FACE_IN_TIME)


def test_frames_that_are_too_poor_prolong_an_attempt_but_have_no_vote():
    assert decision([face(0.1), blurred(0.9), face(1.2)]) == Grant("kian", 0.4)
    seen = [face(0.1), *map(blurred, frames(40, 0.2))]
    assert decision(seen) == Deny(Reason.LOW_QUALITY)


def test_frames_from_before_the_card_do_not_count():
    assert run([face(-0.2), face(-0.1), face(0.0), face(0.1)]) is None


def test_the_same_frame_shown_again_does_not_confirm():
    verifier = Verifier(CONFIG, 0.5, 10.0)
    claim = Claim("kian", 0.0)
    for _ in range(5):
        step = verifier.observe(claim, face(0.1), NEED, 0.2)
        assert step.claim is not None
        claim = step.claim


def test_frames_too_old_never_open_the_door():
    assert decision([face(t) for t in frames(60)], lag=0.6) == Deny(Reason.STALE_FRAME)


@pytest.mark.parametrize("distance", [0.7, 0.71, 2.0, float("nan"), float("inf")])
def test_no_distance_at_the_ceiling_above_it_or_without_meaning_is_granted(distance):
    assert decision([face(t, distance) for t in frames(60)]) == Deny(Reason.FACE_NOT_CARDS)


def test_a_match_with_another_subject_never_opens_this_claim():
    seen = [face(t, 0.1, "ada") for t in frames(60)]
    assert decision(seen) == Deny(Reason.FACE_NOT_CARDS)


def test_a_gallery_of_another_model_is_the_wrong_model():
    seen = [Observation(t, PROBE, None) for t in frames(60)]
    assert decision(seen) == Deny(Reason.WRONG_MODEL)


def test_a_gallery_that_went_away_is_told_as_it_was_refused():
    seen = [Observation(t, PROBE, None, Reason.UNAUTHORIZED) for t in frames(60)]
    assert decision(seen) == Deny(Reason.UNAUTHORIZED)


def test_a_claim_is_abandoned_for_another_and_interrupted_by_a_fault():
    verifier = Verifier(CONFIG, 0.5, 10.0)
    claim = Claim("kian", 0.0)
    assert verifier.abandon(claim, 1.0).attempt.decision == Deny(Reason.NO_FACE_IN_TIME)
    assert verifier.interrupt(claim, Reason.CAMERA_FAULT, 1.0).attempt.decision == Deny(Reason.CAMERA_FAULT)
    seen = verifier.observe(claim, face(0.1, 1.2), NEED, 0.12).claim
    assert verifier.abandon(seen, 1.0).attempt.decision == Deny(Reason.FACE_NOT_CARDS)


def test_a_clock_that_is_no_number_ends_the_claim():
    step = Verifier(CONFIG, 0.5, 10.0).tick(Claim("kian", 0.0), float("nan"))
    assert step.attempt is not None
    assert step.attempt.decision == Deny(Reason.NO_FACE_IN_TIME)


def test_the_claimed_subject_is_the_only_candidate_whoever_is_nearer():
    rows = np.eye(2, 8, dtype=np.float32)
    gallery = Gallery(1, "m", ("ada", "kian"), rows, np.array([0, 1], np.intp))
    match = compare(PROBE, gallery, "kian")
    assert match is not None
    assert match.best == Candidate("kian", pytest.approx(2**0.5))
    assert match.runner_up is None
    assert compare(PROBE, gallery, "bob") == Match()
    assert compare(replace(PROBE, model="other"), gallery, "ada") is None
    assert compare(replace(PROBE, vector=PROBE.vector * 0), gallery, "ada") == Match()


rows = st.lists(
    st.tuples(
        st.sampled_from(["face", "blurred", "nobody"]),
        st.floats(0.01, 1.0),
        st.one_of(st.floats(0, 2), st.just(float("nan"))),
        st.sampled_from(["kian", "ada"]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(rows, st.integers(1, 3), st.floats(0.1, 0.7))
def test_every_grant_has_enough_near_frames_of_the_claimed_subject_behind_it(given_rows, confirm, threshold):
    config = msgspec.structs.replace(CONFIG, threshold=threshold)
    at, seen = 0.0, []
    for kind, gap, distance, subject in given_rows:
        at += gap
        made = {"face": lambda: face(at, distance, subject), "blurred": lambda: blurred(at)}  # noqa: B023
        seen.append(made.get(kind, lambda: nobody(at))())  # noqa: B023
    attempt = run(seen, need=Rule(confirm, 3, 0.1), config=config)
    if attempt is not None and isinstance(attempt.decision, Grant):
        assert attempt.decision.subject == "kian"
        near = [
            s
            for s in seen
            if s.match
            and s.match.best.subject == "kian"
            and s.match.best.distance < threshold
            and attempt.decided_at - s.taken_at <= config.confirm_window_s + 0.001
        ]
        assert len(near) >= confirm
