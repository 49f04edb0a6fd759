"""The gallery report: what stops a push, who accepts it, and for how long that holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from admin_people import MODEL, NOW, at, door, new_records, person

from edge.admin import checks, people, report
from edge.admin.checks import Span
from edge.admin.model import Accepted, Checked
from edge.admin.records import Records
from edge.errors import AdminError

FMR = Span(4.5e-6, 5.7e-6, 7.2e-6)
LOCAL = "2026-03-01T12:00"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with new_records(tmp_path) as opened:
        opened.put("front", door("front"))
        yield opened


def examine(records: Records, fmr: Span = FMR, **more: bool) -> report.GalleryReport:
    found, checked = report.examine(records, fmr, LOCAL, **more)
    report.keep(records, checked, {})
    return found


def accept(records: Records, name: str = "kim") -> None:
    found, checked = report.examine(records, FMR, LOCAL)
    report.keep(records, checked, report.acceptances(found, name, NOW))


def pairs(found: report.GalleryReport) -> list[tuple[str, str, float]]:
    return [(one.one, one.other, round(one.distance, 2)) for one in found.lookalikes]


def test_people_who_look_alike_stop_a_push_until_somebody_accepts_them(records):
    people.add(records, person("ada", at(0)))
    people.add(records, person("eve", at(0.61)))
    found = examine(records)
    assert found.refusals == ["ada looks like eve, 0.61: same person, twin, or a mistake?"]
    accept(records)
    found = examine(records)
    assert (found.refusals, pairs(found)) == ([], [("ada", "eve", 0.61)])
    assert records.get(Accepted, "ada+eve").by == "kim"


def test_an_acceptance_ends_when_the_two_come_nearer(records):
    people.add(records, person("ada", at(0)))
    people.add(records, person("eve", at(0.61)))
    accept(records)
    people.edit(records, "eve", {"templates": person("eve", at(0.61), at(0.65)).templates})
    assert examine(records).refusals == []
    people.edit(records, "eve", {"templates": person("eve", at(0.4)).templates})
    assert examine(records).refusals == ["ada looks like eve, 0.40: same person, twin, or a mistake?"]


def test_only_who_has_changed_is_compared_and_the_rest_is_remembered(records):
    for i, distance in enumerate((0, 0.5)):
        people.add(records, person(f"a{i}", at(distance)))
        people.add(records, person(f"b{i}", at(distance, plane=1)))
    assert (examine(records).compared, examine(records).compared) == (4, 0)
    people.add(records, person("c", at(0, plane=2)))
    found = examine(records)
    assert (found.compared, pairs(found)) == (1, [("a0", "a1", 0.5), ("b0", "b1", 0.5)])
    people.edit(records, "b1", {"templates": person("b1", at(0, plane=3)).templates})
    people.remove(records, "a1", NOW)
    found = examine(records)
    assert (found.compared, pairs(found), found.lookalikes_count) == (1, [], 0)
    assert pairs(examine(records, full=True)) == []


def test_a_full_report_finds_what_the_remembered_ones_find(records):
    for i in range(12):
        people.add(records, person(f"p{i}", at(0.15 * i)))
        examine(records)
    by_steps, at_once = examine(records), examine(records, full=True)
    assert set(pairs(by_steps)) == set(pairs(at_once))
    assert by_steps.lookalikes_count == at_once.lookalikes_count == len(at_once.lookalikes)
    assert (by_steps.compared, at_once.compared) == (0, 12)


def test_what_was_compared_for_another_model_counts_for_nothing(records):
    people.add(records, person("ada", at(0)))
    examine(records)
    records.put("hq", Checked("facenet-b", {"ada": 1}, [], 0))
    assert examine(records).compared == 1


def test_pairs_too_many_to_list_still_stop_a_push(records, monkeypatch):
    monkeypatch.setattr(checks, "MOST_PAIRS", 2)
    for i in range(4):
        people.add(records, person(f"p{i}", at(0.01 * i)))
    accept(records)
    assert examine(records).refusals == ["and 4 pairs more that look alike"]
    assert examine(records, full=True).refusals[-1] == "and 4 pairs more that look alike"


def test_a_high_fpir_stops_a_push_where_doors_open_by_a_face_alone(records):
    people.add(records, person("ada", at(0)))
    high = Span(1e-3, 2e-3, 3e-3)
    (refusal,) = examine(records, high).refusals
    assert refusal.startswith("expected FPIR 3.0e-03 of 1 templates is above max_fpir 1.0e-03, and 1 doors")
    records.put("front", door("front", face_only=False))
    records.put("back", door("back", retired_at_utc=NOW))
    assert examine(records, high).refusals == []


def test_an_accepted_fpir_may_grow_by_a_tenth(records):
    people.add(records, person("ada", at(0)))
    records.put(report.FPIR, Accepted(3e-3, "kim", NOW))
    found = examine(records, Span(1e-3, 2e-3, 3.2e-3))
    assert (found.fpir_refused, report.accepted_by(records, found)) == (False, "kim")
    assert report.accepted_by(records, examine(records)) == ""
    assert examine(records, Span(1e-3, 2e-3, 3.4e-3)).fpir_refused is True
    assert examine(records, Span(1e-3, 2e-3, float("nan"))).fpir_refused is True


def test_the_report_names_who_disagrees_with_himself_and_who_should_be_gone(records):
    people.add(records, person("two", at(0), at(0, plane=1), consent="C-1"))
    people.add(records, person("old", retain_until="2026-02-28", consent="C-2"))
    found = examine(records)
    assert [one.subject for one in found.disagreeing] == ["two"]
    assert (found.past_retention, found.without_template, found.without_consent) == (("old",), ("old",), ())
    words = "\n".join(report.lines(found))
    assert "two: own templates disagree, 1.41" in words
    assert "past their retention date: old" in words
    assert "expected FPIR of one search 1.1e-05 [9.0e-06 .. 1.4e-05]" in words
    assert json.loads(report.to_json(found))["refusals"] == []


def test_the_closest_pairs_are_told_though_none_is_too_close(records):
    people.add(records, person("ada", at(0)))
    people.add(records, person("eve", at(1.2)))
    found = examine(records)
    assert (found.lookalikes, found.refusals) == ((), [])
    assert "closest: ada and eve, 1.20" in report.lines(found)


def test_a_template_that_is_damaged_stops_the_report_and_names_the_person(records):
    broken = person("ada", at(0))
    people.add(records, person("ada"))
    row = broken.templates[0]
    people.edit(records, "ada", {"templates": [type(row)(b"\0\0", MODEL, NOW)]})
    with pytest.raises(AdminError, match=r"^person ada: expected a template of 16 bytes, got 2 bytes"):
        examine(records)
