"""The gallery on the door: SQLite, every vector encrypted, the whole gallery under one seal.

Three things are bound with the key, so that who can write the file but has no key can only break
it, not edit it:
each vector to its subject, model and time (a row moved to another subject does not open);
the set of rows to the version (a row deleted, added or put back breaks the seal);
the file to its key (`key_id`, so that a wrong key is told from a damaged file).
An older copy of the whole file is not noticed here; a gallery synced from a site is signed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge.disk import (
    FileKey,
    create_database,
    empty_log,
    make_private_folder,
    open_database,
    seal,
    sqlite_faults,
    transaction,
    unseal,
)
from edge.errors import GalleryError, GalleryKeyError, ModelMismatch
from edge.identity.gallery import MAX_STORED, build_gallery, check_subject, check_template
from edge.ports import KeyProvider
from edge.values import Gallery, Template

APPLICATION_ID = 0x444F4F52  # "DOOR"
FORMAT = 1
_SCHEMA = (
    "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, "
    "version INTEGER NOT NULL, key_id BLOB NOT NULL, seal BLOB NOT NULL) STRICT",
    "CREATE TABLE template (id INTEGER PRIMARY KEY, subject TEXT NOT NULL, model TEXT NOT NULL, "
    "enrolled_at_utc TEXT NOT NULL, sealed BLOB NOT NULL) STRICT",
)


def open_gallery(path: Path, keys: FileKey) -> SqliteGallery:
    """The gallery at `path`; with its key and folder (0700), made new when there is none.

    Hold the folder's `StateLock`.

    Raises:
        GalleryKeyError: the key is missing beside a gallery, or not its key.
        GalleryError: the gallery can't be read or made.
    """
    make_private_folder(path.parent)
    if not path.exists():
        keys.create(path)
        SqliteGallery.create(path, keys)
    return SqliteGallery(path, keys)


class SqliteGallery:
    """Port GalleryStore over one SQLite file. Safe to call from several threads."""

    def __init__(self, path: Path, keys: KeyProvider) -> None:
        """Open and check. Raises GalleryKeyError, GalleryError."""
        self._path = path
        self._key = keys.key()
        self._turn = threading.Lock()
        self._connection = open_database(path, APPLICATION_ID)
        try:
            with sqlite_faults(path):
                self._check_tables()
                self._checked_version()
        except GalleryError:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, keys: KeyProvider) -> None:
        """A new gallery of version 0. Raises GalleryKeyError, GalleryError: there is one already."""
        key = keys.key()

        def fill(connection: sqlite3.Connection) -> None:
            for statement in _SCHEMA:
                connection.execute(statement)
            whole = seal(key, b"", _whole(0, []))
            connection.execute("INSERT INTO meta VALUES (1, ?, 0, ?, ?)", (FORMAT, _key_id(key), whole))

        create_database(path, APPLICATION_ID, fill)

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._connection.close()

    def load(self, model: str, dimension: int) -> Gallery:
        """The searchable gallery of (N, `dimension`) unit vectors.

        Raises:
            ModelMismatch: templates of another model; says how many.
            GalleryError: damaged or altered.
        """
        version, templates = self._read()
        others = Counter(row.model for row in templates if row.model != model)
        if others:
            got = ", ".join(f"{count} of {other}" for other, count in sorted(others.items()))
            subjects = len({row.subject for row in templates if row.model != model})
            raise ModelMismatch(
                f"{self._path}: expected templates of {model}, got {got}: "
                f"remove {subjects} subject(s) and enrol again"
            )
        return build_gallery(templates, model, dimension, version)

    def all(self) -> list[Template]:
        """Every template of every model, in the order of enrolment. Raises GalleryError."""
        return self._read()[1]

    def add(self, templates: Sequence[Template], if_version: int | None = None) -> int:
        """Store all or none; the new version. With `if_version`, only when that is in force.

        Raises:
            GalleryError: not a template, no longer `if_version`, too many, disk full or read-only.
        """
        for row in templates:
            check_template(row)
        with self._change() as version:
            if if_version not in (None, version):
                raise GalleryError(f"{self._path}: expected version {if_version}, got {version}: try again")
            count = self._connection.execute("SELECT count(*) FROM template").fetchone()[0]
            if count + len(templates) > MAX_STORED:
                raise GalleryError(
                    f"{self._path}: expected at most {MAX_STORED} templates, got {count} + {len(templates)}"
                )
            for row in templates:
                self._insert(row)
            return version + self._seal_next(version, changed=bool(templates))

    def remove(self, subject: str) -> int:
        """Forget a subject; how many templates went. Raises GalleryError."""
        check_subject(subject)
        with self._change() as version:
            gone = self._connection.execute("DELETE FROM template WHERE subject = ?", (subject,)).rowcount
            self._seal_next(version, changed=gone > 0)
            return gone

    def _insert(self, row: Template) -> None:
        sealed = seal(
            self._key, row.vector.astype("<f4").tobytes(), _row(row.subject, row.model, row.enrolled_at_utc)
        )
        self._connection.execute(
            "INSERT INTO template (subject, model, enrolled_at_utc, sealed) VALUES (?, ?, ?, ?)",
            (row.subject, row.model, row.enrolled_at_utc, sealed),
        )

    @contextlib.contextmanager
    def _change(self) -> Iterator[int]:
        """One transaction over a gallery whose seal holds; else a change would bless the damage."""
        with self._turn, sqlite_faults(self._path):
            with transaction(self._connection):
                yield self._checked_version()
            empty_log(self._connection)

    def _seal_next(self, version: int, changed: bool) -> int:
        """Seal the rows under the next version when they changed; by how much it went up."""
        if changed:
            whole = seal(self._key, b"", _whole(version + 1, self._tags()))
            self._connection.execute("UPDATE meta SET version = ?, seal = ?", (version + 1, whole))
        return int(changed)

    def _tags(self) -> list[bytes]:
        """Nonce and tag of each row: they stand for its content."""
        rows = self._connection.execute("SELECT sealed FROM template ORDER BY id")
        return [sealed[:12] + sealed[-16:] for (sealed,) in rows]

    def _check_tables(self) -> None:
        """Their declared types are then those SQLite's own check went by."""
        found = [sql for (sql,) in self._connection.execute("SELECT sql FROM sqlite_master")]
        if sorted(map(str, found)) != sorted(_SCHEMA):
            raise GalleryError(
                f"{self._path}: expected the tables of format {FORMAT}, got others: was altered"
            )

    def _checked_version(self) -> int:
        """The version, after format, key and seal were checked."""
        row = self._connection.execute("SELECT format, version, key_id, seal FROM meta").fetchone()
        if row is None:
            raise GalleryError(f"{self._path}: is damaged: expected one row in meta, got none")
        found, version, key_id, whole = row
        if found != FORMAT:
            raise GalleryError(f"{self._path}: expected format {FORMAT}, got {found}: made by another doord")
        ours = _key_id(self._key)
        if not hmac.compare_digest(key_id, ours):
            raise GalleryKeyError(
                f"{self._path}: expected key {key_id.hex()}, got {ours.hex()}: restore its own key"
            )
        unseal(self._key, whole, _whole(version, self._tags()), f"{self._path}: the gallery")
        return int(version)

    def _read(self) -> tuple[int, list[Template]]:
        with self._turn, sqlite_faults(self._path):
            self._connection.execute("BEGIN")  # one snapshot for seal and rows
            try:
                version = self._checked_version()
                rows = self._connection.execute(
                    "SELECT subject, model, enrolled_at_utc, sealed FROM template ORDER BY id"
                ).fetchall()
            finally:
                self._connection.rollback()
        return version, [self._template(*row) for row in rows]

    def _template(self, subject: str, model: str, enrolled_at_utc: str, sealed: bytes) -> Template:
        where = f"{self._path}: a template of subject {subject!r:.60}"
        content = unseal(self._key, sealed, _row(subject, model, enrolled_at_utc), where)
        vector = np.frombuffer(content, "<f4").astype(np.float32, copy=False)
        return Template(subject, vector, model, enrolled_at_utc)


def _key_id(key: bytes) -> bytes:
    return hmac.digest(key, b"doord gallery key id", "sha256")[:8]


def _row(subject: str, model: str, enrolled_at_utc: str) -> bytes:
    """What a row's vector is bound to. No part can hold a newline (`check_template`)."""
    return f"doord template {FORMAT}\n{subject}\n{model}\n{enrolled_at_utc}".encode()


def _whole(version: int, tags: list[bytes]) -> bytes:
    """What the seal binds: the version and every row, in order."""
    return f"doord gallery {FORMAT}\n{version}\n{hashlib.sha256(b''.join(tags)).hexdigest()}".encode()
