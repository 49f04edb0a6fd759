"""Where collected events are stored, and what is said of those that do not fit."""

from __future__ import annotations

import itertools
import random
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from collecting import Desk, Numbered, Said, gaps, known, rows
from signing import NOW, an_attestation, attested, in_s, new_signer

from edge import disk
from edge.admin.collected import Collected
from edge.admin.placing import read_event, without
from edge.admin.store import BEFORE, GIVEN_UP_AFTER, EventStore
from edge.errors import AdminError, GalleryError, PayloadError
from edge.link import orders, wire


@pytest.fixture
def desk(tmp_path: Path):
    made = Desk(tmp_path / "events.db")
    yield made
    made.store.close()


def test_events_are_stored_byte_for_byte_in_order_and_acknowledged(desk):
    door = Numbered()
    assert desk.events(*door.some(50)) == []
    assert rows(desk.store) == [(1, seq, payload) for seq, payload in door.sent.items()]
    assert desk.ack == 50


def test_what_is_sent_again_is_not_stored_again_and_acknowledged_again(desk):
    door = Numbered()
    desk.events(*door.some(20))
    assert desk.events(*door.sent.values()) == []
    assert len(rows(desk.store)) == 20
    assert desk.ack == 20


def test_a_gap_is_told_and_holds_the_acknowledgement_until_it_is_filled(desk):
    door = Numbered()
    sent = door.some(9)
    assert desk.events(*sent[:3], *sent[6:]) == ["Gap: events 4 to 6 are missing"]
    assert desk.ack == 3
    assert desk.events(sent[4]) == []
    assert gaps(desk.store) == [(4, 4, None), (6, 6, None)]
    assert desk.events(sent[3]) == ["GapFilled: up to 4 nothing that was missing is missing any more"]
    assert desk.ack == 5
    desk.events(sent[5])
    assert (gaps(desk.store), desk.ack) == ([], 9)
    assert rows(desk.store) == [(1, seq, payload) for seq, payload in door.sent.items()]


def test_in_whatever_order_events_come_all_are_stored_once_and_none_is_left_missing(desk):
    door = Numbered()
    sent = door.some(60)
    mixed = sent * 2
    random.Random(5).shuffle(mixed)
    for payload in mixed:
        desk.events(payload)
    assert rows(desk.store) == [(1, seq, payload) for seq, payload in door.sent.items()]
    assert (gaps(desk.store), desk.ack) == ([], 60)


def test_what_the_door_says_it_dropped_is_not_waited_for(desk):
    door = Numbered()
    sent = door.some(10)
    told = desk.events(*sent[:2], *sent[7:], door.drop(1, 5))
    assert told == [
        "Gap: events 3 to 7 are missing",
        "GapExplained: events 3 to 5 are not on the door any more, it says",
    ]
    assert gaps(desk.store) == [(3, 5, "dropped: event 11 says so"), (6, 7, None)]
    assert desk.ack == 2
    desk.events(sent[5], sent[6])
    assert desk.ack == 11


def test_a_gap_that_the_door_no_longer_sends_is_given_up_after_it_has_sent_the_rest_again(desk):
    door = Numbered()
    sent = door.some(8)
    desk.events(*sent[:3], *sent[5:])
    for _ in range(GIVEN_UP_AFTER - 1):
        assert desk.events(*sent[5:]) == []
        assert desk.ack == 3
    assert desk.events(*sent[5:]) == ["GapLost: events 4 to 5 are not sent any more: look on the door"]
    assert desk.ack == 8


def test_what_only_the_broker_sends_again_gives_no_gap_up(desk):
    door = Numbered()
    sent = door.some(8)
    desk.events(*sent[:3], *sent[5:])
    for _ in range(3 * GIVEN_UP_AFTER):
        assert desk.events(*sent[5:], dup=True) == []
    assert desk.ack == 3


def test_a_door_that_was_there_before_the_collector_sends_what_was_before(desk):
    door = Numbered()
    sent = door.some(12)
    told = desk.events(*sent[9:])
    assert told == ["Began: collected from event 10 on, unless the door sends what was before"]
    assert desk.ack is None
    assert desk.events(*sent) == ["GapFilled: up to 9 nothing that was missing is missing any more"]
    assert (gaps(desk.store), desk.ack) == ([], 12)
    assert verdict(desk) == [("front (1)", None)]


def test_a_door_that_will_not_send_what_was_before_is_acknowledged_from_there_on(desk):
    door = Numbered()
    sent = door.some(12)
    desk.events(*sent[9:])
    desk.events(*sent[6:])  # an earlier collector had acknowledged the first six
    assert (gaps(desk.store), desk.ack) == ([(1, 6, BEFORE)], None)
    assert verdict(desk) == [("front (1) from event 7 on", None)]
    for _ in range(GIVEN_UP_AFTER - 1):
        desk.events(*sent[6:])
    assert desk.ack is None
    assert desk.events(*sent[6:]) == []
    assert desk.ack == 12


def test_what_was_given_up_is_stored_all_the_same_when_it_comes_late(desk):
    door = Numbered()
    sent = door.some(8)
    desk.events(*sent[:3], *sent[5:])
    for _ in range(GIVEN_UP_AFTER):
        desk.events(*sent[5:])
    assert gaps(desk.store) == [(4, 5, "lost: the door no longer sends them")]
    desk.events(sent[4], sent[3])
    assert gaps(desk.store) == []
    assert verdict(desk) == [("front (1)", None)]


def test_a_restored_backup_shows_as_a_fork_and_both_sides_of_it_are_kept(desk):
    first = Numbered()
    first.some(5)
    backup = first.head
    second = Numbered(backup, grain=1)
    desk.events(*first.sent.values(), *first.some(5))
    told = desk.events(*second.some(8))
    assert told == [
        "Fork: event 6 does not follow from what was collected, up to 10: "
        "a restored backup, a swapped card, or events that somebody made up"
    ]
    assert desk.ack == 13
    expected = [(1, seq, payload) for seq, payload in first.sent.items()]
    assert rows(desk.store) == expected + [(2, seq, payload) for seq, payload in second.sent.items()]


def test_a_swapped_card_begins_anew_and_is_a_fork(desk):
    desk.events(*Numbered().some(5))
    swapped = Numbered(grain=1)
    assert [told[:5] for told in desk.events(*swapped.some(2))] == ["Fork:"]
    assert desk.ack == 2


def test_two_cards_that_speak_in_turns_make_one_fork_and_two_chains(desk):
    first = Numbered()
    desk.events(*first.some(4))
    second = Numbered(first.head, grain=1)
    told = [desk.events(one) for one in itertools.chain(*zip(first.some(5), second.some(5), strict=True))]
    assert sum(map(len, told)) == 1
    assert [chain for chain, _, _ in rows(desk.store)] == [1] * 9 + [2] * 5


def test_an_altered_event_is_a_fork_and_the_true_one_is_kept_beside_it(desk):
    door = Numbered()
    sent = door.some(3)
    altered = sent[1].replace(b"press 2", b"press 9")
    assert [told[:5] for told in desk.events(sent[0], altered, sent[1], sent[2])] == ["Fork:"]
    assert (1, 2, altered) in rows(desk.store)
    assert (2, 3, sent[2]) in rows(desk.store)


def test_an_event_of_a_later_doord_is_stored_though_nobody_here_knows_its_kind(desk):
    plain = Numbered().next().replace(b'"ExitRequested"', b'"MoonRose"').replace(b"{", b'{"phase":3,', 1)
    assert desk.events(plain) == []
    assert rows(desk.store) == [(1, 1, plain)]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 5000,
        b'{"id":1}',
        b"x" * 9000,
        Numbered().next().replace(b'"seq":1', b'"seq":' + b"9" * 30),
        Numbered().next().replace(b"{", b'{"later":"\xff",', 1),
    ],
)
def test_what_is_no_event_is_told_once_and_left_out(desk, payload):
    (told,) = desk.events(payload)
    assert told.startswith("Unreadable: event: ")
    assert desk.events(payload) == []
    assert rows(desk.store) == []
    with pytest.raises(PayloadError):
        read_event(payload)


def test_what_is_sent_under_the_name_of_no_door_is_told_and_left_out(desk):
    assert desk.say(Said("event", Numbered().next(), door="stranger")) == [
        "UnknownDoor: is no door of this site: what is sent under its name is not stored"
    ]
    assert rows(desk.store, "stranger") == []


def vouched(desk: Desk) -> list[int]:
    return [row[0] for row in desk.store.connection.execute("SELECT vouched FROM chain ORDER BY chain")]


def test_a_signed_head_vouches_for_what_was_collected(desk):
    door = Numbered()
    desk.events(*door.some(5))
    assert desk.attest(seq=5, prev=door.head.prev) == []
    assert vouched(desk) == [5]


def test_a_signed_head_that_comes_before_its_events_vouches_when_they_are_there(desk):
    door = Numbered()
    sent = door.some(5)
    assert desk.attest(seq=5, prev=door.head.prev) == []
    desk.events(*sent[:4])
    assert vouched(desk) == [0]
    desk.events(sent[4])
    assert vouched(desk) == [5]


def test_events_that_somebody_made_up_are_contradicted_by_the_signed_head(desk):
    door, forger = Numbered(), Numbered(grain=9)
    door.some(5)
    desk.events(*forger.some(5))
    assert desk.attest(seq=5, prev=door.head.prev) == [
        "Contradicted: its signed head says that its event 5 is not the one that was collected"
    ]
    assert vouched(desk) == [0]


def test_a_fork_that_the_door_signed_is_vouched_for_and_the_other_is_not(desk):
    first = Numbered()
    desk.events(*first.some(5))
    second = Numbered(grain=1)
    desk.events(*second.some(5))
    assert desk.attest(seq=5, prev=second.head.prev) == []
    assert vouched(desk) == [0, 5]


def test_a_report_that_the_door_did_not_sign_is_told_and_not_believed(desk):
    door = Numbered()
    desk.events(*door.some(5))
    forged = attested(an_attestation(seq=5, prev=door.head.prev), new_signer())
    (told,) = desk.say(Said("attestation", forged))
    assert told.startswith("Forged: envelope: expected a signature by one of 1 known keys")
    assert vouched(desk) == [0]


def test_a_door_that_signed_fewer_events_or_starts_than_before_is_told(desk):
    desk.attest(seq=9, epoch=orders.epoch_of(4, bytes(8)))
    told = desk.attest(seq=7, epoch=orders.epoch_of(3, bytes(8)))
    assert [one.split(":")[1] for one in told] == [
        " its number of events went back from 9 to 7",
        " its count of starts went back from 4 to 3",
    ]


def test_a_door_is_silent_after_180_s_once_and_told_when_it_is_heard_again(desk):
    desk.attest()
    assert desk.look(180) == []
    assert [(one.door, one.kind) for one in desk.look(181)] == [("front", "Silent")]
    assert desk.look(300) == []
    assert desk.attest(later_s=400) == [f"Heard: reports again, after {in_s(0)}"]
    assert [one.kind for one in desk.look(600)] == ["Silent"]


def test_an_old_report_shown_again_does_not_make_a_silent_door_heard(desk):
    desk.attest()
    desk.look(181)
    desk.say(Said("attestation", attested(an_attestation(seq=0), desk.signer)), later_s=200)
    assert desk.look(201) == []  # silent it still is, and was told


def test_a_clock_that_is_ahead_does_not_hide_that_a_door_is_silent(desk):
    desk.attest(at=in_s(86400))
    assert [one.kind for one in desk.look(181)] == ["Silent"]


def test_a_retired_door_is_not_silent(desk):
    desk.attest()
    desk.events(Numbered().next())
    with Collected(desk.store.path) as store:
        assert [row.silent_since for row in store.status(NOW + timedelta(seconds=500))] == [in_s(0)]
        desk.roster.known["front"] = known(desk.signer, retired=True)
        assert desk.look(500) == []
        assert [row.silent_since for row in store.status(NOW + timedelta(seconds=500))] == [None]


def test_events_that_are_signed_for_and_do_not_come_are_told_after_a_while(desk):
    door = Numbered()
    sent = door.some(9)
    desk.events(*sent[:5])
    desk.attest(seq=9, prev=door.head.prev)
    assert desk.look(10, patience_s=180) == []
    desk.events(sent[5])
    assert desk.look(120, patience_s=180) == []
    (told,) = [one for one in desk.look(310, patience_s=180) if one.kind == "Withheld"]
    assert told.detail == "it has signed that it has 9 events; they came up to 6 only"
    desk.events(*sent[6:])
    assert [one for one in desk.look(900, patience_s=180) if one.kind == "Withheld"] == []


def test_a_transaction_that_fails_leaves_nothing_and_its_findings_are_told_the_next_time(desk):
    sent = Numbered().some(5)
    messages = [Said("event", sent[0]), Said("event", sent[4])]

    def fail_at_the_end() -> None:
        with desk.store.transaction():
            desk.intake.take(messages, desk.roster.doors(), NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_at_the_end()
    assert rows(desk.store) == []
    assert desk.say(*messages) == ["Gap: events 2 to 4 are missing"]


def test_a_store_of_format_1_is_brought_up_to_date_and_one_of_a_newer_doord_refused(desk):
    door = Numbered()
    desk.events(*door.some(3))
    desk.store.close()
    with closing(sqlite3.connect(desk.store.path)) as database, database:
        for statement in ("DROP INDEX event_seq", "ALTER TABLE chain DROP COLUMN accepted"):
            database.execute(statement)
        database.execute("UPDATE meta SET format = 1")
    with pytest.raises(AdminError, match="in format 2, got 1: doord admin collect brings"):
        Collected(desk.store.path)
    with EventStore(desk.store.path, "hq") as store, Collected(desk.store.path) as reader:
        assert len(rows(store)) == 3
        assert len(reader.status(NOW)) == 1
    with closing(sqlite3.connect(desk.store.path)) as database, database:
        database.execute("UPDATE meta SET format = 3")
    with pytest.raises(GalleryError, match="in format 2, got \\(3"):
        EventStore(desk.store.path, "hq")
    with pytest.raises(AdminError, match="in format 2, got 3"):
        Collected(desk.store.path)


def test_a_disk_that_takes_nothing_is_told_at_the_start_and_not_only_when_an_event_comes(desk, monkeypatch):
    desk.events(Numbered().next())
    desk.store.close()
    real = disk._connect
    monkeypatch.setattr(disk, "_connect", lambda path, mode: real(path, "ro"))
    with pytest.raises(GalleryError, match="readonly database"):
        EventStore(desk.store.path, "hq")


def test_another_sites_store_is_refused(tmp_path):
    EventStore(tmp_path / "events.db", "hq").close()
    with pytest.raises(GalleryError, match="expected events of site lab in format 2, got"):
        EventStore(tmp_path / "events.db", "lab")


@pytest.mark.parametrize(
    ("out", "left"),
    [
        ((3, 5), []),
        ((1, 9), []),
        ((3, 3), [(4, 5)]),
        ((5, 9), [(3, 4)]),
        ((4, 4), [(3, 3), (5, 5)]),
        ((7, 8), [(3, 5)]),
    ],
)
def test_what_is_left_of_a_gap(out, left):
    assert without((3, 5), out) == left


def test_the_head_of_a_chain_reads_as_the_door_wrote_it():
    door = Numbered()
    payload = door.next()
    event = read_event(payload)
    assert (event.head.seq, event.head.kind, event.digest) == (1, "ExitRequested", door.head.prev)
    assert event.head.prev == wire.GENESIS.prev


# what `doord log verify --store` finds


@pytest.fixture
def full(desk):
    """300 events of a door, and the head that it signed."""
    door = Numbered()
    desk.events(*door.some(300))
    desk.attest(seq=300, prev=door.head.prev)
    return desk, door


def verdict(desk: Desk) -> list[tuple[str, int | None]]:
    with Collected(desk.store.path) as store:
        return [(name, flaw and flaw.seq) for name, flaw in store.verify(None)]


def test_what_was_collected_is_whole(full):
    desk, _ = full
    assert verdict(desk) == [("front (1)", None)]


def test_collected_events_of_which_there_is_no_beginning_are_whole_from_there_on(desk):
    door = Numbered()
    desk.events(*door.some(30)[20:])
    assert verdict(desk) == [("front (1) from event 21 on", None)]


@pytest.mark.parametrize("seq", [1, 2, 150, 299, 300])
def test_whichever_collected_event_is_altered_it_is_named(full, seq):
    desk, door = full
    altered = door.sent[seq].replace(b"press", b"Press")
    desk.store.connection.execute("UPDATE event SET payload = ? WHERE seq = ?", (altered, seq))
    assert verdict(desk) == [("front (1)", seq)]


@pytest.mark.parametrize("filed", ["id = 'x'", "at = '2020-01-01T00:00:00.000Z'", "kind = 'Started'"])
def test_a_collected_event_that_was_filed_elsewhere_is_named(full, filed):
    desk, _ = full
    desk.store.connection.execute(f"UPDATE event SET {filed} WHERE seq = 150")
    assert verdict(desk) == [("front (1)", 150)]


def test_a_door_that_has_signed_and_of_which_nothing_is_left_is_named(full):
    desk, _ = full
    for table in ("event", "chain"):
        desk.store.connection.execute(f"DELETE FROM {table}")
    assert verdict(desk) == [("front", 1)]


@pytest.mark.parametrize("seq", [1, 2, 150, 299, 300])
def test_whichever_collected_event_is_deleted_it_is_named(full, seq):
    desk, _ = full
    desk.store.connection.execute("DELETE FROM event WHERE seq = ?", (seq,))
    assert verdict(desk) == [("front (1)", seq)]


def test_a_chain_that_was_cut_and_made_to_look_whole_contradicts_the_signed_head(full):
    desk, door = full
    digest = read_event(door.sent[250]).digest
    for statement in (
        "DELETE FROM event WHERE seq > 250",
        f"UPDATE chain SET seq = 250, digest = '{digest}', vouched = 250",
        f"UPDATE door SET seq = 250, prev = '{digest}'",
    ):
        desk.store.connection.execute(statement)
    assert verdict(desk) == [("front (1)", 251)]


def test_a_chain_that_was_written_anew_from_some_event_on_contradicts_the_signed_head(full):
    desk, door = full
    forger = Numbered(wire.ChainHead(199, read_event(door.sent[199]).digest), grain=3)
    for payload in forger.some(101):
        event = read_event(payload)
        desk.store.connection.execute(
            "UPDATE event SET payload = ?, digest = ?, prev = ?, id = ? WHERE seq = ?",
            (payload, event.digest, event.head.prev, event.head.id, event.head.seq),
        )
    desk.store.connection.execute("UPDATE chain SET digest = ?", (forger.head.prev,))
    assert verdict(desk) == [("front (1)", 300)]


def test_a_signed_head_that_was_altered_is_a_flaw_itself(full):
    desk, door = full
    forged = attested(an_attestation(seq=300, prev=door.head.prev), new_signer())
    desk.store.connection.execute("UPDATE door SET report = ?", (forged,))
    assert verdict(desk) == [("front, signed head", 300), ("front (1)", None)]
