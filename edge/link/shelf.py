"""Target files on the door's disk, each under its SHA-256: whole and verified, or not there.

A file that is there is hashed again before it is used, so a power cut or a worn-out card can't
pass off half a file; and a file never changes, so who reads the old release goes on reading it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from edge.disk import make_durable, make_private_folder
from edge.errors import GalleryError, GalleryNotStored, GallerySignatureError, PayloadError
from edge.link.fetch import MAX_PATHS, Fetch

_BATCH_BYTES = 8 * 1024 * 1024  # held in memory at a time, in at least one file
_READ_BYTES = 1024 * 1024


class Target(msgspec.Struct, frozen=True):
    """A file of a release, as signed."""

    name: str  # people/0f
    length: int  # bytes
    sha256: str  # hex

    @property
    def path(self) -> str:
        """Where it is published: `targets/people/<sha256>.0f`."""
        folder, slash, name = self.name.rpartition("/")
        return f"targets/{folder}{slash}{self.sha256}.{name}"


class Shelf:
    """The folder of target files, and where missing ones come from. Used by one thread."""

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        """The folder is made when the first file comes: a disk that refuses it must not end a start."""
        self._folder = folder
        self._fetch = fetch

    def fill(self, targets: Sequence[Target], synced: bool = False) -> dict[str, Path]:
        """Name -> file, each whole, as signed and safe from a power cut; missing ones are fetched.

        `synced`: they were filled before, so only what is fetched now must be made safe.
        What was fetched stays, so that the next try goes on where this one failed.

        Raises:
            LinkError: can't be fetched now.
            GallerySignatureError: what is published is not what was signed.
            GalleryNotStored: the disk refuses.
            GalleryError: it is not there.
        """
        files = {target.name: self._folder / target.sha256 for target in targets}
        missing = [target for target in _distinct(targets) if not _is_whole(files[target.name], target)]
        for batch in _batches(missing):
            self._add(batch)
        if not synced:  # not for what is missing only: a killed process may have written the rest
            os.sync()
        elif missing:
            self._settle([files[target.name] for target in missing])
        return files

    def _add(self, batch: Sequence[Target]) -> None:
        make_private_folder(self._folder)
        longest = max(target.length for target in batch)
        try:
            found = self._fetch.get([target.path for target in batch], longest)
        except PayloadError as error:
            raise GallerySignatureError(f"site gallery: {error}") from error
        for target in batch:
            data = found.get(target.path)
            if data is None:
                raise GalleryError(f"site gallery: {target.path}: is signed, but not published")
            _refuse_unless_signed(target, data)
            self._write(self._folder / target.sha256, data)

    def _settle(self, paths: Sequence[Path]) -> None:
        try:
            make_durable(paths)
        except OSError as error:
            raise GalleryNotStored(f"{self._folder}: {error.strerror}") from error

    def _write(self, path: Path, data: bytes) -> None:
        """Old or new after a kill; `fill` syncs before anybody relies on it after a power cut."""
        new = path.with_name(f"{path.name}.new")
        try:
            new.touch(0o600)
            new.write_bytes(data)
            new.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise GalleryNotStored(f"{path}: {error.strerror}") from error

    def prune(self, keep: Collection[str]) -> None:
        """Remove the files whose SHA-256 is not in `keep`, and what a kill left half written.

        Raises:
            GalleryError: the disk refuses.
        """
        try:
            for path in self._folder.iterdir():
                if path.name not in keep:
                    path.unlink()
        except OSError as error:
            raise GalleryError(f"{self._folder}: {error.strerror}") from error


def _distinct(targets: Iterable[Target]) -> list[Target]:
    """One of each content: two targets may have the same bytes."""
    return list({target.sha256: target for target in targets}.values())


def _batches(targets: Sequence[Target]) -> Iterator[list[Target]]:
    batch: list[Target] = []
    held = 0
    for target in targets:
        if batch and (len(batch) == MAX_PATHS or held + target.length > _BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(target)
        held += target.length
    if batch:
        yield batch


def _is_whole(path: Path, target: Target) -> bool:
    digest = hashlib.sha256()
    try:
        if path.stat().st_size != target.length:
            return False
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    except OSError:  # not there, or unreadable: fetched again
        return False
    return digest.hexdigest() == target.sha256


def _refuse_unless_signed(target: Target, data: bytes) -> None:
    expected = f"site gallery: {target.path}: expected"
    if len(data) != target.length:
        raise GallerySignatureError(f"{expected} {target.length} bytes, got {len(data)}")
    if (got := hashlib.sha256(data).hexdigest()) != target.sha256:
        raise GallerySignatureError(f"{expected} the SHA-256 in its name, got {got[:16]}…")
