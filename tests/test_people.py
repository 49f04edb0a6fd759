"""People, groups, schedules, cards: every change goes with the rest, or is refused with its path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from admin_people import MODEL, NOW, at, new_records, person

from edge.admin import people
from edge.admin.csv_file import read_table, write_table
from edge.admin.model import Accepted, Checked, Group, Likeness, Period, Person, Removal, Schedule
from edge.admin.receipts import published
from edge.admin.records import Records
from edge.errors import AdminError, GalleryError, TableError

OFFICE = Schedule([Period(["mon", "fri"], "07:00", "19:00")])
LATER = "2026-02-02T03:04:05Z"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with new_records(tmp_path) as opened:
        people.put_schedule(opened, "office", OFFICE)
        people.put_group(opened, "staff", Group(schedule="office", doors=["front"]))
        yield opened


def import_(records: Records, text: str, update: bool = False) -> people.Imported:
    return people.import_people(records, read_table(text.encode(), "p.csv"), update, NOW, "p.csv")


def test_a_person_is_added_edited_disabled_and_found(records):
    people.add(records, person("ada", groups=["staff"], name="Ada"))
    people.edit(records, "ada", {"until": "2026-12-31", "enabled": False})
    found = people.find(records, "ada")
    assert (found.name, found.groups, found.until, found.enabled) == ("Ada", ["staff"], "2026-12-31", False)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {"groups": ["nobody"]},
            "rights: subjects.ada.groups[0]: expected one of groups (staff), got 'nobody'",
        ),
        (
            {"schedule": "night"},
            "rights: subjects.ada.schedule: expected one of schedules (office), got 'night'",
        ),
        ({"from_": "2026-05-01", "until": "2026-04-01"}, "rights: subjects.ada.until: expected a time after"),
        ({"until": "31.12.2026"}, "person ada: until: expected text matching"),
        ({"doors": ["Front Door"]}, "person ada: doors"),
        ({"retain_until": "2026-02-30"}, "person ada: retain_until: expected a date such as 2026-12-31 or"),
        ({"name": "Ada\nEve"}, "person ada: name: expected at most 200 printable characters, got others"),
    ],
)
def test_a_person_who_contradicts_the_rest_is_refused_and_not_kept(records, more, expected):
    with pytest.raises(AdminError) as refused:
        people.add(records, person("ada", **more))
    assert expected in str(refused.value)
    assert records.get(Person, "ada") is None


def test_an_id_that_is_none_is_refused(records):
    with pytest.raises(GalleryError, match="expected 1 to 32 of a-z"):
        people.add(records, person("Ada Lovelace"))


def test_nobody_is_there_twice_and_who_is_not_there_can_not_be_changed(records):
    people.add(records, person("ada"))
    with pytest.raises(AdminError, match=r"^person ada: is there already"):
        people.add(records, person("ada"))
    for change in (
        lambda: people.edit(records, "eve", {"name": "Eve"}),
        lambda: people.remove(records, "eve", NOW),
        lambda: people.give_card(records, "eve", "wedge:1", True, None),
    ):
        with pytest.raises(AdminError, match=r"^person 'eve': is not there"):
            change()


def test_a_removed_person_leaves_a_removal_and_no_acceptance(records):
    people.add(records, person("ada", at(0)))
    records.put("ada+eve", Accepted(0.6, "kim", NOW))
    records.put("bob+eve", Accepted(0.6, "kim", NOW))
    people.remove(records, "ada", LATER)
    assert records.get(Person, "ada") is None
    assert list(records.all(Accepted)) == ["bob+eve"]
    assert list(records.all(Removal).values()) == [Removal("ada", LATER, added_at_utc=NOW)]


def test_an_id_is_free_again_once_its_removal_was_pushed(records):
    people.add(records, person("ada"))
    people.remove(records, "ada", LATER)
    with pytest.raises(AdminError, match="removed, but not yet at the doors: push first"):
        people.add(records, person("ada"))
    published(records, 7)
    people.add(records, person("ada"))


def test_a_group_in_use_can_not_be_forgotten_nor_a_schedule(records):
    people.add(records, person("ada", groups=["staff"]))
    with pytest.raises(AdminError, match=r"subjects\.ada\.groups\[0\]: expected one of groups \(none\)"):
        people.forget(records, Group, "staff")
    with pytest.raises(AdminError, match=r"groups\.staff\.schedule: expected one of schedules \(none\)"):
        people.forget(records, Schedule, "office")
    assert (list(records.all(Group)), list(records.all(Schedule))) == (["staff"], ["office"])
    people.edit(records, "ada", {"groups": []})
    people.forget(records, Group, "staff")
    people.forget(records, Schedule, "office")
    with pytest.raises(AdminError, match=r"^group 'staff': is not there$"):
        people.forget(records, Group, "staff")


def test_a_schedule_that_never_opens_is_refused(records):
    with pytest.raises(AdminError, match="expected a schedule that opens, got one that never does"):
        people.put_schedule(records, "never", Schedule([Period(["holiday"], "07:00", "19:00")]))


def test_a_table_is_taken_whole_and_again_as_an_update(records):
    done = import_(records, "subject,name,groups,card\nada,Ada,staff,wiegand26:1-2\neve,Eve,,\n")
    assert (done.added, done.changed) == (("ada", "eve"), ())
    ada = people.find(records, "ada")
    assert (ada.name, ada.groups, len(ada.cards), ada.added_at_utc) == ("Ada", ["staff"], 1, NOW)
    done = import_(records, "subject,consent,card\nada,C-1,wiegand26:1-2\nkim,C-2,\n", update=True)
    assert (done.added, done.changed) == (("kim",), ("ada",))
    ada = people.find(records, "ada")
    assert (ada.name, ada.consent, len(ada.cards)) == ("Ada", "C-1", 1)


def test_an_empty_cell_enables_nobody_who_was_disabled(records):
    people.add(records, person("ada", enabled=False, extended_release=True))
    import_(records, "subject,enabled,extended_release,name\nada,,,Ada\nkim,,,Kim\n", update=True)
    ada, kim = people.find(records, "ada"), people.find(records, "kim")
    assert (ada.enabled, ada.extended_release, ada.name) == (False, True, "Ada")
    assert (kim.enabled, kim.extended_release) == (True, False)


def test_what_is_listed_as_a_table_can_be_imported_elsewhere(records, tmp_path):
    people.add(records, person("ada", name="=1+1", groups=["staff"], until="2026-12-31", consent="C"))
    text = write_table(records.all(Person).values())
    (tmp_path / "two").mkdir()
    with new_records(tmp_path / "two") as other:
        people.put_schedule(other, "office", OFFICE)
        people.put_group(other, "staff", Group(schedule="office"))
        import_(other, text)
        assert people.find(other, "ada") == people.find(records, "ada")


def test_a_table_with_a_mistake_changes_nothing_and_every_row_gets_its_line(records):
    people.add(records, person("ada"))
    with pytest.raises(TableError) as refused:
        import_(
            records,
            "subject,groups,from,until\nada,,,\nbob,ghosts,,\neve,,,\nkim,,2026-05-01,2026-04-01\n",
        )
    assert str(refused.value).split("\n") == [
        "p.csv: row 2: person ada: is there already: see doord admin person edit",
        "p.csv: row 3: rights: subjects.bob.groups[0]: expected one of groups (staff), got 'ghosts'",
        "p.csv: row 5: rights: subjects.kim.until: expected a time after from (2026-05-01), got 2026-04-01",
    ]
    assert list(records.all(Person)) == ["ada"]


def test_one_card_for_two_people_is_refused(records):
    people.add(records, person("ada"))
    people.add(records, person("eve"))
    card = people.give_card(records, "ada", "wedge:0012", True, None)
    with pytest.raises(AdminError, match=rf"^person eve: card {card.digest.hex()[:12]}: is ada's"):
        people.give_card(records, "eve", "wedge:0012", True, None)
    with pytest.raises(TableError, match="is kim's"):
        import_(records, "subject,card\nkim,wedge:7\nbob,wedge:7\n")


def test_a_card_is_disabled_enabled_given_again_and_removed(records):
    people.add(records, person("ada"))
    card = people.give_card(records, "ada", "wedge:0012", True, 2_000_000_000)
    card_id = card.digest.hex()[:12]
    assert people.change_card(records, card_id, "disable")[1].enabled is False
    assert people.find(records, "ada").cards[0].enabled is False
    assert people.change_card(records, card_id, "enable")[1].enabled is True
    people.give_card(records, "ada", "wedge:0012", True, None)
    assert [one.expires_at for one in people.find(records, "ada").cards] == [None]
    assert people.change_card(records, card_id, "remove")[0] == "ada"
    assert people.find(records, "ada").cards == []
    with pytest.raises(AdminError, match="is not there"):
        people.change_card(records, card_id, "remove")


def test_retention_is_over_from_the_date_named(records):
    rows = [
        person("ada", retain_until="2026-03-01"),
        person("eve", retain_until="2026-03-01T12:00"),
        person("kim"),
    ]
    assert [one.subject for one in people.past_retention(rows, "2026-03-01T11:59")] == ["ada"]
    assert [one.subject for one in people.past_retention(rows, "2026-03-01T12:00")] == ["ada", "eve"]
    assert people.past_retention(rows, "2026-02-28T23:59") == []


def test_all_that_is_stored_about_a_person_is_one_json_file(records):
    people.add(records, person("ada", at(0), name="Ada", consent="C-1", reason="employee"))
    people.give_card(records, "ada", "wedge:0012", True, None)
    records.put("ada+eve", Accepted(0.6, "kim", NOW))
    records.put("hq", Checked(MODEL, {}, [Likeness("ada", "eve", 0.6), Likeness("bob", "eve", 0.5)], 2))
    found = json.loads(people.everything_about(records, "ada"))
    assert (found["person"]["name"], found["person"]["consent"]) == ("Ada", "C-1")
    assert (len(found["person"]["templates"]), len(found["person"]["cards"])) == (1, 1)
    assert list(found["accepted"]) == ["ada+eve"]
    assert found["lookalikes"] == [{"one": "ada", "other": "eve", "distance": 0.6}]
    people.remove(records, "ada", LATER)
    assert json.loads(people.everything_about(records, "ada"))["removals"][0]["at_utc"] == LATER
    with pytest.raises(AdminError, match="nothing is stored here"):
        people.everything_about(records, "eve")
