"""In the guest: SIGKILL the daemon at random instants until so many have hit a pulse.

kills.py ACTIVE COUNT WAIT_S [without]: one JSON object on stdout; `without` takes ExecStopPost away.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gpiochip
from pulser import CONFIG, LINE, write_config

DROP_IN = Path("/etc/systemd/system/doord.service.d/without.conf")
POLL_S = 0.002


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=60)
    if done.returncode:
        log = subprocess.run(["journalctl", "-u", "doord", "-n", "20"], capture_output=True, text=True)
        raise SystemExit(f"systemctl {' '.join(words)}: {done.stderr}{log.stdout}")
    return done.stdout


def state() -> str:
    return systemctl("show", "--property=ActiveState", "--value", "doord").strip()


def kill_once(line: gpiochip.SimLine, locked: int, wait_s: float) -> tuple[bool, float | None]:
    """(whether a pulse was hit, s until locked or None). The door has stayed locked then."""
    systemctl("start", "doord")
    pid = int(systemctl("show", "--property=MainPID", "--value", "doord"))
    time.sleep(random.uniform(0, 0.8))
    os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    hit = line.level != locked
    took: float | None = None
    while time.monotonic() < killed_at + wait_s:
        if line.level == locked:
            took = time.monotonic() - killed_at
            break
        time.sleep(POLL_S)
    while systemctl("show", "--property=ActiveState", "--value", "doord").strip() not in (
        "failed",
        "inactive",
    ):
        time.sleep(0.05)
    stayed = took is not None and line.level == locked
    systemctl("reset-failed", "doord")
    return hit, took if stayed else None


def main() -> None:
    """Kill, count, report."""
    active, count, wait_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    locked = 0 if active == "high" else 1
    DROP_IN.unlink(missing_ok=True)
    if "without" in sys.argv:
        DROP_IN.write_text("[Service]\nExecStopPost=\n")
    systemctl("daemon-reload")
    line = gpiochip.SimLine(LINE)
    line.pull(locked)
    CONFIG.parent.mkdir(exist_ok=True)
    write_config(0, active)
    times: list[float | None] = []
    kills = 0
    while len(times) < count and kills < 3 * count:
        kills += 1
        hit, took = kill_once(line, locked, wait_s)
        if hit:
            times.append(took)
    locked_s = sorted(t for t in times if t is not None)
    print(
        json.dumps(
            {
                "kills": kills,
                "hits": len(times),
                "unlocked": len(times) - len(locked_s),
                "median_s": locked_s[len(locked_s) // 2] if locked_s else None,
                "longest_s": locked_s[-1] if locked_s else None,
            }
        )
    )


main()
