"""The lock in Home Assistant: what it is told, what it sends, and which presses count."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from signing import NOW, an_attestation, in_s

from edge.admin import lock_entity
from edge.admin.lock_entity import Last, Press, announce, decode_press, newer, refusal, shown
from edge.errors import PayloadError
from edge.link import orders, wire
from edge.link.discovery import announce as announce_door

BEFORE = NOW - timedelta(hours=1)


@pytest.fixture(scope="module")
def told() -> dict:
    return json.loads(announce("hq", "front", "0.1.0").payload)


def rendered(template: str, **values: object) -> str:
    return ImmutableSandboxedEnvironment().from_string(template).render(**values)


@pytest.mark.parametrize("do", ["lock", "unlock"])
def test_what_home_assistant_sends_is_a_press_of_now(told, do):
    payload = rendered(told["command_template"], value=told[f"payload_{do}"], utcnow=lambda: NOW)
    press = decode_press(payload.encode())
    assert press == Press(do, NOW)
    assert refusal(press, BEFORE, NOW) is None


def test_the_lock_belongs_to_the_device_that_the_door_announces(told):
    door = json.loads(announce_door(wire.Topics("hq", "front"), "0.1.0", 60).payload)
    assert told["device"]["identifiers"] == door["device"]["identifiers"]
    assert told["unique_id"] not in {c["unique_id"] for c in door["components"].values()}


def test_no_command_is_ever_retained_and_no_state_is_guessed(told):
    assert (told["retain"], told["optimistic"]) == (False, False)
    assert told["command_topic"] == "doord/hq/bridge/front/set"


def state(lock: str, **changes: object) -> orders.Attestation:
    said = an_attestation(**changes)
    return type(said)(**{**_fields(said), "state": type(said.state)(**{**_fields(said.state), "lock": lock})})


def _fields(struct) -> dict:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


@pytest.mark.parametrize(
    ("said", "value", "available"),
    [
        (state("locked"), "LOCKED", "online"),
        (state("unlocked"), "UNLOCKED", "online"),
        (state("unknown"), "JAMMED", "online"),
        (state("unlocked", at=in_s(-179)), "UNLOCKED", "online"),
        (state("locked", at=in_s(-181)), "None", "offline"),
        (state("locked", at=in_s(181)), "None", "offline"),
        (None, "None", "offline"),
    ],
)
def test_the_state_is_the_doors_signed_word_of_the_last_three_minutes(told, said, value, available):
    message = json.loads(shown(said, None, NOW))
    assert rendered(told["value_template"], value_json=message) == value
    (template,) = [a["value_template"] for a in told["availability"] if "value_template" in a]
    assert rendered(template, value_json=message) == available
    assert value in {"LOCKED", "UNLOCKED", told["state_jammed"], "None"}


def test_what_became_of_the_last_press_is_shown():
    assert json.loads(shown(None, Last("unlock", "refused", "too old"), NOW))["last"] == {
        "do": "unlock",
        "outcome": "refused",
        "detail": "too old",
    }


@pytest.mark.parametrize(
    ("age_s", "why"),
    [
        (0, None),
        (10, None),
        (10.1, "expected one of the last 10 s, got one of 10 s ago"),
        (86400, "got one of 86400 s ago"),
        (-10, None),
        (-10.1, "expected a clock at most 10 s ahead, got one 10 s ahead"),
    ],
)
def test_only_a_press_of_now_counts(age_s, why):
    found = refusal(Press("unlock", NOW - timedelta(seconds=age_s)), BEFORE, NOW)
    assert found is None if why is None else why in found


@pytest.mark.parametrize("since_s", [0, 1])
def test_a_press_counts_once_and_none_from_before_the_bridge(since_s):
    press = Press("unlock", NOW)
    assert "it came before" in refusal(press, NOW + timedelta(seconds=since_s), NOW)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"UNLOCK",
        b"{}",
        b'{"do":"unlock"}',
        b'{"do":"open","at":"2026-11-22T12:00:00+00:00"}',
        b'{"do":"unlock","at":"2026-11-22T12:00:00"}',
        b'{"do":"unlock","at":"noon"}',
        b'{"do":"unlock","at":"2026-11-22T12:00:00Z","until":"later"}',
        b'{"do":"unlock","at":"' + b"9" * 2000 + b'"}',
    ],
)
def test_anything_else_is_no_press(payload):
    with pytest.raises(PayloadError):
        decode_press(payload)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_bridge(payload):
    with contextlib.suppress(PayloadError):
        assert isinstance(decode_press(payload), Press)


@pytest.mark.parametrize(
    ("after", "counts"),
    [
        ({"at": in_s(1)}, True),
        ({"at": in_s(-1), "seq": 13}, True),  # its clock was set back, and something happened since
        ({"epoch": orders.epoch_of(8, bytes(8)), "seq": 0, "at": in_s(-9)}, True),
        ({}, False),
        ({"at": in_s(-1)}, False),
        ({"at": in_s(1), "seq": 11}, False),
        ({"at": in_s(1), "epoch": orders.epoch_of(6, bytes(8)), "seq": 99}, False),
    ],
)
def test_an_old_report_is_not_shown_as_new(after, counts):
    assert newer(an_attestation(**after), an_attestation()) is counts


def test_a_time_with_an_offset_is_a_time():
    at = datetime(2026, 11, 22, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    assert decode_press(f'{{"do":"lock","at":"{at.isoformat()}"}}'.encode()).at == NOW


def test_topics_are_the_sites_own():
    assert lock_entity.status_topic("hq") == "doord/hq/bridge/status"
    assert lock_entity.config_topic("front") == "homeassistant/lock/doord-front/config"
