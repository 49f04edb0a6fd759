"""The gallery on disk: kept through kill -9, refused when damaged, altered or under a wrong key."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from gallery_worker import DIMENSION, MODEL, NOW, PHOTOS, enrol_for_ever, make_gallery, open_at, unit

from edge.disk import write_atomically
from edge.errors import GalleryError, GalleryKeyError, ModelMismatch
from edge.identity import store as store_module
from edge.identity.store import SqliteGallery
from edge.values import Template


def template(subject: str, seed: int, model: str = MODEL, dimension: int = DIMENSION) -> Template:
    return Template(subject, unit(seed, dimension), model, NOW)


def content(store: SqliteGallery) -> list[tuple[str, bytes, str, str]]:
    return [(t.subject, t.vector.tobytes(), t.model, t.enrolled_at_utc) for t in store.all()]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteGallery]:
    opened = open_at(tmp_path)
    yield opened
    opened.close()


@contextmanager
def closed(folder: Path) -> Iterator[sqlite3.Connection]:
    """Plain SQLite on the gallery file, as somebody has who holds the card but no key."""
    with closing(sqlite3.connect(folder / "gallery.db", isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder with a closed gallery of ada, bob (two templates) and version 2."""
    with closing(open_at(tmp_path)) as store:
        store.add([template("ada", 1)])
        store.add([template("bob", 2), template("bob", 3)])
    return tmp_path


# what it keeps


def test_a_new_gallery_is_empty_private_and_has_its_key(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with closing(open_at(folder)) as store:
        gallery = store.load(MODEL, DIMENSION)
        assert (len(gallery), gallery.version) == (0, 0)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_templates_come_back_as_they_went_in(three: Path) -> None:
    with closing(open_at(three)) as store:
        kept = store.all()
        assert [(t.subject, t.model, t.enrolled_at_utc) for t in kept] == [
            ("ada", MODEL, NOW),
            ("bob", MODEL, NOW),
            ("bob", MODEL, NOW),
        ]
        assert all(np.array_equal(t.vector, unit(seed)) for t, seed in zip(kept, (1, 2, 3), strict=True))
        gallery = store.load(MODEL, DIMENSION)
        assert (gallery.version, gallery.subjects, len(gallery)) == (2, ("ada", "bob"), 3)
        assert np.array_equal(gallery.templates[0], unit(1))


def test_the_version_goes_up_by_one_for_each_change(store: SqliteGallery) -> None:
    assert store.add([template("ada", 1), template("ada", 2)]) == 1
    assert store.add([template("bob", 3)]) == 2
    assert store.add([]) == 2
    assert store.remove("nobody") == 0
    assert store.load(MODEL, DIMENSION).version == 2
    assert store.remove("ada") == 2
    assert store.load(MODEL, DIMENSION).version == 3
    assert [t.subject for t in store.all()] == ["bob"]


def test_one_template_that_is_none_keeps_all_out(store: SqliteGallery) -> None:
    bad = Template("bob", np.full(DIMENSION, np.nan, np.float32), MODEL, NOW)
    with pytest.raises(GalleryError, match="subject bob: expected a vector of norm 1, got nan"):
        store.add([template("ada", 1), bad])
    assert store.all() == []


def test_a_change_that_expected_another_version_is_refused(store: SqliteGallery) -> None:
    store.add([template("ada", 1)], if_version=0)
    with pytest.raises(GalleryError, match="expected version 0, got 1: try again"):
        store.add([template("bob", 2)], if_version=0)
    assert [t.subject for t in store.all()] == ["ada"]


def test_more_templates_than_were_ever_measured_are_refused(
    store: SqliteGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_STORED", 2)
    store.add([template("ada", 1)])
    with pytest.raises(GalleryError, match=r"expected at most 2 templates, got 1 \+ 2"):
        store.add([template("bob", 2), template("bob", 3)])
    assert len(store.all()) == 1


def test_templates_of_another_model_are_listed_and_never_loaded(store: SqliteGallery) -> None:
    store.add(
        [template("ada", 1), template("bob", 2, "facenet-b", 128), template("bob", 3, "facenet-b", 128)]
    )
    with pytest.raises(
        ModelMismatch,
        match=r"expected templates of facenet-a, got 2 of facenet-b: remove 1 subject.* enrol again",
    ):
        store.load(MODEL, DIMENSION)
    assert Counter(t.model for t in store.all()) == {"facenet-b": 2, MODEL: 1}
    store.remove("bob")
    assert len(store.load(MODEL, DIMENSION)) == 1


def test_a_template_of_the_right_model_and_the_wrong_size_is_refused(store: SqliteGallery) -> None:
    store.add([template("ada", 1, dimension=128)])
    with pytest.raises(GalleryError, match="expected 64 numbers"):
        store.load(MODEL, DIMENSION)


def test_several_threads_may_use_one_gallery(store: SqliteGallery) -> None:
    def work(name: int) -> None:
        for i in range(5):
            store.add([template(f"s-{name}", 10 * name + i)])
            store.load(MODEL, DIMENSION)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert store.load(MODEL, DIMENSION).version == 20
    assert Counter(t.subject for t in store.all()) == {f"s-{n}": 5 for n in range(4)}


def test_no_vector_stands_in_the_files_and_a_removed_one_leaves_no_trace(
    store: SqliteGallery, tmp_path: Path
) -> None:
    store.add([template("ada", 1)])
    store.add([template(f"s-{i}", i) for i in range(2, 20)])
    with closed(tmp_path) as connection:
        sealed = connection.execute("SELECT sealed FROM template WHERE subject = 'ada'").fetchone()[0]

    def on_disk() -> bytes:
        return b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert unit(1).tobytes()[:16] not in on_disk()
    assert sealed[:32] in on_disk()
    store.remove("ada")
    assert sealed[:32] not in on_disk()


# keys


def test_a_wrong_key_is_told_from_damage(three: Path) -> None:
    write_atomically(three / "gallery.key", bytes(32).hex().encode() + b"\n")
    with pytest.raises(
        GalleryKeyError, match=r"gallery\.db: expected key [0-9a-f]{16}, got [0-9a-f]{16}: restore"
    ):
        open_at(three)


def test_a_lost_key_is_never_replaced(three: Path) -> None:
    (three / "gallery.key").unlink()
    with pytest.raises(GalleryKeyError, match=r"gallery\.key: is missing: restore it"):
        open_at(three)
    assert not (three / "gallery.key").exists()


# damage


def test_a_broken_gallery_is_not_taken_for_a_new_one(three: Path) -> None:
    path = three / "gallery.db"
    for broken in (b"", b"\0" * 4096, path.read_bytes()[:4096], path.read_bytes()[:100], b"hello"):
        path.write_bytes(broken)
        with pytest.raises(GalleryError, match=r"gallery\.db: "):
            open_at(three)
        assert path.read_bytes() == broken


def test_no_flipped_bits_and_no_cut_ever_show_another_gallery(tmp_path: Path) -> None:
    with closing(open_at(tmp_path)) as store:
        store.add([template("ada", i, dimension=512) for i in range(6)])
        store.add([template("bob", i, dimension=512) for i in range(6, 12)])
        whole = content(store)
    path = tmp_path / "gallery.db"
    good = path.read_bytes()
    rng = random.Random(1)  # not a secret
    refused = 0
    for _ in range(400):
        start, length = rng.randrange(len(good)), rng.choice([1, 8, 512])
        part = good[start : start + length]
        damaged = good[:start] + bytes(byte ^ rng.randrange(1, 256) for byte in part) + good[start + length :]
        if rng.random() < 0.25:
            damaged = good[:start]
        path.write_bytes(damaged)
        try:
            with closing(open_at(tmp_path)) as store:
                assert content(store) == whole  # the damage hit what no one reads
        except GalleryError:
            refused += 1
            assert path.read_bytes()[:100] == damaged[:100]
        for name in ("gallery.db-wal", "gallery.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
    assert refused > 200


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE template SET subject = 'eve' WHERE subject = 'ada'",
        "UPDATE template SET subject = CASE subject WHEN 'ada' THEN 'bob' ELSE 'ada' END",
        "UPDATE template SET sealed = (SELECT sealed FROM template WHERE subject = 'ada')",
        "UPDATE template SET model = 'facenet-b'",
        "UPDATE template SET enrolled_at_utc = '2030-01-01T00:00:00Z' WHERE id = 1",
        "UPDATE template SET sealed = zeroblob(300) WHERE id = 1",
        "UPDATE template SET sealed = x'' WHERE id = 1",
        "UPDATE template SET id = 9 WHERE id = 1",
        "UPDATE template SET subject = CAST(x'ff41' AS TEXT) WHERE id = 1",
        "DELETE FROM template WHERE subject = 'bob'",
        "DELETE FROM template",
        "DELETE FROM meta",
        "INSERT INTO template SELECT 9, subject, model, enrolled_at_utc, sealed FROM template WHERE id = 1",
        "UPDATE meta SET version = 3",
        "UPDATE meta SET version = version - 1",
        "UPDATE meta SET format = 2",
        "UPDATE meta SET key_id = x'0011'",
        "UPDATE meta SET seal = zeroblob(28)",
        "UPDATE meta SET seal = x''",
        "DROP TABLE meta",
        "DROP TABLE template",
        "CREATE TABLE m AS SELECT one, format, version, 'text' key_id, seal FROM meta; DROP TABLE meta; "
        "ALTER TABLE m RENAME TO meta",
        "CREATE TRIGGER t AFTER INSERT ON template BEGIN DELETE FROM template WHERE id < new.id; END",
        "ALTER TABLE template RENAME COLUMN sealed TO other",
    ],
)
def test_an_edit_without_the_key_is_noticed(three: Path, edit: str) -> None:
    with closed(three) as connection:
        connection.executescript(edit)
    with pytest.raises(GalleryError, match=r"gallery\.db: ") as refused, closing(open_at(three)) as store:
        store.load(MODEL, DIMENSION)
    assert "\n" not in str(refused.value)


def test_a_removed_person_can_not_be_put_back_from_an_older_copy(three: Path) -> None:
    with closed(three) as connection:
        rows = connection.execute("SELECT * FROM template WHERE subject = 'ada'").fetchall()
    with closing(open_at(three)) as store:
        store.remove("ada")
    with closed(three) as connection:
        connection.executemany("INSERT INTO template VALUES (?, ?, ?, ?, ?)", rows)
    with pytest.raises(GalleryError, match="the gallery: was altered"):
        open_at(three)


def test_a_change_never_blesses_an_edit_made_meanwhile(store: SqliteGallery, tmp_path: Path) -> None:
    store.add([template("ada", 1), template("bob", 2)])
    with closed(tmp_path) as connection:
        connection.execute("DELETE FROM template WHERE subject = 'bob'")
    for change in (lambda: store.add([template("eve", 3)]), lambda: store.remove("ada")):
        with pytest.raises(GalleryError, match="the gallery: was altered"):
            change()


# disks that refuse


def test_a_full_disk_keeps_the_old_gallery_in_force(store: SqliteGallery, tmp_path: Path) -> None:
    store.add([template("ada", 1)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(GalleryError, match=r"gallery\.db: "):
            store.add([template(f"s-{i}", i) for i in range(2, 100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [t.subject for t in store.all()] == ["ada"]
    assert store.add([template("bob", 2)]) == 2  # and there is room again
    with closing(open_at(tmp_path)) as again:
        assert [t.subject for t in again.all()] == ["ada", "bob"]


@contextmanager
def unwriteable_folder() -> Iterator[Path]:
    """A folder this process can read and not write: root steps down, since nothing stops root."""
    folder = Path(tempfile.mkdtemp())  # pytest's own is out of reach for others
    with closing(open_at(folder)) as store:
        store.add([template("ada", 1)])
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        os.seteuid(65534)
    for path in folder.iterdir():
        path.chmod(0o400)
    folder.chmod(0o500)
    try:
        yield folder
    finally:
        folder.chmod(0o700)
        os.seteuid(os.getuid())
        shutil.rmtree(folder)


def test_a_read_only_disk_is_read_and_every_change_refused() -> None:
    with unwriteable_folder() as folder, closing(open_at(folder)) as store:
        assert len(store.load(MODEL, DIMENSION)) == 1
        for change in (lambda: store.add([template("bob", 2)]), lambda: store.remove("ada")):
            with pytest.raises(GalleryError, match=r"gallery\.db: attempt to write a readonly database"):
                change()
        assert store.load(MODEL, DIMENSION).version == 1


def test_another_writer_is_waited_for_and_then_reported(
    store: SqliteGallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closed(tmp_path) as other:
        other.execute("BEGIN IMMEDIATE")
        store._connection.execute("PRAGMA busy_timeout=50")
        with pytest.raises(GalleryError, match=r"gallery\.db: database is locked"):
            store.add([template("ada", 1)])
        other.execute("ROLLBACK")
    assert store.add([template("ada", 1)]) == 1


# kill -9

_workers = multiprocessing.get_context("forkserver")  # warm, so that a hundred are quick to start
_workers.set_forkserver_preload(["edge.identity.enrol", "edge.identity.store"])


def _last(pipe: Connection) -> int:
    """The last version the dead worker said was stored."""
    version = -1
    while pipe.poll(0):
        try:
            version = pipe.recv()
        except EOFError:
            break
    return version


@pytest.mark.slow
def test_kill_minus_9_of_an_enrolment_leaves_the_old_or_the_new_gallery_100_times(tmp_path: Path) -> None:
    rng = random.Random(2)  # not a secret
    changed = 0
    version = 0
    for _ in range(100):
        ours, theirs = _workers.Pipe(duplex=False)
        worker = _workers.Process(target=enrol_for_ever, args=(tmp_path, theirs))
        worker.start()
        theirs.close()
        assert ours.poll(30)
        assert ours.recv() == version
        worker.join(timeout=rng.uniform(0, 0.03))  # the instant of the kill is the point
        worker.kill()
        worker.join(timeout=10)
        said = max(version, _last(ours))
        ours.close()
        with closing(open_at(tmp_path)) as store:
            gallery = store.load(MODEL, DIMENSION)
            subjects = Counter(t.subject for t in store.all())
        assert gallery.version in (said, said + 1)  # what was said to be stored is stored
        assert subjects == {f"s-{i}": PHOTOS for i in range(gallery.version)}  # whole enrolments, none lost
        changed += gallery.version > version
        version = gallery.version
    assert changed > 20  # else the kills came too early to prove anything


@pytest.mark.slow
def test_kill_minus_9_while_a_gallery_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    rng = random.Random(3)  # not a secret
    whole = 0
    for i in range(60):
        folder = tmp_path / str(i)
        ours, theirs = _workers.Pipe(duplex=False)
        worker = _workers.Process(target=make_gallery, args=(folder, theirs))
        worker.start()
        theirs.close()
        assert ours.poll(30)
        worker.join(timeout=rng.uniform(0, 0.02))
        worker.kill()
        worker.join(timeout=10)
        ours.close()
        whole += (folder / "gallery.db").exists()
        with closing(open_at(folder)) as store:
            assert store.add([template("ada", 1)]) == 1
    assert 0 < whole < 60  # kills came before and after
