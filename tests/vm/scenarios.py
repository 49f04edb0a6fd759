"""Boots the guest and runs every scenario; prints the table and writes it to RESULT.md.

`--only NAME` runs some of them, and then writes no RESULT.md.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

from ledger_cuts import Judge, disk_figure, wrong_on_disk
from machine import READY, Machine, VmError, code_disk, running
from power_cuts import Life, differing, last_or_next, live, stall
from rows import Row, table
from unit_life import Unit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRIPTS = "/opt/code/tests/vm/guest"
PYTHON = (
    "env",
    f"PYTHONPATH=/opt/code:/opt/code/tests:{SCRIPTS}",
    "DOORD_TEST_GPIOCHIP=/dev/gpiochip0",
    "python3",
)
KILLS = 100
CUTS = 20
FRAMES = 100
RELEASES = 400  # more than a whole run takes
STATE = ("config", "gallery", "cards", "failures", "lockdown")
COUNTS = ("counter", "starts")


class Guest:
    """Where this run's machines live, and how to start one."""

    def __init__(self, image: Path, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.image, self.folder = image, folder
        self.kernel = (image / "kernel").read_text().strip()
        self._disk, self._code = folder / "disk.qcow2", folder / "code.raw"
        code_disk(self._code, ROOT, ("edge", "systemd", "tests", "pyproject.toml"))
        backing = ("-F", "qcow2", "-b", str((image / "root.qcow2").resolve()))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self._disk)], check=True)

    def machine(
        self, state: str | None, steady: bool = False, more: Sequence[str] = ()
    ) -> AbstractContextManager[Machine]:
        """A machine for a `with` block: from a kept state, or by a boot (None). `more`: see Machine."""
        return running(self.image, self._disk, self.folder, self._code, state, steady, more)


def script(machine: Machine, name: str, *arguments: str, timeout_s: float) -> dict:
    """Run a script of guest/; the JSON object it prints last."""
    done = machine.run(*PYTHON, f"{SCRIPTS}/{name}", *arguments, timeout_s=timeout_s)
    return json.loads(done.out.splitlines()[-1])


def prepare(guest: Guest) -> Row:
    """The first boot: the code goes in, the state is kept for what needs no boot of its own."""
    began = time.monotonic()
    with guest.machine(None) as machine:
        took = time.monotonic() - began
        machine.run("python3", "-c", (HERE / "guest/prepare.py").read_text())
        machine.keep(READY)
        kernel = machine.run("python3", "-c", "import os; print(os.uname().release)").out.strip()
    figure = f"{kernel}, {took:.0f} s"
    return Row("systemd boots, gpio-sim loads", f"kernel {guest.kernel}", figure, kernel == guest.kernel)


def contract(guest: Guest) -> list[Row]:
    """The lines' contract suite on the kernel's chip, and what only such a chip can show."""
    return [
        _suite(
            guest,
            "relay's contract suite on fake, mock and the kernel's chip, active high and low",
            "test_gpio.py",
        ),
        _suite(guest, "contacts, button, lamp, sounder on the same", "test_lines.py"),
        _suite(guest, "a Wiegand reader's lines on simulated, faked and the kernel's chip", "test_edges.py"),
        _suite(guest, "gpiozero's pins over gpiod, faked and the kernel's chip", "test_gpiod_pins.py"),
        _suite(
            guest,
            "held line, unplugged chip, killed holder, close, active high and low",
            "vm/guest/chip_cases.py",
        ),
        _suite(
            guest,
            "door's thread: button and contact that bounce, chip that goes, active high and low",
            "vm/guest/door_cases.py",
        ),
    ]


def _suite(guest: Guest, what: str, path: str) -> Row:
    pytest = (
        "-m",
        "pytest",
        "--noconftest",
        "--rootdir=/opt/code",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "fakes_gpiod",  # for its fixture: conftest.py wants the models
    )
    with guest.machine(READY) as machine:
        done = machine.run(*PYTHON, *pytest, f"/opt/code/tests/{path}", timeout_s=300, check=False)
    if done.code != 0:
        print(done.out[-6000:], done.err[-2000:])
    last = (done.out.strip().splitlines() or ["nothing ran"])[-1]
    return Row(what, "all pass", re.sub(r" in [\d.]+s.*", "", last), done.code == 0)


def kills(guest: Guest) -> list[Row]:
    """SIGKILL during a pulse, on a chip whose freed lines keep their level."""
    rows = []
    for active in ("high", "low"):
        with guest.machine(READY) as machine:
            seen = script(machine, "kills.py", active, "5", "3", "without", timeout_s=200)
        figure = f"{seen['unlocked']} of {seen['hits']} unlocked after 3 s"
        what = f"SIGKILL during a pulse without ExecStopPost, active {active}"
        rows.append(Row(what, "5 of 5 stay unlocked", figure, seen["unlocked"] == seen["hits"] == 5))
    for active in ("high", "low"):
        with guest.machine(READY) as machine:
            seen = script(machine, "kills.py", active, str(KILLS // 2), "1", timeout_s=900)
        figure = f"{seen['unlocked']} of {seen['hits']} unlocked ({seen['kills']} kills at random instants)"
        if seen["median_s"]:
            figure += f"; locked after {seen['median_s']:.2f} s (median), {seen['longest_s']:.2f} s (longest)"
        what = f"the same with the shipped unit, active {active}"
        right = seen["unlocked"] == 0 and seen["hits"] == KILLS // 2
        rows.append(Row(what, f"0 of {KILLS // 2} unlocked after 1 s", figure, right))
    return rows


def cuts(guest: Guest) -> list[Row]:
    """Power cuts of the whole machine; behind each a boot from the same disk, of which nothing is kept."""
    with guest.machine(READY) as machine:  # nothing of an earlier scenario is on the disk then
        machine.run(*PYTHON, "-c", "import pulser; pulser.start_at_boot('/dev/ttyS2')")
    lives = live(lambda: guest.machine(None), CUTS, (0.3, 3))
    unlocked = sum({life.start["level"], *life.start["driven"]} != {life.start["locked"]} for life in lives)
    wrong = differing(lives, STATE, _whole)
    writes = sum(life.finished(key) for life in lives for key in STATE)
    figure = f"{len(wrong)} of {len(STATE) * CUTS} wrong, {writes} writes finished"
    return [
        Row(
            f"{CUTS} power cuts during pulses and writes, a boot behind each; active high, low in turn",
            "starts locked",
            f"{unlocked} of {CUTS} were not locked from the claim on",
            unlocked == 0,
        ),
        Row(
            "configuration, gallery, cards, failed attempts, lockdown behind each cut",
            "whole, nothing finished is lost",
            "; ".join([figure, *wrong]),
            not wrong and writes > CUTS,
        ),
    ]


def _whole(key: str, done: int | None, found: int) -> bool:
    if key == "lockdown":
        return done is None or found == done
    return last_or_next(key, done, found)


def site(guest: Guest) -> list[Row]:
    """Power cuts while a joined door takes one release of its site after the other."""
    with guest.machine(READY) as machine:
        machine.run(*PYTHON, f"{SCRIPTS}/releases.py", str(RELEASES), timeout_s=900)
        machine.run(*PYTHON, "-c", "import syncer; syncer.start_at_boot('/dev/ttyS2')")
    lives = live(lambda: guest.machine(None), CUTS, (0, 3))
    offered = [life.start["took_older"] for life in lives if life.start["site"] > 1]
    lost = differing(lives, COUNTS)
    counted = sum(life.finished(key) for life in lives for key in COUNTS)
    return [
        _releases_row(lives),
        Row(
            "the release before it, offered behind each boot",
            "refused",
            f"{sum(offered)} of {len(offered)} taken",
            not any(offered) and len(offered) > CUTS // 2,
        ),
        Row(
            "counter of commands, count of starts behind each cut",
            "nothing finished is lost",
            "; ".join([f"{len(lost)} of {len(COUNTS) * CUTS} wrong, {counted} writes finished", *lost]),
            not lost and counted > CUTS,
        ),
    ]


def _releases_row(lives: list[Life]) -> Row:
    wrong = differing(lives, ("site",))
    faults = {life.start["why"] for life in lives if life.start["why"]}
    faults |= {fact["refused"] for life in lives for fact in life.said if "refused" in fact}
    updates = sum(life.finished("site") for life in lives)
    hit = [  # whether the cut left the new release, for each update that was cut
        after.start["site"] > before.left()["site"]
        for before, after in itertools.pairwise(lives)
        if before.left().get("begun", 0) > before.left()["site"]
    ]
    figure = (
        f"{len(wrong)} of {CUTS} wrong; {len(hit)} cut within an update: {hit.count(False)} left the old "
        f"release, {hit.count(True)} the new; {updates} updates finished"
    )
    return Row(
        f"{CUTS} power cuts while a joined door updates, a boot behind each",
        "the old release or the new, whole; none that was in force is lost",
        "; ".join([figure, *wrong, *sorted(faults)]),
        not wrong and not faults and updates > CUTS and len(hit) >= CUTS // 2,
    )


def ledger(guest: Guest) -> list[Row]:
    """Power cuts while events are recorded and sent under load."""
    with guest.machine(READY) as machine:
        machine.run(*PYTHON, "-c", "import recording; recording.start_at_boot('/dev/ttyS2')")
    judge = Judge(live(lambda: guest.machine(None), CUTS, (0.5, 6), stall))
    counts = judge.counts
    figure = (
        f"{len(judge.wrong)} wrong; {counts['records']} records, {counts['kept']} grants acknowledged, "
        f"{counts['sent']} sent, {counts['prunes']} prunes; {counts['late']} asked without the disk after "
        f"200 ms, of which {counts['late_missing']} are missing; longest wait of a grant "
        f"{judge.longest_ms} ms, of an exit button {judge.longest_exit_ms} ms"
    )
    return [
        Row(
            f"{CUTS} power cuts while a door records and sends under load, a boot behind each",
            "nothing acknowledged or sent is missing, chain whole, no number twice",
            "; ".join([figure, *judge.wrong[:5]]),
            not judge.wrong and counts["kept"] > 20 * CUTS and counts["prunes"] > 0 and counts["late"] > 0,
        ),
    ]


def disk(guest: Guest) -> list[Row]:
    """A door whose disk hangs, is full, or read-only: what it did meanwhile, and what its record says."""
    with guest.machine(READY) as machine:
        cases = script(machine, "disk_cases.py", timeout_s=400)
    return [
        Row(
            f"a card, a stranger's, the exit button at a door whose disk {case['case']}; its record behind",
            "rights work, each loss is counted, told in the chain, told once in the log",
            "; ".join([disk_figure(case), *wrong_on_disk(case)]),
            not wrong_on_disk(case),
        )
        for case in cases
    ]


def frames(guest: Guest) -> list[Row]:
    """Wiegand frames, edge by edge, into the door's reader; a millisecond must be one."""
    with guest.machine(None, steady=True) as machine:
        seen = script(machine, "frames.py", str(FRAMES), timeout_s=400)
    figure = "{frames} frames, {lost} lost, {wrong} wrong, in order: {in_order} ({uneven} unevenly sent)"
    return [
        Row(
            "Wiegand 26/34/37 at 1 ms on two lines",
            f"0 of {FRAMES} lost",
            figure.format(**seen),
            seen["frames"] == FRAMES and not seen["lost"] and not seen["wrong"] and seen["in_order"],
        )
    ]


def unit(guest: Guest) -> list[Row]:
    """The package on a fresh system: installed, booted, used, broken, cut off."""
    fresh = Guest(guest.image, guest.folder / "unit")
    return Unit(lambda more: fresh.machine(None, more=more), fresh.folder).rows()


@contextlib.contextmanager
def busy_host() -> Iterator[None]:
    """Every core of this machine burns for the block's time."""
    burn = [sys.executable, "-c", "while 1: pass"]
    burners = [subprocess.Popen(burn) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def busy(guest: Guest) -> list[Row]:
    """The same in the ordinary guest while every core of the host burns: what counts is each edge."""
    with busy_host(), guest.machine(READY) as machine:
        seen = script(machine, "frames.py", str(FRAMES), timeout_s=1200)
    figure = "{edges_lost} of {edges} edges lost; of {frames} frames sent evenly {lost} lost; {wrong} wrong"
    return [
        Row(
            "Wiegand frames beside a host whose every core burns",
            "no edge lost",
            figure.format(**seen),
            seen["edges_right"] and not seen["lost"] and not seen["wrong"],
        )
    ]


SCENARIOS: dict[str, Callable[[Guest], list[Row]]] = {
    "contract": contract,
    "kills": kills,
    "cuts": cuts,
    "site": site,
    "ledger": ledger,
    "disk": disk,
    "unit": unit,
    "frames": frames,
    "busy": busy,
}


def run(guest: Guest, names: list[str]) -> list[Row]:
    """Every row of these scenarios; one that breaks off is a row that failed."""
    rows = [prepare(guest)]
    for name in names:
        print(f"== {name}", flush=True)
        try:
            found = SCENARIOS[name](guest)
        except VmError as error:
            found = [Row(name, "runs to its end", str(error).replace("\n", " ")[-400:], False)]
        print(table(found), flush=True)
        rows += found
    return rows


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="tests/vm/run", description=__doc__)
    parser.add_argument("--guest", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=SCENARIOS, action="append")
    options = parser.parse_args()
    began = time.monotonic()
    guest = Guest(options.guest, options.guest.parent / "run")
    rows = run(guest, options.only or list(SCENARIOS))
    minutes = (time.monotonic() - began) / 60
    version = subprocess.run(
        ["qemu-system-x86_64", "--version"], capture_output=True, text=True
    ).stdout.split()[3]
    head = (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, Linux {guest.kernel}, QEMU {version} (software emulation, "
        f"2 virtual CPUs), {minutes:.0f} minutes."
    )
    result = f"{head}\n\n{table(rows)}\n"
    if not options.only:
        (HERE / "RESULT.md").write_text(f"# Last result of tests/vm/run\n\n{result}")
    passed = sum(row.right for row in rows)
    print(f"\n{result}\n{passed} passed, {len(rows) - passed} failed")
    return int(passed != len(rows))


if __name__ == "__main__":
    sys.exit(main())
