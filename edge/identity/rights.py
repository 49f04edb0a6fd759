"""Who may come in where and when. Pure: it is given the time, and whether to believe it.

A subject may enter where its own limits and, if it has groups, those of at least one group permit.
A period begins the first time that the clock on the wall shows its begin, and is over once it has
shown or jumped past its end. So where clocks go back a period happens once, and where they go
forward a period inside the missing hour does not happen: each doubt is decided for the locked door.
A period belongs to the day it begins on, so one over midnight goes on into a holiday.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from edge.values import Deny, Reason

HOLIDAY = 7
DAY_MIN = 24 * 60


@dataclass(frozen=True, slots=True)
class Period:
    """A time of day, on some days of the week."""

    days: frozenset[int]  # it begins on: 0 Monday .. 6 Sunday, or HOLIDAY
    begins_min: int  # minutes after local midnight, 0 .. 1439
    ends_min: int  # begins_min < ends_min <= begins_min + 1440; above 1440: on the next day


Schedule = tuple[Period, ...]


@dataclass(frozen=True, slots=True)
class Calendar:
    """What turns UTC into days and times of day. A holiday has its own periods and no weekday's."""

    zone: tzinfo = timezone.utc
    holidays: frozenset[date] = frozenset()

    def kind(self, day: date) -> int:
        """0 Monday .. 6 Sunday, or HOLIDAY."""
        return HOLIDAY if day in self.holidays else day.weekday()


@dataclass(frozen=True, slots=True)
class Limits:
    """Where and when. `from_utc <= now < until_utc`; None: no limit of that kind."""

    doors: frozenset[str] | None = None
    schedule: Schedule | None = None
    from_utc: datetime | None = None
    until_utc: datetime | None = None

    @property
    def need_the_time(self) -> bool:
        """Whether the time of day or the date matters."""
        return (self.schedule, self.from_utc, self.until_utc) != (None, None, None)


@dataclass(frozen=True, slots=True)
class SubjectRights:
    """What one subject may. `groups`: at least one of them must permit, unless there are none."""

    own: Limits = Limits()
    groups: tuple[Limits, ...] = ()
    enabled: bool = True
    extended: bool = False  # the door is released for longer


@dataclass(frozen=True, slots=True)
class Rights:
    """All rights in force. `others` are those of subjects that are not named; None: no rights.

    `free_access`: hours in which everybody may enter. `lockdown`: nobody, whatever else is said.
    """

    calendar: Calendar = Calendar()
    subjects: Mapping[str, SubjectRights] = field(default_factory=dict)
    others: SubjectRights | None = None
    free_access: tuple[Limits, ...] = ()
    lockdown: bool = False
    schedules: Mapping[str, Schedule] = field(default_factory=dict)


EVERYBODY_ALWAYS = Rights(others=SubjectRights())
"""The rights where no rights are kept: who is enrolled may enter."""


@dataclass(frozen=True, slots=True)
class Permitted:
    """The subject may enter here and now; `extended`: and needs longer than others."""

    extended: bool = False


_FROM_NEAREST = (
    Reason.CLOCK_NOT_TRUSTED,
    Reason.NOT_PERMITTED_AT_THIS_TIME,
    Reason.CREDENTIAL_NOT_ACTIVE,
    Reason.CREDENTIAL_EXPIRED,
    Reason.UNAUTHORIZED,
)
"""Of several groups' refusals the one that was nearest to a yes is told."""


def decide(
    rights: Rights, subject: str, door: str, now_utc: datetime, clock_trusted: bool
) -> Permitted | Deny:
    """Whether `subject` may enter by `door` at `now_utc` (aware).

    Deny: NotPermittedAtThisTime (also in a lockdown), Unauthorized (no rights, or not for this
    door), CredentialNotEnabled, CredentialNotActive, CredentialExpired (reasons of the ONVIF
    Access Control Service Specification), ClockNotTrusted (the right depends on the time).
    """
    if rights.lockdown:
        return Deny(Reason.NOT_PERMITTED_AT_THIS_TIME)
    holder = rights.subjects.get(subject, rights.others)
    if free_until(rights, door, now_utc, clock_trusted) is not None:
        return Permitted(holder is not None and holder.extended)
    if holder is None:
        return Deny(Reason.UNAUTHORIZED)
    if not holder.enabled:
        return Deny(Reason.CREDENTIAL_NOT_ENABLED)
    own = _refusal(holder.own, rights.calendar, door, now_utc, clock_trusted)
    if own is not None:
        return Deny(own)
    refusals = [_refusal(group, rights.calendar, door, now_utc, clock_trusted) for group in holder.groups]
    told = [reason for reason in refusals if reason is not None]
    if told and len(told) == len(refusals):
        return Deny(min(told, key=_FROM_NEAREST.index))
    return Permitted(holder.extended)


def ends_some_time(rights: Rights, subject: str) -> bool:
    """Whether the subject's rights have a last day, its own or all its groups'."""
    holder = rights.subjects.get(subject, rights.others)
    if holder is None or holder.own.until_utc is not None:
        return True
    return bool(holder.groups) and all(group.until_utc is not None for group in holder.groups)


def free_until(rights: Rights, door: str, now_utc: datetime, clock_trusted: bool) -> datetime | None:
    """When the free access at `door` that holds now ends at the latest, UTC; None: none holds.

    Never without an end, never in a lockdown and never by a clock that is not trusted.
    """
    if rights.lockdown or not clock_trusted:
        return None
    ends: list[datetime] = []
    for hours in rights.free_access:
        if _refusal(hours, rights.calendar, door, now_utc, clock_trusted) is None:
            last = _last_end(hours.schedule or (), rights.calendar, now_utc)
            ends += [] if last is None else [min(last, hours.until_utc or last)]
    return max(ends, default=None)


def open_now(schedule: Schedule, calendar: Calendar, now_utc: datetime) -> bool:
    """Whether one of the schedule's periods holds at `now_utc` (aware)."""
    return _last_end(schedule, calendar, now_utc) is not None


def _refusal(
    limits: Limits, calendar: Calendar, door: str, now_utc: datetime, clock_trusted: bool
) -> Reason | None:
    if limits.doors is not None and door not in limits.doors:
        return Reason.UNAUTHORIZED
    if limits.need_the_time and not clock_trusted:
        return Reason.CLOCK_NOT_TRUSTED
    if limits.from_utc is not None and not now_utc >= limits.from_utc:
        return Reason.CREDENTIAL_NOT_ACTIVE
    if limits.until_utc is not None and not now_utc < limits.until_utc:
        return Reason.CREDENTIAL_EXPIRED
    if limits.schedule is not None and not open_now(limits.schedule, calendar, now_utc):
        return Reason.NOT_PERMITTED_AT_THIS_TIME
    return None


def _last_end(schedule: Schedule, calendar: Calendar, now_utc: datetime) -> datetime | None:
    """The latest end, UTC, of the periods that hold now."""
    ends = [
        _utc(end, calendar.zone)
        for begin, end in _around(schedule, calendar, now_utc)
        if _reached(begin, calendar.zone, now_utc) and not _reached(end, calendar.zone, now_utc)
    ]
    return max(ends, default=None)


def _around(schedule: Schedule, calendar: Calendar, now_utc: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Begin and end, by the wall's clock, of the periods that begin yesterday or today."""
    today = now_utc.astimezone(calendar.zone).date()
    for day in (today - timedelta(days=1), today):
        midnight = datetime.combine(day, time())
        for period in schedule:
            if calendar.kind(day) in period.days:
                yield (
                    midnight + timedelta(minutes=period.begins_min),
                    midnight + timedelta(minutes=period.ends_min),
                )


def _reached(wall: datetime, zone: tzinfo, now_utc: datetime) -> bool:
    """Whether the clock on the wall has shown `wall`, or jumped past it.

    Where clocks go back, a time that came twice was reached at its first coming (PEP 495, fold 0).
    """
    return now_utc.astimezone(zone).replace(tzinfo=None) >= wall or now_utc >= _utc(wall, zone)


def _utc(wall: datetime, zone: tzinfo) -> datetime:
    return wall.replace(tzinfo=zone).astimezone(timezone.utc)
