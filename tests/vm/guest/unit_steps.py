"""In the guest, as root: what a person, a card, a cable and a fault do to the packaged door.

unit_steps.py STEP: one JSON object on stdout. Times are of the guest's clock.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gpiochip
import wedge
from frames import frame, send
from gpiochip import SimLine

RELAY, DPS, REX, DATA = 17, 27, 22, (5, 6)
UNIT = "doord.service"
CARD, STRANGER, WIEGAND = "0012345678", "0087654321", (12, 3456)
GROUP = Path("/sys/fs/cgroup/system.slice/doord.service")
DRIVER = Path("/sys/bus/platform/drivers/vivid")
PROBE = Path(__file__).parent / "unit_probe.py"
DROP_IN = Path("/run/systemd/system/doord.service.d/probe.conf")
INSIDE, OUTSIDE = Path("/var/lib/doord/inside.json"), Path("/var/lib/doord/outside.json")
SOON_S = 10.0  # emulated
AGAIN_S = 180.0
FRAMES = 20
HOG = "import os; open('%s/cgroup.procs', 'w').write(str(os.getpid())); b'x' * (1200 << 20)"


def wait(so: Callable[[], object], what: str, within_s: float = SOON_S) -> float:
    """s until it is so. Raises SystemExit: it did not become so."""
    began = time.monotonic()
    while not so():
        if time.monotonic() > began + within_s:
            raise SystemExit(f"waited {within_s:g} s in vain for: {what}; {words()}")
        time.sleep(0.005)
    return time.monotonic() - began


def run(*command: str, within_s: float = 120) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def show(key: str) -> str:
    return run("systemctl", "show", f"--property={key}", "--value", UNIT).strip()


def words() -> str:
    return show("StatusText")


def ready() -> bool:
    return show("ActiveState") == "active"


def main_pid() -> int:
    return int(show("MainPID"))


def shut() -> None:
    """Nobody is at the door: the lines as they are then. doord pulls its inputs up when it claims them."""
    SimLine(DPS).pull(0)
    for line in (REX, *DATA):
        SimLine(line).pull(1)
    time.sleep(0.5)


def locked_again(relay: SimLine) -> float:
    """Somebody passes: the contact opens, which ends the release, and closes."""
    SimLine(DPS).pull(1)
    took = wait(lambda: relay.level == 0, "locked when the door opens")
    SimLine(DPS).pull(0)
    time.sleep(0.5)
    return round(took, 2)


def show_card(number: str = CARD) -> None:
    wedge.PIPE.write_text(f"{number}\n")


def start() -> dict:
    """After a boot: ready when, what the line did since, what the door says of itself."""
    took = wait(ready, "the unit is ready", AGAIN_S)
    at = time.monotonic()
    relay = SimLine(RELAY)
    status = wait_status()
    return {
        "waited_s": round(took, 1),
        "uptime_s": round(at, 1),
        "level": relay.level,
        "driven": sorted(set(relay.driven())),
        "words": words(),
        "status": {key: status[key] for key in ("armed", "why_not", "mode", "lock", "version", "simulation")},
        "failed": run("systemctl", "list-units", "--failed", "--plain", "--no-legend").split()[:1],
    }


def wait_status() -> dict:
    return json.loads(run("doord", "status", "--json"))


def until_armed() -> dict:
    """How long until a face would be let in, or what it says when that does not come."""
    began = time.monotonic()
    while words() != "armed" and time.monotonic() < began + AGAIN_S:
        time.sleep(0.5)
    after_s = round(time.monotonic() - began, 1)
    return {"armed_after_s": after_s, "words": words(), "restarts": int(show("NRestarts"))}


def lines() -> dict:
    """The exit button, and the contact that ends its release; one release that nobody ends."""
    shut()
    relay, rex = SimLine(RELAY), SimLine(REX)
    closed = wait_status()["dps"]
    rex.pull(0)
    opened_s = wait(lambda: relay.level == 1, "the exit button unlocks")
    rex.pull(1)
    passed_s = locked_again(relay)
    rex.pull(0)
    wait(lambda: relay.level == 1, "the exit button unlocks again")
    rex.pull(1)
    whole_s = wait(lambda: relay.level == 0, "the release ends", 20)
    time.sleep(1)  # up to 0.5 s after the lock fell it would not be forced
    SimLine(DPS).pull(1)
    wait(lambda: "DoorForcedOpen" in events(), "a door that opens by itself is an alarm", 30)
    SimLine(DPS).pull(0)
    return {"dps": closed, "rex_s": round(opened_s, 2), "contact_s": passed_s, "release_s": round(whole_s, 2)}


def events() -> str:
    return run("doord", "log", "tail", "-n", "5")


def cards() -> dict:
    """Cards on both readers; a stranger's."""
    shut()
    relay = SimLine(RELAY)
    run("doord", "card", "add", "--subject", "ada", "--number", CARD)
    number = "{}-{}".format(*WIEGAND)
    run("doord", "card", "add", "--subject", "bob", "--number", number, "--format", "wiegand26")
    show_card()
    wedge_s = wait(lambda: relay.level == 1, "a card that is typed unlocks")
    locked_again(relay)
    tries = wiegand(relay)
    locked_again(relay)
    gpiochip.forget()
    show_card(STRANGER)
    time.sleep(3)
    said = events()
    granted = run("doord", "log", "tail", "-n", "20").count("AccessGranted")
    return {
        "wedge_s": round(wedge_s, 2),
        "frames": tries,
        "stranger_moved": relay.driven().count(1),
        "stranger_said": "Unauthorized" in said,
        "granted": granted,
    }


def wiegand(relay: SimLine) -> int:
    """Send the frame until it opens; how often. The host may bend its pace, and then it is refused."""
    pulls = [os.open(SimLine(line).pull_path, os.O_WRONLY) for line in DATA]
    os.sched_setaffinity(0, {0})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    try:
        for number in range(1, FRAMES + 1):
            send(frame(26, *WIEGAND), pulls)
            until = time.monotonic() + 2.5  # sooner it would be the same presentation
            while time.monotonic() < until:
                if relay.level == 1:
                    return number
                time.sleep(0.02)
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, {0, 1})
    raise SystemExit(f"{FRAMES} frames opened nothing; {events()}")


def camera() -> dict:
    """The camera is pulled and plugged in again; a card works meanwhile, the process stays."""
    relay, process = SimLine(RELAY), main_pid()
    wait(lambda: "camera" not in words(), "the camera is well", AGAIN_S)
    (DRIVER / "unbind").write_text("vivid.0")
    gone_s = wait(lambda: "camera" in words(), "the door says that its camera is gone", 60)
    said = words()
    show_card()
    card_s = wait(lambda: relay.level == 1, "a card unlocks without a camera")
    locked_again(relay)
    (DRIVER / "bind").write_text("vivid.0")
    back_s = wait(lambda: "camera" not in words(), "the camera is back", AGAIN_S)
    return {
        "gone_s": round(gone_s, 1),
        "said": said,
        "card_s": round(card_s, 2),
        "back_s": round(back_s, 1),
        "same_process": main_pid() == process,
    }


def sandbox() -> dict:
    """What the unit takes away, tried in it and outside of it; what the kernel says of its process."""
    Path("/srv/open").mkdir(exist_ok=True)
    Path("/srv/open").chmod(0o1777)
    Path("/tmp/of-others").write_text("seen")
    Path("/dev/vdb").chmod(0o666)
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f"[Service]\nExecStartPre=/usr/bin/python3 {PROBE} {INSIDE}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", UNIT, within_s=AGAIN_S)
    DROP_IN.unlink()
    run("systemctl", "daemon-reload")
    outside = ("systemd-run", "--quiet", "--wait", "--property=User=doord", "/usr/bin/python3")
    run(*outside, str(PROBE), str(OUTSIDE))
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{main_pid()}/status").read_text().splitlines()
                  if ":\t" in line)  # fmt: skip
    keys = ("NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Uid")
    quarrel = run("journalctl", "--boot", "--no-pager", "--output=cat", "--identifier=systemd").splitlines()
    return {
        "inside": json.loads(INSIDE.read_text()),
        "outside": json.loads(OUTSIDE.read_text()),
        "process": {key: status[key].split()[0] for key in keys},
        "memory_max": (GROUP / "memory.max").read_text().strip(),
        "pids_max": (GROUP / "pids.max").read_text().strip(),
        "oom_score_adj": Path(f"/proc/{main_pid()}/oom_score_adj").read_text().strip(),
        "ignored": [line for line in quarrel if "doord" in line and "ignor" in line.lower()],
        "exposure": run("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1].split(": ")[-1],
    }


def memory() -> dict:
    """A process in the unit's group takes more than the unit may."""
    relay, restarts = SimLine(RELAY), int(show("NRestarts"))
    gpiochip.forget()
    hog = subprocess.run([sys.executable, "-c", HOG % GROUP], timeout=300)
    time.sleep(2)
    ready_s = wait(ready, "the unit is ready again", AGAIN_S)
    return {
        "hog": hog.returncode,
        "restarts": int(show("NRestarts")) - restarts,
        "driven": sorted(set(relay.driven())),
        "ready_s": round(2 + ready_s, 1),
    }


def killed() -> dict:
    """SIGKILL in a release: how long it stays unlocked, how long until it is ready again."""
    shut()
    relay = SimLine(RELAY)
    show_card()
    wait(lambda: relay.level == 1, "a card unlocks")
    time.sleep(random.uniform(0.2, 1))
    process = main_pid()
    os.kill(process, signal.SIGKILL)
    locked_s = wait(lambda: relay.level == 0, "locked behind the kill")
    gpiochip.forget()
    ready_s = wait(lambda: ready() and main_pid() != process, "the unit is ready again", AGAIN_S)
    return {
        "locked_s": round(locked_s, 2),
        "ready_s": round(locked_s + ready_s, 1),
        "driven": sorted(set(relay.driven())),
    }


def released() -> dict:
    """In a release: nobody passes. What comes next is the host's."""
    shut()
    relay = SimLine(RELAY)
    show_card()
    wait(lambda: relay.level == 1, "a card unlocks")
    return {"level": relay.level}


def reboot() -> dict:
    """The same, and the machine is told to start again."""
    found = released()
    silent = subprocess.DEVNULL  # not at once: what runs this is stopped too, and has to answer first
    subprocess.Popen(["sh", "-c", "sleep 1; systemctl reboot"], stdin=silent, stdout=silent, stderr=silent)
    return found


STEPS: dict[str, Callable[[], dict]] = {
    step.__name__: step
    for step in (start, until_armed, lines, cards, camera, sandbox, memory, killed, released, reboot)
}

if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]]()))
