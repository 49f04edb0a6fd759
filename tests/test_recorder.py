"""The recorder: committed before acted upon, but nobody waits long; what the disk refuses is told."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest
from broker import wait_until
from events import BEGAN, DAY_S, SETTING, a_notice, details_told, numbers_of, told

from edge import recorder as module
from edge.errors import LedgerError
from edge.link import wire
from edge.link.ledger import Ledger
from edge.link.ledger_view import LedgerView
from edge.recorder import Recorder

NO_ROOM = "database or disk is full"


class DiskLedger(Ledger):
    """A real ledger on a disk that can refuse, or hang until told otherwise. Keeps its history."""

    def __init__(self, path: Path, **limits) -> None:
        super().__init__(path, **limits)
        self.refuses: str | None = None
        self.still = ""  # what it does all the same
        self.moves = threading.Event()
        self.moves.set()
        self.history: list[str] = []

    def open(self) -> wire.Gap | None:
        self._touch("open")
        return super().open()

    def append_all(self, entries):
        self._touch("append")
        return super().append_all(entries)

    def tidy(self):
        if self.refuses:
            raise LedgerError(self.refuses)
        super().tidy()

    def _touch(self, what: str) -> None:
        self.history.append(what)
        assert self.moves.wait(15)
        if self.refuses and what != self.still:
            raise LedgerError(self.refuses)


class Scene:
    """A recorder that is turned by hand: `step` is one turn of its thread."""

    def __init__(self, folder: Path, **limits) -> None:
        self.path = folder / "events.db"
        self.now = 100.0
        self.utc: datetime | None = None
        self.ledger = DiskLedger(self.path, **limits)
        self.happened: list[str] = []
        self.recorder = Recorder(
            self.ledger, lambda: SETTING, lambda: self.utc, lambda: self.happened.append("committed"),
            lambda: self.now,
        )  # fmt: skip

    def step(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.recorder.step()

    def grant(self, what: str = "opened", by: float = float("inf")) -> None:
        self.recorder.post_then(a_notice(what), None, lambda: self.happened.append(what), by)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_IDLE_S", 0.0)
    return Scene(tmp_path)


def test_events_of_one_moment_are_one_commit_in_their_order(scene):
    for i in range(5):
        scene.recorder.post(a_notice(str(i)), b"d")
    scene.step()
    assert details_told(scene.path) == [f"CameraFault {i}" for i in range(5)]
    assert scene.ledger.details(3) == b"d"
    assert scene.ledger.history == ["open", "append"]


def test_a_grant_goes_on_when_its_event_is_on_the_disk_and_before_anything_is_sent(scene):
    scene.recorder.post_then(
        a_notice("granted"),
        None,
        lambda: scene.happened.append(f"opened with {numbers_of(scene.path)}"),
        float("inf"),
    )
    assert scene.happened == []
    scene.step()
    assert scene.happened == ["opened with [1]", "committed"]
    scene.recorder.waiting.be_patient()
    scene.step()
    assert len(scene.happened) == 2
    assert details_told(scene.path) == ["CameraFault granted"]


def test_a_grant_that_waited_long_enough_goes_on_and_the_chain_says_so(scene):
    scene.step()
    scene.recorder.post(a_notice("before"))
    scene.grant()
    scene.now += 0.2
    scene.recorder.waiting.be_patient()
    assert scene.happened == ["opened"]
    scene.step()
    assert details_told(scene.path)[1:] == [
        "CameraFault opened",
        "EventUnsynced number 2: the door was asked before this was on the disk",
    ]
    assert scene.happened == ["opened", "committed"]


def test_a_grant_that_goes_on_during_the_commit_is_marked_right_behind(scene):
    scene.step()
    scene.ledger.moves.clear()
    scene.grant()
    scene.recorder.post(a_notice("after"))
    thread = threading.Thread(target=scene.recorder.step)
    thread.start()
    wait_until(lambda: scene.ledger.history == ["open", "append"], "the disk hangs")
    scene.now += 0.2
    scene.recorder.waiting.be_patient()
    assert scene.happened == ["opened"]
    scene.ledger.moves.set()
    thread.join(15)
    scene.step()
    assert [event.kind for event in told(scene.path)] == ["CameraFault", "CameraFault", "EventUnsynced"]
    assert "number 1:" in told(scene.path)[2].detail


def test_with_its_threads_a_hanging_disk_holds_up_nobody_who_posts_and_no_grant(tmp_path):
    ledger = DiskLedger(tmp_path / "events.db")
    ledger.moves.clear()
    recorder, opened = Recorder(ledger, lambda: SETTING, lambda: None), threading.Event()
    recorder.start()
    recorder.post_then(a_notice("granted"), None, opened.set, float("inf"))
    assert opened.wait(15)
    for i in range(1500):
        recorder.post(a_notice(str(i)))
    assert 400 < recorder.lost <= 501
    ledger.moves.set()
    wait_until(lambda: ledger.head.seq == 1500 - recorder.lost + 3, "all that waited")
    recorder.stop()
    kinds = [event.kind for event in told(tmp_path / "events.db")]
    assert (kinds[1], kinds[-1]) == ("EventUnsynced", "EventsDropped")
    assert told(tmp_path / "events.db")[-1].count == recorder.lost
    assert not any(thread.name in ("recorder", "patience") for thread in threading.enumerate())


def logged(caplog) -> list[tuple[str, str | None]]:
    """What each event's line says, and its number."""
    records = [r for r in caplog.records if r.name == "edge.story"]
    return [(r.getMessage().partition(": ")[2], r.journal.get("SEQ")) for r in records]


def test_the_log_has_each_event_once_and_with_its_number(scene, caplog):
    for detail in "abc":
        scene.recorder.post(a_notice(detail))
    scene.step()
    assert logged(caplog) == [("a", "1"), ("b", "2"), ("c", "3")]


def test_the_log_does_not_wait_for_a_disk_that_refuses(scene, caplog):
    scene.step()
    scene.ledger.refuses = NO_ROOM
    scene.recorder.post(a_notice("a"))
    scene.step()
    assert logged(caplog) == [("a", None)]
    scene.ledger.refuses = None
    scene.recorder.post(a_notice("b"))
    scene.step(1)
    scene.step(1)
    assert [event.detail for event in told(scene.path)] == ["a", "b"]
    assert logged(caplog) == [("a", None), ("b", "2")]


def test_an_event_that_the_log_has_already_is_not_told_again_when_it_is_lost(scene, caplog):
    scene.step()
    scene.ledger.refuses = NO_ROOM
    scene.recorder.post(wire.Notice("", 0, "", "", "m" * 9000, 1, True, "CameraFault", "too large"))
    scene.step()
    scene.ledger.refuses = None
    scene.step(1.1)
    assert scene.recorder.lost == 1
    assert [detail for detail, _ in logged(caplog) if detail == "too large"] == ["too large"]


@pytest.mark.parametrize("why", [NO_ROOM, "attempt to write a readonly database", "disk I/O error"])
def test_a_disk_that_refuses_delays_no_grant_and_is_told_once(scene, caplog, why):
    scene.step()
    scene.ledger.refuses = why
    scene.grant("a")
    scene.step()
    scene.grant("b")
    scene.step()
    assert scene.happened == ["a", "b"]
    assert scene.recorder.fault == why
    said = [r.getMessage() for r in caplog.records if r.name == "edge.recorder"]
    assert said == [f"events are not recorded, the door works on: {why}"]


def test_what_waited_for_the_disk_is_recorded_in_order_when_it_is_back(scene):
    scene.step()
    scene.ledger.refuses = NO_ROOM
    for i in range(3):
        scene.recorder.post(a_notice(str(i)))
        scene.step()
    scene.ledger.refuses = None
    scene.step(0.5)
    assert numbers_of(scene.path) == []
    scene.step(1)
    assert details_told(scene.path) == [f"CameraFault {i}" for i in range(3)]
    assert (scene.recorder.fault, scene.recorder.lost) == (None, 0)


def test_what_is_too_much_to_wait_is_lost_counted_and_told_behind_what_waited(scene):
    scene.step()
    scene.ledger.refuses = NO_ROOM
    for i in range(1003):
        scene.recorder.post(a_notice(str(i)))
        if i % 100 == 0:
            scene.step()
    scene.step()
    assert scene.recorder.lost == 3
    scene.ledger.refuses = None
    for _ in range(12):
        scene.step(1)
    events = told(scene.path)
    assert [event.detail for event in events[:-1]] == [str(i) for i in range(1000)]
    last = events[-1]
    assert (last.kind, last.first, last.last, last.count) == ("EventsDropped", None, None, 3)
    assert scene.ledger.verify() is None


def test_a_disk_that_refuses_from_the_start_lets_the_door_work_and_is_tried_again(scene):
    scene.ledger.refuses = "unable to open database file"
    scene.grant()
    scene.step()
    assert scene.happened == ["opened"]
    scene.ledger.refuses = None
    scene.step(1.1)
    assert [event.kind for event in told(scene.path)] == ["CameraFault", "EventUnsynced"]


def test_a_full_disk_whose_ledger_can_be_opened_is_one_fault_until_a_commit_works(scene, caplog):
    scene.step()
    scene.ledger.refuses, scene.ledger.still = NO_ROOM, "open"
    scene.recorder.post(a_notice())
    for _ in range(20):
        scene.step(1.1)
        assert scene.recorder.fault == NO_ROOM
    scene.ledger.refuses = None
    scene.step(1.1)
    assert scene.recorder.fault is None
    said = [r.getMessage() for r in caplog.records if "recorded" in r.getMessage()]
    assert said == [
        f"events are not recorded, the door works on: {NO_ROOM}",
        "events are recorded again; 1 waited, 0 were lost",
    ]


def test_a_grant_whose_event_is_lost_waits_for_nothing(scene):
    scene.step()
    scene.ledger.refuses = NO_ROOM
    for _ in range(1000):
        scene.recorder.post(a_notice())
    scene.step()
    scene.grant()
    scene.step()
    assert (scene.recorder.lost, scene.happened) == (1, ["opened"])


def test_housekeeping_that_a_full_disk_refuses_stops_no_event_and_is_told_once_a_minute(scene, caplog):
    scene.step()
    scene.ledger.refuses, scene.ledger.still = NO_ROOM, "append"
    for _ in range(20):
        scene.grant()
        scene.step(2)
        assert scene.recorder.fault is None
    assert scene.ledger.history == ["open", *["append"] * 20]
    assert [event.kind for event in told(scene.path)] == ["CameraFault"] * 20
    said = [r.getMessage() for r in caplog.records if r.name == "edge.recorder"]
    assert said == [f"the ledger can't be tidied, events are recorded: {NO_ROOM}"]


def test_a_damaged_ledger_is_set_aside_and_the_chain_goes_on_and_says_so(scene, caplog):
    scene.recorder.post(a_notice())
    scene.step()
    scene.recorder.stop()
    scene.recorder.close()
    scene.path.write_bytes(b"rotten" * 1000)
    scene.recorder = Recorder(scene.ledger, lambda: SETTING, lambda: None, clock=lambda: scene.now)
    scene.step()
    scene.step(1)
    scene.recorder.post(a_notice("after"))
    scene.step()
    events = told(scene.path)
    assert [event.kind for event in events] == ["LedgerDamaged", "EventsDropped", "CameraFault"]
    assert [event.seq for event in events] == [2, 3, 4]
    assert (events[1].first, events[1].last) == (1, 1)
    aside = next(scene.path.parent.glob("events.db.damaged-*Z"))
    assert aside.read_bytes().startswith(b"rotten")
    assert aside.name in events[0].detail
    assert [r.levelname for r in caplog.records if "set aside" in r.getMessage()] == ["CRITICAL", "ERROR"]
    assert scene.ledger.verify() is None


def test_what_a_reader_stumbled_over_is_set_aside_too(scene):
    scene.recorder.post(a_notice())
    scene.step()
    scene.ledger.damaged = "events.db: database disk image is malformed"
    scene.step()
    assert scene.recorder.fault is None
    assert [event.kind for event in told(scene.path)] == ["LedgerDamaged", "EventsDropped"]


def test_a_disk_that_damages_all_it_is_given_is_not_filled_with_ledgers(scene):
    scene.step()
    for _ in range(30):
        scene.ledger.damaged = "malformed"
        scene.step(1)
    assert len(list(scene.path.parent.glob("events.db.damaged-*Z"))) == 1


def test_an_event_too_large_to_be_sent_is_lost_alone(scene):
    scene.recorder.post(a_notice("a"))
    scene.recorder.post(wire.Notice("", 0, "", "", "m" * 9000, 1, True, "CameraFault", ""))
    scene.recorder.post(a_notice("b"))
    scene.step()
    scene.step()
    assert details_told(scene.path) == [
        "CameraFault a",
        "CameraFault b",
        "EventsDropped the ledger took no events",
    ]
    assert scene.recorder.lost == 1


def test_what_is_too_old_goes_only_by_a_clock_that_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_IDLE_S", 0.0)
    scene = Scene(tmp_path, keep_days=1)
    scene.recorder.post(a_notice("old"))
    scene.step()
    scene.step(3600)
    assert numbers_of(scene.path) == [1]
    scene.utc = datetime.fromtimestamp(BEGAN + 3 * DAY_S, timezone.utc)
    scene.step(3600)
    assert numbers_of(scene.path) == [2]
    assert told(scene.path)[0].kind == "EventsDropped"
    assert scene.happened == ["committed", "committed"]


def test_a_clock_that_jumps_breaks_no_chain(scene):
    for at in (BEGAN, BEGAN + 4000 * DAY_S, BEGAN - 4000 * DAY_S, BEGAN):
        scene.recorder.post(a_notice("", at))
        scene.step()
    assert numbers_of(scene.path) == [1, 2, 3, 4]
    assert scene.ledger.verify() is None


def test_a_stop_commits_what_waits(scene):
    for i in range(250):
        scene.recorder.post(a_notice(str(i)))
    scene.recorder.stop()
    with closing(LedgerView(scene.path)) as view:
        assert view.head.seq == 250
        assert view.verify() is None


def test_a_text_that_is_no_unicode_is_recorded_without_it(scene):
    scene.recorder.post(a_notice("/dev/\udcff"))
    scene.grant()
    scene.step()
    assert details_told(scene.path) == ["CameraFault /dev/?", "CameraFault opened"]


def test_an_event_that_can_be_no_text_is_lost_alone_and_stops_no_other(scene):
    scene.recorder.post(wire.Notice("", 0, "", "", "\udcff", 1, True, "CameraFault", ""))
    scene.grant()
    scene.step()
    assert (scene.happened[0], scene.recorder.lost) == ("opened", 1)
    assert details_told(scene.path)[0] == "CameraFault opened"


def test_a_commit_that_failed_only_seemingly_is_not_made_twice(scene, monkeypatch):
    scene.step()

    def fail(*_):
        raise LedgerError("disk I/O error")

    monkeypatch.setattr(scene.ledger, "_after_commit", fail)
    scene.recorder.post(a_notice("a"))
    scene.grant("b")
    scene.step()
    monkeypatch.undo()
    monkeypatch.setattr(module, "_IDLE_S", 0.0)
    scene.recorder.post(a_notice("c"))
    scene.step(1.1)
    assert [line for line in details_told(scene.path) if "Unsynced" not in line] == [
        "CameraFault a",
        "CameraFault b",
        "CameraFault c",
    ]
    assert [e.detail[:9] for e in told(scene.path) if e.kind == "EventUnsynced"] == ["number 2:"]
    assert scene.happened[0] == "b"
    assert scene.ledger.verify() is None


def test_what_a_failed_commit_left_readable_counts_only_once_it_was_brought_to_the_disk_again(
    scene, monkeypatch
):
    """Not after the kernel told once that it could not: its next fdatasync says nothing of it."""
    scene.step()
    log = scene.path.with_name("events.db-wal")

    def fail(*_):
        raise LedgerError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(scene.ledger, "_after_commit", fail)
        broken.setattr(scene.ledger, "settle", fail)
        broken.setattr(scene.ledger, "close", lambda: None)  # nor when the file was closed
        scene.recorder.post(a_notice("a"))
        scene.step()
        scene.step(1.1)
        assert (log.stat().st_size > 0, scene.recorder.fault, scene.happened) == (True, "disk I/O error", [])
    scene.step(1.1)
    assert log.stat().st_size == 0
    assert (scene.recorder.fault, details_told(scene.path)) == (None, ["CameraFault a"])


def test_a_disk_without_room_for_a_first_ledger_is_no_damage_and_tried_each_second(scene, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.disk.os.open", no_room)
    for _ in range(3):
        scene.step(1.1)
    assert scene.recorder.fault == f"{scene.path}: No space left on device"
    monkeypatch.undo()
    monkeypatch.setattr(module, "_IDLE_S", 0.0)
    scene.recorder.post(a_notice("after"))
    scene.step(1.1)
    assert details_told(scene.path) == ["CameraFault after"]


def test_a_damaged_ledger_whose_head_is_lost_too_repeats_no_number_that_is_known(scene):
    scene.recorder.post(a_notice())
    scene.step()
    scene.path.with_suffix(".head").unlink()
    scene.ledger.damaged = "events.db: database disk image is malformed"
    scene.step()
    assert numbers_of(scene.path) == [2, 3]


def test_a_hanging_disk_is_a_fault_that_can_be_seen(tmp_path):
    ledger = DiskLedger(tmp_path / "events.db")
    now = [100.0]
    recorder = Recorder(ledger, lambda: SETTING, lambda: None, clock=lambda: now[0])
    recorder.start()
    wait_until(lambda: recorder.fault is None, "the ledger is open")
    ledger.moves.clear()
    recorder.post(a_notice())
    wait_until(lambda: ledger.history[-1] == "append", "the disk hangs")
    now[0] += 6
    assert recorder.fault == "the ledger's disk does not answer"
    ledger.moves.set()
    wait_until(lambda: recorder.fault is None, "the disk is back")
    recorder.stop()
    recorder.close()


def test_a_dead_recorder_is_a_fault_that_can_be_seen_and_its_grants_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    now, opened = [100.0], threading.Event()

    faults = [RuntimeError()]

    def die():
        if faults:
            raise faults.pop()

    ledger = DiskLedger(tmp_path / "events.db")
    recorder = Recorder(ledger, lambda: SETTING, lambda: None, die, clock=lambda: now[0])
    recorder.start()
    recorder.post(a_notice())
    wait_until(lambda: "recorder" not in {t.name for t in threading.enumerate()}, "it is dead")
    now[0] += 6
    assert recorder.fault == "the ledger's disk does not answer"
    recorder.post_then(a_notice("granted"), None, opened.set, float("inf"))
    now[0] += 0.2
    assert opened.wait(15)
    recorder.tend()
    wait_until(lambda: recorder.fault is None and ledger.head.seq == 3, "it was started again")
    recorder.stop()
    recorder.close()
    assert details_told(tmp_path / "events.db")[1] == "CameraFault granted"


def test_a_grant_that_would_grow_stale_does_not_wait_for_the_disk_until_it_has(scene):
    scene.step()
    scene.grant("stale soon", by=scene.now + 0.1)
    scene.now += 0.1
    scene.recorder.waiting.be_patient()
    assert scene.happened == ["stale soon"]
