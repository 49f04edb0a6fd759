"""In the guest, once behind the first boot: the code under test, its unit, and chips at every boot.

The unit is the shipped one; a drop-in only gives it a daemon without eyes (`pulser.py`), which is root,
for it reads the kernel's record and writes the configuration, and `Restart=no`, so that what locks
behind a kill is ExecStopPost and not a new start.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

CODE = Path("/opt/code")
UNITS = Path("/etc/systemd/system")
DROP_IN = """[Service]
ExecStart=
ExecStart=/usr/bin/python3 /opt/code/tests/vm/guest/pulser.py
Restart=no
WatchdogSec=0
User=root
Group=root
ReadWritePaths=/etc/doord
DeviceAllow=char-ttyS rw
Environment=PYTHONPATH=/opt/code:/opt/code/tests
"""
CHIP = """[Unit]
Description=Simulated GPIO chips whose freed lines keep their level
Before=doord.service
[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PYTHONPATH=/opt/code:/opt/code/tests
ExecStart=/usr/bin/python3 -c "from gpiochip import *; make_chips(); keep_level(True); forget()"
[Install]
WantedBy=multi-user.target
"""
DOORD_LOCK = """#!/usr/bin/python3
import sys
sys.path.insert(0, "/opt/code")
from edge.lock import main
sys.exit(main())
"""


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def main() -> None:
    """Lay everything where the shipped unit looks for it."""
    CODE.mkdir()
    subprocess.run(["tar", "xmf", "/dev/vdb", "-C", CODE], check=True)
    write(UNITS / "doord.service", (CODE / "systemd/doord.service").read_text())
    write(UNITS / "doord.service.d/guest.conf", DROP_IN)
    write(UNITS / "chip.service", CHIP)
    write(Path("/usr/bin/doord-lock"), DOORD_LOCK, 0o755)
    write(Path("/usr/lib/sysusers.d/doord.conf"), (CODE / "systemd/doord.sysusers").read_text())
    write(Path("/usr/lib/udev/rules.d/60-doord.rules"), (CODE / "systemd/60-doord.rules").read_text())
    subprocess.run(["systemd-sysusers"], check=True)
    subprocess.run(["udevadm", "control", "--reload"], check=True)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "enable", "--quiet", "--now", "chip.service"], check=True)
    subprocess.run(["sync"], check=True)


main()
