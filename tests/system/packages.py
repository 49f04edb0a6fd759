"""One machine's life with doord, from the fresh system to the purge; writes its figures. See `packages`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import yaml  # noqa: E402
from door_site import PICTURES, clip  # noqa: E402
from machine import Machine, wait_for, write_table  # noqa: E402

CACHE = HERE.parent.parent / ".cache" / "packages"
SYSTEMS = {"bookworm": "Debian 12", "trixie": "Debian 13"}
SUITE, TARGET = sys.argv[1:]
SYSTEM = SYSTEMS[SUITE]
PY = TARGET.partition("-")[0]  # py311
PYTHON = f"python3.{PY[3:]}"
UNIT = "doord.service"
CONFIG = {
    "site": "hq",
    "door_id": "front",
    "simulation": True,
    "door": {"relay": {"line": 17}, "unlock_s": 0.5},
    "camera": {"source": "file:/srv/clip.avi", "loop": True},
}
INSTALL_S = 300.0
BACK_S = 60.0
Edit = Callable[[Path], None]
NOT_WRITTEN = "/var/lib/doord/of-another-format"


class Life:
    """A machine that keeps what is written to it, and what was measured."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self.rows: list[tuple[str, str, str, bool]] = []
        self.booted = 0.0
        self.machine: Machine

    def boot(self) -> Machine:
        """The same disk, started again, without a network."""
        self.booted = time.monotonic()
        self.machine = Machine(CACHE / "tree", self.shared, ("--private-network",))
        return self.machine

    def do(self, *command: str, code: int, says: str = "", within_s: float = 600) -> tuple[float, str]:
        """A command that must end so, and say this in one of its lines; its seconds and its words."""
        began = time.monotonic()
        done = self.machine.run(*command, within_s=within_s)
        words = (done.stdout + done.stderr).strip()
        print("    " + words.replace("\n", "\n    "), flush=True)
        assert done.returncode == code, (command, done.returncode, words)
        assert says in words, f"{command}: expected {says!r}, got {words!r}"
        return time.monotonic() - began, words

    def refused(self, file: str, says: str) -> None:
        """An upgrade that says one line and changes nothing: the same process goes on."""
        before = self.running()
        _, words = self.do("/srv/doord/upgrade", file, code=1, says=says)
        assert len(words.splitlines()) == 1, words
        assert self.running() == before
        left = self.machine.run("ls", "-A", "/var/lib/doord-upgrade").stdout.split()
        assert left in ([], ["result.json"]), left
        self.note(f"`upgrade`: {words.removeprefix('upgrade: ')[:110]}", "refused, the same process runs")

    def running(self) -> tuple[object, ...]:
        """Process, version, armed."""
        status = self.machine.status()
        return self.machine.show(UNIT, "MainPID")["MainPID"], status.get("version"), status.get("armed")

    def armed(self, version: str) -> None:
        """This version is armed, or will be in a moment."""
        wait_for(lambda: self.running()[1:] == (version, True), f"{version} is armed", 60)
        assert self.machine.run("doord", "gallery", "list", code=0).stdout.count("obama") == 1

    def note(self, what: str, found: float | str, at_most: float | None = None) -> None:
        """A figure, and whether it is good enough."""
        good = at_most is None or (isinstance(found, float) and found <= at_most)
        shown = f"{found:.1f} s" if isinstance(found, float) else found
        self.rows.append((what, shown, "" if at_most is None else f"{at_most:g} s", good))
        print(f"  {'ok  ' if good else 'BAD '} {what}: {shown}", flush=True)


# Packages made of the one under test


def variant(
    base: Path, deb: Path, version: str, edit: Edit | None = None, fields: dict[str, str] | None = None
) -> None:
    """The package again with another version, other fields of control, other files."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        root = Path(folder, "root")
        subprocess.run(["dpkg-deb", "--raw-extract", base, root], check=True)
        control = root / "DEBIAN/control"
        changed = {"Version": f"{version}+{PY}", **(fields or {})}
        lines = control.read_text().splitlines()
        lines = [
            f"{key}: {changed[key]}" if (key := line.split(":")[0]) in changed else line for line in lines
        ]
        control.write_text("\n".join(lines) + "\n")
        package = root / "usr/lib/doord/site-packages/edge/__init__.py"
        if package.exists():
            text = package.read_text()
            package.write_text(text[: text.index("__version__")] + f'__version__ = "{version}"\n')
        if edit is not None:
            edit(root)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", root, deb], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip


def does_not_import(root: Path) -> None:
    package = root / "usr/lib/doord/site-packages/edge/__init__.py"
    package.write_text("import nothing_of_this_name\n" + package.read_text())


def _runs(root: Path, lines: str) -> None:
    """Lines that `doord run` begins with."""
    launcher = root / "usr/bin/doord"
    text = launcher.read_text()
    launcher.write_text(text.replace("sys.exit(", f"if sys.argv[1:2] == ['run']:\n{lines}\nsys.exit("))


def never_ready(root: Path) -> None:
    _runs(root, "    import time\n    time.sleep(3600)")


def crashes_after_ready(root: Path) -> None:
    _runs(root, "    import os, threading\n    threading.Timer(5, os._exit, [1]).start()")


def writes_another_format(root: Path) -> None:
    """And then spoils what the old version has there."""
    spoil = f"    import glob\n    open('{NOT_WRITTEN}', 'w').close()\n"
    spoil += "    for name in glob.glob('/var/lib/doord/*.db*'):\n        open(name, 'w').close()\n"
    _runs(root, spoil + "    sys.exit(1)")


def postinst_fails(root: Path) -> None:
    (root / "DEBIAN/postinst").write_text("#!/bin/sh\nexit 1\n")


# The life


def installs(life: Life) -> None:
    """Fresh system, one command, no network."""
    took, _ = life.do("/srv/doord/install", "/srv/config.yaml", "--enrol", "obama", "/srv/obama.jpg",
                      code=0, says="install: armed: doord 0.1.0, door front of site hq")  # fmt: skip
    life.note(f"fresh {SYSTEM} without a network: `install config.yaml --enrol …` to armed", took, INSTALL_S)
    before = life.running()
    took, _ = life.do("/srv/doord/install", "/srv/config.yaml", "--enrol", "obama", "/srv/obama.jpg",
                      code=0, says="install: obama is enrolled")  # fmt: skip
    assert life.running() == before, "an installation that changes nothing starts nothing again"
    life.note("the same command again: the same process goes on", took)
    life.do(
        "cp", "/srv/config.yaml", "/etc/doord/config.yaml", code=0
    )  # as one that was ended by Ctrl-C left it
    poor = ("env", "PATH=/usr/bin:/bin", "sh", "-c", "umask 077; /srv/doord/install /srv/config.yaml")
    life.do(*poor, code=0, says="armed")  # and `su`, with a strict umask
    assert life.running()[0] != before[0], "what was put in place is in force"
    life.note("after one that ended between configuration and start: the new one is in force", "yes")
    owner = life.machine.run("stat", "--format=%U:%G %a", "/etc/doord/config.yaml", code=0).stdout.strip()
    assert owner == "root:doord 640", owner
    verified = life.machine.run("dpkg", "--verify", "doord")
    assert (verified.returncode, verified.stdout) == (0, ""), verified


def refuses(life: Life) -> None:
    life.refused("/srv/wrong-arch.deb", "expected a package for amd64, got one for arm64")
    life.refused("/srv/wrong-python.deb", f"the package is for python3.12, this machine has {PYTHON}")
    life.refused("/srv/lacks.deb", "the system lacks python3-libgpiod")
    life.refused("/srv/short.deb", "expected a whole Debian package")
    life.refused("/srv/flipped.deb", "expected a whole Debian package")
    life.refused("/srv/flipped.tar", "the sum differs from SHA256SUMS")
    life.refused("/srv/older.deb", f"expected a version newer than 0.1.0+{PY}, got 0.0.9+{PY}")
    life.refused("/srv/other.deb", "expected the package doord")
    life.refused("/srv/none.deb", "can't be read")


def goes_back(life: Life, file: str, why: str, words: str) -> None:
    """An upgrade to something broken: the old version is armed again by itself."""
    since = f"--since=@{time.time():.3f}"
    took, _ = life.do("/srv/doord/upgrade", file, code=1, says=why)
    life.armed("0.1.0")
    life.note(f"upgrade to a version that {words}: the command's time", took)
    said = life.machine.run("journalctl", "--unit", UNIT, since, "--output=short-unix", code=0).stdout
    at = [
        (float(line.split()[0]), line.split(": ", 1)[1]) for line in said.splitlines() if line[:1].isdigit()
    ]
    down = next(when for when, what in at if what.startswith("Stopping "))
    up = [when for when, what in at if what == "armed"][-1]
    life.note("... from the old version's stop to the old version armed again", up - down, BACK_S)
    assert life.machine.run("sh", "-c", "ls /var/lib/doord-upgrade").stdout.split() == ["result.json"]
    assert "doord-upgrade-finish" not in life.machine.run("systemctl", "list-unit-files").stdout


def rolls_back(life: Life) -> None:
    goes_back(life, "/srv/no-import.deb", f"0.1.2+{PY} ", "does not import")
    goes_back(life, "/srv/never-ready.deb", "did not become ready within 30 s", "never becomes ready")
    goes_back(life, "/srv/crashes.deb", f"0.1.4+{PY} ", "is armed, and crashes 5 s later, again and again")
    goes_back(life, "/srv/postinst.deb", "could not be installed", "can't be configured (postinst fails)")
    events = life.machine.run("doord", "log", "verify", code=0).stdout
    goes_back(life, "/srv/format.deb", f"0.1.6+{PY} ", "has another state format, and spoils the state")
    assert life.machine.run("test", "-e", NOT_WRITTEN).returncode == 1
    life.machine.run("doord", "log", "verify", code=0)
    print("   ", events.strip())


def power_goes(life: Life, when: str, seen: str) -> None:
    """A trial of a version that never becomes ready, cut off when a command in the machine sees this."""
    life.machine.run("systemd-run", "--quiet", "/srv/doord/upgrade", "/srv/never-ready.deb", code=0)
    wait_for(lambda: life.machine.run("sh", "-c", seen).returncode == 0, when, 120)
    life.machine.cut_power()


def comes_back(life: Life, when: str) -> None:
    """After it, at the next boot."""
    life.armed("0.1.0")
    took = time.monotonic() - life.booted
    wait_for(
        lambda: life.machine.run("test", "-e", "/var/lib/doord-upgrade/trial.json").returncode, "its end", 90
    )
    life.armed("0.1.0")
    life.note(f"power cut while {when}: from the boot to the old version armed", took, BACK_S)
    audit = life.machine.run("dpkg", "--audit")
    assert (audit.returncode, audit.stdout) == (0, ""), audit


def upgrades(life: Life) -> None:
    process = life.running()[0]
    life.do("systemctl", "disable", "doord.service", code=0)  # by hand, for today: it runs all the same
    strict = ("sh", "-c", "umask 077; PATH=/usr/bin:/bin /srv/doord/upgrade /srv/better.deb")
    took, _ = life.do(*strict, code=0, says=f"doord 0.1.1+{PY} runs")
    life.armed("0.1.1")
    assert life.running()[0] != process
    life.do("systemctl", "enable", "doord.service", code=0)
    life.note("upgrade to a version that works: installed, watched for 8 s", took)
    life.do("/srv/doord/upgrade", "/srv/better.deb", code=0, says="is installed already")
    life.refused(f"/srv/doord/doord_0.1.0+{PY}_amd64.deb", f"expected a version newer than 0.1.1+{PY}")


def goes_and_returns(life: Life) -> None:
    life.do("/srv/doord/uninstall", code=0, says="/etc/doord and /var/lib/doord are still there")
    life.do("/srv/doord/uninstall", code=0, says="is not installed")
    assert life.machine.run("sh", "-c", "find /usr/lib/doord /usr/bin/doord* 2>/dev/null").stdout == ""
    took, _ = life.do("/srv/doord/install", code=0, says="armed: doord 0.1.0")
    life.armed("0.1.0")
    life.note("uninstalled and installed again: armed, the same gallery", took, INSTALL_S)
    life.do("/srv/doord/uninstall", code=0)
    life.do("sh", "-c", "dpkg --install /srv/doord/doord_*.deb >/dev/null", code=0)
    life.armed("0.1.0")
    life.note("uninstalled, and its package installed by dpkg alone: armed", "by itself")
    life.do("rm", "-r", "/usr/lib/doord", code=0)
    life.do("/srv/doord/uninstall", code=0, says="/etc/doord and /var/lib/doord are still there")
    life.do("/srv/doord/install", code=0, says="armed: doord 0.1.0")
    life.note("its files deleted by hand: uninstalled, and installed again", "armed")
    life.do("mkdir", "/var/lib/doord-admin", code=0)
    life.do("sh", "-c", "echo secret | /usr/lib/doord/credentials broker.password -", code=0)
    life.do("/srv/doord/uninstall", "--purge", code=0, says="/var/lib/doord-admin is still there")
    life.do("rmdir", "/var/lib/doord-admin", code=0)
    left = life.machine.run("sh", "-c", "find / -xdev -name '*doord*' -not -path '/srv/*' "
                            "-not -path '/var/log/*' -not -path '/tmp/*'").stdout  # fmt: skip
    assert "credstore" not in left, left
    life.note("left after `uninstall --purge`", left.replace("\n", " ").strip() or "nothing")
    life.do("/srv/doord/install", code=0, says="It starts once it has a configuration")
    assert life.machine.show(UNIT, "ActiveState")["ActiveState"] == "inactive"


CUTS = (
    ("a new version is waited for",
     "dpkg-query -W doord | grep -q 0.1.3 && systemctl is-active doord | grep -q activating"),
    ("dpkg unpacks a new version", "test -e /usr/lib/doord/site-packages/numpy/__init__.py.dpkg-new"),
)  # fmt: skip


def live(life: Life) -> None:
    """All of it, on one disk."""
    with life.boot():
        installs(life)
        refuses(life)
        rolls_back(life)
        power_goes(life, *CUTS[0])
    with life.boot():
        comes_back(life, CUTS[0][0])
        power_goes(life, *CUTS[1])
    with life.boot():
        comes_back(life, CUTS[1][0])
        upgrades(life)
        goes_and_returns(life)


def lay_out(shared: Path) -> None:
    """What a person would carry there, and packages that are broken in one way each."""
    tarball = next((CACHE / "built").glob(f"doord-*-{TARGET}.tar"))
    with tarfile.open(tarball) as archive:
        archive.extractall(shared, filter="data")
    (shared / tarball.stem).rename(shared / "doord")
    base = next((shared / "doord").glob("*.deb"))
    clip(shared / "clip.avi", ["obama2.jpg"])
    shutil.copy(PICTURES / "obama.jpg", shared)
    (shared / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    for name, version, edit in (
        ("better", "0.1.1", None), ("no-import", "0.1.2", does_not_import),
        ("never-ready", "0.1.3", never_ready),
        ("crashes", "0.1.4", crashes_after_ready), ("postinst", "0.1.5", postinst_fails),
    ):  # fmt: skip
        variant(base, shared / f"{name}.deb", version, edit)
    variant(base, shared / "format.deb", "0.1.6", writes_another_format, {"Doord-State-Format": "another"})
    bare = shared / "bare.deb"
    variant(base, bare, "0.2.0", lambda root: shutil.rmtree(root / "usr/lib"))
    variant(bare, shared / "wrong-arch.deb", "0.2.0", None, {"Architecture": "arm64"})
    variant(bare, shared / "wrong-python.deb", "0.2.0", None, {"Depends": "python3.12"})
    variant(bare, shared / "lacks.deb", "0.2.0", None, {"Depends": f"{PYTHON}, python3-libgpiod"})
    variant(bare, shared / "older.deb", "0.0.9")
    variant(bare, shared / "other.deb", "0.2.0", None, {"Package": "door"})
    whole = (shared / "better.deb").read_bytes()
    (shared / "short.deb").write_bytes(whole[: len(whole) // 2])
    (shared / "flipped.deb").write_bytes(flipped(whole))
    (shared / "flipped.tar").write_bytes(flipped(tarball.read_bytes()))
    for path in shared.rglob("*"):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def flipped(data: bytes) -> bytes:
    """One bit of it, in the middle, is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def write_result(path: Path, life: Life, took_s: float) -> None:
    """The figures as a table."""
    where = f"{platform.machine()}, 2 cores with other work beside"
    about = f"{where}; {took_s:.0f} s. `tests/system/packages {SUITE}`"
    write_table(path, f"The package in a fresh {SYSTEM}", about, (row[:3] for row in life.rows))


def main() -> int:
    began = time.monotonic()
    shared = Path(tempfile.mkdtemp(prefix="doord-packages-"))
    shared.chmod(0o755)
    life = Life(shared)
    try:
        lay_out(shared)
        print(f"laid out after {time.monotonic() - began:.0f} s", flush=True)
        live(life)
    finally:
        shutil.rmtree(shared, ignore_errors=True)
    bad = [what for what, _, _, good in life.rows if not good]
    if not bad:
        name = "PACKAGES.md" if SUITE == "bookworm" else f"PACKAGES-{SUITE}.md"
        write_result(HERE / name, life, time.monotonic() - began)
    print(f"{len(bad)} figures too high; {time.monotonic() - began:.0f} s")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
