"""Events as people and machines read them."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone

import msgspec
import pytest
from collecting import SETTING, Numbered

from edge.errors import LogError
from edge.link import wire
from edge.log_view import COLUMNS, Entry, Wanted, as_csv, as_json, lines, moment, takes

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


def entry(n: int = 1, chain: int = 1, door: str = "front", **changes: object) -> Entry:
    plain = msgspec.json.decode(Numbered().next()) | {"seq": n, **changes}
    return Entry(n, door, chain, msgspec.json.encode(plain))


GRANT = {"kind": "AccessGranted", "subject": "ada", "distance": 0.4123, "detail": None, "frames": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2026-11-22T10:00:00.000Z"),
        ("30min", "2026-11-22T11:30:00.000Z"),
        ("90 s", "2026-11-22T11:58:30.000Z"),
        ("7d", "2026-11-15T12:00:00.000Z"),
        ("1w", "2026-11-15T12:00:00.000Z"),
        ("2026-11-20", "2026-11-20T00:00:00.000Z"),
        ("2026-11-20T08:30", "2026-11-20T08:30:00.000Z"),
        ("2026-11-20T08:30Z", "2026-11-20T08:30:00.000Z"),
        ("2026-11-20T08:30+01:00", "2026-11-20T07:30:00.000Z"),
    ],
)
def test_times_as_people_type_them(text, expected):
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "5", "-2h", "999999w", "1e3s"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(LogError, match="time: expected 2h, 7d"):
        moment(text, NOW)


def test_people_read_time_door_number_kind_and_what_there_is_to_say():
    refused = entry(9, chain=2, kind="AccessDenied", reason="NoMatch", detail=None, repeats=2)
    at = "2026-11-22T12:00:00.000Z  front"
    assert list(lines([entry(7, **GRANT), entry(8), refused])) == [
        f"{at}               7  AccessGranted       ada, distance 0.41, simulation",
        f"{at}               8  ExitRequested       press 1, simulation",
        f"{at}           9 (2)  AccessDenied        NoMatch, and 2 more like it before, simulation",
    ]


def test_text_of_an_event_moves_no_cursor():
    (told,) = lines([entry(detail="a\x1b[2Jb\r\nc\u202ed")])
    assert "a?[2Jb??c?d" in told


def test_what_can_not_be_read_is_shown_as_such_and_does_not_hide():
    broken = Entry(3, "front", 1, b"{\x00")
    assert takes(Wanted(since="2026-01-01T00:00:00.000Z", kinds=frozenset({"Started"})), broken)
    (told,) = lines([broken])
    assert "event: JSON is malformed" in told
    assert json.loads(as_json(broken)) == {"door": "front", "chain": 1, "unreadable": "ewA="}
    (row,) = csv.DictReader(io.StringIO("\n".join(as_csv([broken]))))
    assert (row["kind"], row["detail"][:24]) == ("?", "event: JSON is malformed")


def test_machines_read_the_event_as_the_door_sent_it_on_one_line():
    payload = b'{"id":"x",\n  "detail":"a\\nb"}'
    line = as_json(Entry(1, "front", 1, payload))
    assert line == '{"door":"front","chain":1,"event":{"id":"x",   "detail":"a\\nb"}}'


def test_csv_has_a_header_and_a_line_for_each():
    table = list(csv.DictReader(io.StringIO("\n".join(as_csv([entry(7, **GRANT), entry(8)])))))
    assert tuple(table[0]) == COLUMNS
    assert [row["seq"] for row in table] == ["7", "8"]
    assert (table[0]["subject"], table[0]["distance"], table[1]["subject"]) == ("ada", "0.4123", "")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", " =1", "'=1"])
def test_no_text_is_a_formula_in_a_spreadsheet(text):
    (row,) = csv.DictReader(io.StringIO("\n".join(as_csv([entry(detail=text)])), newline=""))
    assert row["detail"] == f"'{text}"


def test_numbers_stay_numbers_and_text_with_commas_stays_one_cell_without_line_ends():
    told = as_csv([entry(detail='a,"b"\nc', threshold=-0.5)])
    (row,) = csv.DictReader(io.StringIO("\n".join(told), newline=""))
    assert (row["detail"], row["threshold"]) == ('a,"b"?c', "-0.5")


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(), True),
        (Wanted(since="2026-11-22T12:00:00.000Z", until="2026-11-22T12:00:00.000Z"), True),
        (Wanted(since="2026-11-22T12:00:00.001Z"), False),
        (Wanted(until="2026-11-22T11:59:59.999Z"), False),
        (Wanted(door="front", kinds=frozenset({"ExitRequested"})), True),
        (Wanted(door="back"), False),
        (Wanted(kinds=frozenset({"Started"})), False),
    ],
)
def test_which_events_are_taken(wanted, taken):
    assert takes(wanted, entry()) is taken


def test_every_kind_of_event_can_be_shown():
    stamp = wire.Stamp.of(1_790_000_000.0, bytes(10))
    told = list(lines([Entry(1, "front", 1, wire.encode(wire.notice("Started", "up", stamp, SETTING)))]))
    assert told[0].endswith("Started             up, simulation")
