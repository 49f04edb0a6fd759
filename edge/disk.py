"""Files that survive a power cut and keep their secrets.

SQLite as doord opens it, whole-file replacement, authenticated encryption, the key file, and the
lock that leaves the state directory one writer.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.errors import GalleryBusy, GalleryError, GalleryKeyError

KEY_BYTES = 32
SEAL_BYTES = 12 + 16  # what sealing adds: the nonce before, the tag behind
_NONCE_BYTES = 12  # 96 random bits; NIST SP 800-38D allows 2^32 messages a key
_FEW_FILES = 16
_BUSY_TIMEOUT_S = 5.0
_KEY_TEXT = re.compile(rb"([0-9a-f]{64})\n?")


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path`: after a power cut the old or the new file is there, whole.

    Raises:
        OSError: the file there before, if any, is unchanged.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Remove the file, if it is there: no power cut brings it back. Raises OSError."""
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A change of names is on the disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_durable(paths: Collection[Path]) -> None:
    """Files that were written and renamed into place are on the disk when this returns. Raises OSError.

    Few are waited for one by one: `os.sync` waits for whatever anybody writes (2 s beside a busy process).
    """
    if len(paths) > _FEW_FILES:
        os.sync()  # a fsync for each takes minutes on an SD card
        return
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for folder in {path.parent for path in paths}:
        _sync_folder(folder)


def make_private_folder(folder: Path) -> None:
    """Make `folder`, mode 0700, when it is not there. Raises GalleryError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise GalleryError(f"{folder}: expected a folder, got: {error.strerror}") from error


# SQLite


@contextlib.contextmanager
def sqlite_faults(path: Path) -> Iterator[None]:
    """Turns SQLite's and the file system's errors into GalleryErrors that name the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise GalleryError(f"{path}: {error}") from error
    except OSError as error:
        raise GalleryError(f"{path}: {error.strerror or error}") from error


def create_database(
    path: Path, application_id: int, fill: Callable[[sqlite3.Connection], None], page_bytes: int = 4096
) -> None:
    """Make a new database, mode 0600: whole or not at all.

    `page_bytes`: what one row that changes has the disk write at the least. A power of 2, 512 to 65536.

    Raises:
        GalleryError: there is one already, or the disk refuses.
    """
    log = path.with_name(f"{path.name}-wal")
    new = path.with_name(f"{path.name}.new")
    with sqlite_faults(path):
        if path.exists():
            raise GalleryError(f"{path}: expected no file yet, got one")
        if log.exists() and log.stat().st_size:  # SQLite would replay it into the new database
            raise GalleryError(
                f"{log}: expected {path.name} beside it, got none: restore it, or move this away"
            )
        for left_over in path.parent.glob(f"{path.name}.new*"):
            left_over.unlink()
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with contextlib.closing(_connect(new, "rw")) as connection:
            connection.execute(f"PRAGMA page_size={page_bytes}")
            connection.execute(f"PRAGMA application_id={application_id}")
            connection.execute("PRAGMA journal_mode=WAL")
            with transaction(connection):
                fill(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if new.with_name(f"{new.name}-wal").exists():  # a full disk: what is committed lies beside it
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise GalleryError(f"{path}: no room for a new database") from full
        new.rename(path)
        _sync_folder(path.parent)


def open_database(path: Path, application_id: int) -> sqlite3.Connection:
    """A checked database: WAL, synchronous=FULL, deleted content overwritten.

    A broken file is looked at by a reader only, so it stays as it is. Where the disk is full or
    read-only the connection only reads, so that a worn-out card does not keep people out.

    Raises:
        GalleryError: missing, not a database, another program's, damaged or cut short.
    """
    with sqlite_faults(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise GalleryError(f"{path}: expected a file")
        with contextlib.closing(_connect(path, "ro")) as reader:
            _check(reader, path, application_id)
        return _connect(path, "rw")


def connect_to_database(path: Path, application_id: int, write: bool) -> sqlite3.Connection:
    """A database that is doord's but was not read through: for one too large for that at each start.

    WAL, synchronous=FULL; transactions begin and end where `transaction` says. Raises sqlite3.Error,
    GalleryError: another program's.
    """
    connection = _connect(path, "rw" if write else "ro")
    try:
        _check_owner(connection, application_id, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions begin and end where `transaction` says
        check_same_thread=False,
    )
    # damaged text must reach the check that refuses it, not fail with its bytes in a message
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("SELECT count(*) FROM sqlite_master")  # the first real access to the file
    except sqlite3.Error as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError) or "lock" in str(error) or "immutable" in mode:
            raise
        return _connect_without_log(path, error)
    return connection


def _connect_without_log(path: Path, error: sqlite3.OperationalError) -> sqlite3.Connection:
    """WAL needs a place for its log and index; with an empty log the database is whole alone."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise error
    return _connect(path, "ro&immutable=1")


def _check(reader: sqlite3.Connection, path: Path, application_id: int) -> None:
    _check_owner(reader, application_id, path)
    verdict = reader.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise GalleryError(f"{path}: is damaged: {str(verdict).splitlines()[-1]}")


def _check_owner(connection: sqlite3.Connection, application_id: int, path: Path) -> None:
    got = connection.execute("PRAGMA application_id").fetchone()[0]
    if got != application_id:
        raise GalleryError(f"{path}: expected a database of doord, got another's or an empty one ({got:#x})")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's changes or none of them."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()  # nothing, when a full disk has rolled it back already
        raise


def empty_log(connection: sqlite3.Connection) -> None:
    """Move what was committed from the write-ahead log into the database.

    Deleted content is then overwritten on disk, and a disk that becomes read-only leaves nothing
    behind in the log. Failing is no fault: the change is committed and stays in the log.
    """
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# Authenticated encryption


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """AES-256-GCM: nonce (12 bytes, random), ciphertext, tag (16 bytes)."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes, where: str) -> bytes:
    """What `seal` was given. Raises GalleryError when key, bytes or associated data are not the same."""
    if len(sealed) < SEAL_BYTES:
        raise GalleryError(f"{where}: expected at least {SEAL_BYTES} bytes, got {len(sealed)}")
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except InvalidTag:
        raise GalleryError(f"{where}: was altered, or sealed with another key") from None


def read_sealed(
    path: Path, key: Callable[[], bytes], associated: bytes, what: str, most: int = -1
) -> bytes | None:
    """What `write_sealed` was given; None: there is no file, and `key` is not asked for.

    Args:
        path: the file.
        key: gives the 32 bytes.
        associated: as it was sealed.
        what: is in it, for messages.
        most: bytes that are read; what is cut off there was altered. Below 0: all.

    Raises:
        GalleryError: it can't be read, was altered, or is another key's.
    """
    try:
        with path.open("rb") as file:
            sealed = file.read(most)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GalleryError(f"{path}: {error.strerror}") from None
    return unseal(key(), sealed, associated, f"{path}: {what}")


def write_sealed(path: Path, key: bytes, plain: bytes, associated: bytes) -> None:
    """Raises GalleryError: the disk refuses; what was there stays."""
    try:
        write_atomically(path, seal(key, plain, associated))
    except OSError as error:
        raise GalleryError(f"{path}: {error.strerror}") from None


class FileKey:
    """A key in a file: 64 hex digits and a newline, mode 0600. Port KeyProvider.

    Key and data then share one card: who takes the card has both.
    """

    def __init__(self, path: Path, open_to: int = 0) -> None:
        """`open_to`: bits of the mode, of those for others than the owner, that are no fault."""
        self._path = path
        self._closed_to = 0o077 & ~open_to

    def key(self) -> bytes:
        """32 bytes. Raises GalleryKeyError when missing, readable by others, or no key."""
        text = self._read()
        found = _KEY_TEXT.fullmatch(text)
        if not found:
            raise GalleryKeyError(f"{self._path}: expected 64 hex digits, got {len(text)} bytes that are not")
        return bytes.fromhex(found[1].decode())

    def create(self, gallery: Path) -> None:
        """Make a key unless there is one.

        Raises:
            GalleryKeyError: `gallery` is there already: a new key could never read it.
        """
        if os.path.lexists(self._path):
            return
        if gallery.exists():
            raise GalleryKeyError(f"{self._path}: is missing, but {gallery} is there: restore the key")
        make_private_folder(self._path.parent)
        try:
            write_atomically(self._path, secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
        except OSError as error:
            raise GalleryKeyError(f"{self._path}: {error.strerror}") from error

    def _read(self) -> bytes:
        try:
            # not blocking: a FIFO in the key's place must not hang the door
            with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & self._closed_to:
                    raise GalleryKeyError(
                        f"{self._path}: expected mode 0600, got {mode:04o}: run chmod 600 {self._path}"
                    )
                return file.read(2 * KEY_BYTES + 2)
        except FileNotFoundError:
            raise GalleryKeyError(
                f"{self._path}: is missing: restore it; the gallery can't be read without it"
            ) from None
        except OSError as error:
            raise GalleryKeyError(f"{self._path}: {error.strerror}") from error


class StateLock:
    """One writer in the state directory: the daemon, or one command.

    An advisory lock on the directory itself, so that it works on a full or read-only disk and
    ends with its holder however that dies; `holder.pid` only tells whom to ask.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises GalleryBusy, naming the holder's pid; GalleryError: no such folder."""
        self._pid_file = folder / "holder.pid"
        try:
            self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise GalleryError(f"{folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise GalleryBusy(f"{folder}: is in use by process {self._holder()}") from None
        except OSError as error:  # a file system without locks
            os.close(self._handle)
            raise GalleryError(f"{folder}: can't be locked: {error.strerror}") from None
        with contextlib.suppress(OSError):
            self._pid_file.write_text(f"{os.getpid()}\n")

    def _holder(self) -> str:
        try:
            return self._pid_file.read_text()[:20].strip() or "(unknown)"
        except (OSError, UnicodeDecodeError):
            return "(unknown)"

    def release(self) -> None:
        """Let another take it; may be called twice."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                self._pid_file.unlink()
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> StateLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
