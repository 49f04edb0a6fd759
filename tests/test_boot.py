"""What doctor says of the lines, and of what config.txt makes of the relay's before Linux."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import Config, DoorConfig, ReadersConfig, RelayConfig, WiegandConfig
from edge.tools.doctor import boot, door
from edge.tools.doctor.host import Host
from edge.tools.doctor.patient import Patient

DOOR = Config("hq", "front", DoorConfig(RelayConfig(17)))


def before_linux(config, root):
    return door.before_linux(Patient(config, Path("/etc/doord/config.yaml"), Host(root)))


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        ("gpio=17=op,dl", 0),
        ("gpio=17=op,dh", 1),
        ("# relay\n[all]\ngpio=17=op,dl,pd # fail-secure\n", 0),
        ("gpio=4,16-18=op\ngpio=17=dl", 0),
        ("gpio=17=op,dh\ngpio=17=dl", 0),
        ("[pi4]\narm_boost=1\n[all]\ngpio=17=op,dl", 0),
        ("gpio=17 = op, dl", 0),
    ],
)
def test_a_line_that_is_driven_to_locked_is_found(text, locked):
    assert boot.shortcoming(text, 17, locked) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "none"),
        ("gpio=18=op,dl", "none"),
        ("#gpio=17=op,dl", "none"),
        ("gpio=117=op,dl\ngpio=1-7=op,dl", "none"),
        ("gpio=17=op,dh", "it is driven to unlocked there"),
        ("gpio=17=op,dl\ngpio=0-27=dh", "it is driven to unlocked there"),
        ("gpio=17=op", "an output without dl or dh"),
        ("gpio=17=dl", "it is no output there (no op)"),
        ("gpio=17=op,dl\ngpio=17=a2", "it is no output there (a2)"),
        ("gpio=17=ip,pd", "it is no output there (ip)"),
        ("[pi5]\ngpio=17=op,dl", "a gpio= line under [pi5], which may not hold here"),
        ("gpio=17=op,dl\n[pi5]\ngpio=17=dh", "a gpio= line under [pi5], which may not hold here"),
    ],
)
def test_what_is_wrong_is_said(text, says):
    assert boot.shortcoming(text, 17, 0) == says


@pytest.fixture
def pi(tmp_path, monkeypatch):
    """A Raspberry Pi in a folder; `label`: of the relay's chip."""

    def make(label: str = "pinctrl-bcm2711", model: str = "Raspberry Pi 4 Model B Rev 1.4\0"):
        (tmp_path / "proc/device-tree").mkdir(parents=True)
        (tmp_path / "proc/device-tree/model").write_text(model)
        (tmp_path / "boot/firmware").mkdir(parents=True)
        monkeypatch.setattr(door, "chip_label", lambda path: label)
        return tmp_path

    return make


def test_a_pi_without_the_line_is_told_which_to_add(pi):
    root = pi()
    (root / "boot/firmware/config.txt").write_text("arm_64bit=1\n")
    found = before_linux(DOOR, root)
    assert found.verdict == "warn"
    assert found.cure.startswith("add the line gpio=17=op,dl to ")
    assert found.detail == (
        f"{root}/boot/firmware/config.txt: expected `gpio=17=op,dl` under [all], got: none"
    )


def test_a_relay_that_unlocks_low_is_kept_high(pi):
    root = pi()
    config = Config("hq", "front", DoorConfig(RelayConfig(17, active="low")))
    (root / "boot/config.txt").write_text("gpio=17=op,dl\n")
    assert "expected `gpio=17=op,dh`" in before_linux(config, root).detail
    (root / "boot/config.txt").write_text("gpio=17=op,dh\n")
    found = before_linux(config, root)
    assert (found.verdict, found.detail) == (
        "ok",
        f"{root}/boot/config.txt: drives GPIO17 to locked before Linux runs",
    )


def test_a_pi_whose_config_txt_is_not_found_is_said(pi):
    found = before_linux(DOOR, pi())
    assert (found.verdict, "got none" in found.detail) == ("warn", True)


def test_a_relay_on_an_expander_is_not_the_firmwares(pi):
    root = pi(label="mcp23017")
    (root / "boot/config.txt").write_text("gpio=17=op,dl\n")
    found = before_linux(DOOR, root)
    assert (found.verdict, "only its wiring" in found.detail) == ("warn", True)


def test_the_readers_lines_stand_beside_the_doors():
    readers = ReadersConfig(wiegand=WiegandConfig(5, "name:D1", "label:expander"))
    config = Config("hq", "front", DoorConfig(RelayConfig(17)), simulation=True, readers=readers)
    found = door.lines(Patient(config, Path("config.yaml")))
    assert found.detail == (
        "door.relay /dev/gpiochip0 17, readers.wiegand.data0 label:expander 5, "
        "readers.wiegand.data1 label:expander name:D1; the relay unlocks high (mock)"
    )


def test_elsewhere_nothing_is_judged(pi, tmp_path):
    assert before_linux(DOOR, tmp_path).verdict == "note"
    root = pi(model="NVIDIA Jetson Orin Nano Developer Kit\0")
    found = before_linux(DOOR, root)
    assert (found.verdict, "not judged" in found.detail) == ("note", True)
