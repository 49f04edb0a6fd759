"""Checks of the service: its unit, how it ended last, what it logged, what its user may open."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from edge import __version__
from edge.config import is_device
from edge.door.chips import find
from edge.errors import LineError
from edge.tools.doctor.finding import Said, fail, note, ok, warn
from edge.tools.doctor.patient import UNIT, Check, Patient

_JOURNAL = ["journalctl", "--unit", UNIT, "--boot", "--quiet", "--no-pager", "--output=json"]
_FAULTS = [*_JOURNAL, "--priority=err", "--output-fields=MESSAGE,KIND", "--lines=500"]
_LOOK = "journalctl -u doord -b -n 100"
_WITHOUT = [
    "journalctl",
    "_PID=1",
    "--boot",
    "--quiet",
    "--no-pager",
    "--output=cat",
    "--grep=Proceeding WITHOUT",
]
_BOUNDS = {"memory": "MemoryMax=", "pids": "TasksMax="}
# how a run ended: exit codes of doord and of systemd (systemd.exec(5)), results of systemd.service(5)
_EXITS = {
    "0": "in order",
    "69": "a line could not be claimed (69), tried again for ever",
    "70": "the door's thread died or hung (70)",
    "78": "the configuration can't be used (78)",
    "203": "the command is not there or can't be run (203)",
    "226": "the sandbox could not be made (226)",
}
_RESULTS = {
    "watchdog": "it hung, and the watchdog ended it",
    "oom-kill": "the kernel killed it for want of memory",
    "signal": "a signal killed it",
    "core-dump": "it crashed",
    "timeout": "it took too long to start or stop",
}
_HOPELESS = {
    "69": "parts lines and devices below: who holds it, is its driver there?",
    "78": "doord check-config; then systemctl restart doord",
}
_ENABLE = "systemctl enable --now doord"


def unit(patient: Patient) -> Said:
    """Is it there, enabled, active?"""
    told = patient.service
    if not told:
        return note("no systemd answers here")
    if told.get("LoadState") != "loaded":
        return warn(
            f"{UNIT} is not installed ({told.get('LoadState')})", "install the package: deploy/install"
        )
    state = f"{told.get('UnitFileState')}, {told.get('ActiveState')} ({told.get('SubState')})"
    if told.get("ActiveState") != "active":
        return fail(state, f"systemctl start doord, then {_LOOK}")
    if told.get("UnitFileState") != "enabled":
        return warn(f"{state}: it will not start with the unit", _ENABLE)
    if told.get("WatchdogUSec", "0") in ("0", "infinity"):
        return warn(f"{state}, without a watchdog", "WatchdogSec=10 must not be taken out of the unit")
    return ok(f"{state} since {told.get('ActiveEnterTimestamp')}, watchdog {told.get('WatchdogUSec')}")


def last_run(patient: Patient) -> Said:
    """Why it ended last, and how often it was started again."""
    told = patient.service
    if told.get("LoadState") != "loaded":
        return note("no unit, no run")
    result, code = told.get("Result", ""), told.get("ExecMainStatus", "0")
    how = _RESULTS.get(result) or _EXITS.get(code, f"exit code {code}")
    restarts = int(told.get("NRestarts") or 0)
    words = f"last end: {how}; started again by itself {restarts} times"
    cure = _HOPELESS.get(code)
    if cure and told.get("ActiveState") != "active":
        return fail(words, cure)
    if restarts or result not in ("success", ""):
        return warn(words, f"{_LOOK} -p err")
    return ok(words)


def journal(patient: Patient) -> Said:
    """What it logged as a fault since the machine was started."""
    told = patient.host.run(_FAULTS) if patient.service else None
    if told is None:
        return note("no journal can be read here")
    records = [_record(line) for line in told.splitlines() if line.startswith("{")]
    if not records:
        return ok("no fault since the machine was started")
    last = str(records[-1].get("MESSAGE", ""))[:160]
    many = "500 or more" if len(records) >= 500 else str(len(records))
    return warn(f"{many} faults since the machine was started, the last: {last}", f"{_LOOK} -p err")


def _record(line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def version(patient: Patient) -> Said:
    """Does what is installed run?"""
    if patient.status is None:
        return note(f"{__version__} is installed")
    runs = patient.status["version"]
    if runs != __version__:
        return warn(f"{runs} runs, {__version__} is installed", "systemctl restart doord")
    return ok(__version__)


def devices(patient: Patient) -> Said:
    """May the daemon's user open camera, chips and reader?"""
    account = patient.account
    if account is None:
        return note("no user doord here: the package makes one")
    paths = _devices(patient)
    closed = []
    for path in paths:
        try:
            allowed = account.may_read_and_write(path.stat())
        except OSError:
            continue  # that it is not there says its own part
        if not allowed:
            closed.append(str(path))
    if closed:
        cure = f"groups video, gpio, input: usermod -aG ... {account.name}, and the package's udev rules"
        return fail(f"user {account.name} may not open {', '.join(closed)}", cure)
    return ok(f"user {account.name} may open {', '.join(map(str, paths)) or 'all there is'}")


def _devices(patient: Patient) -> list[Path]:
    config = patient.config
    if config.simulation:
        return []
    source = str(config.camera.source)
    found = []
    if is_device(source):
        found.append(Path(f"/dev/video{source}" if source.isdecimal() else source))
    if config.readers.wedge:
        found.append(Path(config.readers.wedge.device))
    with contextlib.suppress(LineError):  # the part lines says so
        found += [Path(path) for path in dict.fromkeys(path for path, _ in find(config.wiring).values())]
    return found


def sandbox(patient: Patient) -> Said:
    """Does the kernel enforce what the unit limits? systemd goes on without; it says so once a boot."""
    if patient.service.get("LoadState") != "loaded":
        return note("no unit, no sandbox")
    controllers = patient.host.text("sys/fs/cgroup/cgroup.controllers").split()
    missing = [name for name in ("memory", "pids") if controllers and name not in controllers]
    if missing:
        words = f"this kernel's groups have no {', '.join(missing)}: {', '.join(_BOUNDS[m] for m in missing)}"
        return warn(f"{words} of the unit bounds nothing", "cgroup_enable=memory in cmdline.txt, and restart")
    without = (patient.host.run(_WITHOUT) or "").strip()
    if without:
        return warn(without.splitlines()[-1][:200], "a kernel with CONFIG_CGROUP_BPF; deploy/notes/limits.md")
    return ok("memory and tasks are bounded; systemd left nothing of the unit out that it would tell")


CHECKS = (
    Check("unit", unit, _LOOK),
    Check("last run", last_run, _LOOK),
    Check("journal", journal, ""),
    Check("version", version, ""),
    Check("devices", devices, ""),
    Check("sandbox", sandbox, ""),
)
