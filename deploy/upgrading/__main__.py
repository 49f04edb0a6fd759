"""Try a newer doord; put the one before back by itself when the new one does not become ready.

    upgrade [FILE]       a doord_*.deb or doord-*.tar; by default the package beside this script
    upgrade --check FILE only say whether it could be installed here

The trial is done by a systemd unit of its own, from copies below /var/lib/doord-upgrade: it goes on when
the caller's connection is lost, and after a power cut the next boot puts the version before back. Each
step is written down before it is taken, and may be taken twice.

What is in /var/lib/doord is left alone where both versions have the same Doord-State-Format: putting
an older copy back would undo counters that keep orders from being repeated, and events. Where they
differ, the door is stopped, its state copied, and on the way back that copy restored.

Standard library only, and imported by nothing: it must run when doord does not.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from package import Package, compares, fits, installed, read_package, repack, unwrapped
from system import DPKG_S, MIB, Refused, door_status, dpkg, parsed, run
from trial import NEW, OLD, RESULT, ROOM, TREE, TRIAL, UNIT, WANTED, WITHIN_S, Trial, finish, stage

CONFIG = Path("/etc/doord/config.yaml")


def main() -> int:
    """Refuse, or try; 0: the new version runs. 1: refused, or the old one runs again."""
    parser = argparse.ArgumentParser(prog="upgrade", description="a newer doord, or by itself the one before")
    parser.add_argument("file", nargs="?", type=Path, help="a doord_*.deb or doord-*.tar")
    parser.add_argument("--check", action="store_true", help="only say whether it could be installed here")
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="S", help="seconds to become ready")
    parser.add_argument("--finish", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if os.geteuid() != 0:
        return _complain("expected root: sudo")
    os.umask(0o022)  # a hardened root's is stricter: folders of a package have 0755
    if options.finish:
        return finish()
    file = options.file or next(Path(__file__).parent.parent.glob("doord_*.deb"), None)
    if file is None:
        return _complain("expected a file: doord_*.deb or doord-*.tar")
    try:
        return check(file) if options.check else upgrade(file, options.within)
    except Refused as refusal:
        return _complain(f"{refusal}: nothing was changed")
    except OSError as error:  # a full disk, one that only reads
        return _complain(f"{error.filename or ROOM}: {error.strerror}: nothing was changed")
    except KeyboardInterrupt:
        goes_on = "the trial goes on by itself: journalctl -u doord-upgrade-finish"
        return _complain(goes_on if TRIAL.exists() else "ended: run it again")


def check(file: Path) -> int:
    """Whether a package could be installed here, whatever is installed. Raises Refused."""
    with _room():
        fits(read_package(unwrapped(file, ROOM / "checked.deb")))
        (ROOM / "checked.deb").unlink()
    return 0


def upgrade(file: Path, within_s: float) -> int:
    """Check, lay ready, let the unit try, say what came of it. Raises Refused."""
    before = installed()
    if before is None:
        raise Refused("doord is not installed: deploy/install")
    with _room():
        if TRIAL.exists():
            raise Refused("another upgrade is under way: systemctl status doord-upgrade-finish")
        new = read_package(unwrapped(file, NEW))
        fits(new)
        if new.version == before.version:
            print(f"upgrade: doord {new.release} is installed already")
            return 0
        if compares(new.version, "lt", before.version):
            raise Refused(f"{file}: expected a version newer than {before.version}, got {new.version}")
        if not CONFIG.exists() or not Path("/run/systemd/system").exists():
            return _only_install(new)
        trial = _plan(before, new, within_s)
        _need_room(before, new, trial)
        repack(OLD, TREE)
        stage(trial)
    return follow(trial)


def _only_install(new: Package) -> int:
    """No door is in service: nothing to try, nothing to roll back to."""
    done = dpkg("--install", NEW)
    print(f"upgrade: doord {new.release}, no door in service" if done else "upgrade: dpkg failed, see above")
    return int(not done)


def follow(trial: Trial) -> int:
    """Start the unit and wait for its verdict; it goes on without us."""
    print(f"upgrade: trying {trial.new}; it goes back to {trial.old} by itself", flush=True)
    began = time.monotonic()
    subprocess.run(["systemctl", "start", UNIT.name], check=False, timeout=DPKG_S * 2)
    try:
        result = json.loads(RESULT.read_text())
    except (OSError, ValueError):
        return _complain("no result: journalctl -u doord-upgrade-finish")
    print(f"upgrade: {result['words']} ({time.monotonic() - began:.0f} s)")
    return 0 if result["good"] else 1


def _plan(before: Package, new: Package, within_s: float) -> Trial:
    status = door_status()
    config = parsed(run("doord", "check-config", "--json", "--config", str(CONFIG)).stdout)
    return Trial(
        phase="staged",
        old=before.version,
        new=new.version,
        new_release=new.release,
        was_armed=bool(status.get("armed")),
        state_dir=str(config.get("state_dir", "/var/lib/doord")),
        keep_state=before.state_format != new.state_format,
        within_s=within_s,
    )


def _need_room(before: Package, new: Package, trial: Trial) -> None:
    state = sum(path.lstat().st_size for path in Path(trial.state_dir).rglob("*")) if trial.keep_state else 0
    needed = (before.size_kib + new.size_kib) * 1024 + 2 * state
    free = shutil.disk_usage(ROOM).free
    if free < needed:
        raise Refused(f"{ROOM}: expected {needed // MIB} MiB free, got {free // MIB} MiB")


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """The folder for the trial, root's alone and one caller's; empty again when nothing was begun.

    Raises Refused: another has it.
    """
    ROOM.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(ROOM, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Refused("another installation or upgrade is being made ready") from None
    try:
        yield
    finally:
        if not TRIAL.exists():
            shutil.rmtree(TREE, ignore_errors=True)
            for leftover in (NEW, OLD, ROOM / "checked.deb", WANTED, UNIT):
                leftover.unlink(missing_ok=True)
        os.close(handle)


def _complain(words: str) -> int:
    print(f"upgrade: {words}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
