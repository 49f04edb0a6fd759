"""The collector's acks: they move what is sent, delete nothing, and a forged one moves nothing."""

from __future__ import annotations

import hashlib

import pytest
from events import BEGAN, DAY_S, a_notice, gap_event
from signing import AT, keys_of, new_signer

from edge.link import dsse, orders
from edge.link.acks import AckDesk, Came
from edge.link.ledger import Ledger

COLLECTOR, EVE = new_signer(), new_signer()


class Scene:
    """A door that has sent nine of its ten events."""

    def __init__(self, folder) -> None:
        self.ledger = Ledger(folder / "events.db")
        self.ledger.open()
        self.ledger.append_all([(a_notice(str(i)), None) for i in range(10)])
        self.now = 0.0
        self.told: list[str] = []
        self.keys = keys_of(COLLECTOR)
        self.desk = AckDesk("hq", "front", self.ledger, lambda: self.keys, self.told.append, lambda: self.now)

    def ack(self, seq: int, signer=COLLECTOR, kind: str = orders.ACK_TYPE, **changes) -> bytes:
        fields = {"site": "hq", "door": "front", "seq": seq, "prev": self.digest(seq), "at": AT, **changes}
        return dsse.sign(orders.encode(orders.Ack(**fields)), kind, signer)

    def digest(self, seq: int) -> str:
        stored = self.ledger.find(seq)
        return hashlib.sha256(stored.payload).hexdigest() if stored else "0" * 64

    def take(self, payload: bytes) -> Came | None:
        return self.desk.take(payload, sent=9)


@pytest.fixture
def scene(tmp_path) -> Scene:
    return Scene(tmp_path)


def test_an_ack_moves_the_cursor_to_its_number_and_deletes_nothing(scene):
    assert scene.take(scene.ack(4)) is Came.MOVED
    assert scene.ledger.cursor == 4
    assert scene.take(scene.ack(9)) is Came.MOVED
    assert scene.ledger.cursor == 9
    assert len(scene.ledger.after(0, 100)) == 10
    assert (scene.desk.refused, scene.told) == (0, [])


def test_an_ack_that_was_overtaken_is_no_matter_and_the_last_one_again_says_so(scene):
    late = scene.ack(3)
    scene.take(scene.ack(5))
    assert (scene.take(late), scene.take(scene.ack(5))) == (None, Came.REPEATED)
    assert scene.ledger.cursor == 5
    assert scene.desk.refused == 0


def test_an_ack_of_nothing_asks_for_what_was_not_acknowledged_and_moves_nothing(scene):
    scene.take(scene.ack(4))
    assert scene.take(scene.ack(0)) is Came.REPEATED
    assert scene.take(scene.ack(0, signer=EVE)) is None
    assert (scene.ledger.cursor, scene.desk.refused) == (4, 1)


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda s: s.ack(5, signer=EVE), "expected a signature by one of 1 known keys"),
        (lambda s: s.ack(5)[:-30], "envelope: "),
        (lambda s: s.ack(5, kind=orders.COMMAND_TYPE), "expected application/vnd.doord.ack+json"),
        (lambda s: s.ack(5, door="back"), "expected one for hq/front, got one for hq/back"),
        (lambda s: s.ack(5, site="other"), "got one for other/front"),
        (lambda s: s.ack(10), "expected a number of at most 9, the last sent, got 10"),
        (lambda s: s.ack(11), "at most 9"),
        (lambda s: s.ack(2**52), "at most 9"),
        (lambda s: s.ack(5, prev="0" * 64), "number 5 has other bytes at the collector"),
        (lambda s: s.ack(5, prev=s.digest(6)), "number 5 has other bytes at the collector"),
        (lambda s: s.ack(5, at="2026-13-01T00:00:00.000Z"), "time: "),
        (lambda s: b"", "envelope: "),
        (lambda s: b"x" * 5000, "expected at most 4096 bytes, got 5000"),
    ],
)
def test_a_forged_or_future_ack_moves_nothing_and_is_told(scene, forge, why):
    assert scene.take(forge(scene)) is None
    assert (scene.ledger.cursor, scene.desk.refused) == (0, 1)
    assert why in scene.told[0]
    assert scene.ledger.verify() is None


def test_without_a_collectors_key_nobody_acks(scene):
    scene.keys = {}
    assert scene.take(scene.ack(5)) is None


def test_refusals_are_told_once_a_minute_with_their_count(scene):
    for _ in range(5):
        scene.take(scene.ack(99))
    assert len(scene.told) == 1
    scene.now += 60
    scene.take(scene.ack(99))
    assert (len(scene.told), scene.desk.refused) == (2, 6)
    assert scene.told[1].endswith("; 4 more since the last")


def test_an_ack_of_what_was_dropped_meanwhile_moves_nothing_and_accuses_nobody(scene):
    ack = scene.ack(5)
    assert scene.ledger.prune(BEGAN + 200 * DAY_S, gap_event).last == 10
    assert scene.take(ack) is None
    assert (scene.ledger.cursor, scene.desk.refused, scene.told) == (0, 0, [])


def test_an_ack_that_comes_while_the_ledger_can_not_be_read_accuses_nobody(scene):
    ack = scene.ack(5)
    scene.ledger.close()
    assert scene.take(ack) is None
    assert (scene.desk.refused, scene.told) == (0, [])
