"""One event in plain words."""

from __future__ import annotations

import pytest
from collecting import SETTING

from edge.link import wire
from edge.link.details import Details, Near
from edge.values import Reason
from edge.why import explain

STAMP = wire.Stamp.of(1_790_000_000.0, bytes(10))
COMMON = {
    "id": STAMP.id,
    "seq": 7,
    "prev": "a" * 64,
    "at": STAMP.at,
    "model": "facenet-512",
    "gallery": 3,
    "simulation": False,
    "threshold": 0.7,
    "margin": 0.1,
    "quality": None,
    "pad": None,
    "stages_ms": {},
    "frame_age_ms": 80.4,
    "frames": 3,
    "repeats": 0,
}
QUALITY = wire.Measured(62.0, 140.5, 120.0, None, 0.1, 0.6)


def denied(reason: Reason = Reason.NO_MATCH, **changes: object) -> wire.Denied:
    return wire.Denied(**{**COMMON, **changes}, kind="AccessDenied", reason=reason)


def details(**changes: object) -> Details:
    fields = {
        "best": Near("ada", 0.83),
        "runner_up": Near("bob", 1.1),
        "threshold": 0.7,
        "margin": 0.1,
        "agreeing": 0,
        "needed": 2,
        "of": 3,
        "right": "not asked",
        "quality": QUALITY,
        "gallery": 3,
        "model": "facenet-512",
        "frames": 3,
        "stages_ms": {"detect": 4.21, "embed": 2.0},
        "frame_age_ms": 80.4,
    }
    return Details(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_denial_on_the_door_tells_all_that_was_decided():
    assert explain(denied(), details()) == [
        f"{STAMP.at}  event 7, {STAMP.id}",
        "refused, NoMatch: nobody who is enrolled was near enough",
        "frames 3, decided 80 ms after the last was taken",
        "nearest: ada at 0.83, less than 0.70 is needed: too far",
        "next: bob at 1.10, 0.27 farther, 0.10 is needed: clear",
        "votes: 0 of 3 frames agreed, 2 are needed",
        "rights: not asked: it did not come so far",
        "quality: eye_distance_px 62, sharpness 140.5, exposure 120, yaw 0.1, pitch 0.6",
        "ms: detect 4.2, embed 2.0",
        "gallery 3, model facenet-512",
    ]


def test_a_denial_elsewhere_names_nobody_and_no_distance():
    told = "\n".join(explain(denied(), None))
    assert "the rest stays on the door" in told
    assert "ada" not in told
    assert "0.83" not in told


def test_exactly_at_the_threshold_is_too_far():
    assert any("too far" in line for line in explain(denied(), details(best=Near("ada", 0.7))))


def test_two_people_too_close_to_tell_apart():
    told = explain(denied(Reason.AMBIGUOUS), details(best=Near("ada", 0.5), runner_up=Near("bob", 0.55)))
    assert "next: bob at 0.55, 0.05 farther, 0.10 is needed: too close to tell them apart" in told


def test_a_figure_that_rounds_to_the_threshold_still_says_which_side_it_was_on():
    told = explain(denied(), details(best=Near("ada", 0.7003)))
    assert "nearest: ada at 0.7003, less than 0.7000 is needed: too far" in told


def test_nobody_compared_and_nobody_else_enrolled():
    assert "nothing was compared" in explain(denied(Reason.LOW_QUALITY), details(best=None, runner_up=None))
    assert "next: nobody else is enrolled" in explain(denied(), details(runner_up=None))


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_plain_words(reason):
    told = explain(denied(reason))[1]
    assert told.startswith(f"refused, {reason.value}: ")
    assert len(told) > len(f"refused, {reason.value}: ") + 10


def test_a_grant_by_face_and_by_card():
    grant = wire.Granted(**COMMON, kind="AccessGranted", subject="ada", distance=0.41)
    assert explain(grant, details(best=Near("ada", 0.4123), right="permitted"))[1] == (
        "granted: ada, 0.41 away where less than 0.70 was needed"
    )
    card = wire.Granted(**COMMON, kind="AccessGranted", subject="ada", distance=None)
    assert explain(card)[1] == "granted: ada, by card"


def test_other_events_are_told_as_they_are():
    notice = wire.notice("DoorForcedOpen", "opened\x1b while locked", STAMP, SETTING)
    assert explain(notice)[1] == "DoorForcedOpen: opened? while locked"
    dropped = wire.dropped(wire.Gap(3, 9, 7, "older than 90 days"), STAMP, SETTING)
    assert explain(dropped)[1] == "EventsDropped: 7, 3 to 9: older than 90 days"
    lost = wire.dropped(wire.Gap(None, None, 2, "disk full"), STAMP, SETTING)
    assert explain(lost)[1] == "EventsDropped: 2, without numbers: disk full"
