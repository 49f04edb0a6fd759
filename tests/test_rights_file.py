"""`rights.yaml`: what is read, and each contradiction refused in one line that names its path."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.identity import rights_file
from edge.identity.rights import HOLIDAY, Limits, Period, Permitted, decide
from edge.identity.rights_file import load_rights, parse_rights
from edge.values import Deny, Reason

GOOD = """
time_zone: Europe/Berlin
holidays: [2026-12-25]
schedules:
  office:
    - {days: [mon, tue, wed, thu, fri], from: "07:00", until: "19:00"}
    - {days: [holiday], from: 10:00, until: 24:00}
  night: [{days: [sun], from: "22:00", until: "06:00"}]
groups:
  staff: {schedule: office, doors: [front]}
  guards: {}
subjects:
  ada: {groups: [staff], from: 2026-01-01, until: 2026-12-31}
  bob: {groups: [staff, guards], enabled: false}
  eve: {extended_release: true, until: "2026-06-01T12:30"}
others: [staff]
free_access:
  - {schedule: office, doors: [front], until: 2026-07-03}
"""


def test_a_file_is_read_as_it_says():
    rights = parse_rights(GOOD)
    assert rights.calendar.holidays == {date(2026, 12, 25)}
    office = rights.schedules["office"]
    assert office == (
        Period(frozenset(range(5)), 420, 1140),
        Period(frozenset({HOLIDAY}), 600, 1440),
    )
    assert rights.schedules["night"] == (Period(frozenset({6}), 1320, 1800),)
    ada, bob, eve = (rights.subjects[name] for name in ("ada", "bob", "eve"))
    assert ada.groups == (Limits(frozenset({"front"}), office),)
    assert ada.own.from_utc == datetime(2025, 12, 31, 23, tzinfo=timezone.utc)
    assert ada.own.until_utc == datetime(2026, 12, 31, 23, tzinfo=timezone.utc)  # the day named is the last
    assert (bob.enabled, len(bob.groups), eve.extended) == (False, 2, True)
    assert eve.own.until_utc == datetime(2026, 6, 1, 10, 30, tzinfo=timezone.utc)
    assert rights.others is not None
    assert not rights.lockdown


def test_the_lockdown_mode_denies_everybody():
    rights = parse_rights("time_zone: UTC\nsubjects: {ada: {}}\nmode: lockdown\n")
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert decide(rights, "ada", "front", now, True) == Deny(Reason.NOT_PERMITTED_AT_THIS_TIME)


def test_an_empty_subject_may_enter_always():
    rights = parse_rights("time_zone: UTC\nsubjects: {ada: {}}\n")
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert decide(rights, "ada", "front", now, False) == Permitted()
    assert decide(rights, "bob", "front", now, True) == Deny(Reason.UNAUTHORIZED)


BASE = "time_zone: Europe/Berlin\nschedules: {office: [{days: [mon], from: '07:00', until: '19:00'}]}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the whole file: expected keys with values, got None"),
        (
            "time_zone: Mars/Base\n",
            "time_zone: expected an IANA time zone such as Europe/Berlin, got 'Mars/Base'",
        ),
        ("time_zone: ../../etc/passwd\n", "time_zone: expected an IANA time zone"),
        ("time_zone: Europe\n", "time_zone: expected an IANA time zone"),
        ("time_zone: UTC\nzone: UTC\n", "zone: unknown key; did you mean time_zone?"),
        ("time_zone: UTC\nschedules: {none: []}\n", "schedules.none: expected a schedule that opens"),
        (
            "time_zone: UTC\nschedules: {h: [{days: [holiday], from: '07:00', until: '08:00'}]}\n",
            "schedules.h: expected a schedule that opens, got one that never does",
        ),
        (
            "time_zone: UTC\nschedules: {h: [{days: [mon], from: '07:00', until: '07:00'}]}\n",
            "schedules.h[0]: expected from and until to differ",
        ),
        ("time_zone: UTC\nschedules: {h: [{days: [], from: '07:00', until: '08:00'}]}\n", "schedules"),
        ("time_zone: UTC\nschedules: {h: [{days: [mon], from: 7:00, until: '08:00'}]}\n", "schedules"),
        ("time_zone: UTC\nschedules: {h: [{days: [mon], from: '24:00', until: '08:00'}]}\n", "schedules"),
        ("time_zone: UTC\nschedules: {h: [{days: [monday], from: '07:00', until: '08:00'}]}\n", "schedules"),
        (BASE + "groups: {g: {schedule: offise}}\n", "groups.g.schedule: expected one of schedules (office)"),
        (
            BASE + "subjects: {ada: {groups: [staff]}}\n",
            "subjects.ada.groups[0]: expected one of groups (none), got 'staff'",
        ),
        (BASE + "others: [staff]\n", "others[0]: expected one of groups (none), got 'staff'"),
        (BASE + "subjects: {Ada: {}}\n", ""),
        (
            BASE + "subjects: {ada: {from: 2026-02-01, until: 2026-01-01}}\n",
            "subjects.ada.until: expected a time after from (2026-02-01), got 2026-01-01",
        ),
        (
            BASE + "subjects: {ada: {from: 2026-02-01T08:00, until: 2026-02-01T08:00}}\n",
            "subjects.ada.until: expected a time after from",
        ),
        (
            BASE + "subjects: {ada: {schedule: office, from: 2026-06-02, until: 2026-06-05}}\n",
            "subjects.ada: expected a schedule that opens between from and until, got office",
        ),
        (BASE + "subjects: {ada: {until: 2026-02-30}}\n", "subjects.ada.until: expected a date"),
        (BASE + "subjects: {ada: {until: 1026-02-03}}\n", "subjects.ada.until: expected a date of the years"),
        (BASE + "holidays: [2026-13-01]\n", "holidays[0]: expected a date of the years 2000 to 2999"),
        (BASE + "free_access: [{}]\n", "free_access[0].schedule: expected a schedule: free access always"),
        (
            "time_zone: UTC\nschedules: {a: [{days: [mon, tue, wed, thu, fri, sat, sun], from: '00:00', "
            "until: '24:00'}]}\nfree_access: [{schedule: a}]\n",
            "free_access[0].schedule: expected a schedule that closes, got a, open all week",
        ),
        (BASE + "mode: open\n", "mode: "),
        (BASE + "subjects: {ada: {}, ada: {}}\n", "line 3, column 21: the key 'ada' stands here twice"),
    ],
)
def test_a_contradiction_is_refused_in_one_line_with_its_path(text, says):
    with pytest.raises(ConfigError) as caught:
        parse_rights(text)
    message = str(caught.value)
    assert message.startswith("rights.yaml: ")
    assert says in message
    assert "\n" not in message


def test_a_window_in_which_the_schedule_opens_is_taken():
    parse_rights(BASE + "subjects: {ada: {schedule: office, from: 2026-06-01, until: 2026-06-01}}\n")
    parse_rights(BASE + "subjects: {ada: {schedule: office, from: 2026-06-02, until: 2036-06-05}}\n")
    night = "time_zone: UTC\nschedules: {n: [{days: [mon], from: '22:00', until: '06:00'}]}\n"
    parse_rights(night + "subjects: {a: {schedule: n, from: 2026-06-02, until: 2026-06-02}}\n")


def test_a_file_that_is_not_there_no_text_or_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "rights.yaml"
    with pytest.raises(ConfigError, match=r"rights\.yaml: No such file"):
        load_rights(path)
    path.write_bytes(b"time_zone: \xff\n")
    with pytest.raises(ConfigError, match="expected UTF-8 text, got byte 0xff"):
        load_rights(path)
    path.write_text(GOOD)
    assert load_rights(path).subjects
    monkeypatch.setattr(rights_file, "MAX_BYTES", 100)
    with pytest.raises(ConfigError, match="expected at most 100 bytes"):
        load_rights(path)


def test_time_zones_are_known_on_a_system_that_has_none(tmp_path):
    code = (
        "import zoneinfo; zoneinfo.reset_tzpath([]);"
        "from edge.identity.rights_file import parse_rights;"
        "print(parse_rights('time_zone: Europe/Berlin').calendar.zone)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "Europe/Berlin", done.stderr
    assert Path(rights_file.__file__).exists()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("free_access: [" + "{schedule: s}, " * 51 + "]", "free_access"),
        ("schedules: {s: [" + '{days: [mon], from: "07:00", until: "08:00"}, ' * 101 + "]}", "schedules"),
        ("holidays: [" + "2026-01-01, " * 2001 + "]", "holidays"),
    ],
    ids=["free hours", "periods", "holidays"],
)
def test_more_than_any_office_has_is_refused(text, path):
    """The door's main thread goes through all free hours five times a second."""
    with pytest.raises(ConfigError, match=path):
        parse_rights(f"time_zone: UTC\n{text}\n")


def test_a_schedule_that_leaves_only_a_minute_of_the_week_out_closes():
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    free = "free_access: [{schedule: s}]\n"
    for closed in days:
        periods = [f'{{days: [{day}], from: "00:00", until: "24:00"}}' for day in days if day != closed]
        periods.append(f'{{days: [{closed}], from: "00:01", until: "24:00"}}')
        text = f"time_zone: UTC\nschedules: {{s: [{', '.join(periods)}]}}\n{free}"
        assert parse_rights(text).free_access
        night = f'{{days: [{days[days.index(closed) - 1]}], from: "23:00", until: "00:01"}}'
        with pytest.raises(ConfigError, match="a schedule that closes"):
            parse_rights(text.replace("{s: [", f"{{s: [{night}, "))
