"""The decision: attempts, confirmation, cool-down, throttle. Pure, so time is a number here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import DecisionConfig
from edge.identity.attempt import Running
from edge.identity.decide import Decider, Deciding, Step, fpir_refusal
from edge.identity.throttle import Throttle, rule
from edge.values import Attempt, Candidate, Deny, Grant, Match, Observation, Probe, Reason

CONFIG = DecisionConfig()
MAX_AGE_S = 0.5


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=64).astype(np.float32)
    return vector / np.linalg.norm(vector)


def face(at: float, subject: str | None = "ada", distance: float = 0.4, *, other: float = 1.3, who: int = 0):
    """A compared face at `at`: nearest `subject` at `distance`, the next one at `other`."""
    best = None if subject is None else Candidate(subject, distance)
    match = Match(best, Candidate("bob" if subject != "bob" else "ada", other))
    return Observation(at, Probe(unit(who), "m", at), match)


def blurred(at: float) -> Observation:
    return Observation(at, refused=Reason.LOW_QUALITY)


def nobody(at: float) -> Observation:
    return Observation(at)


def run(observations, config: DecisionConfig = CONFIG, state: Deciding | None = None, lag: float = 0.02):
    """Feed observations; each is decided on `lag` s after it was taken."""
    decider = Decider(config, MAX_AGE_S)
    state = state or Deciding()
    attempts: list[Attempt] = []
    alarms = 0
    for seen in observations:
        step = decider.observe(state, seen, seen.taken_at + lag)
        state = step.state
        alarms += step.alarm
        if step.attempt:
            attempts.append(step.attempt)
    return attempts, state, alarms


def frames(count: int, start: float = 0.0, apart: float = 0.1) -> list[float]:
    return [round(start + i * apart, 3) for i in range(count)]


def test_two_agreeing_frames_of_three_grant_and_one_does_not():
    assert run([face(0.0)])[0] == []
    attempts = run([face(0.0), face(0.1, distance=0.9), face(0.2)])[0]
    assert [a.decision for a in attempts] == [Grant("ada", 0.4)]


def test_the_newest_frame_must_itself_agree():
    seen = [face(0.0), face(0.1, distance=0.9)]
    assert run(seen, replace_config(confirm=1))[0][0].decided_at == pytest.approx(0.02)
    assert run([face(0.0), nobody(0.1), face(0.2, distance=0.95)])[0] == []


def replace_config(**changes) -> DecisionConfig:
    import msgspec

    return msgspec.structs.replace(CONFIG, **changes)


def test_the_threshold_is_strict_and_never_above_the_ceiling():
    assert run([face(t, distance=0.7) for t in frames(5)])[0] == []
    lenient = replace_config(threshold=0.7)
    assert run([face(t, distance=0.6999) for t in frames(2)], lenient)[0][0].decision == Grant("ada", 0.6999)


def test_a_distance_that_is_not_a_number_never_grants():
    attempts = run([face(t, distance=float("nan")) for t in frames(40)])[0]
    assert {a.decision for a in attempts} == {Deny(Reason.NO_MATCH)}
    attempts = run([face(t, other=float("nan")) for t in frames(40)])[0]
    assert {a.decision for a in attempts} == {Deny(Reason.AMBIGUOUS)}


def test_frames_that_name_two_subjects_in_one_window_grant_nobody():
    seen = [
        face(0.0),
        face(0.1, "bob"),
        face(0.2),
        face(0.3, "bob"),
        face(0.4),
        *map(nobody, frames(15, 0.5)),
    ]
    attempts = run(seen)[0]
    assert [a.decision for a in attempts] == [Deny(Reason.AMBIGUOUS)]


def test_a_nearest_subject_without_the_margin_is_ambiguous():
    seen = [face(t, distance=0.6, other=0.69) for t in frames(31)]
    assert [a.decision for a in run(seen)[0]] == [Deny(Reason.AMBIGUOUS)]


def test_frames_older_than_the_limit_never_open_a_door():
    attempts = run([face(t) for t in frames(40)], lag=0.51)[0]
    assert {a.decision for a in attempts} == {Deny(Reason.STALE_FRAME)}


def test_a_frame_from_the_future_never_opens_a_door():
    attempts = run([face(t) for t in frames(40)], lag=-0.1)[0]
    assert {a.decision for a in attempts} == {Deny(Reason.STALE_FRAME)}


def test_the_same_frame_shown_again_does_not_confirm():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = Deciding()
    for _ in range(10):
        step = decider.observe(state, face(1.0), 1.05)
        state = step.state
        assert step.attempt is None


def test_confirming_frames_further_apart_than_the_window_do_not_grant():
    config = replace_config(confirm_window_s=0.3, attempt_s=3)
    assert run([face(0.0), blurred(0.2), face(0.4)], config)[0] == []


def test_an_attempt_ends_one_second_after_the_last_face_as_one_refusal():
    seen = [face(0.0, None), face(0.1, None), *map(nobody, frames(30, 0.2))]
    attempts = run(seen)[0]
    assert [(a.decision, a.frames) for a in attempts] == [(Deny(Reason.NO_MATCH), 2)]
    assert attempts[0].decided_at - 0.12 == pytest.approx(1.0, abs=0.11)


def test_an_attempt_ends_without_further_frames_when_time_passes():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = decider.observe(Deciding(), face(0.0, None), 0.02).state
    assert decider.tick(state, 0.9).attempt is None
    assert decider.tick(state, 1.1).attempt is not None


def test_a_stranger_who_stays_gives_one_event_in_ten_seconds_and_says_how_often_he_tried():
    attempts = run([face(t, None) for t in frames(200)])[0]
    assert [a.decision for a in attempts] == [Deny(Reason.NO_MATCH)] * 2
    assert attempts[1].decided_at - attempts[0].decided_at >= 10
    assert attempts[1].repeats >= 2


def test_two_different_strangers_are_two_events():
    seen = [face(t, None, who=1) for t in frames(3)] + [nobody(t) for t in frames(15, 0.3)]
    seen += [face(t, None, who=2) for t in frames(3, 2.0)] + [nobody(t) for t in frames(15, 2.3)]
    assert len(run(seen)[0]) == 2


def test_a_face_that_never_passes_the_gate_starts_no_attempt():
    assert run([blurred(t) for t in frames(100)])[0] == []


def test_a_person_who_stays_at_the_open_door_opens_it_once():
    attempts = run([face(t) for t in frames(300)])[0]
    assert [a.decision for a in attempts] == [Grant("ada", 0.4)]


def test_a_person_who_was_away_longer_than_the_cool_down_is_let_in_again():
    seen = (
        [face(t) for t in frames(5)]
        + [nobody(t) for t in frames(60, 0.5)]
        + [face(t) for t in frames(5, 6.6)]
    )
    assert [type(a.decision) for a in run(seen)[0]] == [Grant, Grant]


def test_another_subject_is_let_in_during_a_cool_down():
    seen = [face(t) for t in frames(3)] + [face(t, "bob") for t in frames(3, 0.3)]
    assert [a.decision.subject for a in run(seen)[0]] == ["ada", "bob"]


def test_a_stranger_beside_a_person_in_cool_down_is_an_attempt_and_counts():
    seen = [face(t) for t in frames(3)]
    for t in frames(60, 0.3):
        seen.append(face(t) if round(t * 10) % 10 == 0 else face(t, None, who=5))
    attempts, state, _ = run(seen)
    assert [type(a.decision) for a in attempts] == [Grant, Deny]
    assert len(state.throttle.refused_at) >= 1


def test_a_person_whom_the_door_did_not_let_in_may_try_again_at_once():
    decider = Decider(CONFIG, MAX_AGE_S)
    attempts, state, _ = run([face(t) for t in frames(3)])
    assert len(attempts) == 1
    state = decider.not_opened(state, "ada")
    assert [a.decision.subject for a in run([face(t) for t in frames(3, 0.4)], state=state)[0]] == ["ada"]


def test_a_refusal_that_is_nobodys_fault_does_not_raise_the_throttle():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = Deciding()
    for i in range(20):
        state = decider.observe(state, face(i * 2.0), i * 2.0 + 0.02).state
        state = decider.interrupt(state, Reason.CAMERA_FAULT, i * 2.0 + 0.1).state
    assert not state.throttle.raised(40.0, CONFIG)


def test_an_attempt_says_which_margin_was_asked_of_it():
    assert run([face(t) for t in frames(3)])[0][0].margin == 0.1
    raised = Deciding(throttle=Throttle(tuple(float(i) for i in range(10))))
    assert run([face(t) for t in frames(4, 20.0)], state=raised)[0][0].margin == 0.2


def test_a_person_who_turns_away_while_walking_through_is_not_a_stranger():
    seen = [face(t) for t in frames(3)] + [face(t, distance=0.85) for t in frames(10, 0.3)]
    seen += [nobody(t) for t in frames(20, 1.3)]
    assert [type(a.decision) for a in run(seen)[0]] == [Grant]


def test_ten_refused_attempts_raise_the_rule_once_and_it_falls_again():
    config = replace_config(throttle_attempts=10, throttle_window_s=300)
    seen = []
    for i in range(12):
        seen += [face(i * 3.0, None, who=i), nobody(i * 3.0 + 1.5)]
    _, state, alarms = run(seen, config)
    assert alarms == 1
    assert rule(state.throttle, 40.0, config).confirm == 3
    assert rule(state.throttle, 40.0, config).margin == pytest.approx(0.2)
    assert rule(state.throttle, 400.0, config).confirm == 2
    two_of_three = [face(40.0), face(40.1, distance=0.9), face(40.2)]
    assert run(two_of_three, config, state)[0] == []
    assert run([face(40.0), face(40.1), face(40.2)], config, state)[0][0].decision == Grant("ada", 0.4)


def test_a_camera_fault_ends_the_attempt_that_was_running():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = decider.observe(Deciding(), face(0.0), 0.02).state
    step = decider.interrupt(state, Reason.CAMERA_FAULT, 0.05)
    assert step.attempt is not None
    assert step.attempt.decision == Deny(Reason.CAMERA_FAULT)
    assert decider.observe(step.state, face(0.1), 0.12).attempt is None


def test_a_gallery_too_large_for_its_fmr_is_refused_until_somebody_accepts_it():
    assert fpir_refusal(6.7e-6, 140, CONFIG) is None
    assert "max_fpir" in (fpir_refusal(6.7e-6, 5000, CONFIG) or "")
    assert fpir_refusal(6.7e-6, 5000, replace_config(fpir_accepted_by="site security")) is None
    assert fpir_refusal(float("nan"), 1, CONFIG) is not None


observations = st.lists(
    st.tuples(
        st.sampled_from(["face", "blurred", "nobody"]),
        st.floats(0.01, 1.0),
        st.sampled_from(["ada", "bob", None]),
        st.one_of(st.floats(0, 2), st.just(float("nan"))),
        st.one_of(st.floats(0, 2), st.just(float("nan"))),
        st.integers(0, 3),
    ),
    max_size=40,
)


def build(rows):
    at, seen = 0.0, []
    for kind, gap, subject, distance, other, who in rows:
        at += gap
        if kind == "face":
            seen.append(face(at, subject, distance, other=other, who=who))
        else:
            seen.append(blurred(at) if kind == "blurred" else nobody(at))
    return seen


@settings(max_examples=300, deadline=None)
@given(observations, st.integers(1, 3))
def test_every_grant_has_enough_agreeing_fresh_frames_behind_it(rows, confirm):
    config = replace_config(confirm=confirm)
    seen = build(rows)
    attempts, _, _ = run(seen, config)
    for attempt in attempts:
        if isinstance(attempt.decision, Grant):
            window = [
                s
                for s in seen
                if s.match and 0 <= attempt.decided_at - s.taken_at <= config.confirm_window_s + 0.001
            ]
            agreeing = [
                s
                for s in window
                if s.match.best
                and s.match.best.subject == attempt.decision.subject
                and s.match.best.distance < 0.7
                and s.match.runner_up.distance - s.match.best.distance >= config.margin
            ]
            assert len(agreeing) >= confirm


@settings(max_examples=300, deadline=None)
@given(observations, st.floats(0.1, 0.7), st.floats(0, 0.5), st.integers(0, 1))
def test_stricter_settings_never_grant_a_sequence_that_looser_ones_refuse(rows, threshold, margin, more):
    # one attempt at a time: the first grant of the strict run must be found by the loose run no later
    loose = replace_config(cooldown_s=0, throttle_attempts=1000)
    strict = replace_config(
        cooldown_s=0, throttle_attempts=1000, threshold=threshold, margin=0.1 + margin, confirm=2 + more
    )
    seen = [s for s in build(rows) if s.probe is not None and s.match.best and s.match.best.subject == "ada"]
    first = [
        next((a.decided_at for a in run(seen, c)[0] if isinstance(a.decision, Grant)), None)
        for c in (strict, loose)
    ]
    if first[0] is not None:
        assert first[1] is not None
        assert first[1] <= first[0]


def test_the_throttle_remembers_no_more_than_it_needs():
    throttle = Throttle()
    for t in range(10_000):
        throttle = throttle.refused(float(t), CONFIG)
    assert len(throttle.refused_at) <= CONFIG.throttle_attempts


def test_the_memory_of_unknown_people_is_bounded():
    state = Deciding()
    for i in range(50):
        _, state, _ = run([face(i * 2.0, None, who=i), nobody(i * 2.0 + 1.2)], state=state)
    assert len(state.unknown) == 16
    assert replace(state, running=None).running is None


def test_who_has_no_right_is_told_once_in_a_while_and_let_in_when_the_hour_strikes():
    decider, state = Decider(CONFIG, MAX_AGE_S), Deciding()
    granted = []
    for t in frames(160):
        step = decider.observe(state, face(t), t + 0.02)
        state = step.state
        if step.attempt:
            granted.append(t)
            state = decider.barred(state, "ada", t + 0.02)
    assert len(granted) == 2
    assert granted[1] - granted[0] == pytest.approx(CONFIG.repeat_s, abs=0.3)


def test_a_poor_frame_of_who_has_no_right_is_no_stranger():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = decider.barred(Deciding(), "ada", 0.0)
    _, state, _ = run([face(t, distance=0.85) for t in frames(20, 0.1)], state=state)
    assert state.running is None


def test_who_was_let_in_by_card_starts_no_attempt_by_face():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = decider.admitted(Deciding(), "ada", 0.0)
    assert run([face(t) for t in frames(40, 0.1)], state=state)[0] == []


def test_an_attempt_that_a_card_takes_over_is_no_refusal():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = decider.observe(Deciding(), face(0.0, None), 0.02).state
    state = decider.set_aside(state)
    assert decider.tick(state, 9.0) == Step(state)


def test_refused_claims_count_at_the_door_and_raise_one_alarm():
    decider, state = Decider(CONFIG, MAX_AGE_S), Deciding()
    alarms = []
    for i in range(12):
        step = decider.count_refusal(state, Reason.FACE_NOT_CARDS, float(i))
        state = step.state
        alarms.append(step.alarm)
    assert alarms == [False] * 9 + [True] + [False] * 2
    assert state.throttle.raised(12.0, CONFIG)
    assert decider.rule(state, 12.0).confirm == 3


def test_a_fault_while_nobody_is_there_is_no_attempt():
    decider = Decider(CONFIG, MAX_AGE_S)
    assert decider.interrupt(Deciding(), Reason.CAMERA_FAULT, 1.0) == Step(Deciding())


def test_an_attempt_without_a_vector_resembles_nobody():
    decider = Decider(CONFIG, MAX_AGE_S)
    state = Deciding(running=Running(0.0, 0.0, Observation(0.0)))
    step = decider.interrupt(state, Reason.CAMERA_FAULT, 1.0)
    assert step.attempt is not None
    assert step.state.unknown == ()
