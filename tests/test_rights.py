"""Rights: who may come in where and when. Pure, so every hour of the year can be tried."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.identity.rights import (
    EVERYBODY_ALWAYS,
    HOLIDAY,
    Calendar,
    Limits,
    Period,
    Permitted,
    Rights,
    SubjectRights,
    decide,
    free_until,
    open_now,
)
from edge.values import Deny, Reason

UTC = timezone.utc
WEEKDAYS = frozenset(range(5))
OFFICE = (Period(WEEKDAYS, 7 * 60, 19 * 60),)
NIGHT = (Period(frozenset({0}), 22 * 60, 30 * 60),)  # Monday 22:00 to Tuesday 06:00
EVERY_DAY = frozenset(range(8))
BERLIN, NEW_YORK, SYDNEY = (
    Calendar(ZoneInfo(z)) for z in ("Europe/Berlin", "America/New_York", "Australia/Sydney")
)
# the days of 2026 on which clocks change: zone, day, forward or back
CHANGES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Sydney", date(2026, 4, 5)),
    ("Australia/Sydney", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # half an hour
    ("Asia/Beirut", date(2026, 3, 29)),  # at midnight
    ("Asia/Beirut", date(2026, 10, 24)),  # at midnight, back into the day before
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def at(calendar: Calendar, text: str, fold: int = 0) -> datetime:
    """A local time as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=calendar.zone, fold=fold).astimezone(UTC)


def rights(holder: SubjectRights, **more: object) -> Rights:
    return Rights(BERLIN, {"ada": holder}, **more)


MONDAY = utc("2026-06-01 10:00")


def ask(given: Rights, when: datetime = MONDAY, door: str = "front", trusted: bool = True):
    return decide(given, "ada", door, when, trusted)


def test_without_rights_kept_everybody_enrolled_may_enter_always_whatever_the_clock():
    assert ask(EVERYBODY_ALWAYS, trusted=False) == Permitted()


def test_who_is_not_named_has_no_right_unless_others_have():
    assert decide(rights(SubjectRights()), "bob", "front", utc("2026-06-01"), True) == Deny(
        Reason.UNAUTHORIZED
    )
    shared = rights(SubjectRights(), others=SubjectRights(groups=(Limits(),)))
    assert decide(shared, "bob", "front", utc("2026-06-01"), True) == Permitted()


def test_a_subject_that_is_not_enabled_may_do_nothing():
    assert ask(rights(SubjectRights(enabled=False))) == Deny(Reason.CREDENTIAL_NOT_ENABLED)


def test_a_door_that_is_not_named_is_not_permitted():
    given = rights(SubjectRights(Limits(doors=frozenset({"front"}))))
    assert ask(given) == Permitted()
    assert ask(given, door="back") == Deny(Reason.UNAUTHORIZED)


def test_a_right_begins_with_from_and_is_over_at_until():
    given = rights(SubjectRights(Limits(from_utc=utc("2026-06-01"), until_utc=utc("2026-07-01"))))
    second = timedelta(seconds=1)
    assert ask(given, utc("2026-06-01") - second) == Deny(Reason.CREDENTIAL_NOT_ACTIVE)
    assert ask(given, utc("2026-06-01")) == Permitted()
    assert ask(given, utc("2026-07-01") - second) == Permitted()
    assert ask(given, utc("2026-07-01")) == Deny(Reason.CREDENTIAL_EXPIRED)


def test_outside_its_hours_a_right_is_not_permitted_at_this_time():
    given = rights(SubjectRights(Limits(schedule=OFFICE)))
    minute = timedelta(minutes=1)
    for time, answer in (
        (at(BERLIN, "2026-06-01 07:00") - minute, False),
        (at(BERLIN, "2026-06-01 07:00"), True),
        (at(BERLIN, "2026-06-01 19:00") - minute, True),
        (at(BERLIN, "2026-06-01 19:00"), False),
        (at(BERLIN, "2026-06-06 12:00"), False),  # Saturday
    ):
        assert ask(given, time) == (Permitted() if answer else Deny(Reason.NOT_PERMITTED_AT_THIS_TIME))


@pytest.mark.parametrize(
    "limits",
    [Limits(schedule=OFFICE), Limits(from_utc=utc("2020-01-01")), Limits(until_utc=utc("2030-01-01"))],
)
def test_by_a_clock_that_is_not_trusted_limited_rights_are_denied_and_unlimited_ones_granted(limits):
    assert ask(rights(SubjectRights(limits))) == Permitted()
    assert ask(rights(SubjectRights(limits)), trusted=False) == Deny(Reason.CLOCK_NOT_TRUSTED)
    assert ask(rights(SubjectRights(Limits(doors=frozenset({"front"})))), trusted=False) == Permitted()


def test_one_permitting_group_is_enough_and_the_subjects_own_limits_hold_all_the_same():
    closed, open_ = Limits(doors=frozenset({"back"})), Limits()
    assert ask(rights(SubjectRights(groups=(closed, open_)))) == Permitted()
    own = Limits(until_utc=utc("2026-01-01"))
    assert ask(rights(SubjectRights(own, groups=(open_,)))) == Deny(Reason.CREDENTIAL_EXPIRED)


def test_of_several_groups_refusals_the_one_nearest_to_a_yes_is_told():
    elsewhere, later = Limits(doors=frozenset({"back"})), Limits(schedule=NIGHT)
    over, soon = Limits(until_utc=utc("2026-01-01")), Limits(from_utc=utc("2027-01-01"))
    for groups, reason in (
        ((elsewhere, over), Reason.CREDENTIAL_EXPIRED),
        ((over, soon), Reason.CREDENTIAL_NOT_ACTIVE),
        ((elsewhere, later, over), Reason.NOT_PERMITTED_AT_THIS_TIME),
    ):
        assert ask(rights(SubjectRights(groups=groups))) == Deny(reason)
    assert ask(rights(SubjectRights(groups=(elsewhere, later))), trusted=False) == Deny(
        Reason.CLOCK_NOT_TRUSTED
    )


def test_who_needs_longer_is_told_so():
    assert ask(rights(SubjectRights(extended=True))) == Permitted(extended=True)


def test_a_lockdown_overrides_rights_schedules_and_free_access():
    free = (Limits(schedule=OFFICE),)
    given = rights(SubjectRights(), free_access=free, lockdown=True)
    assert ask(given) == Deny(Reason.NOT_PERMITTED_AT_THIS_TIME)
    assert free_until(given, "front", utc("2026-06-01 10:00"), True) is None


def test_in_hours_of_free_access_everybody_may_enter_and_they_end():
    free = (Limits(schedule=OFFICE, doors=frozenset({"front"})),)
    given = rights(SubjectRights(enabled=False), free_access=free)
    noon = at(BERLIN, "2026-06-01 12:00")
    assert ask(given, noon) == Permitted()
    assert ask(given, noon, door="back") == Deny(Reason.CREDENTIAL_NOT_ENABLED)
    assert ask(given, noon, trusted=False) == Deny(Reason.CREDENTIAL_NOT_ENABLED)
    assert free_until(given, "front", noon, True) == at(BERLIN, "2026-06-01 19:00")
    assert free_until(given, "front", at(BERLIN, "2026-06-01 19:00"), True) is None
    needs_longer = rights(SubjectRights(extended=True), free_access=free)
    assert ask(needs_longer, noon) == Permitted(extended=True)


def test_free_access_ends_with_its_last_day_or_the_later_of_two_periods():
    early = Limits(schedule=OFFICE, until_utc=at(BERLIN, "2026-06-01 15:00"))
    noon = at(BERLIN, "2026-06-01 12:00")
    assert free_until(Rights(BERLIN, free_access=(early,)), "front", noon, True) == early.until_utc
    late = Limits(schedule=(Period(WEEKDAYS, 11 * 60, 13 * 60), *OFFICE))
    given = Rights(BERLIN, free_access=(early, late))
    assert free_until(given, "front", noon, True) == at(BERLIN, "2026-06-01 19:00")


def test_free_access_without_a_schedule_never_holds():
    """The rights' file refuses it; here it has no end, so it has no beginning either."""
    assert free_until(Rights(free_access=(Limits(),)), "front", utc("2026-06-01"), True) is None


def test_a_period_over_midnight_belongs_to_the_day_it_begins_on():
    for text, answer in (
        ("2026-06-01 21:59", False),
        ("2026-06-01 22:00", True),  # Monday
        ("2026-06-02 05:59", True),
        ("2026-06-02 06:00", False),
        ("2026-06-02 22:00", False),  # Tuesday
    ):
        assert open_now(NIGHT, BERLIN, at(BERLIN, text)) is answer, text


def test_a_holiday_has_its_own_hours_and_a_night_goes_on_into_it():
    calendar = replace(BERLIN, holidays=frozenset({date(2026, 6, 2)}))  # a Tuesday
    assert not open_now(OFFICE, calendar, at(BERLIN, "2026-06-02 12:00"))
    assert open_now(OFFICE, calendar, at(BERLIN, "2026-06-03 12:00"))
    assert open_now(NIGHT, calendar, at(BERLIN, "2026-06-02 03:00"))
    sundays = (Period(frozenset({HOLIDAY}), 600, 720),)
    assert open_now(sundays, calendar, at(BERLIN, "2026-06-02 10:00"))
    assert not open_now(sundays, calendar, at(BERLIN, "2026-06-03 10:00"))


@pytest.mark.parametrize(
    ("calendar", "day", "before_utc", "after_utc"),
    [
        (BERLIN, "2026-03-27", "06:00", "05:00"),
        (BERLIN, "2026-10-23", "05:00", "06:00"),
        (NEW_YORK, "2026-03-06", "12:00", "11:00"),
        (NEW_YORK, "2026-10-30", "11:00", "12:00"),
        (SYDNEY, "2026-04-03", "20:00", "21:00"),
        (SYDNEY, "2026-10-02", "21:00", "20:00"),
    ],
)
def test_office_hours_stay_on_the_wall_when_clocks_change(calendar, day, before_utc, after_utc):
    """Friday before and Monday after: seven o'clock is another hour of UTC."""
    friday = date.fromisoformat(day)
    for local, hour in ((friday, before_utc), (friday + timedelta(days=3), after_utc)):
        seven = at(calendar, f"{local} 07:00")
        assert f"{seven:%H:%M}" == hour
        assert open_now(OFFICE, calendar, seven)
        assert not open_now(OFFICE, calendar, seven - timedelta(seconds=1))


def test_a_period_in_the_hour_that_is_missing_does_not_happen():
    missing = (Period(EVERY_DAY, 135, 165),)  # 02:15 to 02:45
    minutes = [at(BERLIN, "2026-03-29 00:00") + timedelta(minutes=m) for m in range(24 * 60)]
    assert not any(open_now(missing, BERLIN, t) for t in minutes)


def test_a_period_in_the_hour_that_comes_twice_happens_once():
    twice = (Period(EVERY_DAY, 135, 165),)
    assert open_now(twice, BERLIN, at(BERLIN, "2026-10-25 02:30", fold=0))
    assert not open_now(twice, BERLIN, at(BERLIN, "2026-10-25 02:30", fold=1))


def test_a_night_shift_ends_by_the_wall_in_both_nights():
    shift = (Period(EVERY_DAY, 22 * 60, 26 * 60 + 30),)  # to 02:30
    assert open_now(shift, BERLIN, at(BERLIN, "2026-03-29 01:59"))
    assert not open_now(shift, BERLIN, at(BERLIN, "2026-03-29 03:00"))  # the clock jumped past 02:30
    assert open_now(shift, BERLIN, at(BERLIN, "2026-10-25 02:29", fold=0))
    assert not open_now(shift, BERLIN, at(BERLIN, "2026-10-25 02:00", fold=1))


def first(calendar: Calendar, wall: datetime) -> datetime:
    """The first minute in which the wall's clock shows `wall` or later, by looking at every one."""
    moment = wall.replace(tzinfo=UTC) - timedelta(hours=36)
    while moment.astimezone(calendar.zone).replace(tzinfo=None) < wall:
        moment += timedelta(minutes=1)
    return moment


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CHANGES),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.lists(st.integers(-1440, 2 * 1440), min_size=1, max_size=20),
)
def test_a_period_holds_from_the_first_showing_of_its_begin_to_the_first_of_its_end(
    change, begins, lasts, offsets
):
    zone, day = change
    calendar = Calendar(ZoneInfo(zone))
    days = [day - timedelta(days=1), day]
    schedule = (Period(frozenset(d.weekday() for d in days), begins, begins + lasts),)
    spans = []
    for d in days:
        midnight = datetime(d.year, d.month, d.day)
        spans.append([first(calendar, midnight + timedelta(minutes=m)) for m in (begins, begins + lasts)])
    noon = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for offset in offsets:
        now = noon + timedelta(minutes=offset)
        local = now.astimezone(calendar.zone).date()
        if not days[0] <= local <= days[1]:
            continue  # another week's day may follow
        assert open_now(schedule, calendar, now) == any(b <= now < e for b, e in spans), now


limits = st.builds(
    Limits,
    doors=st.none() | st.just(frozenset({"front"})) | st.just(frozenset({"back"})),
    schedule=st.none() | st.just(OFFICE) | st.just(NIGHT),
    from_utc=st.none() | st.just(utc("2026-06-01")),
    until_utc=st.none() | st.just(utc("2026-06-10")),
)
holders = st.builds(SubjectRights, limits, st.lists(limits, max_size=3).map(tuple), st.booleans())
moments = st.datetimes(datetime(2026, 5, 25), datetime(2026, 6, 20), timezones=st.just(UTC))


@settings(max_examples=300)
@given(holders, moments, st.sampled_from(["front", "back"]))
def test_a_clock_that_is_not_trusted_permits_nothing_that_a_trusted_one_refuses(holder, now, door):
    given = rights(holder, free_access=())
    if isinstance(decide(given, "ada", door, now, False), Permitted):
        assert isinstance(decide(given, "ada", door, now, True), Permitted)


@settings(max_examples=300)
@given(holders, limits, moments, st.booleans())
def test_a_further_own_limit_never_permits_what_was_refused(holder, further, now, trusted):
    before = decide(rights(holder), "ada", "front", now, trusted)
    both = Limits(
        doors=holder.own.doors
        if further.doors is None
        else further.doors & (holder.own.doors or further.doors),
        schedule=holder.own.schedule or further.schedule,
        from_utc=holder.own.from_utc or further.from_utc,
        until_utc=holder.own.until_utc or further.until_utc,
    )
    after = decide(rights(replace(holder, own=both)), "ada", "front", now, trusted)
    if isinstance(before, Deny):
        assert isinstance(after, Deny)


@settings(max_examples=200)
@given(st.sampled_from([OFFICE, NIGHT]), moments, st.sampled_from([BERLIN, NEW_YORK, SYDNEY]))
def test_free_access_holds_until_the_end_it_names_and_no_longer(schedule, now, calendar):
    given = Rights(calendar, free_access=(Limits(schedule=schedule),))
    end = free_until(given, "front", now, True)
    assert (end is not None) is open_now(schedule, calendar, now)
    if end is not None:
        assert now < end <= now + timedelta(days=1)
        assert free_until(given, "front", end - timedelta(microseconds=1), True) == end
        assert free_until(given, "front", end, True) is None
