"""In the guest, once: the board that the package is installed on. Chips, a camera, a reader that types.

Of doord nothing is laid anywhere but the tarball's files in /srv, and the tests' own in /opt/code.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

CODE = Path("/opt/code")
SCRIPTS = CODE / "tests/vm/guest"
SERVICE = """[Unit]
Description=%(what)s
Before=doord.service
%(more)s
[Service]
Type=%(type)s
RemainAfterExit=yes
Environment=PYTHONPATH=/opt/code/tests
ExecStart=/usr/bin/python3 %(run)s
[Install]
WantedBy=multi-user.target
"""
CHIP = '-c "from gpiochip import *; make_chips(); keep_level(True); forget()"'
TO_THE_END = "After=chip.service\nDefaultDependencies=no"  # no shutdown stops it
RULE = 'SUBSYSTEM=="input", KERNEL=="event*", ATTRS{name}=="doord-wedge", SYMLINK+="input/doord-wedge"\n'
CONFIG = """site: vm
door_id: unit
door:
  relay: {chip: "label:doord-sim-0", line: "name:RELAY"}
  dps: {line: 27}
  rex: {line: 22}
  unlock_s: 10
  relock: on_open
camera: {source: /dev/video0, width: 320, height: 180, fps: 5}
models: {threads: 1}
access: {mode: card}
readers:
  wedge: {device: /dev/input/doord-wedge}
  wiegand: {data0: 5, data1: 6}
"""


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def service(name: str, what: str, run: str, kind: str = "exec", more: str = "") -> None:
    write(
        f"/etc/systemd/system/{name}.service",
        SERVICE % {"what": what, "run": run, "type": kind, "more": more},
    )
    subprocess.run(["systemctl", "enable", "--quiet", "--now", name], check=True, timeout=120)


def main() -> None:
    """Make the board, unpack what a person would carry there."""
    CODE.mkdir()
    subprocess.run(["tar", "xmf", "/dev/vdb", "-C", CODE], check=True)
    # the package brings every wheel it needs: the tests' own must not stand in for one that is missing
    Path("/usr/lib/python3/dist-packages/site.pth").unlink()
    write("/etc/udev/rules.d/61-wedge.rules", RULE)
    subprocess.run(["udevadm", "control", "--reload"], check=True)
    write("/etc/modprobe.d/camera.conf", "options vivid n_devs=1 node_types=0x1\n")
    write("/etc/modules-load.d/board.conf", "vivid\nuinput\nevdev\n")
    for module in ("vivid", "uinput", "evdev"):
        subprocess.run(["modprobe", module], check=True, timeout=120)
    service("chip", "Simulated GPIO chips whose freed lines keep their level", CHIP, "oneshot")
    service("wedge", "A reader that types", f"{SCRIPTS}/wedge.py")
    service("relay-log", "Says the relay's levels", f"{SCRIPTS}/relay_log.py", more=TO_THE_END)
    subprocess.run(["tar", "xmf", "/dev/vdc", "-C", "/srv"], check=True, timeout=300)
    write("/srv/config.yaml", CONFIG)
    subprocess.run(["sync"], check=True)


main()
