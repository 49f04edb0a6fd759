"""A container with systemd as its first process, made from a tree that stays as it is."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
_COLUMNS = ("| what | found | at most |", "|---|---|---|")


class Machine:
    """Booted by `with`; what is written in it is in memory and gone at its end, unless `options` tell.

    `shared` is a folder of the host's, /srv in the machine.
    """

    def __init__(self, tree: Path, shared: Path, options: Sequence[str] = ("--volatile=overlay",)) -> None:
        self._log = (shared / "boot.log").open("wb")
        self._nspawn = subprocess.Popen(
            [
                "systemd-nspawn",
                "--quiet",
                f"--directory={tree}",
                *options,
                f"--machine=doord-test-{shared.name.replace('_', '-')}",
                f"--bind={shared}:/srv",
                "--register=no",
                "--keep-unit",
                "--link-journal=no",
                # what a kernel of its own would allow: nspawn's own filter knows them since systemd 256
                "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
                "--boot",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._leader = 0

    def __enter__(self) -> Machine:
        self._leader = wait_for(self._find_leader, "the machine's first process", 20)
        wait_for(lambda: self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"),
                 "the machine is up", 60)  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(20)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._log.close()

    def cut_power(self) -> None:
        """Every process ends at once, as at a power cut; what was written to the disk's cache is not lost."""
        os.kill(self._leader, signal.SIGKILL)
        self._nspawn.wait(20)

    def _find_leader(self) -> int:
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        if self._nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self._nspawn.returncode}: see boot.log")
        return next((int(pid) for pid in children if _name(int(pid)) == "systemd"), 0)

    def run(
        self, *command: str, code: int | None = None, within_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """A command in the machine, by root; with the exit code it must have."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._leader), "--all", "--", *command],
            capture_output=True,
            text=True,
            timeout=within_s,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )
        assert code is None or done.returncode == code, (command, done.returncode, done.stdout, done.stderr)
        return done

    def write(self, path: str, text: str) -> None:
        """A file in the machine."""
        target = Path(f"/proc/{self._leader}/root{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def read(self, path: str) -> str:
        """What a file in the machine says; empty: it is not there."""
        try:
            return Path(f"/proc/{self._leader}/root{path}").read_text()
        except FileNotFoundError:
            return ""

    def show(self, unit: str, *keys: str) -> dict[str, str]:
        """Properties of a unit."""
        done = self.run("systemctl", "show", unit, *(f"--property={key}" for key in keys), code=0)
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def journal(self, unit: str) -> str:
        """What a unit said, and what systemd said of it."""
        return self.run("journalctl", "--unit", unit, "--output=cat", "--no-pager", code=0).stdout

    def status(self) -> dict:
        """Of the running door; empty: it does not answer yet."""
        done = self.run("doord", "status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def wait_for(so: Callable[[], T], what: str, within_s: float) -> T:
    """What `so` gives once that is true; fails when it does not become so in time."""
    until = time.monotonic() + within_s
    while True:
        found = so()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"waited {within_s:g} s in vain for: {what}")
        time.sleep(0.05)


def write_table(path: Path, title: str, about: str, rows: Iterable[tuple[str, str, str]]) -> None:
    """The figures of a run: what, found, at most."""
    today = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"
    head = [f"# {title}, last run", "", f"{today}, {about}", "", *_COLUMNS]
    table = [f"| {what} | {found} | {at_most} |" for what, found, at_most in rows]
    path.write_text("\n".join([*head, *table, ""]))
