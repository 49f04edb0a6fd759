"""An admin's records: sealed one by one, changed together or not at all."""

from __future__ import annotations

import sqlite3

import pytest

from edge.admin.model import Group, Person, Site
from edge.admin.records import Records
from edge.errors import AdminError, GalleryError

KEY = b"k" * 32
SITE = Site("hq", "UTC", "broker", 8883, "facenet-a", 16, b"s" * 32, b"c" * 32)


@pytest.fixture
def records(tmp_path):
    with Records.create(tmp_path / "records.db", KEY) as made:
        yield made


def test_what_is_put_is_there_after_a_restart_by_kind_and_id(tmp_path, records):
    records.put("ada", Person(subject="ada", name="Ada L."))
    records.put("ada", Group(doors=["front"]))
    records.put("bob", Person(subject="bob"))
    records.close()
    with Records(tmp_path / "records.db", KEY) as found:
        assert found.get(Person, "ada") == Person(subject="ada", name="Ada L.")
        assert found.get(Group, "ada") == Group(doors=["front"])
        assert found.get(Group, "bob") is None
        assert found.all(Person) == {
            "ada": Person(subject="ada", name="Ada L."),
            "bob": Person(subject="bob"),
        }
        assert found.some(Person, ["bob", "eve"]) == {"bob": Person(subject="bob")}


def test_a_revision_never_comes_twice(records):
    first = records.put("ada", Person(subject="ada"))
    second = records.put("ada", Person(subject="ada", name="Ada"))
    assert records.delete(Person, "ada")
    assert not records.delete(Person, "ada")
    third = records.put("ada", Person(subject="ada"))
    group = records.put("staff", Group())
    assert first < second < third < group
    assert records.revisions(Person) == {"ada": third}
    assert records.revisions(Group) == {"staff": group}


def test_a_transaction_that_fails_leaves_everything_as_it_was(records):
    records.put("ada", Person(subject="ada"))

    def fail() -> None:
        with records.transaction():
            records.put("bob", Person(subject="bob"))
            with records.transaction():
                records.delete(Person, "ada")
            raise AdminError("enough")

    with pytest.raises(AdminError):
        fail()
    assert list(records.revisions(Person)) == ["ada"]
    with records.transaction():
        records.put("bob", Person(subject="bob"))
    assert list(records.revisions(Person)) == ["ada", "bob"]


def test_the_file_tells_no_name_and_no_deleted_one(tmp_path, records):
    records.put("ada", Person(subject="ada", name="Ada Lovelace"))
    records.put("bob", Person(subject="bob-who-left"))
    records.delete(Person, "bob")
    records.close()
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"Lovelace" not in data
    assert b"bob" not in data


def change(path, sql, *values):
    with sqlite3.connect(path) as connection:
        connection.execute(sql, values)
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE record SET id = 'eve' WHERE id = 'ada'",
        "UPDATE record SET kind = 'person' WHERE kind = 'group'",
        "UPDATE record SET revision = 99 WHERE id = 'ada'",
        "UPDATE record SET sealed = (SELECT sealed FROM record WHERE id = 'bob') WHERE id = 'ada'",
        "UPDATE record SET sealed = x'00' WHERE id = 'ada'",
    ],
)
def test_a_record_that_was_moved_or_altered_is_refused(tmp_path, records, sql):
    records.put("ada", Person(subject="ada"))
    records.put("bob", Person(subject="bob"))
    records.put("staff", Group())
    records.close()
    change(tmp_path / "records.db", sql)
    with (
        Records(tmp_path / "records.db", KEY) as found,
        pytest.raises(GalleryError, match=r"records\.db: person"),
    ):
        found.all(Person)


def test_another_key_or_another_format_is_refused(tmp_path, records):
    records.put_site(SITE)
    records.close()
    with (
        Records(tmp_path / "records.db", b"x" * 32) as found,
        pytest.raises(GalleryError, match="another key"),
    ):
        found.site()
    change(tmp_path / "records.db", "UPDATE meta SET format = 2")
    with pytest.raises(GalleryError, match="expected format 1, got 2: made by another doord"):
        Records(tmp_path / "records.db", KEY)


def test_the_site_is_one_record(records):
    with pytest.raises(AdminError, match="expected the record of one site, got 0"):
        records.site()
    records.put_site(SITE)
    assert records.site() == SITE


def test_records_are_not_made_over_others(tmp_path, records):
    with pytest.raises(GalleryError, match="expected no file yet"):
        Records.create(tmp_path / "records.db", KEY)
