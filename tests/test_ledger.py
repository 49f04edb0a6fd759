"""The ledger: on disk when it says so, numbered without gaps, and whatever is done to it shows."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from events import BEGAN, DAY_S, a_notice, details_told, edit, gap_event, numbers_of, rows_of, tamper, told

from edge.errors import LedgerDamaged, LedgerError, PayloadError
from edge.link import kept_head, wire
from edge.link.chain import Flaw, first_flaw
from edge.link.kept_head import head_path, read_head
from edge.link.ledger import Ledger
from edge.link.ledger_view import LedgerView


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "events.db"


def opened(path: Path, **limits) -> Ledger:
    ledger = Ledger(path, **limits)
    ledger.open()
    return ledger


def written(path: Path, count: int, **limits) -> None:
    """A ledger of so many events, closed in order."""
    with closing(opened(path, **limits)) as ledger:
        for begin in range(0, count, 100):
            ledger.append_all([(a_notice(str(i)), b"d") for i in range(begin, min(count, begin + 100))])
        ledger.keep_head()


def flaw_of(path: Path) -> int | None:
    with closing(LedgerView(path)) as view:
        flaw = view.verify()
    return None if flaw is None else flaw.seq


def test_events_come_back_in_order_numbered_and_chained(path):
    ledger = opened(path)
    for i in range(5):
        ledger.append(a_notice(str(i)))
    head = wire.GENESIS
    for i, stored in enumerate(ledger.after(0, 100)):
        event, head = wire.follow(stored.payload, head)
        assert (event.detail, stored.seq) == (str(i), i + 1)
    assert head == ledger.head
    assert ledger.verify() is None


def test_reading_goes_on_after_any_number_and_no_further_than_wanted(path):
    ledger = opened(path)
    ledger.append_all([(a_notice(), None)] * 10)
    assert [stored.seq for stored in ledger.after(3, 4)] == [4, 5, 6, 7]
    assert ledger.after(10, 4) == []


def test_nothing_is_read_that_the_head_does_not_tell_of_yet(path):
    ledger, other = opened(path), Ledger(path)
    ledger.append(a_notice())
    other.open()
    other.append(a_notice())  # as a commit of another thread's, the moment before it tells of it
    assert [stored.seq for stored in ledger.after(0, 9)] == [1]


def test_a_commit_is_all_or_nothing(path):
    ledger = opened(path)
    huge = wire.Notice("", 0, "", "", "m" * 9000, 1, True, "CameraFault", "")
    with pytest.raises(PayloadError):
        ledger.append_all([(a_notice(), None), (huge, None)])
    assert (ledger.head, numbers_of(path)) == (wire.GENESIS, [])


def test_details_stay_beside_their_event_and_are_found_by_its_id_and_its_number(path):
    ledger, event = opened(path), a_notice()
    ledger.append(a_notice())
    ledger.append(event, b"how it was decided")
    assert ledger.details(event.id) == ledger.details(2) == b"how it was decided"
    assert ledger.details(1) is None
    assert ledger.find(event.id) == ledger.find(2) == ledger.after(1, 1)[0]
    assert ledger.find(3) is None
    assert b"decided" not in ledger.after(1, 1)[0].payload


def test_the_files_are_nobody_elses_to_read(path):
    written(path, 3)
    assert {file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {0}


# Starting again


def test_the_chain_and_the_cursor_go_on_after_a_restart(path):
    with closing(opened(path)) as ledger:
        ledger.append_all([(a_notice(), None)] * 3)
        ledger.delivered(2)
    ledger = opened(path)
    assert (ledger.head.seq, ledger.cursor, ledger.undelivered) == (3, 2, 1)
    ledger.append(a_notice())
    assert ledger.verify() is None


def test_after_a_kill_everything_that_was_committed_is_there(path):
    ledger = opened(path)
    ledger.append_all([(a_notice(), None)] * 3)
    copy = path.with_name("after.db")  # what lies on the disk at this moment
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{copy}{end}")
    assert opened(copy).head == ledger.head


def test_the_cursor_moves_forwards_only_and_never_beyond_the_last_event(path):
    ledger = opened(path)
    ledger.append_all([(a_notice(), None)] * 5)
    for seq, cursor in ((3, 3), (1, 3), (99, 5)):
        ledger.delivered(seq)
        assert ledger.cursor == cursor
    assert numbers_of(path) == [1, 2, 3, 4, 5]


def test_the_cursor_is_kept_with_the_next_event_and_when_it_is_far_ahead(path):
    ledger = opened(path)
    ledger.append_all([(a_notice(), None)] * 600)
    ledger.delivered(50)
    ledger.append(a_notice())
    assert kept_cursor(path) == 50
    ledger.delivered(60)
    ledger.tidy()
    assert kept_cursor(path) == 50
    ledger.delivered(600)
    ledger.tidy()
    assert kept_cursor(path) == 600


def kept_cursor(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT cursor FROM chain").fetchone()[0]


def test_a_lost_ledger_goes_on_with_the_numbers_and_says_what_is_missing(path):
    written(path, 7)
    path.unlink()
    ledger = Ledger(path)
    gap = ledger.open()
    assert (gap.first, gap.last, gap.count) == (1, 7, 7)
    ledger.append(gap_event(gap))
    assert (numbers_of(path), ledger.undelivered) == ([8], 1)
    assert ledger.verify() is None


def test_an_older_ledger_in_its_place_uses_no_number_twice_and_says_what_is_missing(path):
    written(path, 5)
    old = path.read_bytes()
    written(path, 4)
    path.write_bytes(old)
    assert flaw_of(path) == 6
    ledger = Ledger(path)
    gap = ledger.open()
    assert (gap.first, gap.last, gap.count) == (6, 9, 4)
    ledger.append(gap_event(gap))
    assert numbers_of(path)[-1] == 10
    assert ledger.verify() is None


def test_a_head_that_lags_behind_is_no_matter(path):
    written(path, 5)
    kept = head_path(path).read_bytes()
    written(path, 5)
    head_path(path).write_bytes(kept)
    assert Ledger(path).open() is None
    assert flaw_of(path) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"seq":-1,"prev":"00"}', b"\xff" * 100])
def test_a_head_that_is_none_is_told_and_the_ledgers_own_counts(path, caplog, content):
    written(path, 5)
    head_path(path).write_bytes(content)
    assert opened(path).head.seq == 5
    assert "is not believed" in caplog.text


def test_a_new_door_begins_with_number_one_and_nothing_is_missing(path):
    assert Ledger(path).open() is None


# Tampering: whoever has the card can write these files


def swap(path: Path, one: int, other: int) -> None:
    rows = dict(rows_of(path))
    put = "UPDATE events SET payload = ? WHERE seq = ?"
    tamper(path, (put, (rows[other], one)), (put, (rows[one], other)))


def insert(path: Path, seq: int) -> None:
    """A forged record as number `seq`, all behind it moved by one, the end of the chain too."""
    rows = dict(rows_of(path))
    before = wire.decode_event(rows[seq]).prev
    forged = wire.encode(
        wire.decode_event(rows[seq]).__class__(
            **{n: getattr(a_notice("forged"), n) for n in wire.Notice.__struct_fields__}
            | {"seq": seq, "prev": before}
        )
    )
    tamper(
        path,
        ("UPDATE events SET seq = -seq - 1 WHERE seq >= ?", (seq,)),
        "UPDATE events SET seq = -seq WHERE seq < 0",
        ("INSERT INTO events VALUES (?, 'x', 'x', ?, NULL)", (seq, forged)),
    )


RECORDS = (1, 2, 3, 500, 998, 999, 1000)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("thousand") / "events.db"
    written(path, 1000)
    return path


@pytest.fixture
def copied(thousand, path) -> Path:
    shutil.copy(thousand, path)
    shutil.copy(head_path(thousand), head_path(path))
    assert flaw_of(path) is None
    return path


@pytest.mark.parametrize("seq", RECORDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload.replace(b'"detail":"', b'"detail":"not '),
        lambda payload: payload.replace(b'"prev":"', b'"prev":"').replace(payload[-20:-10], b"0123456789"),
        lambda payload: payload.replace(wire.decode_event(payload).prev.encode(), b"f" * 64),
        lambda payload: payload.replace(b"2023-", b"2022-"),
        lambda payload: payload + b" ",
        lambda payload: b"",
        lambda payload: payload.replace(b'"seq":', b'"seq":1'),
    ],
    ids=["detail", "bytes", "prev", "time", "one byte more", "emptied", "number"],
)
def test_an_edited_record_is_named(copied, seq, change):
    edit(copied, seq, change)
    assert flaw_of(copied) == seq


@pytest.mark.parametrize("seq", RECORDS)
@pytest.mark.parametrize("filed", ["id = substr(id, 2)", "at = '2020-01-01T00:00:00.000Z'", "at = 7"])
def test_a_record_that_was_filed_elsewhere_is_named(copied, seq, filed):
    """By the time it lies under it is deleted for its age, by the id it is found."""
    tamper(copied, (f"UPDATE events SET {filed} WHERE seq = ?", (seq,)))
    assert flaw_of(copied) == seq


def test_events_of_a_later_doord_break_no_chain(path):
    """Its version was taken back; what it wrote stays."""
    later = {"kind": "DoorPainted", "colour": "green", "detail": ["in", "parts"]}
    sent, head = [], wire.GENESIS
    for changes in ({}, later, {}):
        payload, after = wire.number(a_notice(), head)
        payload = msgspec.json.encode(msgspec.json.decode(payload) | changes)
        head = wire.ChainHead(after.seq, hashlib.sha256(payload).hexdigest())
        sent.append((head.seq, payload))
    assert first_flaw(sent, head) is None
    assert first_flaw([*sent[:1], (2, sent[1][1] + b" "), *sent[2:]], head).seq == 2


@pytest.mark.parametrize("seq", RECORDS)
def test_a_deleted_record_is_named(copied, seq):
    tamper(copied, ("DELETE FROM events WHERE seq = ?", (seq,)))
    assert flaw_of(copied) == seq


@pytest.mark.parametrize("seq", RECORDS)
def test_an_inserted_record_is_named(copied, seq):
    insert(copied, seq)
    assert flaw_of(copied) == seq


@pytest.mark.parametrize("seq", RECORDS[:-1])
def test_records_in_another_order_are_named(copied, seq):
    swap(copied, seq, seq + 1)
    assert flaw_of(copied) == seq


@pytest.mark.parametrize("kept", [0, 1, 500, 999])
def test_a_cut_ledger_is_named_where_it_was_cut(copied, kept):
    tamper(copied, ("DELETE FROM events WHERE seq > ?", (kept,)))
    assert flaw_of(copied) == kept + 1


@pytest.mark.parametrize("kept", [1, 500, 999])
def test_a_ledger_cut_with_its_own_head_is_found_by_the_head_beside_it(copied, kept):
    digest = wire.decode_event(dict(rows_of(copied))[kept + 1]).prev
    tamper(
        copied,
        ("DELETE FROM events WHERE seq > ?", (kept,)),
        ("UPDATE chain SET seq = ?, prev = ?", (kept, digest)),
    )
    assert flaw_of(copied) == kept + 1


def test_a_ledger_written_anew_is_found_by_the_head_beside_it(thousand, path):
    written(path, 1000)
    shutil.copy(head_path(thousand), head_path(path))
    assert flaw_of(path) == 1000


def test_a_record_appended_behind_the_head_is_named(copied):
    tamper(copied, "INSERT INTO events VALUES (1001, 'x', 'x', x'7b7d', NULL)")
    assert flaw_of(copied) == 1001


def test_the_first_of_several_is_named(copied):
    for seq in (700, 300):
        edit(copied, seq, lambda payload: payload + b" ")
    tamper(copied, "DELETE FROM events WHERE seq = 800")
    assert flaw_of(copied) == 300


def test_a_gap_record_explains_no_more_than_it_names(path):
    ledger = opened(path)
    ledger.append_all([(a_notice(), None)] * 10)
    ledger.append(gap_event(wire.Gap(4, 5, 2, "")))
    ledger.close()
    tamper(path, "DELETE FROM events WHERE seq IN (4, 5)")
    assert flaw_of(path) is None
    tamper(path, "DELETE FROM events WHERE seq = 6")
    assert flaw_of(path) == 6


def test_an_empty_chain_has_no_flaw():
    assert first_flaw([], wire.GENESIS) is None
    assert first_flaw([], wire.ChainHead(3, "0" * 64)) == Flaw(1, "is missing")


# Bounds


def test_what_is_too_old_goes_once_a_day_and_an_event_says_so(path):
    ledger = opened(path, keep_days=10)
    for day in range(12):
        ledger.append(a_notice(str(day), BEGAN + day * DAY_S))
    assert ledger.prune(BEGAN + 11 * DAY_S, gap_event) is None  # by less than a day
    gap = ledger.prune(BEGAN + 12.5 * DAY_S, gap_event)
    assert (gap.first, gap.last, gap.count) == (1, 3, 3)
    assert numbers_of(path) == list(range(4, 14))
    last = told(path)[-1]
    assert (last.kind, last.first, last.last, last.count) == ("EventsDropped", 1, 3, 3)
    assert ledger.prune(BEGAN + 12.6 * DAY_S, gap_event) is None
    assert ledger.verify() is None


def test_nothing_is_too_old_while_nobody_knows_the_time(path):
    ledger = opened(path, keep_days=10)
    ledger.append(a_notice())
    for now in (None, 0.0, BEGAN - 1000 * DAY_S):
        assert ledger.prune(now, gap_event) is None


def test_what_is_too_much_goes_the_oldest_first_and_an_event_says_so(path):
    ledger = opened(path, max_bytes=200_000)
    ledger.append_all([(a_notice(str(i), BEGAN + i), bytes(500)) for i in range(500)])
    gap = ledger.prune(None, gap_event)
    assert gap.first == 1
    assert 150 < gap.last < 450
    assert numbers_of(path)[0] == gap.last + 1
    assert "more than 0 MB" in told(path)[-1].detail
    assert ledger.prune(None, gap_event) is None
    assert ledger.verify() is None


def test_after_many_prunes_the_ledger_is_whole_and_a_cut_at_its_begin_is_named(path):
    ledger = opened(path, max_bytes=200_000)
    for _ in range(10):
        ledger.append_all([(a_notice(), bytes(500))] * 100)
        ledger.prune(None, gap_event)
    assert ledger.verify() is None
    first = numbers_of(path)[0]
    assert first > 500
    ledger.close()
    tamper(path, ("DELETE FROM events WHERE seq = ?", (first,)))
    assert flaw_of(path) == first


# What can be wrong with a disk


def test_what_is_no_ledger_is_damaged_and_can_be_set_aside(path):
    written(path, 3)
    path.write_bytes(b"something else entirely" * 1000)
    ledger = Ledger(path)
    with pytest.raises(LedgerDamaged, match=r"events\.db: "):
        ledger.open()
    aside = ledger.set_aside("damaged-x")
    assert aside.read_bytes().startswith(b"something else")
    gap = ledger.open()
    assert (gap.first, gap.last) == (1, 3)
    assert ledger.append(gap_event(gap)).seq == 4


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE chain", "DELETE FROM chain", "UPDATE chain SET seq = 'x'", "PRAGMA application_id=1"],
)
def test_a_ledger_without_its_chain_is_damaged(path, statement):
    written(path, 3)
    tamper(path, statement)
    with pytest.raises(LedgerDamaged):
        Ledger(path).open()


def rotten(path, offset: int):
    """A ledger of 1,000 of which 20 pages from `offset` into a page are zeros; opening reads none of them."""
    written(path, 1000)
    content = bytearray(path.read_bytes())
    begin = 1024 * (len(content) // 5120) + offset
    content[begin : begin + 20 * 1024] = bytes(20 * 1024)
    path.write_bytes(content)
    return opened(path)


def test_pages_that_rotted_are_found_by_who_reads_them(path):
    ledger = rotten(path, 0)
    for read in (ledger.verify, lambda: ledger.after(0, 1000)):
        ledger.damaged = None
        with pytest.raises(LedgerDamaged):
            read()
        assert "malformed" in ledger.damaged


@pytest.mark.parametrize("offset", range(0, 1024, 64))
def test_whatever_rot_has_left_of_a_record_it_is_found(path, offset):
    try:
        assert rotten(path, offset).verify() is not None
    except LedgerDamaged as error:
        assert "malformed" in str(error)  # noqa: PT017  # or else it is a flaw that names the record


def test_an_event_costs_the_card_little(path):
    ledger = opened(path)
    log = path.with_name("events.db-wal")
    for _ in range(50):
        ledger.append(a_notice(), b"d" * 400)
    assert log.stat().st_size / 50 < 8 * 1024  # SQLite's own page size makes it 14 kB


def test_a_ledger_that_is_not_open_says_so(path):
    ledger = Ledger(path)
    for call in (lambda: ledger.append(a_notice()), lambda: ledger.after(0, 1), ledger.tidy):
        with pytest.raises(LedgerError, match="is not open"):
            call()
    ledger.close()


def test_a_disk_that_refuses_the_head_is_told_once_and_events_go_on(path, caplog, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    ledger = opened(path)
    monkeypatch.setattr(kept_head, "write_atomically", refuse)
    for _ in range(2):
        ledger.append(a_notice())
        ledger.keep_head()
    assert ledger.head.seq == 2
    assert caplog.text.count("No space left") == 1


def kept(path: Path, count: int) -> tuple[Ledger, list[int]]:
    """A ledger of so many events, and what was kept of its head after each."""
    ledger, seen = opened(path), []
    for _ in range(count):
        ledger.append(a_notice())
        ledger.keep_head()
        seen.append(read_head(path).seq)
    return ledger, seen


def test_the_head_is_kept_in_place_and_costs_a_page(path):
    ledger, seen = kept(path, 1)
    inode = head_path(path).stat().st_ino
    ledger, more = kept(path, 5)
    file = head_path(path).stat()
    assert (seen, more) == ([1], [2, 3, 4, 5, 6])
    assert file.st_ino != inode  # each start makes it anew, and then
    ledger.append(a_notice())
    ledger.keep_head()
    assert (head_path(path).stat().st_ino, file.st_size) == (file.st_ino, 8192)
    assert read_head(path) == ledger.head


@pytest.mark.parametrize("spoiled", [b"\0", b"x", b" "])
@pytest.mark.parametrize("place", [0, 1])
def test_a_power_cut_amid_keeping_the_head_leaves_the_one_before(path, place, spoiled):
    ledger, _ = kept(path, 6)
    ledger.close()
    with head_path(path).open("r+b") as file:
        file.seek(place * 4096 + 12)
        file.write(spoiled * 9)
    assert read_head(path).seq in (5, 6)
    assert opened(path).head.seq == 6


def test_a_head_of_an_older_doord_is_read_and_an_older_one_reads_ours(path):
    ledger, _ = kept(path, 3)
    assert wire.decode_head(head_path(path).read_bytes()[:1024]).seq in (2, 3)
    head_path(path).write_bytes(wire.encode(ledger.head))
    assert read_head(path) == ledger.head
    ledger.append(a_notice())
    ledger.keep_head()
    assert read_head(path) == ledger.head


def test_a_head_file_that_was_taken_away_is_made_again(path):
    ledger, _ = kept(path, 3)
    head_path(path).unlink()
    ledger.append(a_notice())
    ledger.keep_head()
    assert read_head(path) == ledger.head


def test_a_view_reads_beside_who_writes_and_writes_nothing(path):
    ledger = opened(path)
    ledger.append(a_notice("a"))
    with closing(LedgerView(path)) as view:
        ledger.append(a_notice("b"), b"x")
        assert [stored.seq for stored in view.after(0, 9)] == [1, 2]
        assert (view.details(2), view.find(1).seq, view.head) == (b"x", 1, ledger.head)
        assert view.verify() is None
    assert details_told(path) == ["CameraFault a", "CameraFault b"]


def test_a_view_of_nothing_says_so(path):
    with pytest.raises(LedgerError, match="expected a ledger, got none"):
        LedgerView(path)


def test_a_clock_in_2099_makes_nothing_old_until_it_has_run_evenly_for_long(path):
    ledger, in_2099 = opened(path), BEGAN + 27_000 * DAY_S
    ledger.append_all([(a_notice(str(day), BEGAN + day * DAY_S), None) for day in range(5)])
    assert ledger.prune(in_2099, gap_event, steady=False) is None
    ledger.append(a_notice("Started", in_2099))
    assert ledger.prune(in_2099, gap_event, steady=False) is None
    gap = ledger.prune(in_2099, gap_event, steady=True)
    assert (gap.first, gap.last) == (1, 5)


def test_records_of_a_clock_that_was_in_2099_keep_no_others_from_growing_old(path):
    ledger = opened(path, keep_days=10)
    for at in (27_000, 0, 27_000, 1, 15):
        ledger.append(a_notice("", BEGAN + at * DAY_S))
    gap = ledger.prune(BEGAN + 16 * DAY_S, gap_event, steady=False)
    assert (gap.first, gap.last, numbers_of(path)) == (1, 4, [5, 6])
    assert ledger.verify() is None


def test_a_ledger_with_records_beyond_its_head_is_damaged_and_not_stuck(path):
    written(path, 3)
    tamper(path, "INSERT INTO events SELECT 4, id, at, payload, details FROM events WHERE seq = 3")
    with pytest.raises(LedgerDamaged, match="expected 3 to be the last record, got 4"):
        Ledger(path).open()


def test_two_who_write_one_ledger_damage_nothing_and_the_second_goes_on_from_the_firsts_number(path):
    one, other = opened(path), opened(path)
    one.append(a_notice("1"))
    with pytest.raises(LedgerError) as caught:
        other.append(a_notice("2"))
    assert not isinstance(caught.value, LedgerDamaged)
    other.open()
    assert other.append(a_notice("2")).seq == 2
    assert other.verify() is None


def test_a_full_and_a_read_only_disk_change_nothing_and_it_goes_on_when_they_are_over(path):
    ledger = opened(path)
    ledger.append(a_notice("before"))
    disk = ledger._connection
    pages = disk.execute("PRAGMA page_count").fetchone()[0]
    for spoil, mend, why in (
        (f"PRAGMA max_page_count={pages}", "PRAGMA max_page_count=100000", "disk is full"),
        ("PRAGMA query_only=ON", "PRAGMA query_only=OFF", "readonly"),
    ):
        head = ledger.head
        disk.execute(spoil)
        with pytest.raises(LedgerError, match=why) as caught:
            ledger.append_all([(a_notice(), bytes(8000))] * 5)
        assert not isinstance(caught.value, LedgerDamaged)
        assert ledger.head == head
        disk.execute(mend)
        ledger.append(a_notice("after"))
    assert [event.detail for event in told(path)] == ["before", "after", "after"]
    assert ledger.verify() is None


def test_all_can_be_too_old_at_once(path):
    ledger = opened(path, keep_days=1)
    ledger.append_all([(a_notice(), None)] * 3)
    assert ledger.prune(BEGAN + 9 * DAY_S, gap_event, steady=True).last == 3
    assert numbers_of(path) == [4]
    assert ledger.verify() is None


def test_a_ledger_that_is_not_what_its_head_was_kept_for_is_told(path, caplog):
    written(path, 3)
    kept = head_path(path).read_bytes()
    path.unlink()
    head_path(path).unlink()
    written(path, 3)
    head_path(path).write_bytes(kept)
    Ledger(path).open()
    assert "was kept for" in caplog.text


def test_a_record_without_bytes_is_damage_to_every_reader(path):
    written(path, 3)
    rotten = LedgerView(path)
    rotten._connection.close()
    rotten._connection = sqlite3.connect(":memory:")
    rotten._connection.executescript(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT, at TEXT, payload BLOB);"
        "CREATE TABLE chain (seq INTEGER, prev TEXT, cursor INTEGER);"
        f"INSERT INTO events VALUES (2, 'x', 'x', NULL); INSERT INTO chain VALUES (2, '{'0' * 64}', 0);"
    )
    for read in (rotten.verify, lambda: rotten.verify(1), lambda: rotten.after(0, 9), lambda: rotten.find(2)):
        with pytest.raises(LedgerDamaged, match="record 2 has no bytes"):
            read()
