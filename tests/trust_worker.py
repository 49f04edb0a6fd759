"""What the kill test runs in a process that is killed."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from repository import DoorFiles

from edge.link.fetch import FolderFetch


def update(folder: Path, root: bytes, stick: Path, names: list[str], said: Connection) -> None:
    """Say so, take the newest release into force, say that too."""
    door = DoorFiles(folder, root, FolderFetch(stick))
    said.send("ready")
    door.update(names)
    said.send("in force")
