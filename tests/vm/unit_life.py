"""The packaged door's life on a fresh system: what each step should have found, as rows.

Each boot is of the same disk, which has nothing of doord but what its tarball installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from machine import Machine, VmError
from rows import Row

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRIPTS = "/opt/code/tests/vm/guest"
PATHS = f"PYTHONPATH=/opt/code:/opt/code/tests:{SCRIPTS}:/opt/site"
STEPS = ("env", PATHS, "python3", f"{SCRIPTS}/unit_steps.py")
TARGET = "py311-x86_64"  # the guest's Python
PHOTO = ROOT / "tests/pictures/obama.jpg"
MEMORY_MB = 1792  # more than the unit's MemoryMax
UNLOCK_S = 10.0  # of guest/unit_prepare.py
PRIVATE = ("mnt", "uts", "ipc")
POWERLESS = "0" * 16
UNPRIVILEGED = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), POWERLESS)
LIMITS = {"memory_max": str(1 << 30), "pids_max": "128", "oom_score_adj": "-500"}
Boot = Callable[[Sequence[str]], AbstractContextManager[Machine]]


class Unit:
    """One disk, boot after boot."""

    def __init__(self, boot: Boot, folder: Path) -> None:
        """`boot` starts a machine of that disk with more options of QEMU's; `folder` is the run's."""
        disk = folder / "package.tar"
        shutil.copy(build(), disk)
        with tarfile.open(disk, "a") as tar:
            tar.add(PHOTO, PHOTO.name)
        drive = f"file={disk},if=virtio,format=raw,readonly=on"
        self._boot, self._more = boot, ("-m", str(MEMORY_MB), "-drive", drive)

    def rows(self) -> list[Row]:
        """All of it; a part that breaks off is a row that failed, and the next one begins."""
        with self._machine() as machine:
            rows = tried(installed, machine)
        with self._machine() as machine:
            for part in (first_boot, used, unplugged, enforced, hungry, killed, restarted):
                rows += tried(part, machine)
        with self._machine() as machine:
            rows += tried(next_boot, machine)
            step(machine, "released")
            machine.kill()
        with self._machine() as machine:
            rows += tried(after_cut, machine)
        return rows

    def _machine(self) -> AbstractContextManager[Machine]:
        return self._boot(self._more)


def build() -> Path:
    """The tarball for the guest, built of what lies here."""
    folder = ROOT / ".cache/vm/package"
    command = [ROOT / "deploy/package/build", TARGET, "--out", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=900)
    return max(folder.glob(f"doord-*-{TARGET}.tar"), key=lambda path: path.stat().st_mtime)


def step(machine: Machine, name: str) -> dict:
    """A step of guest/unit_steps.py; what it found. Raises VmError: it broke off."""
    began = time.monotonic()
    done = machine.run(*STEPS, name, timeout_s=600)
    print(f"   {name}, {time.monotonic() - began:.0f} s: {done.out.strip()}", flush=True)
    return dict(json.loads(done.out.splitlines()[-1]))


def tried(part: Callable[[Machine], list[Row]], machine: Machine) -> list[Row]:
    """What a part shows."""
    try:
        return part(machine)
    except VmError as error:
        return [Row(part.__name__, "runs to its end", str(error).replace("\n", " ")[-400:], False)]


def installed(machine: Machine) -> list[Row]:
    """`install` of the tarball; then the machine is stopped as one does."""
    machine.run("python3", "-c", (HERE / "guest/unit_prepare.py").read_text(), timeout_s=300)
    began = time.monotonic()
    install = f"/srv/doord-*/install /srv/config.yaml --enrol ada /srv/{PHOTO.name}"
    done = machine.run("sh", "-c", install, timeout_s=900, check=False)
    took = time.monotonic() - began
    print(done.out, done.err, flush=True)
    said = ((done.out or done.err).strip().splitlines() or ["nothing said"])[-1]
    machine.run("systemctl", "--no-block", "poweroff")
    machine.await_end(180)
    return [
        Row(
            "`install config.yaml --enrol …` of the .deb, no network; cards, GPIO by label, a vivid camera",
            "exit 0, armed",
            f"exit {done.code} after {took:.0f} s: {said}",
            done.code == 0 and said.startswith("install: armed"),
        )
    ]


def first_boot(machine: Machine) -> list[Row]:
    """With the package."""
    return started(machine, "the first boot with it")


def next_boot(machine: Machine) -> list[Row]:
    """After the reboot."""
    return started(machine, "the boot behind it")


def after_cut(machine: Machine) -> list[Row]:
    """After the machine was killed in a release."""
    return started(machine, "the boot behind a power cut in a release")


def started(machine: Machine, when: str) -> list[Row]:
    """Behind a boot: ready, locked from the first moment on, armed."""
    found = step(machine, "start") | step(machine, "until_armed")
    status = found["status"]
    figure = (
        f"READY {found['uptime_s']:g} s after the kernel's start, {found['words']} "
        f"{found['armed_after_s']:g} s later; {status['mode']}; line driven to {found['driven']}; "
        f"{found['restarts']} restarts"
    )
    right = found["level"] == 0 and found["driven"] == [0] and found["words"] == "armed"
    right = right and not status["simulation"] and not found["failed"] and not found["restarts"]
    return [Row(f"shipped doord.service, {when}", "READY, armed, only ever driven to locked", figure, right)]


def used(machine: Machine) -> list[Row]:
    """Button, contact, cards."""
    lines, cards = step(machine, "lines"), step(machine, "cards")
    right = lines["dps"] == "closed" and UNLOCK_S - 0.5 < lines["release_s"] < UNLOCK_S + 1
    return [
        Row(
            "exit button, door contact on the kernel's lines",
            f"unlocks; an opening locks; else {UNLOCK_S:g} s; forced is an alarm",
            f"unlocked after {lines['rex_s']:g} s; locked {lines['contact_s']:g} s behind an opening; "
            f"released {lines['release_s']:g} s; DPS {lines['dps']}; DoorForcedOpen",
            right,
        ),
        Row(
            "a card that is typed (uinput), one on Wiegand lines, a stranger's",
            "the first two open, with an event",
            f"typed: unlocked after {cards['wedge_s']:g} s; Wiegand: frame {cards['frames']}; the stranger's "
            f"moved the line {cards['stranger_moved']} times; {cards['granted']} AccessGranted",
            not cards["stranger_moved"] and cards["stranger_said"] and cards["granted"] == 2,
        ),
    ]


def unplugged(machine: Machine) -> list[Row]:
    """The camera's device goes and comes."""
    found = step(machine, "camera")
    return [
        Row(
            "the camera's device goes and comes back",
            "said so, a card opens meanwhile, back without a restart",
            f"{found['said']} (after {found['gone_s']:g} s); a card unlocked after {found['card_s']:g} s; "
            f"back after {found['back_s']:g} s; same process: {found['same_process']}",
            found["same_process"],
        )
    ]


def enforced(machine: Machine) -> list[Row]:
    """Whether each part of the sandbox is there, and not only written down."""
    found = step(machine, "sandbox")
    inside, outside = found["inside"], found["outside"]
    not_taken = [name for name, came in inside["taken"].items() if came == "done"]
    unproved = [f"{name} ({came} outside)" for name, came in outside["taken"].items() if came != "done"]
    missing = [f"{name} ({came})" for name, came in inside["left"].items() if came != "done"]
    shared = [name for name in PRIVATE if inside["namespaces"][name] == outside["namespaces"][name]]
    process = found["process"]
    bare = process == {**UNPRIVILEGED, "NoNewPrivs": "1", "Seccomp": "2", "Uid": process["Uid"]}
    bare = bare and process["Uid"] != "0" and not found["ignored"]
    bare = bare and inside["core"] == 0 != outside["core"]
    limits = {key: found[key] for key in LIMITS}
    taken = len(inside["taken"])
    return [
        Row(
            f"{taken} things that the unit takes away, tried in it and by the same user outside",
            "each refused in the unit, none outside",
            "; ".join(
                [
                    f"{taken - len(not_taken)} of {taken} refused ("
                    + ", ".join(f"{name} {came}" for name, came in inside["taken"].items())
                    + f"), {len(unproved)} outside",
                    *unproved,
                ]
            ),
            not not_taken and not unproved,
        ),
        Row(
            "chip, camera, reader, /proc/cpuinfo, network, state in the unit",
            "all to be had",
            "; ".join(missing) or "all",
            not missing,
        ),
        Row(
            "the process: powers, seccomp, NoNewPrivs, own mnt, uts, ipc; limits; what systemd ignored",
            "none, filtered, set, not shared; the unit's; nothing",
            "; ".join(
                [
                    *(f"{key} {value.lstrip('0') or 0}" for key, value in {**process, **limits}.items()),
                    f"core {inside['core']}",
                    f"shared: {shared or 'none'}",
                    f"ignored: {found['ignored'] or 'nothing'}",
                    f"exposure {found['exposure']}",
                ]
            ),
            bare and not shared and limits == LIMITS,
        ),
    ]


def hungry(machine: Machine) -> list[Row]:
    """MemoryMax."""
    found = step(machine, "memory")
    return [
        Row(
            "a process in the unit's group takes 1.2 GB",
            "killed; the door is never unlocked, and ready again",
            f"exit {found['hog']}; {found['restarts']} restarts; line driven to {found['driven']}; ready "
            f"after {found['ready_s']:g} s",
            found["hog"] == -9 and 1 not in found["driven"],
        )
    ]


def killed(machine: Machine) -> list[Row]:
    """kill -9."""
    found = step(machine, "killed")
    return [
        Row(
            "SIGKILL of the daemon in a release",
            "locked within 1 s, ready again",
            f"locked after {found['locked_s']:g} s, ready after {found['ready_s']:g} s; since then driven to "
            f"{found['driven']}",
            found["locked_s"] < 1 and 1 not in found["driven"],
        )
    ]


def restarted(machine: Machine) -> list[Row]:
    """`reboot` in a release."""
    level = step(machine, "reboot")["level"]
    machine.await_end(180)
    said = [json.loads(line) for line in machine.said.read_text().split("\n")[:-1]]
    before, last = said[-2:]
    held_s = last["at"] - before["at"]
    return [
        Row(
            "`reboot` in a release",
            "the door locks before the machine stops",
            f"unlocked: {level == 1}; locked {held_s:.1f} s after it was unlocked (of {UNLOCK_S:g} s); "
            f"{last['level']} in the end",
            level == before["level"] == 1 and last["level"] == 0 and held_s < UNLOCK_S,
        )
    ]
