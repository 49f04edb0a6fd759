"""Events as lines of the log: in words, and whole in fields."""

from __future__ import annotations

import logging
from typing import get_args

import numpy as np
import pytest

from edge import story
from edge.link import wire
from edge.message_ids import MESSAGE_IDS
from edge.values import Attempt, Deny, Grant, Observation, Probe, Quality, Reason

STAMP = wire.Stamp.of(1.8e9, bytes(range(10)))
SETTING = wire.Setting(0.7, "facenet", 4, simulation=True)
KINDS = ("AccessGranted", "AccessDenied", "EventsDropped", *get_args(wire.NoticeKind))


def an_attempt(decision: Grant | Deny, **changes: object) -> wire.Granted | wire.Denied:
    probe = Probe(
        np.full(512, 0.0441941738, np.float32), "facenet", 10.0, Quality(60, 100, 120, 40, 0.0, 0.6)
    )
    fields = {"began_at": 9.0, "decided_at": 10.045, "frames": 3, "margin": 0.1, **changes}
    last = Observation(10.0, probe if fields["frames"] else None)
    return wire.attempt_event(Attempt(decision, last=last, **fields), STAMP, SETTING)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            an_attempt(Grant("ada", 0.4321)),
            "AccessGranted: ada, distance 0.43, 3 frames, decided 45 ms after the last",
        ),
        (an_attempt(Grant("ada", None), frames=0), "AccessGranted: ada, by card, no frame compared"),
        (
            an_attempt(Deny(Reason.NO_MATCH), repeats=4),
            "AccessDenied: NoMatch, 3 frames, decided 45 ms after the last, 4 like it before",
        ),
        (wire.notice("DoorTamper", "the case is open", STAMP, SETTING), "DoorTamper: the case is open"),
        (
            wire.dropped(wire.Gap(3, 7, 5, "older than 90 days"), STAMP, SETTING),
            "EventsDropped: 5 records, 3 to 7: older than 90 days",
        ),
        (
            wire.dropped(wire.Gap(None, None, 5, "the ledger took no events"), STAMP, SETTING),
            "EventsDropped: 5 records: the ledger took no events",
        ),
    ],
)
def test_an_event_reads_as_a_sentence(event, line):
    assert story.line(event) == line


def told(event: wire.Event, caplog, seq: int | None = None) -> logging.LogRecord:
    caplog.set_level(logging.DEBUG)
    story.tell(event, seq)
    return caplog.records[-1]


def test_a_grant_is_whole_in_its_fields(caplog):
    fields = told(an_attempt(Grant("ada", 0.4321)), caplog, 17).journal
    assert fields == {
        "MESSAGE_ID": MESSAGE_IDS["AccessGranted"],
        "KIND": "AccessGranted",
        "EVENT_ID": STAMP.id,
        "SEQ": "17",
        "SUBJECT": "ada",
        "DISTANCE": "0.43",
        "THRESHOLD": "0.7",
        "MARGIN": "0.1",
        "FRAMES": "3",
        "REPEATS": "0",
        "FRAME_AGE_MS": "45.0",
        "MODEL": "facenet",
        "GALLERY": "4",
        "SIMULATION": "True",
        "AT": STAMP.at,
    }


def test_a_denial_names_nobody_and_no_distance(caplog):
    record = told(an_attempt(Deny(Reason.AMBIGUOUS)), caplog)
    assert record.journal["REASON"] == "Ambiguous"
    assert not {"SUBJECT", "DISTANCE", "SEQ"} & record.journal.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_event_has_its_message_id(kind):
    assert kind in MESSAGE_IDS


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("ExitRequested", logging.INFO),
        ("CameraRestored", logging.INFO),
        ("DoorForcedOpen", logging.WARNING),
        ("CommandRefused", logging.WARNING),
        ("CameraFault", logging.ERROR),
        ("DoorFault", logging.ERROR),
    ],
)
def test_an_alarm_is_a_warning_and_a_fault_an_error(caplog, kind, level):
    assert told(wire.notice(kind, "x", STAMP, SETTING), caplog).levelno == level


def test_a_denial_is_no_warning(caplog):
    assert told(an_attempt(Deny(Reason.NO_MATCH)), caplog).levelno == logging.INFO
