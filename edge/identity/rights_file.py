"""`rights.yaml` turned into rights; what contradicts itself is refused with its path.

time_zone: Europe/Berlin
holidays: [2026-12-25]
schedules:
  office: [{days: [mon, tue, wed, thu, fri], from: "07:00", until: "19:00"}]
  night: [{days: [mon], from: "22:00", until: "06:00"}]     # ends on Tuesday
groups:
  staff: {schedule: office, doors: [front]}
subjects:
  ada: {groups: [staff], until: 2026-12-31}                 # that day is the last
  eve: {}                                                   # every door, always
others: [staff]                                             # who is enrolled but not named here
free_access: [{schedule: office, from: 2026-07-01, until: 2026-07-03}]
mode: normal                                                # or lockdown
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from edge.config import Id
from edge.errors import ConfigError
from edge.identity.rights import (
    DAY_MIN,
    HOLIDAY,
    Calendar,
    Limits,
    Period,
    Rights,
    Schedule,
    SubjectRights,
)
from edge.strict import convert, parse_yaml

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
MAX_BYTES = 4 * 2**20
_YEAR_DAYS = 366
# Far above any office's. All free hours are gone through five times a second: who stole the key of a
# site's rights must not keep its doors from starting.
_MAX_PERIODS, _MAX_FREE, _MAX_HOLIDAYS, _MAX_NAMES = 100, 50, 2000, 2000

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
Begin = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")]
End = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z|^24:00\Z")]
Moment = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T([01][0-9]|2[0-3]):[0-5][0-9])?\Z")]
Date = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
Groups = Annotated[list[Id], Meta(min_length=1, max_length=_MAX_NAMES)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: frozen, and an unknown key is an error."""


class PeriodText(Part, frozen=True):
    """A time of day on some days."""

    days: Annotated[list[Day], Meta(min_length=1, max_length=len(DAYS))]
    from_: Begin = msgspec.field(name="from")
    until: End


Periods = Annotated[list[PeriodText], Meta(max_length=_MAX_PERIODS)]


class LimitsText(Part, frozen=True):
    """Where and when."""

    doors: Annotated[list[Id], Meta(min_length=1, max_length=_MAX_NAMES)] | None = None
    schedule: Id | None = None
    from_: Moment | None = msgspec.field(name="from", default=None)
    until: Moment | None = None


class SubjectText(LimitsText, frozen=True):
    """One subject's."""

    groups: Groups | None = None
    enabled: bool = True
    extended_release: bool = False


class SiteText(Part, frozen=True):
    """What holds for all subjects."""

    time_zone: Annotated[str, Meta(min_length=1, max_length=64)]
    holidays: Annotated[list[Date], Meta(max_length=_MAX_HOLIDAYS)] = []
    schedules: Annotated[dict[Id, Periods], Meta(max_length=_MAX_NAMES)] = {}
    groups: Annotated[dict[Id, LimitsText], Meta(max_length=_MAX_NAMES)] = {}
    others: Groups | None = None
    free_access: Annotated[list[LimitsText], Meta(max_length=_MAX_FREE)] = []
    mode: Literal["normal", "lockdown"] = "normal"


class _File(SiteText, frozen=True):
    subjects: dict[Id, SubjectText] = {}


def load_rights(path: Path) -> Rights:
    """The rights in a file. Raises ConfigError: `rights.yaml: path: expected ..., got ...`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: expected at most {MAX_BYTES} bytes, got more")
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#04x}") from None
    return parse_rights(text, str(path))


def parse_rights(text: str, where: str = "rights.yaml") -> Rights:
    """The rights in a text. Raises ConfigError."""
    file = convert(parse_yaml(text, where), _File, where)
    return resolve(file, file.subjects, where)


def resolve(site: SiteText, subjects: Mapping[str, SubjectText], where: str) -> Rights:
    """The rights, every name followed. Raises ConfigError: `where: path: expected ..., got ...`."""
    return _Reading(site, subjects, where).rights()


class _Reading:
    """One site's texts on their way to become rights."""

    def __init__(self, file: SiteText, subjects: Mapping[str, SubjectText], where: str) -> None:
        self._file = file
        self._subjects = subjects
        self._where = where
        self._calendar = Calendar(self._zone(file.time_zone), frozenset(self._holidays()))
        self._schedules = {
            name: self._schedule(f"schedules.{name}", periods) for name, periods in file.schedules.items()
        }
        self._groups = {n: self._limits(f"groups.{n}", limits) for n, limits in file.groups.items()}

    def rights(self) -> Rights:
        """Everything resolved. Raises ConfigError."""
        subjects = {name: self._subject(name, subject) for name, subject in self._subjects.items()}
        others = None
        if self._file.others is not None:
            others = SubjectRights(groups=self._named_groups("others", self._file.others))
        free = [self._free(f"free_access[{i}]", limits) for i, limits in enumerate(self._file.free_access)]
        lockdown = self._file.mode == "lockdown"
        return Rights(self._calendar, subjects, others, tuple(free), lockdown, self._schedules)

    def _refuse(self, path: str, expected: str, got: object) -> ConfigError:
        return ConfigError(f"{self._where}: {path}: expected {expected}, got {got}")

    def _zone(self, name: str) -> ZoneInfo:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # unknown, no path, a folder's name
            raise self._refuse("time_zone", "an IANA time zone such as Europe/Berlin", repr(name)) from None

    def _holidays(self) -> Iterator[date]:
        for i, text in enumerate(self._file.holidays):
            yield self._wall(f"holidays[{i}]", text).date()

    def _wall(self, path: str, text: str) -> datetime:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            found = datetime.min
        if not 2000 <= found.year <= 2999:  # also keeps a day more or less within datetime's range
            raise self._refuse(path, "a date of the years 2000 to 2999", repr(text))
        return found

    def _schedule(self, path: str, periods: list[PeriodText]) -> Schedule:
        found = tuple(self._period(f"{path}[{i}]", period) for i, period in enumerate(periods))
        days = {*range(7), HOLIDAY} if self._calendar.holidays else {*range(7)}
        if not any(period.days & days for period in found):
            raise self._refuse(path, "a schedule that opens", "one that never does")
        return found

    def _period(self, path: str, period: PeriodText) -> Period:
        begins, ends = _minutes(period.from_), _minutes(period.until)
        if begins == ends:
            raise self._refuse(path, "from and until to differ (00:00 to 24:00 is a day)", period.from_)
        if ends < begins:
            ends += DAY_MIN
        return Period(frozenset(DAYS.index(day) for day in period.days), begins, ends)

    def _limits(self, path: str, limits: LimitsText) -> Limits:
        doors = None if limits.doors is None else frozenset(limits.doors)
        schedule = self._named_schedule(f"{path}.schedule", limits.schedule)
        begin = None if limits.from_ is None else self._wall(f"{path}.from", limits.from_)
        end = None if limits.until is None else self._wall(f"{path}.until", limits.until)
        if end is not None and "T" not in (limits.until or ""):
            end += timedelta(days=1)  # the day named is the last
        if begin is not None and end is not None:
            if not begin < end:
                raise self._refuse(f"{path}.until", f"a time after from ({limits.from_})", limits.until)
            if schedule is not None and not self._opens_between(schedule, begin, end):
                raise self._refuse(path, "a schedule that opens between from and until", limits.schedule)
        return Limits(doors, schedule, self._utc(begin), self._utc(end))

    def _named_schedule(self, path: str, name: str | None) -> Schedule | None:
        if name is None:
            return None
        if name not in self._schedules:
            known = ", ".join(self._schedules) or "none"
            raise self._refuse(path, f"one of schedules ({known})", repr(name))
        return self._schedules[name]

    def _opens_between(self, schedule: Schedule, begin: datetime, end: datetime) -> bool:
        """Whether a period overlaps; of a window of a year and more it is taken for granted."""
        days = (end.date() - begin.date()).days
        if days > _YEAR_DAYS:
            return True
        opens = frozenset().union(*(period.days for period in schedule))
        for offset in range(-1, days + 1):
            day = begin.date() + timedelta(days=offset)
            if self._calendar.kind(day) not in opens:
                continue
            midnight = datetime.combine(day, datetime.min.time())
            for period in schedule:
                first = midnight + timedelta(minutes=period.begins_min)
                last = midnight + timedelta(minutes=period.ends_min)
                if self._calendar.kind(day) in period.days and first < end and begin < last:
                    return True
        return False

    def _utc(self, wall: datetime | None) -> datetime | None:
        return wall and wall.replace(tzinfo=self._calendar.zone).astimezone(timezone.utc)

    def _subject(self, name: str, subject: SubjectText) -> SubjectRights:
        path = f"subjects.{name}"
        groups = self._named_groups(f"{path}.groups", subject.groups or [])
        limits = self._limits(path, subject)
        return SubjectRights(limits, groups, subject.enabled, subject.extended_release)

    def _named_groups(self, path: str, names: list[str]) -> tuple[Limits, ...]:
        for i, name in enumerate(names):
            if name not in self._groups:
                known = ", ".join(self._groups) or "none"
                raise self._refuse(f"{path}[{i}]", f"one of groups ({known})", repr(name))
        return tuple(self._groups[name] for name in names)

    def _free(self, path: str, limits: LimitsText) -> Limits:
        """Free access always ends: it has a schedule, and one that leaves some of the week out."""
        found = self._limits(path, limits)
        if found.schedule is None:
            raise self._refuse(f"{path}.schedule", "a schedule: free access always has an end", "none")
        if _never_closes(found.schedule):
            raise self._refuse(
                f"{path}.schedule", "a schedule that closes", f"{limits.schedule}, open all week"
            )
        return found


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)


def _never_closes(schedule: Schedule) -> bool:
    """Whether no minute of an ordinary week is left out."""
    week = 7 * DAY_MIN
    covered = bytearray(week + DAY_MIN)  # a Sunday's night ends on Monday
    for period in schedule:
        for day in period.days - {HOLIDAY}:
            begin, end = day * DAY_MIN + period.begins_min, day * DAY_MIN + period.ends_min
            covered[begin:end] = b"\1" * (end - begin)
    return all(covered[DAY_MIN:week]) and all(a or b for a, b in zip(covered, covered[week:], strict=False))
