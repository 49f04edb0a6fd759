"""People as a CSV file (RFC 4180), read strictly: all rows or none, and one line for every mistake. Pure.

A cell that begins as a formula is never written, and refused when read: a spreadsheet would run it
(OWASP, CSV Injection). Text that must begin so has a ' before it, both ways.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from edge.admin.model import Person
from edge.errors import CardError, TableError
from edge.identity.credentials import card_text

MAX_BYTES = 16 * 2**20
MAX_ROWS = 64_000
MAX_CELL = 200  # characters
MOST_MISTAKES = 100  # that are listed
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_ID = re.compile(r"[a-z0-9-]{1,32}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T([01][0-9]|2[0-3]):[0-5][0-9])?")
_DAY_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(?: ([0-9]{1,2}:[0-9]{2}))?")
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def _text(cell: str) -> str:
    return cell


def _id(cell: str) -> str:
    if not _ID.fullmatch(cell):
        raise ValueError("1 to 32 of a-z, 0-9 and -")
    return cell


def _optional_id(cell: str) -> str | None:
    return _id(cell) if cell else None


def _ids(cell: str) -> list[str]:
    try:
        return [_id(part) for part in cell.split()]
    except ValueError:
        raise ValueError("ids with spaces between them") from None


def _doors(cell: str) -> list[str] | None:
    return _ids(cell) or None


def _word(cell: str) -> bool | None:
    """None: the cell is empty, which says nothing; who is disabled is not enabled by it."""
    if cell and cell.lower() not in _WORDS:
        raise ValueError("yes or no")
    return _WORDS[cell.lower()] if cell else None


def moment(cell: str) -> str | None:
    """A date or a date and time as `rights.yaml` has it; None for nothing. Raises ValueError: what is."""
    if not cell:
        return None
    try:
        if _MOMENT.fullmatch(cell) and 2000 <= datetime.fromisoformat(cell).year <= 2999:
            return cell
    except ValueError:
        pass
    raise ValueError("a date such as 2026-12-31 or 2026-12-31T18:00")


def _day(cell: str) -> str | None:
    """As `moment`, or as a spreadsheet that writes day.month.year saves what was typed as `moment`.

    Dates with slashes are refused: nobody can tell which number is the month.
    """
    found = _DAY_FIRST.fullmatch(cell)
    if found is None:
        return moment(cell)
    day, month, year, clock = found.groups()
    return moment(f"{year}-{month:0>2}-{day:0>2}" + (f"T{clock:0>5}" if clock else ""))


def _card(cell: str) -> str | None:
    try:
        return card_text(*cell.split(":", 1)) if cell else None
    except (CardError, TypeError):
        raise ValueError("FORMAT:NUMBER such as wiegand26:12-3456 or wedge:0012345678") from None


_COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "subject": ("subject", _id),
    "name": ("name", _text),
    "groups": ("groups", _ids),
    "doors": ("doors", _doors),
    "schedule": ("schedule", _optional_id),
    "from": ("from_", _day),
    "until": ("until", _day),
    "enabled": ("enabled", _word),
    "extended_release": ("extended_release", _word),
    "consent": ("consent", _text),
    "reason": ("reason", _text),
    "retain_until": ("retain_until", _day),
    "card": ("", _card),
}
"""Column -> the field of Person, and what reads a cell."""
_SAYS_NOTHING = ("enabled", "extended_release")  # when empty; an empty cell of another clears it
HEADER = ",".join(_COLUMNS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: what the file says of a person."""

    row: int  # as a spreadsheet counts: the header is 1
    subject: str
    fields: dict[str, Any]  # of Person; only columns that the file has
    card: str | None  # `credentials.card_text`


def read_table(data: bytes, where: str) -> list[Entry]:
    """The people in a CSV file: UTF-8 with or without a BOM, commas or semicolons, a header row.

    Raises:
        TableError: one line for every mistake, with row and column.
    """
    reading = _Reading(where)
    entries = reading.entries(_rows(data, where))
    if reading.mistakes:
        shown = reading.mistakes[:MOST_MISTAKES]
        more = len(reading.mistakes) - len(shown)
        raise TableError("\n".join(shown + ([f"{where}: and {more} mistakes more"] if more else [])))
    return entries


def _rows(data: bytes, where: str) -> Iterable[list[str]]:
    if len(data) > MAX_BYTES:
        raise TableError(f"{where}: expected at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{where}: expected UTF-8, got byte {data[error.start]:#04x} at {error.start}: "
            "save it as `CSV UTF-8`"
        ) from None
    first = text.partition("\n")[0]
    comma = ";" if ";" in first and "," not in first else ","
    return csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)


class _Reading:
    """One file on its way, and what is wrong with it."""

    def __init__(self, where: str) -> None:
        self.mistakes: list[str] = []
        self._where = where
        self._seen: dict[str, int] = {}

    def entries(self, rows: Iterable[list[str]]) -> list[Entry]:
        found: list[Entry] = []
        header: list[str] | None = None
        row = 0
        try:
            for row, cells in enumerate(rows, start=1):
                if header is None:
                    header = self._header(cells)
                    if self.mistakes:
                        break
                elif any(cell.strip() for cell in cells):
                    found += self._entry(row, header, cells)
                if row > MAX_ROWS:
                    self._mistake(row, "", f"at most {MAX_ROWS} rows", "more")
                    break
        except csv.Error as error:
            self._mistake(row + 1, "", "cells in quotes that end", str(error))
        if header is None and not self.mistakes:
            self._mistake(1, "", f"a header row: {HEADER}", "an empty file")
        return found

    def _header(self, cells: Sequence[str]) -> list[str]:
        names = [cell.strip().lower() for cell in cells]
        while names and not names[-1]:  # columns that a spreadsheet once had
            names.pop()
        for name in dict.fromkeys(names):
            if name not in _COLUMNS:
                near = difflib.get_close_matches(name, _COLUMNS, 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                self._mistake(1, "", f"columns of {HEADER}", f"{name!r:.40}{hint}")
            elif names.count(name) > 1:
                self._mistake(1, name, "it once", f"it {names.count(name)} times")
        if "subject" not in names:
            self._mistake(1, "", "a column subject", "none")
        return names

    def _entry(self, row: int, header: list[str], cells: list[str]) -> list[Entry]:
        if any(cell.strip() for cell in cells[len(header) :]):
            self._mistake(row, "", f"{len(header)} cells", f"{len(cells)}")
            return []
        before = len(self.mistakes)
        fields: dict[str, Any] = {}
        card = None
        for name, cell in itertools.zip_longest(header, cells[: len(header)], fillvalue=""):
            value = self._cell(row, name, cell.strip())
            if name == "card":
                card = value
            elif value is not None or name not in _SAYS_NOTHING:
                fields[_COLUMNS[name][0]] = value
        if len(self.mistakes) > before:
            return []
        subject = fields["subject"]
        if subject in self._seen:
            self._mistake(row, "subject", "each subject once", f"{subject} of row {self._seen[subject]}")
        self._seen[subject] = row
        return [Entry(row, subject, fields, card)]

    def _cell(self, row: int, name: str, cell: str) -> Any:
        if cell.startswith("'") and _formula(cell):
            cell = cell[1:]
        elif _formula(cell):
            self._mistake(row, name, "text (with a ' before it)", f"a formula, {cell!r:.40}")
            return None
        if len(cell) > MAX_CELL or not cell.isprintable():
            self._mistake(row, name, f"at most {MAX_CELL} printable characters", f"{len(cell)}, {cell!r:.40}")
            return None
        try:
            return _COLUMNS[name][1](cell)
        except ValueError as error:
            self._mistake(row, name, str(error), "another" if name == "card" else f"{cell!r:.60}")
            return None

    def _mistake(self, row: int, column: str, expected: str, got: str) -> None:
        at = f", column {column}" if column else ""
        self.mistakes.append(f"{self._where}: row {row}{at}: expected {expected}, got {got}")


def write_table(people: Iterable[Person]) -> str:
    """People as CSV, in the form that `read_table` reads. Without cards: their numbers are not kept."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    names = [name for name in _COLUMNS if name != "card"]
    writer.writerow(names)
    for person in people:
        known = msgspec.structs.asdict(person)
        writer.writerow([safe_cell(_said(known[_COLUMNS[name][0]])) for name in names])
    return out.getvalue()


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is None else str(value)


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _formula(text) else text


def _formula(text: str) -> bool:
    return text.lstrip(" '").startswith(_FORMULA)
