"""Checks of where the door keeps what it must not forget: room, wear, mounts, owners, the key's place."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from edge.config import Config, credential_name
from edge.joined import site_folder
from edge.tools.doctor.finding import Said, fail, note, ok, warn
from edge.tools.doctor.host import Mount
from edge.tools.doctor.patient import Check, Patient

_FULL_MB, _LOW_MB = 20, 200
_LOW_INODES = 0.05
_WORN = 0x0A  # JESD84-B51: 0x01 0-10 % of the life used .. 0x0A 90-100 %, 0x0B beyond
_FORGETFUL = ("tmpfs", "ramfs", "overlay")


def room(patient: Patient) -> Said:
    """Space and inodes where the state lies."""
    config = patient.config
    there = os.statvfs(_nearest(Path(config.state_dir)))
    free_mb = there.f_bavail * there.f_frsize >> 20
    inodes = there.f_favail / there.f_files if there.f_files else 1.0
    words = f"{config.state_dir}: {free_mb} MB free"
    if free_mb < _FULL_MB:
        return fail(words, "journalctl --vacuum-size=100M; apt clean; events.max_mb")
    if inodes < _LOW_INODES:
        return warn(f"{words}, {inodes:.0%} of the inodes", "find / -xdev -type f | cut -d/ -f2-4 | uniq -c")
    if free_mb < _LOW_MB:
        return warn(
            words, f"the ledger alone may take {config.events.max_mb} MB: events.max_mb, or a larger card"
        )
    return ok(words)


def mounts(patient: Patient) -> Said:
    """Is the state on something that lasts, and can be written?"""
    host = patient.host
    state = host.mount(_nearest(Path(patient.config.state_dir)))
    root = host.mount(Path("/"))
    if state is None or root is None:
        return note("/proc/self/mountinfo does not tell")
    words = f"/ {_how(root)}; {patient.config.state_dir} on {state.place} ({state.kind}, {_how(state)})"
    if state.read_only:
        return fail(f"{words}: events and clock are lost", "mount a writable partition there: deploy/notes")
    if state.kind in _FORGETFUL:
        cure = "a partition of its own for the state: deploy/notes/read-only-root.md"
        return fail(f"{words}: all of it is forgotten when the power goes", cure)
    return ok(words)


def _how(mount: Mount) -> str:
    return "read-only" if mount.read_only else "writable"


def wear(patient: Patient) -> Said:
    """How much of an eMMC's life is used; an SD card does not tell."""
    host = patient.host
    state = host.mount(_nearest(Path(patient.config.state_dir)))
    disk = host.disk(state.device) if state else None
    if disk is None:
        return note("the state lies on no disk of its own that could be asked")
    name = disk.name
    used = [
        int(word, 16) for word in host.text(f"sys/block/{name}/device/life_time").split() if _is_hex(word)
    ]
    end = host.text(f"sys/block/{name}/device/pre_eol_info")
    if not used:
        kind = host.text(f"sys/block/{name}/device/type")
        card = "an SD card tells nothing of its wear: keep a spare" if kind == "SD" else "it does not tell"
        return note(f"{name}: {card}")
    words = f"{name}: {10 * (max(used) - 1)} to {10 * max(used)} % of its life used"
    if max(used) >= _WORN or (_is_hex(end) and int(end, 16) > 1):
        return fail(words, "replace the storage now; keep a backup of state and key elsewhere")
    return ok(words)


def _is_hex(word: str) -> bool:
    try:
        int(word, 16)
    except ValueError:
        return False
    return True


def key_place(patient: Patient) -> Said:
    """Who takes the card: has he the key too?"""
    host, config = patient.host, patient.config
    places = [host.mount(_nearest(path)) for path in (config.key_path, config.gallery_path)]
    disks = [host.disk(mount.device) if mount else None for mount in places]
    if places[0] is None or places[1] is None:
        return note("/proc/self/mountinfo does not tell")
    if places[0].device == places[1].device or (disks[0] is not None and disks[0] == disks[1]):
        return note("key and gallery lie on one card: who takes it has both")
    return ok(f"the key lies elsewhere than the gallery ({places[0].place})")


def owners(patient: Patient) -> Said:
    """Modes and owners of configuration, state and keys."""
    config = patient.config
    found = [*_config_flaws(patient), *_state_flaws(config), *_key_flaws(config)]
    if found:
        return fail("; ".join(found[:3]), f"chown -R doord:doord {config.state_dir}; chmod 600 the keys")
    return ok("configuration, state and keys belong to whom they should, and nobody else may read the keys")


def _config_flaws(patient: Patient) -> list[str]:
    mode = _mode(patient.path)
    return [f"{patient.path}: anybody may write it"] if mode is not None and mode & 0o002 else []


def _state_flaws(config: Config) -> list[str]:
    """What a command of root's left behind can't be opened by the daemon."""
    folder = Path(config.state_dir)
    if not folder.exists():
        return []
    owner, found = folder.stat().st_uid, []
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        found.append(f"{folder}: expected mode 0700, got {mode:04o}")
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # the daemon's own come and go
            if path.lstat().st_uid != owner:
                found.append(f"{path}: is not of the folder's owner")
    return found


def _key_flaws(config: Config) -> list[str]:
    kept = config.mqtt.kept if config.mqtt else {}
    of_broker = [kept.get(key, "") for key in ("mqtt.tls.key", "mqtt.password_file")]
    secrets = [config.key_path, *(Path(one) for one in of_broker if one and credential_name(one) is None)]
    modes = {path: _mode(path) for path in secrets}
    found = [
        f"{path}: others may read it ({mode:04o})" for path, mode in modes.items() if mode and mode & 0o007
    ]
    plain = site_folder(config) / "door.key"
    if _mode(plain) is not None:
        found.append(f"{plain}: a key in plain that an older doord left: systemctl restart doord removes it")
    return found


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _nearest(path: Path) -> Path:
    """The path, or the first of its parents that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


CHECKS = (
    Check("disk", room, "df -h; df -i"),
    Check("mounts", mounts, "findmnt"),
    Check("wear", wear, ""),
    Check("key", key_place, ""),
    Check("owners", owners, "run doctor as root"),
)
