"""The machine as an upgrade sees it: commands, dpkg, systemd, the running door, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

DPKG_S = 600.0
MIB = 2**20


class Refused(Exception):
    """Nothing was changed; why, in one line."""


def unit_state() -> dict[str, str]:
    """What systemd says of the door's unit."""
    keys = ("ActiveState", "MainPID", "NRestarts", "Result")
    done = run("systemctl", "show", "doord.service", *(f"--property={key}" for key in keys), within_s=10)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def door_status() -> dict[str, object]:
    """What the running daemon says of itself; empty: it does not answer."""
    return parsed(run("doord", "status", "--json", within_s=10).stdout)


def dpkg(*arguments: object) -> bool:
    """Run dpkg, waiting for another's lock; whether it did it."""
    until = time.monotonic() + DPKG_S
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    while True:
        done = subprocess.run(
            ["dpkg", "--force-confold", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=DPKG_S,
        )
        if "lock was locked by another process" in done.stderr and time.monotonic() < until:
            time.sleep(2)
            continue
        if done.returncode:
            print(done.stderr.strip(), file=sys.stderr, flush=True)
        return done.returncode == 0


def write_down(path: Path, value: dict[str, object]) -> None:
    """A file that is there whole or not at all, whatever happens."""
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def run(*command: str, within_s: float = DPKG_S) -> subprocess.CompletedProcess[str]:
    """A command's output; one that can't be run, or takes too long, has failed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              check=False, timeout=within_s)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def parsed(text: str) -> dict[str, object]:
    """A JSON object; empty: it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
