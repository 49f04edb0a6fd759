"""What goes to the broker next: in order, from where delivery stands, and again when it got lost."""

from __future__ import annotations

import pytest
from events import a_notice, gap_event

from edge.errors import LedgerError
from edge.link import wire
from edge.link.ledger import Ledger
from edge.link.outbox import UNACKED, WINDOW, Outbox


class Scene:
    """A real ledger, an outbox over it, time as a number."""

    def __init__(self, folder, by_collector: bool = False) -> None:
        self.now = 0.0
        self.ledger = Ledger(folder / "events.db")
        self.ledger.open()
        self.by_collector = by_collector
        self.box = self.another()

    def another(self) -> Outbox:
        self.box = Outbox(self.ledger, self.by_collector, lambda: self.now)
        return self.box

    def add(self, count: int) -> None:
        self.ledger.append_all([(a_notice(), None)] * count)

    def take(self) -> list[int]:
        """The numbers of all that may go now; they are under way as messages of these numbers."""
        taken = []
        while (event := self.box.take()) is not None:
            self.box.under_way(event.seq, event)
            taken.append(event.seq)
        return taken

    def sent(self) -> list[int]:
        """The same, and the broker has them all."""
        found = []
        while taken := self.take():
            for seq in taken:
                self.box.acknowledged(seq)
            found += taken
        return found


@pytest.fixture
def scene(tmp_path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def collected(tmp_path) -> Scene:
    return Scene(tmp_path, by_collector=True)


def test_events_leave_in_order_as_they_were_stored(scene):
    scene.add(5)
    events = [scene.box.take() for _ in range(5)]
    assert events == scene.ledger.after(0, 5)
    assert scene.box.take() is None


def test_an_event_that_the_broker_always_refuses_alone_holds_up_no_other_and_is_given_up(scene, caplog):
    scene.add(WINDOW + 5)
    for _ in range(3):
        assert scene.ledger.cursor == 0
        first = scene.take()[0]
        scene.box.refused(first)
        assert not scene.box.is_stuck
        for seq in range(2, WINDOW + 1):
            scene.box.acknowledged(seq)
        scene.sent()
        if scene.ledger.cursor == 0:
            assert scene.box.is_stuck
            scene.box.take_back()
    assert (scene.ledger.cursor, scene.box.unsent) == (WINDOW + 5, 0)
    assert "event 1 is not sent any more: the broker refuses it" in caplog.text


def test_a_broker_that_refuses_all_gets_them_again_and_none_is_given_up(scene):
    scene.add(3)
    for _ in range(10):
        for seq in scene.take():
            scene.box.refused(seq)
        assert scene.box.is_stuck
        scene.box.take_back()
    assert scene.sent() == [1, 2, 3]
    assert scene.ledger.cursor == 3


def test_what_was_refused_in_one_connection_and_taken_in_the_next_is_sent_once_more_and_no_matter(scene):
    scene.add(3)
    for _ in range(2):
        scene.take()
        scene.box.refused(2)
        scene.box.acknowledged(1)
        scene.box.acknowledged(3)
        scene.box.take_back()
        assert scene.ledger.cursor == 1
    assert scene.sent() == [2, 3]
    assert (scene.ledger.cursor, scene.box.is_stuck) == (3, False)


def test_only_so_many_are_under_way(scene):
    scene.add(WINDOW + 5)
    assert scene.take() == list(range(1, WINDOW + 1))
    scene.box.acknowledged(3)
    assert scene.take() == [WINDOW + 1]


def test_what_the_broker_has_is_delivered_up_to_the_first_that_it_has_not(scene):
    scene.add(6)
    scene.take()
    for mid, cursor in ((2, 0), (99, 0), (1, 2), (4, 2), (3, 4), (6, 4), (5, 6)):
        scene.box.acknowledged(mid)
        assert scene.ledger.cursor == cursor
    assert scene.box.unsent == 0


def test_a_lost_connection_takes_back_what_was_not_delivered_in_order(scene):
    scene.add(6)
    scene.take()
    scene.box.acknowledged(1)
    scene.box.acknowledged(3)
    scene.box.take_back()
    assert scene.box.unsent == 5
    assert scene.sent() == [2, 3, 4, 5, 6]


def test_after_a_restart_it_goes_on_where_delivery_stood(scene):
    scene.add(6)
    scene.take()
    scene.box.acknowledged(1)
    scene.another()
    assert scene.sent() == [2, 3, 4, 5, 6]


def test_an_outbox_made_before_its_ledger_was_open_begins_where_delivery_stood(tmp_path, caplog):
    first = Scene(tmp_path)
    first.add(4)
    first.ledger.delivered(2)
    first.ledger.close()
    ledger = Ledger(tmp_path / "events.db")
    box = Outbox(ledger)
    assert box.take() is None
    ledger.open()
    assert box.take().seq == 3
    assert caplog.text == ""


def test_what_the_ledger_let_go_before_it_was_sent_is_passed_over(tmp_path):
    scene = Scene(tmp_path)
    scene.ledger = Ledger(tmp_path / "small.db", max_bytes=100_000)
    scene.ledger.open()
    scene.another()
    scene.ledger.append_all([(a_notice(), bytes(500)) for _ in range(200)])
    gap = scene.ledger.prune(None, gap_event)
    assert scene.sent() == list(range(gap.last + 1, 202))


def test_of_a_ledger_in_place_of_a_damaged_one_what_is_new_is_sent(scene, tmp_path):
    scene.add(30)
    scene.sent()
    scene.ledger.set_aside("x")
    scene.ledger.open()
    scene.add(2)
    assert scene.sent() == [31, 32]


def test_a_ledger_that_can_not_be_read_is_told_once_and_tried_again(scene, caplog, monkeypatch):
    def refuse(*_):
        raise LedgerError("events.db: disk I/O error")

    scene.add(1)
    with monkeypatch.context() as broken:
        broken.setattr(scene.ledger, "after", refuse)
        assert (scene.take(), scene.take()) == ([], [])
    assert caplog.text.count("disk I/O error") == 1
    assert scene.take() == [1]


# When the collector's acks count


def test_what_the_broker_has_is_not_delivered_where_the_collector_counts(collected):
    collected.add(3)
    assert collected.sent() == [1, 2, 3]
    assert (collected.ledger.cursor, collected.box.unsent) == (0, 0)


def test_a_reconnect_sends_everything_again_that_the_collector_has_not(collected):
    collected.add(5)
    collected.sent()
    collected.ledger.delivered(2)
    collected.box.acked()
    collected.box.take_back()
    assert collected.sent() == [3, 4, 5]


def test_what_is_not_acked_for_a_minute_goes_again_and_then_ever_more_rarely(collected):
    collected.add(3)
    collected.sent()
    for wait_s in (60, 120, 240, 480, 600, 600):
        collected.now += wait_s - 0.1
        assert collected.sent() == []
        collected.now += 0.1
        assert collected.sent() == [1, 2, 3]
    collected.ledger.delivered(2)
    collected.box.acked()
    collected.now += 60
    assert collected.sent() == [3]


def test_while_acks_come_nothing_goes_twice(collected):
    collected.add(100)
    collected.sent()
    for seq in range(1, 101):
        collected.now += 59
        collected.ledger.delivered(seq)
        collected.box.acked()
        assert collected.sent() == []


def test_an_event_after_a_long_quiet_has_its_whole_minute(collected):
    collected.now += 3600
    collected.add(1)
    assert collected.sent() == [1]
    collected.now += 59
    assert collected.sent() == []


def test_a_collector_that_does_not_keep_up_is_waited_for(collected):
    collected.add(UNACKED + 50)
    assert len(collected.sent()) == UNACKED
    collected.ledger.delivered(30)
    collected.box.acked()
    assert collected.sent() == list(range(UNACKED + 1, UNACKED + 31))


def test_what_the_collector_has_from_before_is_passed_over(collected):
    collected.add(50)
    assert collected.box.take().seq == 1
    collected.ledger.delivered(40)
    collected.box.acked()
    assert collected.sent() == list(range(41, 51))


def test_what_an_earlier_run_may_have_sent_counts_as_sent(collected):
    collected.add(5)
    assert collected.box.sent == 0
    collected.box.take()
    assert collected.box.sent == 1
    collected.ledger.open()
    assert collected.box.sent == 5
    assert collected.ledger.head != wire.GENESIS


def test_a_collector_that_repeats_its_last_ack_gets_again_what_was_sent_since(collected):
    collected.add(4)
    collected.sent()
    collected.ledger.delivered(2)
    collected.box.acked()
    collected.box.asked_again()
    assert collected.sent() == []  # it may be on its way
    collected.now += 2
    assert collected.sent() == [3, 4]
    collected.box.asked_again()
    assert collected.sent() == []
