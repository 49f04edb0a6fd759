"""The shipped units, read by systemd itself: no word it does not know, no exposure above the limit."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.process import _CLAIM_S

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNITS = sorted(p.name for p in SYSTEMD.glob("*.service")) + sorted(p.name for p in SYSTEMD.glob("*.timer"))
SERVICES = [name for name in UNITS if name.endswith(".service")]
MOST_EXPOSED = 1.5

pytestmark = [
    pytest.mark.skipif(not SYSTEMD.is_dir(), reason="needs the repository"),
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"),
]


def settings(name: str) -> list[tuple[str, str]]:
    """Every `key=value` of a unit, in order."""
    lines = (SYSTEMD / name).read_text().splitlines()
    return [
        (key, value) for key, eq, value in (line.partition("=") for line in lines if line[:1] != "#") if eq
    ]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def verified(folder: Path, edit=lambda text: text) -> str:
    """What `systemd-analyze verify` says of all units; doord is not installed here, /bin/true is."""
    for name in UNITS:
        text = re.sub(r"/usr/(bin|lib)/doord[a-z/-]*", shutil.which("true"), (SYSTEMD / name).read_text())
        (folder / name).write_text(edit(text))
    done = analyze("verify", "--man=no", *(str(folder / name) for name in UNITS))
    return done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


def test_systemd_has_nothing_to_say_about_the_units(tmp_path):
    assert verified(tmp_path) == ""


def test_a_word_that_systemd_does_not_know_would_be_found(tmp_path):
    assert "WachdogSec" in verified(tmp_path, lambda text: text.replace("WatchdogSec", "WachdogSec"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardly_exposed(name):
    done = analyze("security", "--offline=true", str(SYSTEMD / name))
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert float(exposure) <= MOST_EXPOSED, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_directive_that_is_left_out_is_explained(name):
    """systemd's own list of what could still be taken away, each named in the file; ✗ marks those."""
    done = analyze("security", "--offline=true", str(SYSTEMD / name))
    text = (SYSTEMD / name).read_text()
    left_out = {re.match(r"[A-Za-z]+", row[2:]).group() for row in done.stdout.splitlines() if row[:1] == "✗"}
    assert left_out, "systemd-analyze's table has changed"
    assert {directive for directive in left_out if directive not in text} == set()


def test_nothing_hides_cpuinfo_and_nothing_leaves_a_door_dead():
    for name in SERVICES:
        assert ("ProcSubset", "pid") not in settings(name)
    door = settings("doord.service")
    assert {("StartLimitIntervalSec", "0"), ("Restart", "always"), ("Type", "notify")} <= set(door)
    assert ("ExecStopPost", "/usr/bin/doord-lock") in door


def test_a_line_that_never_comes_costs_few_starts_and_is_waited_for_within_the_limit_of_one():
    door = dict(settings("doord.service"))
    assert 20 <= _CLAIM_S <= float(door["TimeoutStartSec"]) / 2  # the rest is for models on a slow board
    assert "69" not in door["RestartPreventExitStatus"].split()


def test_the_services_that_wait_for_a_broker_are_watched():
    for name in ("doord-collect.service", "doord-bridge.service"):
        assert {("Type", "notify"), ("Restart", "always"), ("WatchdogSec", "60")} <= set(settings(name))


def test_what_was_signed_again_but_not_taken_by_the_broker_is_tried_before_tomorrow():
    assert {("Restart", "on-failure"), ("RestartSec", "1h")} <= set(settings("doord-admin-refresh.service"))


def test_a_door_opens_its_own_kinds_of_devices_and_no_others():
    door = settings("doord.service")
    allowed = [value.split()[0] for key, value in door if key == "DeviceAllow"]
    assert allowed == ["char-gpiochip", "char-video4linux", "char-input"]
    assert ("DevicePolicy", "closed") in door


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_the_doors_user_and_its_groups_are_made_where_there_are_none(tmp_path):
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(SYSTEMD / "doord.sysusers")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    assert {name for name, rest in groups.items() if rest.endswith(":doord")} == {"video", "input", "gpio"}
    assert "doord:" in (tmp_path / "etc/passwd").read_text()


def test_the_drop_in_for_a_gpu_is_understood_and_says_what_it_exposes(tmp_path):
    told = (SYSTEMD / "doord-gpu.conf").read_text()
    unit = re.sub(
        r"/usr/(bin|lib)/doord[a-z/-]*", shutil.which("true"), (SYSTEMD / "doord.service").read_text()
    )
    (tmp_path / "doord.service").write_text(f"{unit}\n{told}")
    assert analyze("verify", "--man=no", str(tmp_path / "doord.service")).stderr == ""
    done = analyze("security", "--offline=true", str(tmp_path / "doord.service"))
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert f"rates the service {exposure} " in told


@pytest.mark.parametrize("name", ["csi-raspberry-pi.conf", "csi-jetson.conf"])
def test_a_camera_of_the_boards_own_opens_little_more(name, tmp_path):
    """The drop-ins are read by systemd without a word, and leave the unit hardly more exposed."""
    unit = re.sub(
        r"/usr/(bin|lib)/doord[a-z/-]*", shutil.which("true"), (SYSTEMD / "doord.service").read_text()
    )
    (tmp_path / "doord.service").write_text(unit)
    (tmp_path / "doord.service.d").mkdir()
    (tmp_path / "doord.service.d" / name).write_text((SYSTEMD / name).read_text())
    done = analyze("verify", "--man=no", str(tmp_path / "doord.service"))
    assert (done.stderr, done.returncode) == ("", 0)
    merged = unit + "\n[Service]\n" + (SYSTEMD / name).read_text().split("[Service]")[1]
    (tmp_path / "merged.service").write_text(merged)
    done = analyze("security", "--offline=true", str(tmp_path / "merged.service"))
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert float(exposure) <= MOST_EXPOSED + 0.2, done.stdout


def test_a_decoder_may_shut_itself_in():
    filters = [value for key, value in settings("doord.service") if key == "SystemCallFilter"]
    calls = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    assert any(calls <= set(value.split()) for value in filters)
    assert ("OOMPolicy", "continue") in settings("doord.service")
