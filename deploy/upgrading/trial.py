"""The trial of a new version, step by step; each is written down before it is taken, and may be repeated."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from package import installed
from system import DPKG_S, door_status, dpkg, run, unit_state, write_down

ROOM = Path("/var/lib/doord-upgrade")
TRIAL, RESULT = ROOM / "trial.json", ROOM / "result.json"
NEW, OLD, SAVED, SELF = ROOM / "new.deb", ROOM / "old.deb", ROOM / "state", ROOM / "upgrading"
TREE = ROOM / "tree"  # what OLD is made of
UNIT = Path("/etc/systemd/system/doord-upgrade-finish.service")
WANTED = Path("/etc/systemd/system/multi-user.target.wants/doord-upgrade-finish.service")
UNIT_TEXT = f"""\
[Unit]
Description=doord: try the new version, or put the one before back
ConditionPathExists={TRIAL}
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -IB {SELF} --finish
Restart=on-failure
RestartSec=2
TimeoutStartSec=15min

[Install]
WantedBy=multi-user.target
"""
WITHIN_S = 30.0  # from the installed package to armed
STEADY_S = 8.0  # it must stay so, in one process
CRASHES = 3  # that many restarts end the trial early; a single one does once it was ready
BACK_S = 60.0  # waited for the version before


@dataclass(frozen=True)
class Trial:
    """What is being tried, and how far it has come: staged, trying, good, back."""

    phase: str
    old: str
    new: str
    new_release: str
    was_armed: bool
    state_dir: str
    keep_state: bool  # in a copy, to put back
    within_s: float
    why: str = ""


def stage(trial: Trial) -> None:
    """Lay everything ready on the disk; from the last line on a power cut can't leave half of it."""
    RESULT.unlink(missing_ok=True)
    shutil.rmtree(SAVED, ignore_errors=True)
    shutil.rmtree(SELF, ignore_errors=True)
    shutil.copytree(Path(__file__).parent, SELF, ignore=shutil.ignore_patterns("__pycache__"))
    UNIT.write_text(UNIT_TEXT)
    WANTED.parent.mkdir(exist_ok=True)
    WANTED.unlink(missing_ok=True)
    WANTED.symlink_to(UNIT)
    os.sync()
    write_down(TRIAL, asdict(trial))
    run("systemctl", "daemon-reload")


def finish() -> int:
    """The unit's work: begin the trial, or end one that was interrupted."""
    if not TRIAL.exists():
        return 0
    with _writable():
        return _finish()


@contextlib.contextmanager
def _writable() -> Iterator[None]:
    """After a power cut a root that is kept read-only (deploy/notes) is so again, amid the trial."""
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        yield
        return
    run("mount", "-o", "remount,rw", "/")
    try:
        yield
    finally:
        run("mount", "-o", "remount,ro", "/")


def _finish() -> int:
    trial = Trial(**json.loads(TRIAL.read_text()))
    if trial.phase == "staged":
        trial = carry_out(_now(trial, "trying"))
    elif trial.phase == "trying":
        trial = _now(trial, "back", why="the trial was interrupted")
    if trial.phase == "good":
        return _end(True, f"doord {trial.new} runs")
    armed = put_back(trial)
    words = f"doord {trial.old} again, {armed}: {trial.new} {trial.why}"
    return _end(False, words)


def carry_out(trial: Trial) -> Trial:
    """Install and watch; good, or back with the reason."""
    if trial.keep_state:
        run("systemctl", "stop", "doord.service")
        _copy_state(Path(trial.state_dir), SAVED)
    if not dpkg("--install", NEW):
        return _now(trial, "back", why="could not be installed")
    # where the machine's policy kept the package from it, the version before runs on
    before = door_status().get("version") == trial.old.split("+py")[0]
    run("systemctl", "--no-block", "restart" if before else "start", "doord.service")
    why = watch(trial.new_release, armed=trial.was_armed, within_s=trial.within_s)
    return _now(trial, "back", why=why) if why else _now(trial, "good")


def put_back(trial: Trial) -> str:
    """Install the version before, its state if it was copied, and start it; whether it is armed again."""
    run("systemctl", "stop", "doord.service")
    if not dpkg("--force-downgrade", "--install", OLD):
        # the door first, dpkg's records later: its files as they were
        print("doord: dpkg can't put the version before back: its files are unpacked by hand", flush=True)
        run("dpkg-deb", "--extract", str(OLD), "/")
    if (SAVED / ".whole").exists():
        _copy_state(SAVED, Path(trial.state_dir))
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", "doord.service")
    run("systemctl", "--no-block", "start", "doord.service")
    release = trial.old.split("+py")[0]
    why = watch(release, armed=trial.was_armed, within_s=BACK_S, steady_s=0)
    return why or ("armed" if trial.was_armed else "ready")


def watch(release: str, armed: bool, within_s: float, steady_s: float = STEADY_S) -> str:
    """Why this version does not count as working; empty: it does, and did for a while."""
    until = time.monotonic() + within_s
    since, process, fewest, missing = 0.0, "", 10**6, ""
    while time.monotonic() < until:
        unit = unit_state()
        fewest = min(fewest, int(unit.get("NRestarts", "0")))
        if unit.get("ActiveState") == "failed":
            return f"did not start: {unit.get('Result', '')}"
        if int(unit.get("NRestarts", "0")) - fewest >= CRASHES:
            return "crashes again and again"
        if process and unit.get("MainPID") != process:
            return "became ready, and crashed"
        missing = _missing(unit, release, armed)
        if missing:
            since = 0.0
        elif not process or not since:
            since, process = time.monotonic(), unit.get("MainPID", "")
        if not missing and time.monotonic() - since >= steady_s:
            return ""
        time.sleep(0.5)
    return f"{missing or 'was not steady'} within {within_s:g} s"


def _missing(unit: dict[str, str], release: str, armed: bool) -> str:
    """What of a working door is not there; empty: nothing."""
    if unit.get("ActiveState") != "active":
        return "did not become ready"
    status = door_status()
    if status.get("version") != release:
        return f"did not answer as {release}"
    if armed and not status.get("armed"):
        return f"was not armed {status.get('why_not', '')}"
    return ""


def _end(good: bool, words: str) -> int:
    """Write the verdict down, then forget the trial, then clean up."""
    print(f"doord: {words}", flush=True)
    write_down(RESULT, {"good": good, "words": words})
    TRIAL.unlink()
    os.sync()
    for leftover in (NEW, OLD, WANTED, UNIT):
        leftover.unlink(missing_ok=True)
    shutil.rmtree(SAVED, ignore_errors=True)
    shutil.rmtree(SELF, ignore_errors=True)
    run("systemctl", "daemon-reload")
    _compile()
    return 0


def _compile() -> None:
    """Bytecode, which postinst leaves to us: a door that waits for it is not armed meanwhile."""
    now = installed()
    if now is not None:
        run("nice", now.python, "-I", "-m", "compileall", "-q", "-f", "/usr/lib/doord/site-packages")


def _now(trial: Trial, phase: str, why: str = "") -> Trial:
    changed = replace(trial, phase=phase, why=why)
    write_down(TRIAL, asdict(changed))
    return changed


def _copy_state(source: Path, to: Path) -> None:
    """Make `to` hold what `source` holds, owners and modes too; a copy that is whole says so."""
    to.mkdir(mode=0o700, exist_ok=True)
    (to / ".whole").unlink(missing_ok=True)
    for old in to.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    names = [str(path) for path in source.iterdir() if path.name != ".whole"]
    if names:
        subprocess.run(["cp", "--archive", "--target-directory", to, *names], check=True, timeout=DPKG_S)
    os.sync()
    if to == SAVED:
        (to / ".whole").touch()
        os.sync()
