"""What doctor says of the lines, and of what config.txt makes of the relay's before Linux."""

from __future__ import annotations

import pytest

from edge.config import Config, DoorConfig, ReadersConfig, RelayConfig, WiegandConfig
from edge.tools import boot, doctor

DOOR = Config("hq", "front", DoorConfig(RelayConfig(17)))


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
        monkeypatch.setattr(doctor, "chip_label", lambda path: label)
        return tmp_path

    return make


def test_a_pi_without_the_line_is_told_which_to_add(pi):
    root = pi()
    (root / "boot/firmware/config.txt").write_text("arm_64bit=1\n")
    found = doctor._boot(DOOR, root)
    assert (found.part, found.verdict) == ("boot", "warn")
    assert found.detail == (
        f"{root}/boot/firmware/config.txt: expected `gpio=17=op,dl` under [all], got: none"
    )


def test_a_relay_that_unlocks_low_is_kept_high(pi):
    root = pi()
    config = Config("hq", "front", DoorConfig(RelayConfig(17, active="low")))
    (root / "boot/config.txt").write_text("gpio=17=op,dl\n")
    assert "expected `gpio=17=op,dh`" in doctor._boot(config, root).detail
    (root / "boot/config.txt").write_text("gpio=17=op,dh\n")
    found = doctor._boot(config, root)
    assert (found.verdict, found.detail) == (
        "ok",
        f"{root}/boot/config.txt: drives GPIO17 to locked before Linux runs",
    )


def test_a_pi_whose_config_txt_is_not_found_is_said(pi):
    found = doctor._boot(DOOR, pi())
    assert (found.verdict, "got none" in found.detail) == ("warn", True)


def test_a_relay_on_an_expander_is_not_the_firmwares(pi):
    root = pi(label="mcp23017")
    (root / "boot/config.txt").write_text("gpio=17=op,dl\n")
    found = doctor._boot(DOOR, root)
    assert (found.verdict, "only its wiring" in found.detail) == ("warn", True)


def test_the_readers_lines_stand_beside_the_doors():
    readers = ReadersConfig(wiegand=WiegandConfig(5, "name:D1", "label:expander"))
    found = doctor._lines(
        Config("hq", "front", DoorConfig(RelayConfig(17)), simulation=True, readers=readers)
    )
    assert found.detail == (
        "door.relay /dev/gpiochip0 17, readers.wiegand.data0 label:expander 5, "
        "readers.wiegand.data1 label:expander name:D1; the relay unlocks high (mock)"
    )


def test_elsewhere_nothing_is_judged(pi, tmp_path):
    assert doctor._boot(DOOR, tmp_path).verdict == "ok"
    root = pi(model="NVIDIA Jetson Orin Nano Developer Kit\0")
    found = doctor._boot(DOOR, root)
    assert (found.verdict, "not judged" in found.detail) == ("ok", True)
