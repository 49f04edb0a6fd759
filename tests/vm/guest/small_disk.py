"""In the guest: a small ext4 of its own that hangs, has no room, or fails, when told so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MEGABYTES = 16
OPTIONS = "loop,errors=remount-ro,noauto_da_alloc"


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=60, capture_output=True)


class SmallDisk:
    """Mounted at `at`; its bytes lie in memory, so that nothing but what is told befalls it."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self._filler = at / "filler"
        self._image = Path("/run/small.img")
        self._image.write_bytes(b"")
        os.truncate(self._image, MEGABYTES << 20)
        run("mkfs.ext4", "-q", "-m", "0", self._image)
        at.mkdir(parents=True)
        run("mount", "-o", OPTIONS, self._image, at)

    def hang(self) -> None:
        """Who writes waits."""
        run("fsfreeze", "--freeze", self.at)

    def go_on(self) -> None:
        run("fsfreeze", "--unfreeze", self.at)

    def fill(self) -> None:
        """Leave not a byte."""
        handle = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (1 << 16, 1):
                self._write_all(handle, size)
        finally:
            os.close(handle)

    @staticmethod
    def _write_all(handle: int, size: int) -> None:
        try:
            while True:
                os.write(handle, bytes(size))
                os.fsync(handle)  # ext4 finds its place only then
        except OSError:
            return

    def free(self) -> None:
        self._filler.unlink()

    def fail(self) -> None:
        """Read-only from one moment to the next, as the kernel makes a card that has failed."""
        (device,) = Path("/sys/fs/ext4").glob("loop*")
        (device / "trigger_fs_error").write_text("1")

    def mount_again(self) -> None:
        run("umount", self.at)
        run("mount", "-o", OPTIONS, self._image, self.at)
