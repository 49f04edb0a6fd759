"""What could poison a gallery, found in arrays; and what a gallery's size costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from admin_people import at

from edge.admin import checks
from edge.admin.checks import Crowd, Disagreement, Lookalike, Population, Span
from edge.admin.model import PersonTemplate
from edge.errors import AdminError
from edge.identity.match import distances


def crowd_of(count: int, each: int = 3, dimension: int = 8, seed: int = 7) -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    people = []
    for i in range(count):
        rows = rng.standard_normal((1 + i % each, dimension)).astype(np.float32)
        people.append((f"p{i:03d}", rows / np.linalg.norm(rows, axis=1, keepdims=True)))
    return people


def by_hand(people: list[tuple[str, np.ndarray]]) -> dict[tuple[str, str], float]:
    return {
        (one, other): min(float(distances(v, b).min()) for v in a)
        for (one, a), (other, b) in itertools.combinations(people, 2)
    }


@pytest.mark.parametrize("tile", [1, 4, 7, 2048])
def test_tiles_find_what_a_comparison_of_every_pair_finds(monkeypatch, tile):
    monkeypatch.setattr(checks, "TILE", tile)
    people = crowd_of(30)
    expected = by_hand(people)
    found = checks.likenesses(Population.of(people), closest=5)
    below = {pair: away for pair, away in expected.items() if away < 0.7}
    assert 5 < len(below) < len(expected)
    assert found.count == len(below)
    assert {(p.one, p.other): p.distance for p in found.pairs} == pytest.approx(below, abs=1e-3)
    assert [p.distance for p in found.pairs] == sorted(p.distance for p in found.pairs)
    assert [p.distance for p in found.closest] == pytest.approx(sorted(expected.values())[:5], abs=1e-3)


def test_who_has_changed_is_compared_with_everybody_and_each_pair_once(monkeypatch):
    monkeypatch.setattr(checks, "TILE", 5)
    people = crowd_of(25)
    asked = {"p003", "p004", "p014", "p020"}
    found = checks.likenesses(Population.of(people), asked)
    expected = {pair: away for pair, away in by_hand(people).items() if away < 0.7 and asked & set(pair)}
    assert {(p.one, p.other): p.distance for p in found.pairs} == pytest.approx(expected, abs=1e-3)
    assert found.count == len(found.pairs) == len(expected) > 3


def test_the_threshold_itself_is_no_likeness_and_the_words_ask_what_to_do():
    found = checks.likenesses(Population.of([("eve", at(0)[None]), ("bob", at(0.61)[None])]))
    assert found.pairs == (Lookalike("bob", "eve", pytest.approx(0.61, abs=1e-3)),)
    assert found.pairs[0].words == "bob looks like eve, 0.61: same person, twin, or a mistake?"
    away = float(distances(at(0), at(0.7)[None])[0])
    apart = checks.likenesses(Population.of([("a", at(0)[None]), ("b", at(0.7)[None])]), limit=away)
    assert (apart.pairs, len(apart.closest)) == ((), 1)


def test_a_distance_that_is_no_number_counts_as_a_likeness():
    broken = np.full((1, 8), np.nan, np.float32)
    found = checks.likenesses(Population.of([("a", at(0)[None]), ("b", broken)]))
    assert found.count == 1


def test_more_likenesses_than_can_be_listed_are_counted(monkeypatch):
    monkeypatch.setattr(checks, "MOST_PAIRS", 4)
    found = checks.likenesses(Population.of([(f"p{i}", at(0)[None]) for i in range(6)]))
    assert (len(found.pairs), found.count) == (4, 15)


def test_nobody_enrolled_is_nobody_alike():
    assert checks.likenesses(Population.of([("a", np.empty((0, 8), np.float32))])).count == 0
    assert checks.likenesses(Population.of([])).closest == ()


def test_templates_that_fall_into_two_lots_disagree_and_a_chain_does_not():
    chain = np.stack([at(0), at(0.8), at(1.4)])
    two = np.stack([at(0), at(0.1), at(0, plane=1)])
    population = Population.of([("chain", chain), ("two", two), ("one", at(0)[None])])
    assert checks.disagreements(population) == (Disagreement("two", pytest.approx(1.4142, abs=1e-3)),)
    assert checks.disagreements(population, asked={"chain"}) == ()


def test_a_template_that_is_no_number_agrees_with_nothing():
    rows = np.stack([at(0), np.full(8, np.nan, np.float32)])
    assert checks.widest_gap(rows) == 2.0


def test_the_templates_kept_lie_far_apart_and_never_are_twice_the_same():
    near = [at(0.01 * i) for i in range(6)]
    kept = checks.spread(np.stack([*near, at(0.9), at(0, plane=1), at(0, plane=2)]), 4)
    assert kept[1:] == [6, 7, 8]
    assert kept[0] in range(6)
    assert checks.spread(np.stack(near), 6) == [0, 1, 2, 3, 4, 5]
    assert len(set(checks.spread(np.stack([at(0)] * 9), 5))) == 5


def test_a_crowd_knows_who_joined_it_and_forgets_replaced_templates():
    crowd = Crowd(Population.of([("ada", at(0)[None])]), 8)
    assert crowd.nearest("ada", at(0)[None]) is None
    assert crowd.nearest("eve", at(0.3)[None]) == Lookalike("ada", "eve", pytest.approx(0.3, abs=1e-3))
    for i in range(300):
        crowd.put(f"p{i:03d}", at(0, plane=1)[None])
    crowd.put("ada", at(0, plane=2)[None])
    assert crowd.nearest("eve", at(0.3)[None]) is None
    assert crowd.nearest("eve", at(0, plane=2)[None]) == Lookalike("ada", "eve", 0.0)


def test_the_first_of_an_empty_crowd_looks_like_nobody():
    assert Crowd(Population.of([]), 8).nearest("ada", at(0)[None]) is None


def test_a_stored_vector_comes_back_as_a_unit_vector():
    rng = np.random.default_rng(1)
    vector = rng.standard_normal(512).astype(np.float32)
    vector /= np.linalg.norm(vector)
    row = PersonTemplate(checks.stored_vector(vector), "m", "2026-01-02T03:04:05Z")
    back = checks.vectors_of([row], 512, "person ada")[0]
    assert abs(np.linalg.norm(back) - 1) < 1e-6
    assert np.linalg.norm(back - vector) < 1e-3


@pytest.mark.parametrize("vector", [b"", b"\0" * 15, b"\0" * 16, b"\xff" * 16, b"\0\x3c" * 8])
def test_a_stored_vector_that_is_none_is_refused_and_whose_it_is_is_told(vector):
    with pytest.raises(AdminError, match=r"^person ada: expected "):
        checks.vectors_of([PersonTemplate(vector, "m", "x")], 8, "person ada")


def test_the_risk_is_people_times_tries_times_a_years_searches():
    found = checks.risk(Span(4.5e-6, 5.7e-6, 7.2e-6), people=30, templates=150, tries_per_person_per_day=4)
    assert found.fpir.high == pytest.approx(1.08e-3, rel=0.01)
    assert found.false_accepts_per_year.likely == pytest.approx(30 * 4 * 365 * found.fpir.likely)
    assert found.false_accepts_per_year.low < 37 < found.false_accepts_per_year.likely < 40
    assert checks.risk(Span(0.1, 0.2, 0.5), 10, 64_000, 4).fpir.high <= 1
