"""A removed person is gone when every door has confirmed; until then the receipt lists who has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from admin_people import door, new_records, person
from msgspec.structs import replace

from edge.admin import people
from edge.admin.model import Publication, Revoked, publication_id
from edge.admin.receipts import confirm, published, receipts
from edge.admin.records import Records

REMOVED, T1, T2 = "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-02-03T00:00:00Z"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with new_records(tmp_path) as opened:
        for name in ("front", "back"):
            opened.put(name, door(name))
        people.add(opened, person("ada"))
        people.remove(opened, "ada", REMOVED)
        yield opened


def test_a_receipt_is_complete_when_every_door_has_a_version_without_the_person(records):
    published(records, 5)
    (receipt,) = confirm(records, {"front": 5, "back": 4}, T1)
    assert (receipt.version, receipt.confirmed, receipt.missing, receipt.complete) == (
        5,
        {"front": T1},
        ["back"],
        False,
    )
    (receipt,) = confirm(records, {"front": 6, "back": 6}, T2)
    assert (receipt.confirmed, receipt.missing, receipt.complete) == ({"front": T1, "back": T2}, [], True)


def test_a_removal_that_was_not_pushed_is_confirmed_by_nobody(records):
    (receipt,) = confirm(records, {"front": 9, "back": 9}, T1)
    assert (receipt.version, receipt.confirmed, receipt.missing, receipt.complete) == (
        None,
        {},
        ["back", "front"],
        False,
    )


def test_who_has_confirmed_once_stays_so_when_an_old_report_comes(records):
    published(records, 5)
    confirm(records, {"front": 5}, T1)
    (receipt,) = confirm(records, {"front": 4}, T2)
    assert receipt.confirmed == {"front": T1}


def test_a_door_of_another_site_confirms_nothing(records):
    published(records, 5)
    assert confirm(records, {"elsewhere": 5}, T1)[0].confirmed == {}


def test_a_door_retired_before_it_confirmed_is_named_for_erasure_by_hand(records):
    published(records, 5)
    for name, at_utc in (("back", T1), ("cellar", "2025-12-31T00:00:00Z")):
        records.put(name, door(name, retired_at_utc=at_utc))
        records.put(f"serial of {name}", Revoked(name, at_utc))
    (receipt,) = confirm(records, {"front": 5}, T2)
    assert (receipt.missing, receipt.retired, receipt.complete) == ([], ["back"], True)


def test_a_later_push_does_not_move_the_version_of_an_earlier_removal(records):
    published(records, 5)
    published(records, 6)
    assert [one.version for one in receipts(records)] == [5]


def test_a_door_that_came_back_under_its_old_name_does_not_confirm_for_the_one_that_was_retired(records):
    published(records, 5)
    records.put("7", Revoked("back", T1))
    records.put("back", replace(door("back"), added_at_utc=T2))
    (receipt,) = confirm(records, {"front": 5, "back": 6}, T2)
    assert (receipt.retired, receipt.complete) == (["back"], True)


def test_a_door_that_was_added_after_a_version_without_the_person_has_nothing_to_confirm(records):
    published(records, 5)
    records.put(publication_id(5), Publication(5, T1, "", {}, 0, 0, []))
    assert confirm(records, {"front": 5, "back": 5}, T1)[0].complete
    records.put("cellar", replace(door("cellar"), added_at_utc=T2))
    (receipt,) = receipts(records)
    assert (receipt.missing, receipt.complete) == ([], True)
    records.put("attic", replace(door("attic"), added_at_utc=T1))
    assert receipts(records)[0].missing == ["attic"]
