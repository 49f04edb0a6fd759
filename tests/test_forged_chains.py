"""Who can write on a door's topic, holds its key, or is the broker: what he reaches at the collector."""

from __future__ import annotations

import itertools
import time

import pytest
from collecting import Desk, Numbered, Said, gaps, known, rows
from signing import an_attestation, attested, in_s, new_signer

from edge.admin.collected import Collected
from edge.admin.placing import read_event
from edge.link import orders, wire


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path / "collected" / "events.db")
    yield made
    made.store.close()


def forged(seq: int, prev: str = "e" * 64) -> bytes:
    return Numbered(wire.ChainHead(seq - 1, prev), grain=9).next("forged")


def chains_of(desk: Desk) -> list[tuple[int, int]]:
    return [(chain, seq) for chain, seq, _ in rows(desk.store)]


@pytest.mark.parametrize("ahead", [1_000_000, 2**53 - 1])
def test_a_number_far_ahead_that_somebody_made_up_holds_up_no_acknowledgement(desk, ahead):
    door = Numbered()
    desk.events(*door.some(5))
    for _ in range(5):
        desk.events(forged(ahead))
    for number in range(6, 12):
        desk.events(door.next())
        assert desk.ack == number
    assert chains_of(desk)[:11] == [(1, seq) for seq in range(1, 12)]


def test_a_number_far_ahead_that_somebody_made_up_hides_no_event_that_is_kept_back(desk):
    door = Numbered()
    sent = door.some(9)
    desk.events(*sent[:5], forged(500))
    desk.attest(seq=9, prev=door.head.prev)
    assert desk.look(0, patience_s=180) == []
    (told,) = [one for one in desk.look(181, patience_s=180) if one.kind == "Withheld"]
    assert told.detail == "it has signed that it has 9 events; they came up to 5 only"


def test_a_fork_that_somebody_made_up_does_not_draw_the_true_events_to_it(desk):
    door = Numbered()
    sent = door.some(12)
    desk.events(*sent[:9])
    desk.events(forged(2))
    assert desk.events(sent[10], sent[9], sent[11]) == [
        "Gap: event 10 is missing",
        "GapFilled: up to 10 nothing that was missing is missing any more",
    ]
    assert (gaps(desk.store), desk.ack) == ([], 12)
    assert [seq for chain, seq in chains_of(desk) if chain == 1] == list(range(1, 13))


def test_a_gap_is_filled_also_when_a_fork_grew_in_between(desk):
    door, forger = Numbered(), Numbered(grain=9)
    sent = door.some(9)
    desk.events(*sent[:3], *sent[6:])
    desk.events(*forger.some(4))
    desk.events(*sent[3:6])
    assert [seq for chain, seq in chains_of(desk) if chain == 1] == list(range(1, 10))
    assert (gaps(desk.store), desk.ack) == ([], 9)


def test_what_comes_again_of_the_true_chain_is_acknowledged_though_a_made_up_one_grew_last(desk):
    door, forger = Numbered(), Numbered(grain=9)
    desk.events(*door.some(5))
    desk.events(*forger.some(7))
    assert desk.ack == 7  # which the door refuses: it never sent it
    desk.events(door.sent[5])
    assert desk.ack == 5


def test_the_chain_that_the_door_signs_for_is_the_one_that_goes_on(desk):
    door, forger = Numbered(), Numbered(grain=9)
    sent = door.some(8)
    desk.events(*sent[:5])
    desk.events(*forger.some(20))
    desk.attest(seq=5, prev=read_event(sent[4]).digest)
    desk.events(sent[6])
    assert gaps(desk.store) == [(6, 6, None)]
    with Collected(desk.store.path) as store:
        assert [(row.chain, row.vouched) for row in store.status(_at(0))] == [(1, 5)]


def test_thousands_of_forks_cost_each_event_little(desk):
    door = Numbered()
    desk.events(*door.some(3))
    made_up = [forged(2 + i % 3, f"{i:064x}") for i in range(3000)]
    for start in range(0, len(made_up), 500):
        desk.events(*made_up[start : start + 500])
    began = time.process_time()
    desk.events(*door.some(500))
    assert time.process_time() - began < 5
    assert desk.ack == 503


def test_an_old_report_that_is_shown_again_takes_nothing_back(desk):
    door = Numbered()
    sent = door.some(9)
    desk.events(*sent)
    old = attested(an_attestation(seq=5, prev=read_event(sent[4]).digest, at=in_s(0)), desk.signer)
    desk.say(Said("attestation", old))
    desk.attest(later_s=60, seq=9, prev=door.head.prev)
    assert [told.split(":")[0] for told in desk.say(Said("attestation", old), later_s=70)] == ["WentBack"]
    desk.store.connection.execute("DELETE FROM event WHERE seq > 5")
    desk.store.connection.execute("UPDATE chain SET seq = 5, digest = ?", (read_event(sent[4]).digest,))
    with Collected(desk.store.path) as store:
        assert [flaw and flaw.seq for _, flaw in store.verify(None)] == [6]


def test_a_report_by_a_stolen_key_with_the_highest_numbers_ends_when_the_door_speaks(desk):
    door = Numbered()
    desk.events(*door.some(3))
    desk.attest(seq=2**53 - 1, epoch=orders.epoch_of(999_999_999, bytes(8)), at="9999-12-31T23:59:59.999Z")
    assert desk.attest(later_s=60, seq=3, prev=door.head.prev) != []
    assert desk.store.connection.execute("SELECT seq, judged FROM door").fetchone() == (3, "vouched")


def test_a_door_that_came_back_with_a_new_key_did_not_go_back(desk):
    desk.attest(seq=900, epoch=orders.epoch_of(50, bytes(8)))
    desk.signer = new_signer()
    desk.roster.known["front"] = known(desk.signer)
    assert desk.attest(later_s=60, seq=0, epoch=orders.epoch_of(1, bytes(8))) == []


def test_a_retired_door_that_reports_is_told_and_what_it_says_is_kept(desk):
    door = Numbered()
    desk.events(*door.some(2))
    desk.roster.known["front"] = known(desk.signer, retired=True)
    assert desk.attest(later_s=60, seq=2, prev=door.head.prev) == [
        "Retired: it was retired and reports: it was not switched off, or somebody has its key"
    ]
    assert desk.attest(later_s=120, seq=2, prev=door.head.prev) == []
    desk.events(door.next())
    assert len(rows(desk.store)) == 3


def test_what_goes_on_without_end_is_told_once_an_hour(desk):
    desk.attest()
    old = attested(an_attestation(seq=0, epoch=orders.epoch_of(1, bytes(8)), at=in_s(-60)), desk.signer)
    told = [bool(desk.say(Said("attestation", old), later_s=minute * 60)) for minute in range(1, 122)]
    assert [minute for minute, told in enumerate(told, 1) if told] == [1, 61, 121]


def test_a_store_that_has_nothing_asks_and_begins_after_the_third_time(desk):
    door = Numbered()
    sent = door.some(12)
    assert desk.store.book("front").last_heads() == [wire.GENESIS]
    desk.events(*sent[9:])
    assert (desk.ack, desk.asked) == (None, True)
    for _ in range(3):
        desk.events(*sent[6:])
        assert (desk.ack, desk.asked) == (None, True)
    desk.events(*sent[6:])
    assert (desk.ack, desk.asked) == (12, False)
    assert desk.store.book("front").last_heads() == [wire.ChainHead(12, door.head.prev), wire.GENESIS]


def test_events_of_many_doors_in_turns_are_each_acknowledged(desk):
    names = ("front", "back", "side")
    desk.roster.known |= {name: known(new_signer()) for name in names[1:]}
    doors = {name: Numbered(grain=i) for i, name in enumerate(names)}
    messages = [
        Said("event", doors[name].next(), door=name) for name in itertools.islice(itertools.cycle(names), 30)
    ]
    desk.say(*messages)
    for name in names:
        assert desk.store.book(name).last_heads()[0].seq == 10


def _at(later_s: float):
    return orders.utc(in_s(later_s))
