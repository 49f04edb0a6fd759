"""What a door keeps of a decision for itself comes back as it was, or is refused."""

from __future__ import annotations

import pytest

from edge.errors import PayloadError
from edge.link.details import Details, Near, decode_details, details_of, encode_details
from edge.link.wire import Setting, Stamp, attempt_event
from edge.values import Attempt, Candidate, Deny, Match, Observation, Reason, Votes

STAMP = Stamp.of(1_700_000_000, bytes(10))
SETTING = Setting(0.7, "facenet", 3, simulation=True)


def details(best: float) -> Details:
    match = Match(Candidate("ada", best), Candidate("kian", 1.2))
    last = Observation(9.9, match=match, stages_ms={"embed": 3.0})
    attempt = Attempt(Deny(Reason.NO_MATCH), 9.0, 10.0, 4, last, 0.1, votes=Votes(1, 2, 3))
    return details_of(attempt, attempt_event(attempt, STAMP, SETTING), "not asked")


def test_details_come_back_as_they_were():
    told = details(0.83)
    assert decode_details(encode_details(told)) == told
    assert (told.best, told.runner_up) == (Near("ada", 0.83), Near("kian", 1.2))
    assert (told.agreeing, told.needed, told.of, told.frame_age_ms) == (1, 2, 3, 100.0)


def test_a_distance_that_is_no_number_is_near_nobody():
    assert details(float("nan")).best is None


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100, b" " * 9000, b'{"best":1}'])
def test_anything_else_is_refused(data):
    with pytest.raises(PayloadError, match=r"^details: "):
        decode_details(data)
