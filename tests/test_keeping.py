"""What is accepted of collected events, and how long they stay."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from collecting import Desk, Numbered, gaps, rows
from signing import NOW, in_s

from edge.admin.collected import Collected
from edge.admin.intake import Intake
from edge.admin.keeping import accept, prune
from edge.admin.placing import read_event
from edge.admin.store import GIVEN_UP_AFTER
from edge.cli import main
from edge.errors import AdminError
from edge.link import wire

DAY_S = 86400.0


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path / "collected" / "events.db")
    yield made
    made.store.close()


def verdict(desk: Desk) -> list[tuple[str, int | None]]:
    with Collected(desk.store.path) as store:
        return [(name, flaw and flaw.seq) for name, flaw in store.verify(None)]


def standing(desk: Desk) -> tuple[int, int, int]:
    """Missing, accepted, forks."""
    with Collected(desk.store.path) as store:
        (row,) = store.status(NOW)
    return row.missing, row.accepted, row.forks


# accepted


def with_a_gap_that_was_lost(desk: Desk) -> Numbered:
    door = Numbered()
    sent = door.some(8)
    desk.events(*sent[:3], *sent[5:])
    for _ in range(GIVEN_UP_AFTER):
        desk.events(*sent[5:])
    return door


def test_what_was_lost_is_wrong_until_somebody_accepts_it_and_that_is_recorded(desk):
    with_a_gap_that_was_lost(desk)
    assert (standing(desk), verdict(desk)) == ((2, 0, 0), [("front (1)", 4)])
    accept(desk.store, "front", "eve", "broker crash of 3 May, ticket 12", NOW)
    assert (standing(desk), verdict(desk)) == ((0, 2, 0), [("front (1) without 4 to 5, as accepted", None)])
    assert gaps(desk.store) == [(4, 5, f"accepted at {in_s(0)} by eve: broker crash of 3 May, ticket 12")]
    query = "SELECT at, door, kind, detail FROM finding ORDER BY n DESC LIMIT 1"
    detail = "events 4 to 5 of chain 1 missing: by eve: broker crash of 3 May, ticket 12"
    assert desk.store.connection.execute(query).fetchone() == (in_s(0), "front", "Accepted", detail)


def test_what_goes_missing_or_forks_afterwards_is_wrong_again(desk):
    door = with_a_gap_that_was_lost(desk)
    desk.events(*Numbered(grain=3).some(2))
    accept(desk.store, "front", "eve", "card swapped", NOW)
    assert standing(desk) == (0, 2, 0)
    more = door.some(3)
    desk.events(*more[:1], *more[2:])
    desk.events(Numbered(grain=4).next())
    assert standing(desk)[::2] == (1, 1)
    desk.store.connection.execute("DELETE FROM event WHERE chain = 1 AND seq IN (3, 6)")
    assert ("front (1) without 4 to 5, as accepted", 3) in verdict(desk)


def test_a_gap_that_is_waited_for_in_vain_can_be_accepted_and_no_longer_holds_the_acknowledgement(desk):
    door = Numbered()
    sent = door.some(6)
    desk.events(*sent[:2], *sent[3:])
    assert (desk.ack, desk.asked) == (2, True)
    accept(desk.store, "front", "eve", "lost at the broker", NOW)
    desk.events(sent[5])
    assert (desk.ack, desk.asked) == (6, False)
    desk.events(sent[2])  # it comes all the same
    assert (gaps(desk.store), verdict(desk)) == ([], [("front (1)", None)])


@pytest.mark.parametrize(
    ("by", "why", "message"),
    [
        ("", "x", "name: expected 1 to 60"),
        ("eve", " ", "reason: expected 1 to 300"),
        ("e\x1bve", "x", "name: "),
        ("eve", "a\nb", "reason: "),
        ("e" * 61, "x", "name: "),
        ("eve", "x" * 301, "reason: "),
    ],
)
def test_nothing_is_accepted_without_a_name_and_a_reason(desk, by, why, message):
    with_a_gap_that_was_lost(desk)
    with pytest.raises(AdminError, match=message):
        accept(desk.store, "front", by, why, NOW)
    assert standing(desk) == (2, 0, 0)


def test_where_nothing_is_wrong_there_is_nothing_to_accept(desk):
    desk.events(*Numbered().some(3))
    with pytest.raises(AdminError, match="door front: expected something missing or a fork"):
        accept(desk.store, "front", "eve", "x", NOW)


def test_as_typed_beside_the_collector(desk, capsys):
    desk.events(*Numbered().some(2), *Numbered(grain=2).some(2))
    path = str(desk.store.path)
    assert main(["admin", "collect", "--status", "--store", path, "--json"]) == 1
    words = ["front", "--by", "eve", "--why", "card swapped", "--store", path]
    capsys.readouterr()
    assert main(["admin", "collect-accept", *words]) == 0
    assert capsys.readouterr().out == "accepted: chain 2: by eve: card swapped\n"
    main(["admin", "collect", "--status", "--store", path, "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["missing"], row["forks"]) == (0, 0)
    assert main(["admin", "collect-accept", *words]) == 2
    assert main(["admin", "collect-accept", *words[:-1], f"{path}.none"]) == 2


# how long they stay


def stored(desk: Desk, days_ago: float, *payloads: bytes) -> None:
    """As if it had been stored then."""
    desk.events(*payloads)
    at = in_s(-days_ago * DAY_S)
    for payload in payloads:
        desk.store.connection.execute(
            "UPDATE event SET stored_at = ? WHERE digest = ?", (at, read_event(payload).digest)
        )


def pruned(desk: Desk, keep_days: int = 30, days_on: float = 0.0) -> list[str]:
    with desk.store.transaction():
        found = prune(desk.store, keep_days, NOW + timedelta(days=days_on))
    return [f"{one.kind}: {one.detail}" for one in found]


def numbers(desk: Desk) -> list[tuple[int, int]]:
    return [(chain, seq) for chain, seq, _ in rows(desk.store)]


@pytest.fixture
def aged(desk):
    """Nine events: four of 100 days ago, three of 40, two of today; the door has signed for all."""
    door = Numbered()
    sent = door.some(9)
    stored(desk, 100, *sent[:4])
    stored(desk, 40, *sent[4:7])
    stored(desk, 0, *sent[7:])
    desk.attest(seq=9, prev=door.head.prev)
    return desk, door


def test_what_is_too_old_goes_and_the_rest_is_verified_from_there_on(aged):
    desk, door = aged
    assert pruned(desk, 60) == [f"Pruned: events 1 to 4 of chain 1 deleted: stored before {_midnight(-60)}"]
    assert numbers(desk) == [(1, seq) for seq in range(5, 10)]
    assert verdict(desk) == [("front (1) from event 5 on", None)]
    assert pruned(desk, 60) == []
    assert pruned(desk, 30)[0].startswith("Pruned: events 5 to 7")
    assert verdict(desk) == [("front (1) from event 8 on", None)]
    desk.events(door.next())
    assert (desk.ack, standing(desk)) == (10, (0, 0, 0))


def _midnight(days: float) -> str:
    return wire.rfc3339((NOW.replace(hour=0) + timedelta(days=days)).timestamp())


def test_the_first_that_is_left_cannot_be_deleted_or_altered_unseen(aged):
    desk, _ = aged
    pruned(desk, 60)
    desk.store.connection.execute("DELETE FROM event WHERE seq = 5")
    assert verdict(desk) == [("front (1) from event 5 on", 5)]


def test_the_last_event_of_a_chain_stays_however_old(desk):
    door = Numbered()
    stored(desk, 100, *door.some(5))
    desk.attest(seq=5, prev=door.head.prev)
    pruned(desk)
    assert numbers(desk) == [(1, 5)]
    desk.events(door.next())
    assert verdict(desk) == [("front (1) from event 5 on", None)]


def test_what_the_door_has_not_signed_for_stays(desk):
    door = Numbered()
    sent = door.some(9)
    stored(desk, 100, *sent)
    desk.attest(seq=4, prev=read_event(sent[3]).digest)
    pruned(desk)
    assert numbers(desk) == [(1, seq) for seq in range(5, 10)]


def test_what_is_behind_a_gap_stays_until_the_gap_is_accepted(desk):
    door = Numbered()
    sent = door.some(9)
    stored(desk, 100, *sent[:3], *sent[4:])
    desk.attest(seq=9, prev=door.head.prev)
    assert pruned(desk)[0].startswith("Pruned: events 1 to 3")
    accept(desk.store, "front", "eve", "lost", NOW)
    pruned(desk)
    assert numbers(desk) == [(1, 9)]
    assert gaps(desk.store) == []


def test_a_fork_goes_when_somebody_has_accepted_it(desk):
    desk.events(*Numbered().some(2))
    desk.attest(seq=0)
    stored(desk, 100, *Numbered(grain=5).some(6))
    pruned(desk)
    assert len(numbers(desk)) == 8
    accept(desk.store, "front", "eve", "a test card", NOW)
    pruned(desk)
    assert numbers(desk) == [(1, 1), (1, 2), (2, 6)]


def test_what_was_tampered_with_is_kept_as_evidence_and_told(aged):
    desk, door = aged
    altered = door.sent[2].replace(b"press", b"Press")
    desk.store.connection.execute("UPDATE event SET payload = ? WHERE seq = 2", (altered,))
    (told,) = pruned(desk)
    assert told.startswith("NotPruned: nothing is deleted for its age: event 2 of chain 1 was altered")
    assert len(numbers(desk)) == 9


def test_a_clock_that_leaps_forward_deletes_nothing(aged):
    desk, _ = aged
    assert pruned(desk, 365, days_on=4000) == []
    assert len(numbers(desk)) == 9


def test_a_doors_clock_that_leaps_forward_deletes_nothing(aged):
    desk, _ = aged
    desk.attest(seq=9, at="2099-01-01T00:00:00.000Z")
    assert pruned(desk, 365) == []


def test_without_a_signed_report_nothing_goes(desk):
    stored(desk, 100, *Numbered().some(3))
    assert pruned(desk, 1) == []


def test_many_go_in_steps(desk, monkeypatch):
    monkeypatch.setattr("edge.admin.keeping._MOST", 3)
    door = Numbered()
    stored(desk, 100, *door.some(9))
    desk.attest(seq=9, prev=door.head.prev)
    assert [told.split(" of")[0] for _ in range(4) for told in pruned(desk)] == [
        "Pruned: events 1 to 3",
        "Pruned: events 4 to 6",
        "Pruned: events 7 to 8",
    ]


def test_the_collector_prunes_when_it_was_told_to_and_what_it_found_goes_with_the_events(aged):
    desk, _ = aged
    roster = desk.roster.doors()
    accept_old = "INSERT INTO finding (at, door, kind, detail) VALUES (?, 'front', ?, 'x')"
    for kind in ("Gap", "Accepted"):
        desk.store.connection.execute(accept_old, (in_s(-100 * DAY_S), kind))
    with desk.store.transaction():
        assert Intake(desk.store, "hq").look(roster, NOW, 180) == []
        (told,) = Intake(desk.store, "hq", keep_days=30).look(roster, NOW, 180)
    assert told.kind == "Pruned"
    kinds = [row[0] for row in desk.store.connection.execute("SELECT kind FROM finding ORDER BY n")]
    assert kinds == ["Accepted", "Pruned"]


@pytest.mark.parametrize("days", ["0", "-1", "99999"])
def test_a_wrong_number_of_days_is_refused(tmp_path, days, capsys):
    words = ["admin", "collect", "--once", "--keep-days", days, "--store", str(tmp_path / "c" / "e.db")]
    assert main(words) == 2
    assert "--keep-days: expected 1 to 36500, got" in capsys.readouterr().err
