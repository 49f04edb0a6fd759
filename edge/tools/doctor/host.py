"""The machine as checks see it: files below a root, and a few commands that only report."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

COMMAND_S = 10.0
Run = Callable[[Sequence[str]], "str | None"]


def run_command(command: Sequence[str], seconds: float = COMMAND_S) -> str | None:
    """What a command says; None: there is no such command, it failed, or took longer than `seconds`."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603  # fixed commands of this package, nothing of a user's
            command, capture_output=True, timeout=seconds, stdin=subprocess.DEVNULL, env=env, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Account:
    """Who the daemon runs as."""

    name: str
    uid: int
    gids: frozenset[int]

    def may_read_and_write(self, status: os.stat_result) -> bool:
        """Whether the mode of a file or device allows it; access lists are not looked at."""
        if self.uid == 0:
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.gids else 0
        return status.st_mode >> shift & 0o6 == 0o6


@dataclass(frozen=True, slots=True)
class Mount:
    """What a path lies on; proc_pid_mountinfo(5)."""

    place: str
    kind: str  # ext4, overlay, tmpfs ...
    device: str  # major:minor
    read_only: bool


@dataclass(frozen=True, slots=True)
class Host:
    """Files below `root` and commands through `run`; a test gives others."""

    root: Path = Path("/")
    run: Run = run_command

    def path(self, name: str | Path) -> Path:
        """A path of this machine."""
        return self.root / str(name).lstrip("/")

    def text(self, name: str | Path) -> str:
        """What a small file says, stripped; empty: nothing, or it can't be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip(" \n\t\0")
        except OSError:
            return ""

    def properties(self, wanted: Sequence[str], unit: str = "") -> dict[str, str]:
        """Properties of systemd, or of a unit; empty where no systemd answers."""
        told = self.run(["systemctl", "show", *([unit] if unit else []), f"--property={','.join(wanted)}"])
        return dict(line.split("=", 1) for line in (told or "").splitlines() if "=" in line)

    def account(self, name: str, more_groups: Sequence[str] = ()) -> Account | None:
        """A user of this machine with all groups; None: there is none of that name."""
        rows = [line.split(":") for line in self.text("etc/passwd").splitlines()]
        found = next((row for row in rows if row[0] == name and len(row) > 3 and row[2].isdigit()), None)
        if found is None:
            return None
        groups = [line.split(":") for line in self.text("etc/group").splitlines() if line.count(":") == 3]
        mine = {int(gid) for group, _, gid, members in groups if name in members.split(",")}
        mine |= {int(gid) for group, _, gid, _ in groups if group in more_groups}
        return Account(name, int(found[2]), frozenset(mine | {int(found[3])}))

    def mount(self, path: Path) -> Mount | None:
        """The mount a path lies on."""
        wanted, best = str(path), None
        for mount in self._mounts():
            inside = wanted == mount.place or wanted.startswith(mount.place.rstrip("/") + "/")
            if inside and (best is None or len(mount.place) >= len(best.place)):
                best = mount
        return best

    def _mounts(self) -> Iterator[Mount]:
        for line in self.text("proc/self/mountinfo").splitlines():
            before, _, behind = line.partition(" - ")
            fields, kinds = before.split(), behind.split()
            if len(fields) >= 6 and kinds:
                place = fields[4].replace("\\040", " ")
                yield Mount(place, kinds[0], fields[2], "ro" in fields[5].split(","))

    def disk(self, device: str) -> Path | None:
        """The disk in sys/block of a major:minor, which may be a partition of it; None: not on a disk."""
        try:
            found = self.path(f"sys/dev/block/{device}").resolve(strict=True)
        except OSError:
            return None
        return found.parent if (found / "partition").exists() else found

    def holders(self, path: str) -> list[str]:
        """Processes that have a file open, as `name (pid)`; only root sees those of others."""
        same = partial(_is_link_to, path)
        found = []
        for process in sorted(self.path("proc").glob("[0-9]*")):
            try:
                if any(map(same, (process / "fd").iterdir())):
                    found.append(f"{self.text(f'proc/{process.name}/comm') or '?'} ({process.name})")
            except OSError:
                continue
        return found


def _is_link_to(path: str, link: Path) -> bool:
    try:
        return str(link.readlink()) == path
    except OSError:
        return False
