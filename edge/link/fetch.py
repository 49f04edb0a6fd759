"""Where a site's signed tree comes from: one port, and a folder (a USB stick) as one of its ends.

Paths are those of the tree: `metadata/timestamp.json`, `targets/people/<sha256>.0f`. What comes is
foreign bytes: nothing here is believed, `trust` and `shelf` verify it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edge.errors import LinkError, PayloadError

MAX_TARGET_BYTES = 4 * 1024 * 1024
MAX_METADATA_BYTES = 4 * 1024 * 1024  # 122 bytes a target: 32,000 of them
MAX_PATHS = 32  # in one request


class Fetch(Protocol):
    """What is published. Used by one thread; blocks for a bounded time."""

    def get(self, paths: Sequence[str], max_bytes: int) -> dict[str, bytes]:
        """What there is of at most MAX_PATHS `paths`; what does not exist is absent.

        Raises:
            LinkError: can't be told now.
            PayloadError: one is longer than `max_bytes`, or is no plain file of the tree.
        """


class FolderFetch:
    """The tree in a folder. Port Fetch. Nothing outside of the folder is read, whatever links say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, paths: Sequence[str], max_bytes: int) -> dict[str, bytes]:
        """See Fetch."""
        try:
            root = self._folder.resolve(strict=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
            raise LinkError(f"{self._folder}: expected a folder, got: {_cause(error)}") from error
        found = {path: self._read(root, path, max_bytes) for path in paths}
        return {path: data for path, data in found.items() if data is not None}

    def _read(self, root: Path, name: str, max_bytes: int) -> bytes | None:
        try:
            path = (root / name).resolve(strict=True)
            if not path.is_relative_to(root):
                raise PayloadError(f"{root / name}: expected a file of that folder, got a link out of it")
            data = _read_plain(path, max_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, RuntimeError) as error:
            raise LinkError(f"{root / name}: {_cause(error)}") from error
        if len(data) > max_bytes:
            raise PayloadError(f"{root / name}: expected at most {max_bytes} bytes, got more")
        return data


class NoFetch:
    """Nowhere to fetch from. Port Fetch."""

    def get(self, paths: Sequence[str], max_bytes: int) -> dict[str, bytes]:  # noqa: ARG002  # the port's
        """See Fetch."""
        raise LinkError("no broker is configured or usable")


def _read_plain(path: Path, max_bytes: int) -> bytes:
    """Neither a link put there meanwhile nor a FIFO that would never answer."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "expected a plain file", str(path))
        return file.read(max_bytes)


def _cause(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
