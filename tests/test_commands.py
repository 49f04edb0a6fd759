"""Which orders a door obeys: each way to be refused, by name."""

from __future__ import annotations

import json
import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.dsse import Envelope
from signing import EPOCH, NOW, Received, an_order, in_s, keys_of, new_signer, signed

from edge.link import dsse, orders
from edge.link.commands import ANSWERED, Accepted, CommandDesk, Refusal, Refused
from edge.link.counters import next_epoch
from edge.link.orders import Order

DESK = new_signer()
STRANGER = new_signer()
KEYS = keys_of(DESK)
KEYID = DESK.public_key.keyid


class Clock:
    """s, monotonic; moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def desk_in(folder: Path, epoch: str = EPOCH, clock: Clock | None = None) -> CommandDesk:
    return CommandDesk("hq", "front", epoch, folder / "counters", clock or Clock())


@pytest.fixture
def desk(tmp_path: Path) -> CommandDesk:
    return desk_in(tmp_path)


def asked(desk: CommandDesk, order: Order | bytes, now=NOW, keys=KEYS, **received) -> Accepted | Refused:
    payload = order if isinstance(order, bytes) else signed(order, DESK)
    return desk.consider(Received(payload, **received), keys, now)


def reason(verdict: Accepted | Refused) -> Refusal | None:
    return verdict.reason if isinstance(verdict, Refused) else None


def refused(desk: CommandDesk, order: Order | bytes, **how) -> Refusal | None:
    return reason(asked(desk, order, **how))


# obeyed


@pytest.mark.parametrize(
    "do", ["unlock", "lock", "normal", "lockdown", "sync", "identify-yourself", "restart"]
)
def test_what_a_key_that_may_has_signed_is_obeyed(desk, do):
    verdict = asked(desk, an_order(do=do))
    assert verdict == Accepted(an_order(do=do), KEYID)
    assert verdict.report == f"{do}, counter 1000, key {KEYID}"
    assert not desk.refused


def test_free_access_is_obeyed_with_its_end(desk):
    order = an_order(do="free-access", until=in_s(3600))
    assert asked(desk, order) == Accepted(order, KEYID)


def test_one_order_to_many_doors_is_obeyed_by_each(tmp_path, desk):
    other = CommandDesk("hq", "back", orders.epoch_of(1, bytes(8)), tmp_path / "other")
    order = an_order(doors={"back": orders.epoch_of(1, bytes(8)), "front": EPOCH})
    assert asked(desk, order) == asked(other, order) == Accepted(order, KEYID)


def test_the_counters_of_two_keys_do_not_hinder_each_other(desk):
    keys = keys_of(DESK, STRANGER)
    assert refused(desk, an_order(counter=2000), keys=keys) is None
    assert refused(desk, signed(an_order(counter=1), STRANGER), keys=keys) is None
    assert refused(desk, an_order(counter=2000), keys=keys) is Refusal.REPEATED


def test_the_counter_is_on_disk_before_the_order_is_obeyed(tmp_path, desk):
    asked(desk, an_order())
    assert json.loads((tmp_path / "counters").read_bytes()) == {"counters": {KEYID: 1000}}


def test_a_refused_order_raises_no_counter(tmp_path, desk):
    assert refused(desk, an_order(counter=2**53 - 1, expires_at=in_s(31))) is Refusal.TOO_FAR_AHEAD
    assert refused(desk, an_order(counter=1)) is None


# refused: not from who may


def test_a_retained_order_is_refused(desk):
    assert refused(desk, an_order(), retained=True) is Refusal.RETAINED
    assert refused(desk, an_order(do="lock"), retained=True) is Refusal.RETAINED


def test_an_unsigned_order_is_refused(desk):
    assert refused(desk, orders.encode(an_order())) is Refusal.MALFORMED
    envelope = Envelope(orders.encode(an_order()), orders.COMMAND_TYPE, {}).to_dict()
    assert refused(desk, json.dumps(envelope).encode()) is Refusal.MALFORMED


def test_a_strangers_order_is_refused(desk):
    verdict = asked(desk, signed(an_order(), STRANGER))
    assert (reason(verdict), verdict.keyid, verdict.order) == (Refusal.NOT_SIGNED, None, None)


def test_a_stranger_under_the_desks_key_id_is_refused(desk):
    envelope = json.loads(signed(an_order(), STRANGER))
    envelope["signatures"][0]["keyid"] = KEYID
    assert refused(desk, json.dumps(envelope).encode()) is Refusal.NOT_SIGNED


def test_an_order_of_a_key_that_was_removed_is_refused(desk):
    assert refused(desk, an_order()) is None
    assert refused(desk, an_order(counter=1001), keys=keys_of(STRANGER)) is Refusal.NOT_SIGNED
    assert refused(desk, an_order(counter=1001), keys={}) is Refusal.NOT_SIGNED


def test_an_envelope_of_another_payload_type_is_refused(desk):
    for other in (orders.REPLY_TYPE, orders.ATTESTATION_TYPE, ""):
        envelope = dsse.sign(orders.encode(an_order()), other, DESK)
        assert refused(desk, envelope) is Refusal.MALFORMED


def test_two_signatures_are_refused(desk):
    envelope = Envelope(orders.encode(an_order()), orders.COMMAND_TYPE, {})
    for signer in (DESK, STRANGER):
        envelope.sign(signer)
    keys = keys_of(DESK, STRANGER)
    assert refused(desk, json.dumps(envelope.to_dict()).encode(), keys=keys) is Refusal.MALFORMED


def test_an_oversized_order_is_refused_before_it_is_read(desk):
    padded = signed(an_order(), DESK).ljust(orders.MAX_ORDER_BYTES + 1)
    assert refused(desk, padded) is Refusal.OVERSIZED
    assert refused(desk, padded[:-1]) is None


def test_a_truncated_order_is_refused_wherever_it_is_cut(desk):
    whole = signed(an_order(), DESK)
    for length in range(len(whole)):
        assert refused(desk, whole[:length]) is Refusal.MALFORMED


def test_a_flipped_bit_is_refused_wherever_it_is(tmp_path, desk):
    whole = signed(an_order(), DESK)
    for position in range(8 * len(whole)):
        altered = bytearray(whole)
        altered[position // 8] ^= 1 << position % 8
        verdict = asked(desk, bytes(altered))
        if isinstance(verdict, Accepted):  # a bit of base64 or of a letter's case that says the same
            assert verdict.order == an_order()
            (tmp_path / "counters").unlink()
            desk = desk_in(tmp_path)
        else:
            assert verdict.reason in (Refusal.MALFORMED, Refusal.NOT_SIGNED)


def test_something_else_that_the_key_signed_is_no_order(desk):
    for payload in (b"", b"{}", b"null", b"\xff", b"[" * 20000, b'{"site":NaN}'):
        verdict = asked(desk, dsse.sign(payload, orders.COMMAND_TYPE, DESK))
        assert (reason(verdict), verdict.keyid) == (Refusal.MALFORMED, KEYID)


# refused: not for this door, or not now


def test_another_sites_order_is_refused(desk):
    assert refused(desk, an_order(site="lab")) is Refusal.FOREIGN_SITE


def test_another_doors_order_is_refused(desk):
    assert refused(desk, an_order(doors={"back": EPOCH})) is Refusal.FOREIGN_DOOR


def test_another_doors_epoch_is_refused(desk):
    epoch = orders.epoch_of(7, bytes(8))
    assert refused(desk, an_order(doors={"front": epoch, "back": EPOCH})) is Refusal.ANOTHER_EPOCH


def test_an_expired_order_is_refused(desk):
    for late in (0, 0.001, 60, 10 * 365 * 86400):
        now = NOW + timedelta(seconds=20 + late)
        assert refused(desk, an_order(), now=now) is Refusal.EXPIRED
    assert refused(desk, an_order(do="lock"), now=NOW + timedelta(seconds=21)) is Refusal.EXPIRED


def test_an_order_that_ends_31_s_ahead_is_refused_and_one_30_s_ahead_is_not(desk):
    assert refused(desk, an_order(expires_at=in_s(31))) is Refusal.TOO_FAR_AHEAD
    assert refused(desk, an_order(expires_at=in_s(30.001))) is Refusal.TOO_FAR_AHEAD
    assert refused(desk, an_order(expires_at=in_s(30))) is None


def test_a_day_that_does_not_exist_is_refused(desk):
    payload = orders.encode(an_order()).replace(in_s(20).encode(), b"2026-02-30T12:00:00.000Z")
    assert refused(desk, dsse.sign(payload, orders.COMMAND_TYPE, DESK)) is Refusal.MALFORMED


# refused: again


def test_a_replayed_order_is_refused(desk):
    order = signed(an_order(), DESK)
    assert [refused(desk, order) for _ in range(3)] == [None, Refusal.REPEATED, Refusal.REPEATED]
    assert refused(desk, an_order(counter=999)) is Refusal.REPEATED
    assert refused(desk, an_order(counter=1001)) is None


def test_an_order_replayed_after_a_restart_is_refused(tmp_path):
    first = next_epoch(tmp_path / "starts")
    order = an_order(doors={"front": first})
    assert refused(desk_in(tmp_path, first), order) is None
    second = next_epoch(tmp_path / "starts")
    assert refused(desk_in(tmp_path, second), order) is Refusal.ANOTHER_EPOCH


def test_the_counter_outlasts_a_restart(tmp_path):
    assert refused(desk_in(tmp_path), an_order()) is None
    assert refused(desk_in(tmp_path), an_order()) is Refusal.REPEATED


def test_an_order_replayed_after_the_card_was_restored_is_refused(tmp_path):
    """Counters and starts are as they were before the order came; the epoch's random half is not."""
    next_epoch(tmp_path / "starts")
    asked(desk_in(tmp_path), an_order(counter=1))
    saved = {path: path.read_bytes() for path in tmp_path.iterdir()}
    epoch = next_epoch(tmp_path / "starts")
    order = an_order(doors={"front": epoch})
    assert refused(desk_in(tmp_path, epoch), order) is None
    for path, content in saved.items():
        path.write_bytes(content)
    again = next_epoch(tmp_path / "starts")
    assert orders.epoch_count(again) == orders.epoch_count(epoch)
    assert refused(desk_in(tmp_path, again), order) is Refusal.ANOTHER_EPOCH


# a clock that is not trusted


def test_with_an_untrusted_clock_only_what_restrains_is_obeyed(tmp_path):
    obeyed = set()
    for counter, do in enumerate(("unlock", "lock", "normal", "lockdown", "sync", "restart"), 1):
        if refused(desk_in(tmp_path), an_order(counter=counter, do=do), now=None) is None:
            obeyed.add(do)
    free = an_order(counter=9, do="free-access", until=in_s(60))
    assert refused(desk_in(tmp_path), free, now=None) is Refusal.CLOCK_NOT_TRUSTED
    assert obeyed == {"lock", "lockdown"}


def test_with_an_untrusted_clock_the_rest_is_checked_all_the_same(desk):
    lock = an_order(do="lock", expires_at=in_s(-86400))
    assert refused(desk, lock, now=None) is None
    assert refused(desk, lock, now=None) is Refusal.REPEATED
    assert refused(desk, an_order(do="lock", doors={"back": EPOCH}), now=None) is Refusal.FOREIGN_DOOR
    assert refused(desk, signed(an_order(do="lock"), STRANGER), now=None) is Refusal.NOT_SIGNED
    assert refused(desk, an_order(do="lock", counter=2000), now=None, retained=True) is Refusal.RETAINED


# counters that can't be kept

BROKEN = [b"", b"{}", b"\xff\xfe", b'{"counters":{"x":1}}', b'{"counters":', b"x" * (512 * 1024 + 1)]


@pytest.mark.parametrize("content", BROKEN)
def test_with_unreadable_counters_only_locking_is_obeyed_and_the_file_stays(tmp_path, caplog, content):
    path = tmp_path / "counters"
    path.write_bytes(content)
    desk = desk_in(tmp_path)
    assert refused(desk, an_order()) is Refusal.NOT_STORED
    assert refused(desk, an_order(do="lock")) is None
    assert refused(desk, an_order(do="lock")) is Refusal.REPEATED
    assert refused(desk, an_order(do="lockdown", counter=1001)) is None
    assert path.read_bytes() == content
    assert any("delete it and restart" in record.getMessage() for record in caplog.records)


def test_counters_that_are_no_file_are_unreadable_too(tmp_path):
    (tmp_path / "counters").mkdir()
    assert refused(desk_in(tmp_path), an_order()) is Refusal.NOT_STORED


def test_with_unwritable_counters_only_locking_is_obeyed(tmp_path, caplog):
    folder = tmp_path / "state"
    folder.mkdir()
    desk = desk_in(folder)
    folder.rmdir()  # root writes into any folder there is, so it must not be
    with caplog.at_level(logging.ERROR):
        assert refused(desk, an_order()) is Refusal.NOT_STORED
        assert refused(desk, an_order(do="lock")) is None
    assert "lock is obeyed all the same" in caplog.text
    assert refused(desk, an_order(do="lock")) is Refusal.REPEATED
    folder.mkdir()
    assert refused(desk, an_order()) is Refusal.REPEATED
    assert refused(desk, an_order(counter=1001)) is None


def test_an_order_refused_because_of_a_full_disk_was_never_obeyed_and_may_come_again(tmp_path, monkeypatch):
    desk = desk_in(tmp_path)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        verdict = asked(desk, an_order())
    assert reason(verdict) is Refusal.NOT_STORED
    assert "No space left" in verdict.report
    assert refused(desk, an_order()) is None


# what is told


def test_refusals_are_counted_and_told_once_a_minute_each_kind(tmp_path):
    clock = Clock()
    desk = desk_in(tmp_path, clock=clock)
    stranger = signed(an_order(), STRANGER)
    assert asked(desk, stranger).report.startswith("NotSigned: ")
    assert [asked(desk, stranger).report for _ in range(5)] == [None] * 5
    assert asked(desk, an_order(site="lab")).report == f"ForeignSite: expected hq, got lab; key {KEYID}"
    clock.now += 60
    assert asked(desk, stranger).report.endswith("; 5 more since the last")
    assert asked(desk, stranger).report is None
    assert desk.refused == {Refusal.NOT_SIGNED: 8, Refusal.FOREIGN_SITE: 1}


def test_what_is_told_is_bounded_whatever_was_sent(desk):
    payload = json.dumps({"x" * 40000: 1}).encode()
    assert len(asked(desk, payload).report) < 300


def test_who_ordered_is_answered(desk):
    verdict = asked(desk, an_order())
    answer = desk.reply(verdict, done=True, detail="Accessed")
    assert answer == orders.Reply("hq", "front", EPOCH, KEYID, 1000, True, "Accessed")
    assert orders.decode_reply(orders.encode(answer)) == answer


def test_a_refusal_is_answered_only_to_who_may_order_and_never_for_a_replay(tmp_path, desk):
    late = asked(desk, an_order(), now=NOW + timedelta(seconds=60))
    assert desk.reply(late, done=True) == orders.Reply("hq", "front", EPOCH, KEYID, 1000, False, "Expired")
    asked(desk, an_order())
    silent = {
        Refusal.REPEATED: asked(desk, an_order()),
        Refusal.NOT_SIGNED: asked(desk, signed(an_order(), STRANGER)),
        Refusal.FOREIGN_SITE: asked(desk, an_order(site="lab", counter=2000)),
        Refusal.FOREIGN_DOOR: asked(desk, an_order(doors={"back": EPOCH}, counter=2000)),
        Refusal.RETAINED: asked(desk, an_order(counter=2000), retained=True),
        Refusal.MALFORMED: asked(desk, b""),
        Refusal.OVERSIZED: asked(desk, bytes(orders.MAX_ORDER_BYTES + 1)),
    }
    assert {kind: reason(verdict) for kind, verdict in silent.items()} == {kind: kind for kind in silent}
    assert [desk.reply(verdict) for verdict in silent.values()] == [None] * len(silent)
    assert set(silent) | ANSWERED == set(Refusal)


# the count of starts


def test_each_start_counts_and_no_epoch_comes_twice(tmp_path):
    epochs = [next_epoch(tmp_path / "starts") for _ in range(5)]
    assert [orders.epoch_count(epoch) for epoch in epochs] == [1, 2, 3, 4, 5]
    assert len({epoch.partition("-")[2] for epoch in epochs}) == 5


@pytest.mark.parametrize("content", [b"", b"-5", b"x", b"9" * 100, b"\xff", "\u0665".encode()])
def test_a_broken_count_of_starts_begins_anew_and_says_so(tmp_path, caplog, content):
    (tmp_path / "starts").write_bytes(content)
    assert orders.epoch_count(next_epoch(tmp_path / "starts")) == 1
    assert "expected a count of starts" in caplog.text


def test_a_count_that_cannot_be_stored_is_used_all_the_same(tmp_path, caplog):
    assert orders.epoch_count(next_epoch(tmp_path / "nowhere" / "starts")) == 1
    assert "can't be stored" in caplog.text


def test_the_count_of_starts_stops_before_it_grows_out_of_its_place(tmp_path):
    (tmp_path / "starts").write_text("999999999\n")
    epoch = next_epoch(tmp_path / "starts")
    assert asked(desk_in(tmp_path, epoch), an_order(doors={"front": epoch})).order.doors["front"] == epoch
