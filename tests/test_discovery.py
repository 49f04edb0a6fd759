"""What Home Assistant makes of a door: its templates, rendered over what a door really sends."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from test_story import an_attempt

from edge.link import wire
from edge.link.discovery import announce, device_id
from edge.link.vitals import Vitals
from edge.values import Alarm, Deny, DoorMode, Grant, Reason

TOPICS = wire.Topics("hq", "front")
AT = "2026-01-31T12:00:00.000Z"
ALL = Vitals(48.3, ["throttled"], 40.0, 60.5, 14.7, 181.2, 3)
# that of homeassistant/helpers/template.py
JINJA = ImmutableSandboxedEnvironment()


@pytest.fixture(scope="module")
def told() -> dict:
    return json.loads(announce(TOPICS, "0.1.0", 60).payload)


def status(state: str = "online", armed: bool = True, vitals: Vitals | None = ALL) -> bytes:
    return wire.encode(wire.Status(state, AT, AT, armed, [], "0.1.0", 4, "cpu", False, vitals=vitals))


def state(mode=DoorMode.LOCKED, lock="locked", dps="closed", alarms=(), gallery: int | None = 4) -> bytes:
    return wire.encode(wire.State(mode, lock, None, gallery, None, AT, None, dps, list(alarms)))


def event(made: wire.Event) -> bytes:
    return wire.number(made, wire.GENESIS)[0]


def rendered(template: str, payload: bytes) -> str:
    return JINJA.from_string(template).render(value_json=json.loads(payload))


def shown(told: dict, key: str, payload: bytes) -> str:
    return rendered(told["components"][key]["value_template"], payload)


def test_it_goes_where_a_door_may_write():
    assert announce(TOPICS, "0.1.0", 60).topic == "homeassistant/device/doord-front/config"


def test_everything_belongs_to_one_device_and_is_found_again(told):
    assert told["device"]["identifiers"] == [device_id("hq", "front")] == ["doord-hq-front"]
    assert told["origin"]["name"] == "doord"
    ids = [component["unique_id"] for component in told["components"].values()]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("doord-hq-front-") for one in ids)


def test_a_door_offers_nothing_that_can_be_operated(told):
    assert {c["platform"] for c in told["components"].values()} == {"sensor", "binary_sensor", "event"}
    assert not re.findall("command_topic|payload_press|payload_lock", json.dumps(told))


def test_nothing_is_read_but_the_doors_own_topics(told):
    topics = {c["state_topic"] for c in told["components"].values()} | {told["availability_topic"]}
    assert topics == {TOPICS.status, TOPICS.state, TOPICS.event}


@pytest.mark.parametrize(
    ("key", "payload", "value"),
    [
        ("door", state(dps="open"), "ON"),
        ("door", state(dps="closed"), "OFF"),
        ("door", state(dps="unknown"), "None"),
        ("lock", state(lock="unlocked"), "unlocked"),
        ("lock", state(lock="unknown"), "unknown"),
        ("mode", state(mode=DoorMode.LOCKED_DOWN), "LockedDown"),
        ("tamper", state(alarms=[Alarm.DOOR_TAMPER]), "ON"),
        ("tamper", state(alarms=[Alarm.DOOR_FAULT]), "OFF"),
        ("forced", state(alarms=[Alarm.DOOR_FORCED_OPEN, Alarm.DOOR_TAMPER]), "ON"),
        ("held", state(alarms=[Alarm.DOOR_OPEN_TOO_LONG]), "ON"),
        ("held", state(alarms=[Alarm.DOOR_OPEN_PRE_ALARM]), "OFF"),
        ("fault", state(alarms=[Alarm.DOOR_FAULT]), "ON"),
        ("gallery", state(), "4"),
        ("gallery", state(gallery=None), "None"),
        ("armed", status(), "ON"),
        ("armed", status(armed=False), "OFF"),
        ("temperature", status(), "48.3"),
        ("temperature", status(vitals=Vitals()), "None"),
        ("throttled", status(), "ON"),
        ("throttled", status(vitals=Vitals(throttled=[])), "OFF"),
        ("throttled", status(vitals=Vitals()), "None"),
        ("latency", status(), "60.5"),
        ("fps", status(), "14.7"),
        ("memory", status(), "181.2"),
        ("queue", status(), "3"),
        ("queue", status(vitals=Vitals()), "0"),
    ],
)
def test_each_value_is_what_the_door_says(told, key, payload, value):
    assert shown(told, key, payload) == value


def test_a_last_will_without_figures_leaves_each_of_them_unknown(told):
    will = status("offline", armed=False, vitals=None)
    of_status = [key for key, c in told["components"].items() if c["state_topic"] == TOPICS.status]
    assert {shown(told, key, will) for key in of_status if key != "armed"} == {"None"}


@pytest.mark.parametrize(
    ("word", "available"), [("online", "online"), ("offline", "offline"), ("stopped", "offline")]
)
def test_the_door_is_available_while_it_is_online(told, word, available):
    assert rendered(told["availability_template"], status(word)) == available


def test_figures_count_no_more_after_three_heartbeats_that_did_not_come(told):
    expiring = {key: c.get("expire_after") for key, c in told["components"].items()}
    assert {expiring["temperature"], expiring["armed"], expiring["queue"]} == {181}
    assert expiring["door"] is expiring["event"] is None  # sent at a change only


@pytest.mark.parametrize(
    ("made", "kind", "reason", "subject"),
    [
        (an_attempt(Grant("ada", 0.4)), "AccessGranted", None, "ada"),
        (an_attempt(Deny(Reason.NO_MATCH)), "AccessDenied", "NoMatch", None),
    ],
)
def test_an_event_has_a_type_that_was_announced(told, made, kind, reason, subject):
    got = json.loads(shown(told, "event", event(made)))
    assert (got["event_type"], got["seq"], got["reason"], got["subject"]) == (kind, 1, reason, subject)
    assert kind in told["components"]["event"]["event_types"]


@pytest.mark.parametrize("kind", get_args(wire.NoticeKind))
def test_every_notice_has_a_type_that_was_announced_and_its_words_stay_whole(told, kind):
    words = 'it\'s "open" <b>&amp;</b> {{ 7 * 7 }}'
    stamp, setting = wire.Stamp.of(1.8e9, bytes(10)), wire.Setting(0.7, "m", 1, False)
    got = json.loads(shown(told, "event", event(wire.notice(kind, words, stamp, setting))))
    assert (got["event_type"], got["detail"]) == (kind, words)
    assert kind in told["components"]["event"]["event_types"]
