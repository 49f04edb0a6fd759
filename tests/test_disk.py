"""Atomic files, encryption, the key file, SQLite as doord opens it, and the lock."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.disk import (
    FileKey,
    StateLock,
    create_database,
    make_durable,
    open_database,
    seal,
    transaction,
    unseal,
    write_atomically,
)
from edge.errors import GalleryBusy, GalleryError, GalleryKeyError

KEY = bytes(range(32))
APPLICATION = 0x1234


@contextmanager
def full_disk(limit_bytes: int) -> Iterator[None]:
    """No file may grow beyond `limit_bytes`: what a full disk looks like to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_to_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with full_disk(1000), pytest.raises(OSError, match="File too large"):
        write_atomically(path, bytes(5000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_sealed_opens_only_with_the_same_key_and_association() -> None:
    sealed = seal(KEY, b"secret", b"ada")
    assert b"secret" not in sealed
    assert unseal(KEY, sealed, b"ada", "here") == b"secret"
    for key, data, associated in (
        (KEY[::-1], sealed, b"ada"),
        (KEY, sealed, b"bob"),
        (KEY, sealed[:-1], b"ada"),
        (KEY, sealed + b"x", b"ada"),
    ):
        with pytest.raises(GalleryError, match=r"^here: was altered, or sealed with another key$"):
            unseal(key, data, associated, "here")


def test_every_altered_byte_is_noticed() -> None:
    sealed = seal(KEY, b"secret", b"")
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        with pytest.raises(GalleryError):
            unseal(KEY, bytes(altered), b"", "here")


@pytest.mark.parametrize("length", [0, 1, 11, 12, 27])
def test_a_seal_that_is_too_short_is_a_gallery_error(length: int) -> None:
    with pytest.raises(GalleryError, match=f"here: expected at least 28 bytes, got {length}"):
        unseal(KEY, bytes(length), b"", "here")


def test_no_nonce_is_used_twice() -> None:
    assert len({seal(KEY, b"", b"")[:12] for _ in range(1000)}) == 1000


# the key file


def test_a_new_key_is_random_private_and_read_back(tmp_path: Path) -> None:
    keys = [FileKey(tmp_path / name / "gallery.key") for name in ("one", "two")]
    for key in keys:
        key.create(tmp_path / "gallery.db")
    assert len({key.key() for key in keys}) == 2
    assert all(len(key.key()) == 32 for key in keys)
    path = tmp_path / "one" / "gallery.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes() == keys[0].key().hex().encode() + b"\n"


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    key = FileKey(tmp_path / "gallery.key")
    key.create(tmp_path / "gallery.db")
    before = key.key()
    key.create(tmp_path / "gallery.db")
    assert key.key() == before


def test_no_new_key_is_made_beside_a_gallery(tmp_path: Path) -> None:
    (tmp_path / "gallery.db").write_bytes(b"")
    with pytest.raises(GalleryKeyError, match=r"gallery.key: is missing, but .*gallery.db is there: restore"):
        FileKey(tmp_path / "gallery.key").create(tmp_path / "gallery.db")
    assert not (tmp_path / "gallery.key").exists()


def test_a_missing_key_says_so(tmp_path: Path) -> None:
    with pytest.raises(GalleryKeyError, match=r"gallery.key: is missing: restore it"):
        FileKey(tmp_path / "gallery.key").key()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_can_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "gallery.key"
    write_atomically(path, KEY.hex().encode() + b"\n", mode)
    with pytest.raises(GalleryKeyError, match=f"expected mode 0600, got {mode:04o}: run chmod 600 {path}"):
        FileKey(path).key()
    path.chmod(0o600)
    assert FileKey(path).key() == KEY
    path.chmod(0o400)  # as systemd hands out credentials
    assert FileKey(path).key() == KEY


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        KEY,
        KEY.hex()[:-2].encode(),
        KEY.hex().encode() + b"00",
        b"g" * 64,
        b" " + KEY.hex().encode(),
    ],
)
def test_a_malformed_key_is_refused_and_not_shown(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "gallery.key"
    write_atomically(path, text)
    with pytest.raises(GalleryKeyError, match=r"gallery.key: expected 64 hex digits") as refused:
        FileKey(path).key()
    assert KEY.hex()[:8] not in str(refused.value)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: os.mkfifo(path, 0o600)])
def test_a_folder_or_fifo_in_the_keys_place_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "gallery.key"
    make(path)
    path.chmod(0o600)
    with pytest.raises(GalleryKeyError, match=r"gallery.key"):
        FileKey(path).key()


# SQLite


def new_database(path: Path, rows: int = 0) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (x BLOB)")
        connection.executemany("INSERT INTO t VALUES (?)", [(bytes([i % 256]) * 1500,) for i in range(rows)])

    create_database(path, APPLICATION, fill)


def count(path: Path) -> int:
    connection = open_database(path, APPLICATION)
    try:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])
    finally:
        connection.close()


def test_a_database_is_private_and_survives_power_cuts(tmp_path: Path) -> None:
    path = tmp_path / "a?b%c #.db"  # nothing in a name is special
    new_database(path)
    connection = open_database(path, APPLICATION)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1)")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    connection.close()


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    new_database(path)
    connection = open_database(path, APPLICATION)
    with pytest.raises(RuntimeError, match=r"^half way$"), transaction(connection):  # noqa: PT012  # is the point
        connection.execute("INSERT INTO t VALUES (1)")
        raise RuntimeError("half way")
    connection.close()
    assert count(path) == 0


def test_a_database_whose_making_fails_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with full_disk(20_000), pytest.raises(GalleryError, match=r"x\.db: "):
        new_database(path, rows=100)
    assert not path.exists()
    new_database(path, rows=100)  # what was left over is no obstacle
    assert count(path) == 100
    assert [file.name for file in tmp_path.iterdir() if ".new" in file.name] == []


def test_an_existing_database_is_not_made_anew(tmp_path: Path) -> None:
    new_database(tmp_path / "x.db", rows=3)
    with pytest.raises(GalleryError, match="expected no file yet"):
        new_database(tmp_path / "x.db")
    assert count(tmp_path / "x.db") == 3


def test_a_log_without_its_database_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "x.db-wal").write_bytes(b"committed, and not yet moved over")
    with pytest.raises(GalleryError, match=r"x.db-wal: expected x.db beside it, got none"):
        new_database(tmp_path / "x.db")
    assert (tmp_path / "x.db-wal").read_bytes() == b"committed, and not yet moved over"


def test_a_missing_database_says_so(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"x\.db: No such file"):
        open_database(tmp_path / "x.db", APPLICATION)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.db")
    with pytest.raises(GalleryError, match=r"x\.db: expected a file"):
        open_database(tmp_path / "x.db", APPLICATION)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"not a database at all" * 500, b"SQLite format 3\0" + bytes(84)]
)
def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(GalleryError, match=r"x\.db: "):
        open_database(path, APPLICATION)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    new_database(tmp_path / "x.db")
    with pytest.raises(GalleryError, match=r"expected a database of doord, got another's .*\(0x1234\)"):
        open_database(tmp_path / "x.db", 0x9999)


@pytest.mark.parametrize("part", [0.03, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_a_database_cut_short_is_refused_and_left_as_it_is(tmp_path: Path, part: float) -> None:
    path = tmp_path / "x.db"
    new_database(path, rows=200)
    cut = path.read_bytes()[: int(path.stat().st_size * part)]
    path.write_bytes(cut)
    with pytest.raises(GalleryError, match=r"x\.db: "):
        open_database(path, APPLICATION)
    assert path.read_bytes() == cut


def test_a_damaged_page_is_noticed_and_the_file_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    new_database(path, rows=200)
    for page in range(1, path.stat().st_size // 4096, 7):
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[page * 4096 : page * 4096 + 64] = b"\xaa" * 64
        path.write_bytes(damaged)
        with pytest.raises(GalleryError, match=r"x\.db: "):
            open_database(path, APPLICATION)
        assert path.read_bytes() == damaged
        path.write_bytes(whole)
    assert count(path) == 200


def test_a_full_disk_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    new_database(path, rows=20)
    with full_disk(100):
        connection = open_database(path, APPLICATION)
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (20,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM t")
        connection.close()


def power_cut(path: Path, statement: str) -> None:
    """Commit a change, and leave the files as they are when the power goes before it is moved over."""
    writer = open_database(path, APPLICATION)
    writer.execute(statement)
    files = (path, path.with_name(f"{path.name}-wal"))
    saved = [file.read_bytes() for file in files]
    writer.close()
    for file, content in zip(files, saved, strict=True):
        file.write_bytes(content)


def test_what_was_committed_survives_a_power_cut(tmp_path: Path) -> None:
    new_database(tmp_path / "x.db", rows=20)
    power_cut(tmp_path / "x.db", "DELETE FROM t")
    assert count(tmp_path / "x.db") == 0


def test_a_broken_file_is_left_as_it_is_even_when_its_log_holds_a_change(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    new_database(path, rows=200)
    power_cut(path, "UPDATE t SET x = zeroblob(1500) WHERE rowid = 2")
    damaged = bytearray(path.read_bytes())
    damaged[60 * 4096 : 60 * 4096 + 64] = b"\xaa" * 64
    path.write_bytes(damaged)
    with pytest.raises(GalleryError, match=r"x\.db: "):
        open_database(path, APPLICATION)
    assert path.read_bytes() == damaged


def test_a_full_disk_is_not_read_when_the_log_holds_what_the_file_lacks(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    new_database(path, rows=20)
    power_cut(path, "DELETE FROM t")
    with full_disk(100), pytest.raises(GalleryError, match=r"x\.db: "):
        open_database(path, APPLICATION)
    assert count(path) == 0


# the lock


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(GalleryBusy, match=f"is in use by process {os.getpid()}$"):
        StateLock(tmp_path)
    StateLock(tmp_path).release()


def test_releasing_twice_releases_nobody_elses_lock(tmp_path: Path) -> None:
    first = StateLock(tmp_path)
    first.release()
    with StateLock(tmp_path):
        first.release()
        with pytest.raises(GalleryBusy):
            StateLock(tmp_path)


def test_the_lock_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from edge.disk import StateLock\n"
        "lock = StateLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(GalleryBusy, match=f"in use by process {holder.pid}$"):
            StateLock(tmp_path)
    finally:
        holder.kill()
        holder.communicate(timeout=10)
    StateLock(tmp_path).release()


def test_a_lock_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="nowhere: No such file"):
        StateLock(tmp_path / "nowhere")


@pytest.mark.parametrize(("count", "synced"), [(0, []), (3, ["file"] * 3 + ["folder"]), (17, ["all"])])
def test_few_files_are_waited_for_one_by_one_and_many_at_once(tmp_path, monkeypatch, count, synced):
    paths = [tmp_path / str(i) for i in range(count)]
    for path in paths:
        path.write_bytes(b"x")
    done = []
    monkeypatch.setattr(os, "sync", lambda: done.append("all"))
    folder = {True: "folder", False: "file"}
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(folder[stat.S_ISDIR(os.fstat(fd).st_mode)]))
    make_durable(paths)
    assert done == synced
