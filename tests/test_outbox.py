"""Events wait in order, numbered, and what is lost shows."""

from __future__ import annotations

import pytest

from edge.errors import PayloadError
from edge.link import outbox as module
from edge.link import wire
from edge.link.outbox import WINDOW, MemoryOutbox

SETTING = wire.Setting(0.7, "facenet", 1, simulation=True)


def event(detail: str = "") -> wire.Notice:
    return wire.notice("CameraFault", detail, wire.Stamp.of(1_700_000_000, bytes(10)), SETTING)


def sent(box: MemoryOutbox) -> list[bytes]:
    """Everything that may go now, acknowledged at once."""
    out = []
    while (payload := box.take()) is not None:
        box.under_way(len(out), payload)
        box.acknowledged(len(out))
        out.append(payload)
    return out


def numbers(payloads: list[bytes]) -> list[int]:
    return [wire.decode_event(payload).seq for payload in payloads]


def test_events_leave_in_order_and_chained(tmp_path):
    box = MemoryOutbox(tmp_path / "chain")
    for i in range(5):
        box.add(event(str(i)))
    head = wire.GENESIS
    for i, payload in enumerate(sent(box)):
        told, head = wire.follow(payload, head)
        assert told.detail == str(i)
    assert head.seq == 5
    assert box.unsent == 0


def test_the_chain_goes_on_after_a_restart(tmp_path):
    first, second = MemoryOutbox(tmp_path / "chain"), None
    first.add(event())
    head = wire.follow(sent(first)[0], wire.GENESIS)[1]
    second = MemoryOutbox(tmp_path / "chain")
    second.add(event())
    assert wire.follow(sent(second)[0], head)[0].seq == 2


def test_what_a_restart_lost_is_a_gap(tmp_path):
    MemoryOutbox(tmp_path / "chain").add(event())
    box = MemoryOutbox(tmp_path / "chain")
    box.add(event())
    with pytest.raises(PayloadError, match=r"expected number 1 .* got 2"):
        wire.follow(sent(box)[0], wire.GENESIS)


def test_only_so_many_are_under_way(tmp_path):
    box = MemoryOutbox(tmp_path / "chain")
    for _ in range(WINDOW + 5):
        box.add(event())
    for mid in range(WINDOW):
        box.under_way(mid, box.take())
    assert box.take() is None
    box.acknowledged(3)
    assert numbers([box.take()]) == [WINDOW + 1]


def test_a_lost_connection_takes_back_what_was_under_way_in_order(tmp_path):
    box = MemoryOutbox(tmp_path / "chain")
    for _ in range(6):
        box.add(event())
    for mid in range(4):
        box.under_way(mid, box.take())
    box.acknowledged(1)
    box.take_back()
    assert box.unsent == 5
    assert numbers(sent(box)) == [1, 3, 4, 5, 6]


def test_when_too_many_wait_the_oldest_go_and_are_counted(tmp_path):
    box = MemoryOutbox(tmp_path / "chain", limit=3)
    for _ in range(5):
        box.add(event())
    assert box.dropped == 2
    assert numbers(sent(box)) == [3, 4, 5]


@pytest.mark.parametrize("content", [b"", b"{", b'{"seq":-1,"prev":"00"}', b"\xff" * 100])
def test_a_damaged_head_is_told_and_the_chain_begins_anew(tmp_path, caplog, content):
    (tmp_path / "chain").write_bytes(content)
    box = MemoryOutbox(tmp_path / "chain")
    assert "begins anew" in caplog.text
    box.add(event())
    assert numbers(sent(box)) == [1]


def test_a_disk_that_refuses_is_told_once_and_events_go_on(tmp_path, caplog, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    box = MemoryOutbox(tmp_path / "chain")
    monkeypatch.setattr(module, "write_atomically", refuse)
    box.add(event())
    box.add(event())
    assert numbers(sent(box)) == [1, 2]
    assert [record.getMessage().count("No space left") for record in caplog.records] == [1]


def test_an_event_too_large_to_send_takes_no_number(tmp_path):
    box = MemoryOutbox(tmp_path / "chain")
    box.add(wire.Notice("", 0, "", "", "m" * 9000, 1, True, "CameraFault", ""))
    box.add(event())
    assert box.dropped == 1
    assert numbers(sent(box)) == [1]
