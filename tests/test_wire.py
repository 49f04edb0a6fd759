"""The wire contract: what a collector may rely on."""

from __future__ import annotations

import hashlib
import json
import math
import uuid

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import PayloadError
from edge.link import wire
from edge.link.stamp import rfc3339, uuid7
from edge.link.wire import GENESIS, Denied, Granted, Notice, Setting, Stamp, State, Status, Topics
from edge.values import (
    Alarm,
    Attempt,
    Candidate,
    Deny,
    DoorMode,
    Grant,
    Liveness,
    Match,
    Observation,
    Probe,
    Quality,
    Reason,
)

SETTING = Setting(threshold=0.7, model="facenet", gallery=3, simulation=True)
STAMP = Stamp.of(1_700_000_000.1239, bytes(range(10)))
QUALITY = Quality(52.25, 120.0, 110.0, 40.0, 0.04, math.nan)


def attempt(decision: Grant | Deny) -> Attempt:
    """What was decided, with all that vision knew: a nearest subject as well."""
    probe = Probe(np.ones(4, np.float32) / 2, "facenet", 10.0, QUALITY)
    match = Match(Candidate("nobody-must-know", 0.7123), Candidate("nor-this-one", 0.8))
    last = Observation(10.0, probe, match, stages_ms={"detect": 2.5, "embed": 9.125})
    pad = {"texture": 0.9312}
    return Attempt(decision, 9.2, 10.0425, 3, last, 0.1, 2, liveness=Liveness.LIVE, pad=pad)


def granted() -> Granted:
    return wire.attempt_event(attempt(Grant("ada", 0.5678)), STAMP, SETTING)


def denied(reason: Reason = Reason.NO_MATCH) -> Denied:
    return wire.attempt_event(attempt(Deny(reason)), STAMP, SETTING)


def a_notice(detail: str = "camera: stalled") -> Notice:
    return wire.notice("CameraFault", detail, STAMP, SETTING)


def bytes_of(event: wire.Event) -> bytes:
    return wire.number(event, GENESIS)[0]


def test_topics_are_below_the_site_and_the_door():
    topics = Topics("berlin", "front-1")
    assert topics.status == "doord/berlin/door/front-1/status"
    assert topics.state == "doord/berlin/door/front-1/state"
    assert topics.event == "doord/berlin/door/front-1/event"


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "Berlin", "a" * 33, "a\n"])
def test_no_id_can_be_a_wildcard_or_a_level(name):
    with pytest.raises(PayloadError, match="topic"):
        Topics("berlin", name)
    with pytest.raises(PayloadError, match="topic"):
        Topics(name, "front")


def test_a_grant_names_who_and_how_near():
    assert json.loads(bytes_of(granted())) == {
        "id": STAMP.id,
        "seq": 1,
        "prev": "0" * 64,
        "at": "2023-11-14T22:13:20.123Z",
        "model": "facenet",
        "gallery": 3,
        "simulation": True,
        "threshold": 0.7,
        "margin": 0.1,
        "quality": {
            "eye_distance_px": 52.25,
            "sharpness": 120.0,
            "exposure": 110.0,
            "contrast": 40.0,
            "yaw": 0.04,
            "pitch": None,
        },
        "pad": {"texture": 0.931},
        "stages_ms": {"detect": 2.5, "embed": 9.125},
        "frame_age_ms": 42.5,
        "frames": 3,
        "repeats": 2,
        "kind": "AccessGranted",
        "subject": "ada",
        "distance": 0.57,
    }


@pytest.mark.parametrize("reason", list(Reason))
def test_a_denial_names_nobody_and_no_distance(reason):
    payload = bytes_of(denied(reason))
    told = json.loads(payload)
    assert told["reason"] == reason.value
    assert set(told) == set(json.loads(bytes_of(granted()))) - {"subject", "distance"} | {"reason"}
    for secret in (b"nobody-must-know", b"nor-this-one", b"712", b"0.71"):
        assert secret not in payload


def test_a_denial_has_no_place_for_a_subject():
    for field in ("subject", "distance"):
        assert field not in Denied.__struct_fields__
        told = json.loads(bytes_of(denied()))
        told[field] = "ada"
        with pytest.raises(PayloadError, match=field):
            wire.decode_event(json.dumps(told).encode())


def test_an_attempt_without_a_compared_frame_is_an_event_too():
    bare = Attempt(Deny(Reason.LOW_QUALITY), 1.0, 2.0, 4, Observation(1.5, refused=Reason.LOW_QUALITY), 0.1)
    event = wire.decode_event(bytes_of(wire.attempt_event(bare, STAMP, SETTING)))
    assert isinstance(event, Denied)
    assert (event.quality, event.pad, event.frame_age_ms) == (None, None, 500.0)


@pytest.mark.parametrize("make", [granted, denied, a_notice])
def test_what_is_encoded_is_decoded(make):
    event = make()
    payload, head = wire.number(event, GENESIS)
    assert wire.decode_event(payload) == msgspec.structs.replace(event, seq=1, prev="0" * 64)
    assert head.prev == hashlib.sha256(payload).hexdigest()


def test_an_event_without_a_number_is_refused():
    with pytest.raises(PayloadError, match="seq"):
        wire.decode_event(wire.encode(granted()))


def test_the_chain_is_followed():
    head = seen = GENESIS
    for make in (granted, denied, a_notice, denied):
        payload, head = wire.number(make(), head)
        event, seen = wire.follow(payload, seen)
        assert event.seq == seen.seq == head.seq
    assert seen == head


def test_a_missing_an_altered_and_a_repeated_event_show():
    first, one = wire.number(granted(), GENESIS)
    second, two = wire.number(denied(), one)
    third, _ = wire.number(denied(), two)
    with pytest.raises(PayloadError, match=r"expected number 2 .* got 3"):
        wire.follow(third, one)
    with pytest.raises(PayloadError, match=r"expected number 2 .* got 1"):
        wire.follow(first, one)
    altered = wire.follow(first.replace(b'"ada"', b'"bob"'), GENESIS)[1]
    with pytest.raises(PayloadError, match=r"expected number 2"):
        wire.follow(second, altered)


def test_a_chain_head_comes_back_from_its_bytes():
    head = wire.number(granted(), GENESIS)[1]
    assert wire.decode_head(wire.encode(head)) == head


def test_status_and_state_come_back_from_their_bytes():
    at = "2026-01-31T12:00:00.000Z"
    status = Status("online", at, at, False, ["camera: stalled"], "0.1.0", 3, "cpu", True)
    state = State(
        DoorMode.ACCESSED, "unlocked", None, 3, None, at, Reason.NO_MATCH, "open", [Alarm.DOOR_FORCED_OPEN]
    )
    assert wire.decode_status(wire.encode(status)) == status
    assert wire.decode_state(wire.encode(state)) == state
    assert json.loads(wire.encode(state))["mode"] == "Accessed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at", "2023-11-14 22:13:20"),
        ("at", "2023-11-14T22:13:20.123+01:00"),
        ("seq", 0),
        ("seq", "1"),
        ("prev", "0" * 63),
        ("id", str(uuid.UUID(int=5, version=4))),
        ("kind", "AccessMaybe"),
        ("subject", "Ada Lovelace"),
        ("subject", "ada\n"),
        ("distance", "near"),
        ("more", 1),
    ],
)
def test_an_event_that_is_not_the_contracts_is_refused(field, value):
    told = json.loads(bytes_of(granted())) | {field: value}
    with pytest.raises(PayloadError):
        wire.decode_event(json.dumps(told).encode())


@given(st.binary(max_size=300))
def test_no_bytes_get_past_the_decoders_but_as_a_payload_error(junk):
    for decode in (wire.decode_event, wire.decode_status, wire.decode_state, wire.decode_head):
        with pytest.raises(PayloadError):
            decode(junk)


@pytest.mark.parametrize("junk", [b"[" * 8000, b'{"kind":' * 1000, b" " * 8193, b'"\xff"', b"\xed\xa0\x80"])
def test_deep_long_and_broken_bytes_are_refused(junk):
    with pytest.raises(PayloadError):
        wire.decode_event(junk)


def test_nothing_above_the_limit_is_sent():
    large = msgspec.structs.replace(granted(), stages_ms={f"stage {i}": 1.0 for i in range(1000)})
    with pytest.raises(PayloadError, match="at most 8192 bytes, got"):
        wire.number(large, GENESIS)


def test_long_words_are_cut_to_fit():
    assert len(bytes_of(a_notice("x" * 10_000))) < wire.MAX_BYTES
    at = "2026-01-31T12:00:00.000Z"
    status = Status("online", at, at, False, ["x" * 10_000] * 100, "0.1.0", 3, "cpu", True)
    assert len(wire.decode_status(wire.encode(status)).why_not) == 10
    wire.encode(State(DoorMode.BLOCKED, "unknown", "x" * 10_000, 3, None, at, None, "unknown", []))


def test_ids_are_uuids_of_version_7_as_in_rfc_9562():
    """The example of its appendix A.6."""
    random = ((0xCC3 << 64) | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert uuid7(0x017F22E279B0, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_every_id_is_a_uuid_whose_first_48_bits_are_its_time(unix_ms, random):
    made = uuid.UUID(uuid7(unix_ms, random))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == unix_ms


def test_times_are_utc_with_milliseconds():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"


def test_a_status_full_of_long_words_in_any_script_still_fits():
    status = Status("online", None, None, False, ["\u9580" * 3000] * 20, "0.1.0", 1, "cpu", True)
    assert len(wire.encode(status)) <= wire.MAX_BYTES
