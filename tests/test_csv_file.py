"""People as a CSV file: all rows or none, every mistake with its row and column, and no formulas."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.admin import csv_file
from edge.admin.csv_file import read_table, write_table
from edge.admin.model import Person
from edge.errors import TableError


def mistakes(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(TableError) as refused:
        read_table(data, "people.csv")
    return str(refused.value).split("\n")


def test_every_column_becomes_its_field():
    text = (
        f"{csv_file.HEADER}\n"
        "ada,Ada Lovelace,staff night,front back,office,2026-01-01,2026-12-31T18:00,no,yes,"
        "C-17,employee,2027-06-30,wiegand26:012-03456\n"
    )
    (entry,) = read_table(text.encode(), "people.csv")
    assert (entry.row, entry.subject, entry.card) == (2, "ada", "wiegand26:12-3456")
    assert entry.fields == {
        "subject": "ada",
        "name": "Ada Lovelace",
        "groups": ["staff", "night"],
        "doors": ["front", "back"],
        "schedule": "office",
        "from_": "2026-01-01",
        "until": "2026-12-31T18:00",
        "enabled": False,
        "extended_release": True,
        "consent": "C-17",
        "reason": "employee",
        "retain_until": "2027-06-30",
    }


def test_only_the_columns_that_are_there_are_told():
    (entry,) = read_table(b"name,subject\nAda,ada\n", "people.csv")
    assert entry.fields == {"name": "Ada", "subject": "ada"}


@pytest.mark.parametrize("encoded", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("comma", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_spreadsheets_save_is_read(encoded, comma, end):
    text = end.join([comma.join(["subject", "name"]), comma.join(["ada", '"Müller, ""Ada"""']), "", ""])
    (entry,) = read_table(text.encode(encoded), "people.csv")
    assert entry.fields["name"] == 'Müller, "Ada"'


def test_a_table_of_people_comes_back_from_a_german_spreadsheet():
    text = (
        "\ufeffsubject;name;from;until;enabled;retain_until;;\r\n"
        "mueller-1;Jörg Müller;1.2.2026;31.12.2026 8:30;;31.01.2027;;\r\n"
        ";;;;;;;\r\n"
        "strasse;Groß Straße;;2026-12-31\r\n"
    )
    first, second = read_table(text.encode(), "people.csv")
    assert first.fields == {
        "subject": "mueller-1",
        "name": "Jörg Müller",
        "from_": "2026-02-01",
        "until": "2026-12-31T08:30",
        "retain_until": "2027-01-31",
    }
    assert (second.row, second.fields["until"], second.fields["retain_until"]) == (4, "2026-12-31", None)


@pytest.mark.parametrize("day", ["31.02.2026", "12/31/2026", "1.2.26", "31.12.2026 25:00", "46387"])
def test_a_day_that_is_none_or_may_be_two_is_refused(day):
    (line,) = mistakes(f"subject,until\nada,{day}\n")
    assert f"expected a date such as 2026-12-31 or 2026-12-31T18:00, got '{day}'" in line


def test_all_mistakes_are_told_at_once_one_a_line():
    text = (
        "subject,name,until,enabled,card\n"
        "Ada,A,2026-12-31,yes,\n"
        "bob,B,12/31/2026,maybe,\n"
        "eve,E,2026-02-30,,wiegand26:999-1\n"
        "dan,D,,,,extra\n"
        "kim,=1+1,,,\n"
        "bea,B,,,\n"
        "bea,B,,,\n"
    )
    assert mistakes(text) == [
        "people.csv: row 2, column subject: expected 1 to 32 of a-z, 0-9 and -, got 'Ada'",
        "people.csv: row 3, column until: expected a date such as 2026-12-31 or 2026-12-31T18:00, "
        "got '12/31/2026'",
        "people.csv: row 3, column enabled: expected yes or no, got 'maybe'",
        "people.csv: row 4, column until: expected a date such as 2026-12-31 or 2026-12-31T18:00, "
        "got '2026-02-30'",
        "people.csv: row 4, column card: expected FORMAT:NUMBER such as wiegand26:12-3456 or "
        "wedge:0012345678, got another",
        "people.csv: row 5: expected 5 cells, got 6",
        "people.csv: row 6, column name: expected text (with a ' before it), got a formula, '=1+1'",
        "people.csv: row 8, column subject: expected each subject once, got bea of row 7",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "row 1: expected a header row: subject,name"),
        (b"name\nAda\n", "row 1: expected a column subject, got none"),
        (b"subject,nmae\nada,A\n", "got 'nmae' (did you mean name?)"),
        (b"subject,name,name\n", "row 1, column name: expected it once, got it 2 times"),
        (b'subject,name\nada,"A\n', "row 2: expected cells in quotes that end, got unexpected end of data"),
        ("subject,name\nada,Müller\n".encode("latin-1"), "expected UTF-8, got byte 0xfc at 18: save it as"),
        ("subject,name\nada,A\n".encode("utf-16"), "expected UTF-8, got byte 0xff at 0"),
        (b"subject,name\nada,A\0B\n", "expected at most 200 printable characters, got 3, 'A\\x00B'"),
        (b'subject,name\nada,"A\nB"\n', "expected at most 200 printable characters, got 3, 'A\\nB'"),
        (b"subject,name\nada," + b"A" * 201 + b"\n", "got 201, 'AAAA"),
    ],
)
def test_a_file_that_is_no_table_of_people_is_told_why(text, expected):
    found = mistakes(text)
    assert any(expected in line for line in found), found


def test_a_file_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(csv_file, "MAX_BYTES", 10)
    assert mistakes("subject\nada\n") == ["people.csv: expected at most 10 bytes, got 12"]
    monkeypatch.setattr(csv_file, "MAX_BYTES", 10_000)
    monkeypatch.setattr(csv_file, "MAX_ROWS", 3)
    assert mistakes("subject\na\nb\nc\nd\n") == ["people.csv: row 4: expected at most 3 rows, got more"]


def test_no_more_mistakes_are_listed_than_a_person_reads():
    found = mistakes("subject\n" + "X\n" * 500)
    assert (len(found), found[-1]) == (101, "people.csv: and 400 mistakes more")


@pytest.mark.parametrize(
    "name", ["=HYPERLINK(1)", "+1", "-2", "@x", "'=1", "''=1", " =1", "O'Neil", "'quoted'", 'a,"b";c', ""]
)
def test_what_is_written_is_no_formula_and_reads_back_the_same(name):
    text = write_table([Person(subject="ada", name=name.strip(), groups=["a", "b"], doors=["front"])])
    cells = list(csv.reader(io.StringIO(text, newline="")))[1]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    (entry,) = read_table(text.encode(), "people.csv")
    assert entry.fields["name"] == name.strip()
    assert (entry.fields["groups"], entry.fields["doors"]) == (["a", "b"], ["front"])


def test_a_subject_that_begins_with_a_dash_reads_back_too():
    (entry,) = read_table(write_table([Person(subject="-x")]).encode(), "people.csv")
    assert entry.subject == "-x"


@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda t: f"subject,name\n{t}".encode("utf-8", "replace"))
)
def test_any_bytes_are_people_or_mistakes(data):
    assert all(entry.subject for entry in read_or_lines(data, "people.csv: "))


def read_or_lines(data: bytes, start: str) -> list[csv_file.Entry]:
    try:
        return read_table(data, "people.csv")
    except TableError as error:
        lines = str(error).split("\n")
    assert all(line.startswith(start) for line in lines)
    return []
