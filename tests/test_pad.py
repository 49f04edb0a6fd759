"""Presentation-attack detection's part in a decision. Pure: scores are numbers here."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_claim import NEED
from test_claim import face as claimed_face
from test_decide import CONFIG, face, unit

from edge.config import DecisionConfig
from edge.identity.claim import Claim, Verifier
from edge.identity.decide import Decider, Deciding, Step
from edge.identity.pad import Judged, Limit, PadRule, judge, mean, passes
from edge.values import Deny, Grant, Liveness, Observation, Probe, Reason

TEXTURE = Limit(live=2.0, unsure=0.0)
ENFORCE = PadRule(3, {"texture": TEXTURE}, frozenset({Liveness.LIVE}))
STEPPED_UP = PadRule(3, {"texture": TEXTURE}, frozenset({Liveness.LIVE, Liveness.UNSURE}), unjudged=True)
NO_LAYER = PadRule(3, {}, frozenset({Liveness.LIVE}))
NAN = float("nan")


def scored(seen: Observation, *, texture: float | None, **others: float) -> Observation:
    pad = None if texture is None else {"texture": texture, **others}
    return replace(seen, probe=replace(seen.probe or Probe(unit(0), "m", 0), pad=pad))


def attempt(*textures: float | None, rule: PadRule | None = ENFORCE, **more: float) -> list[Step]:
    """Ada's face every 100 ms with these scores, then nobody for two seconds: every step."""
    decider, state, steps = Decider(CONFIG, 0.5), Deciding(), []
    for i, texture in enumerate(textures):
        at = 0.1 * (i + 1)
        steps.append(decider.observe(state, scored(face(at), texture=texture, **more), at, rule))
        state = steps[-1].state
    for i in range(20):
        at = 0.1 * (len(textures) + 1 + i)
        steps.append(decider.observe(state, Observation(at), at, rule))
        state = steps[-1].state
    return steps


def outcome(*textures: float | None, rule: PadRule | None = ENFORCE, **more: float):
    """What the first attempt ended in."""
    ended = [step.attempt for step in attempt(*textures, rule=rule, **more) if step.attempt]
    return ended[0] if ended else None


def test_a_face_that_is_alive_is_granted_with_its_third_scored_frame_and_no_earlier():
    steps = attempt(3.0, 3.0, 3.0, 3.0)
    assert [step.attempt is not None for step in steps[:4]] == [False, False, True, False]
    granted = steps[2].attempt
    assert granted is not None
    assert (granted.decision, granted.liveness, granted.pad) == (
        Grant("ada", 0.4),
        Liveness.LIVE,
        {"texture": 3.0},
    )


def test_without_a_rule_two_frames_open_as_before_and_the_scores_are_told():
    granted = outcome(-9.0, -9.0, rule=None)
    assert granted is not None
    assert (granted.decision, granted.liveness, granted.pad) == (Grant("ada", 0.4), None, {"texture": -9.0})


@pytest.mark.parametrize("scores", [(-5.0,) * 3, (1.0,) * 3, (9.0, -9.0, 0.0)])
def test_a_mean_below_the_limit_is_an_attack_suspected(scores):
    refused = outcome(*scores)
    assert refused is not None
    assert refused.decision == Deny(Reason.ATTACK_SUSPECTED)


def test_the_limits_themselves_belong_to_the_better_side():
    assert (TEXTURE.judge(2.0), TEXTURE.judge(math.nextafter(2.0, 0))) == (Liveness.LIVE, Liveness.UNSURE)
    assert (TEXTURE.judge(0.0), TEXTURE.judge(-1e-9)) == (Liveness.UNSURE, Liveness.ATTACK)


def test_a_score_that_is_no_number_is_an_attack_to_a_limit():
    assert TEXTURE.judge(NAN) is Liveness.ATTACK


def test_a_score_without_bound_is_an_attack_and_so_is_one_below_a_limit_that_stands_above_the_other():
    assert Limit(2.0, 0.0).judge(float("inf")) is Liveness.ATTACK
    assert judge([{"texture": 1.7e308}] * 3, ENFORCE) == Judged(Liveness.ATTACK, {"texture": float("inf")})
    assert Limit(live=2.0, unsure=5.0).judge(3.0) is Liveness.ATTACK


def test_frames_without_a_score_are_waited_out():
    granted = outcome(NAN, None, 3.0, NAN, 3.0, 3.0)
    assert granted is not None
    assert (granted.decision, granted.frames) == (Grant("ada", 0.4), 6)


@pytest.mark.parametrize("texture", [NAN, float("inf"), None])
def test_a_face_that_never_gets_a_score_is_refused_for_its_quality(texture):
    refused = outcome(*[texture] * 20)
    assert refused is not None
    assert (refused.decision, refused.liveness) == (Deny(Reason.LOW_QUALITY), None)


def test_without_any_layer_a_face_alone_opens_nothing():
    refused = outcome(3.0, 3.0, 3.0, rule=NO_LAYER)
    assert refused is not None
    assert refused.decision == Deny(Reason.OTHER)


def test_the_layer_that_thinks_worst_of_a_face_decides():
    both = replace(ENFORCE, limits={"texture": TEXTURE, "stillness": Limit(0.5, 0.5)})
    refused = outcome(3.0, 3.0, 3.0, rule=both, stillness=0.1)
    assert refused is not None
    assert (refused.decision, refused.pad) == (
        Deny(Reason.ATTACK_SUSPECTED),
        {"stillness": pytest.approx(0.1), "texture": 3.0},
    )


def test_a_layer_that_looks_back_is_judged_by_what_it_says_with_the_last_frame_that_counts():
    rule = replace(ENFORCE, limits={"texture": TEXTURE, "still": Limit(0.5, 0.5, newest=True)})
    frames = [{"texture": 3.0, "still": still} for still in (NAN, 9.0, 0.1, 9.0)]
    judged = judge(frames, rule)
    assert judged == Judged(Liveness.ATTACK, {"still": 0.1, "texture": 3.0})


def test_a_layer_that_looks_back_and_has_no_verdict_yet_is_waited_for():
    rule = replace(ENFORCE, limits={"texture": TEXTURE, "still": Limit(0.5, 0.5, newest=True)})
    frames = [{"texture": 3.0, "still": still} for still in (9.0, 9.0, NAN, NAN)]
    assert judge(frames, rule) is None
    assert judge([*frames, {"texture": -9.0, "still": 0.6}], rule) == Judged(
        Liveness.LIVE, {"still": 0.6, "texture": 3.0}
    )


def test_a_layer_without_a_limit_is_only_told():
    granted = outcome(3.0, 3.0, 3.0, stillness=-99.0)
    assert granted is not None
    assert (granted.decision, granted.pad["stillness"]) == (Grant("ada", 0.4), -99.0)


def test_an_attempt_is_judged_once_by_its_first_frames_however_good_later_ones_are():
    refused = outcome(-1.0, -1.0, -1.0, 9.0, 9.0, 9.0)
    assert refused is not None
    assert (refused.decision, refused.frames) == (Deny(Reason.ATTACK_SUSPECTED), 3)


def test_scores_of_another_face_do_not_make_this_one_alive():
    decider, state = Decider(CONFIG, 0.5), Deciding()
    for i in range(3):  # bob is alive, but far from anybody's template
        at = 0.1 * (i + 1)
        state = decider.observe(state, scored(face(at, "bob", 0.9), texture=9.0), at, ENFORCE).state
    steps = []
    for i in range(3):
        at = 0.4 + 0.1 * i
        steps.append(decider.observe(state, scored(face(at), texture=-9.0), at, ENFORCE))
        state = steps[-1].state
    decisions = [step.attempt.decision for step in steps if step.attempt]
    assert decisions == [Deny(Reason.ATTACK_SUSPECTED)]


def test_an_attack_names_its_suspect_to_the_door_also_when_its_event_is_folded():
    decider, state, suspects, events = Decider(CONFIG, 0.5, alarm_after=99), Deciding(), [], 0
    for i in range(30):
        at = 0.1 * (i + 1)
        step = decider.observe(state, scored(face(at), texture=-9.0), at, ENFORCE)
        state, events = step.state, events + (step.attempt is not None)
        suspects += [step.suspect] if step.suspect else []
    assert (suspects, events) == (["ada"] * 10, 1)


def test_an_attack_is_not_folded_into_an_event_that_says_less():
    decider, state, told = Decider(CONFIG, 0.5), Deciding(), []
    for i in range(60):  # three seconds in which no frame gets a score, then it is held still
        at = 0.1 * (i + 1)
        step = decider.observe(state, scored(face(at), texture=NAN if i < 31 else -9.0), at, ENFORCE)
        state = step.state
        told += [(step.attempt.decision, step.attempt.repeats)] if step.attempt else []
    assert told == [(Deny(Reason.LOW_QUALITY), 0), (Deny(Reason.ATTACK_SUSPECTED), 0)]


STEP_UP = replace(ENFORCE, asks_card=True)


def test_who_was_asked_for_a_card_gets_no_luckiest_of_many_tries_by_face_alone():
    decider, state, asked, granted = Decider(CONFIG, 0.5), Deciding(), [], []
    for i in range(290):  # a picture that is unsure at first, and afterwards alive in many a window
        at = 0.1 * (i + 1)
        texture = 3.0 if 1 < at % 10.3 < 9 else 1.0
        step = decider.observe(state, scored(face(at), texture=texture), at, STEP_UP)
        state = step.state
        granted += [at] if step.attempt and isinstance(step.attempt.decision, Grant) else []
        asked += [(round(at, 1), step.suspect)] if step.asks_card else []
    assert granted == []
    assert [who for _, who in asked] == ["ada"] * 3
    assert np.diff([at for at, _ in asked]) == pytest.approx([CONFIG.repeat_s + 0.3] * 2, abs=0.11)


def test_who_was_asked_for_a_card_and_entered_with_it_begins_no_attempt_at_the_open_door():
    decider, state = Decider(CONFIG, 0.5), Deciding()
    for i in range(3):
        state = decider.observe(state, scored(face(0.1 * i), texture=1.0), 0.1 * i, STEP_UP).state
    state, steps = decider.admitted(state, "ada", 1.0), []
    for i in range(150):
        at = 1.1 + 0.1 * i
        steps.append(decider.observe(state, scored(face(at), texture=9.0), at, STEP_UP))
        state = steps[-1].state
    assert [step.attempt for step in steps if step.attempt] == []


def test_every_third_suspected_attack_is_an_alarm():
    decider, state, alarms = Decider(CONFIG, 0.5, alarm_after=3), Deciding(), []
    for i in range(7):
        counted = decider.count_refusal(state, Reason.ATTACK_SUSPECTED, float(i))
        state = counted.state
        alarms.append(counted.attack_alarm)
    assert alarms == [False, False, True, False, False, True, False]


def test_attacks_a_window_apart_are_no_alarm():
    decider, state, alarms = Decider(DecisionConfig(throttle_window_s=10), 0.5, alarm_after=2), Deciding(), []
    for now in (0.0, 10.0, 20.0, 25.0):
        counted = decider.count_refusal(state, Reason.ATTACK_SUSPECTED, now)
        state = counted.state
        alarms.append(counted.attack_alarm)
    assert alarms == [False, False, False, True]


def claim(*textures: float | None, rule: PadRule | None):
    verifier, going = Verifier(CONFIG, 0.5, 10.0), Claim("kian", 0.0)
    for i, texture in enumerate(textures):
        at = 0.1 * (i + 1)
        step = verifier.observe(going, scored(claimed_face(at), texture=texture), NEED, at, rule)
        if step.claim is None:
            return step.attempt
        going = step.claim
    return None


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((3.0,) * 3, Grant("kian", 0.4)),
        ((1.0,) * 3, Grant("kian", 0.4)),
        ((-1.0,) * 3, Deny(Reason.ATTACK_SUSPECTED)),
    ],
)
def test_with_a_card_a_middling_face_is_enough_and_an_attack_is_not(scores, expected):
    ended = claim(*scores, rule=STEPPED_UP)
    assert ended is not None
    assert ended.decision == expected


def test_with_a_card_the_door_works_while_no_layer_can_judge():
    ended = claim(None, None, rule=replace(STEPPED_UP, limits={}))
    assert ended is not None
    assert (ended.decision, ended.liveness) == (Grant("kian", 0.4), None)


def test_a_card_does_not_help_a_face_that_gets_no_score_while_a_layer_works():
    ended = claim(*[NAN] * 40, rule=STEPPED_UP)
    assert ended is not None
    assert ended.decision == Deny(Reason.LOW_QUALITY)


@given(st.lists(st.floats() | st.none(), max_size=12))
def test_only_a_mean_at_the_limit_ever_passes(textures):
    frames = [{} if score is None else {"texture": score} for score in textures]
    judged = judge(frames, ENFORCE)
    finite = [score for score in textures if score is not None and math.isfinite(score)][:3]
    if len(finite) < 3:
        assert judged is None
    else:
        assert judged is not None
        assert passes(judged, ENFORCE) == (sum(finite) / 3 >= 2.0)


def test_no_layer_at_all_is_not_judged_and_passes_only_where_it_may():
    assert judge([], NO_LAYER) == Judged(None, {})
    assert not passes(Judged(None, {}), NO_LAYER)
    assert passes(Judged(None, {}), replace(NO_LAYER, unjudged=True))


def test_a_layer_that_never_scored_has_no_mean():
    assert mean([{"a": 1.0, "b": NAN}, {"a": 3.0}]) == {"a": 2.0}
