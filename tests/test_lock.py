"""doord-lock: the kernel's structures byte for byte, and a command that needs nothing but Python."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes_kernel import ChipInfo, Kernel, LineInfo, LineRequest

from edge import gpio_uapi, lock
from edge.door import chips
from edge.door.gpio import claim_relay
from edge.door_config import RelayConfig


@pytest.mark.parametrize("level", [0, 1])
def test_the_request_is_the_kernels_byte_for_byte(level):
    wanted = LineRequest(consumer=b"doord-lock", num_lines=1)
    wanted.offsets[0] = 17
    wanted.config.flags = 1 << 3  # GPIO_V2_LINE_FLAG_OUTPUT
    wanted.config.num_attrs = 1
    wanted.config.attrs[0].attr.id = 2  # GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES
    wanted.config.attrs[0].attr.values = level
    wanted.config.attrs[0].mask = 1
    assert gpio_uapi.output_request(17, level, "doord-lock") == bytes(wanted)


def test_the_ioctls_have_the_kernels_numbers():
    structures = (ChipInfo, LineRequest, LineInfo)
    assert [ctypes.sizeof(structure) for structure in structures] == [68, 592, 256]
    numbers = (gpio_uapi.GET_CHIPINFO, gpio_uapi.GET_LINEINFO, gpio_uapi.GET_LINE)
    assert numbers == (0x8044B401, 0xC100B405, 0xC250B407)


HEADER = """
#include <linux/gpio.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    struct gpio_v2_line_request r;
    memset(&r, 0, sizeof r);
    r.offsets[0] = 17; strcpy(r.consumer, "doord-lock"); r.num_lines = 1;
    r.config.flags = GPIO_V2_LINE_FLAG_OUTPUT; r.config.num_attrs = 1;
    r.config.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES;
    r.config.attrs[0].attr.values = 1; r.config.attrs[0].mask = 1;
    unsigned long n[3] = {GPIO_GET_CHIPINFO_IOCTL, GPIO_V2_GET_LINEINFO_IOCTL, GPIO_V2_GET_LINE_IOCTL};
    fwrite(n, sizeof n, 1, stdout);
    fwrite(&r, sizeof r, 1, stdout);
    return 0;
}
"""
_CAN_COMPILE = shutil.which("cc") and Path("/usr/include/linux/gpio.h").exists()


@pytest.mark.skipif(not _CAN_COMPILE, reason="no C compiler or no linux/gpio.h here")
def test_a_c_compiler_makes_the_same_of_the_kernels_header(tmp_path):
    (tmp_path / "request.c").write_text(HEADER)
    subprocess.run(["cc", "-o", tmp_path / "request", tmp_path / "request.c"], check=True, timeout=60)
    made = subprocess.run([tmp_path / "request"], capture_output=True, check=True, timeout=10).stdout
    size = ctypes.sizeof(ctypes.c_ulong)
    numbers = [int.from_bytes(made[i * size : (i + 1) * size], sys.byteorder) for i in range(3)]
    assert numbers == [gpio_uapi.GET_CHIPINFO, gpio_uapi.GET_LINEINFO, gpio_uapi.GET_LINE]
    assert made[3 * size :] == gpio_uapi.output_request(17, 1, "doord-lock")


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    """The ioctl alone is faked: the device is a file that can be opened."""
    kernel = Kernel()
    monkeypatch.setattr(gpio_uapi.fcntl, "ioctl", kernel.ioctl)
    return kernel


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run("…") calls doord-lock with a file of that content; the exit code."""
    monkeypatch.setattr(lock.signal, "setitimer", lambda *_: None)  # it would end the test run
    monkeypatch.setattr(lock, "_BUSY_S", 0.2)

    def call(content: str | None) -> int:
        path = tmp_path / "lines"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(sys, "argv", ["doord-lock", str(path)])
        return lock.main()

    return call


def test_each_line_of_the_file_is_driven_to_its_locked_level(kernel, run):
    assert run("/dev/null 17 0\n/dev/null 4 1\n") == 0
    assert kernel.requests == [(17, 0), (4, 1)]


def test_no_file_means_that_no_line_was_claimed(kernel, run):
    assert run(None) == 0
    assert kernel.requests == []


def test_a_line_that_is_still_held_is_tried_again(kernel, run):
    kernel.busy = 3
    assert run("/dev/null 17 0\n") == 0
    assert kernel.requests == [(17, 0)]


def test_a_line_that_stays_held_is_said_and_the_others_are_locked(kernel, run, capsys):
    kernel.busy = 10**6
    assert run("/dev/null 17 0\n/dev/no-such-chip 1 0\n") == 1
    said = capsys.readouterr().err
    assert "/dev/null line 17: can't be driven to 0" in said
    assert "/dev/no-such-chip line 1: can't be driven to 0" in said


@pytest.mark.parametrize(
    "spoilt", ["", "nonsense", "/dev/null 17 2", "/dev/null -1 0", "/dev/null x 1", "é 1 0"]
)
def test_a_spoilt_line_keeps_no_other_from_being_locked(kernel, run, spoilt, capsys):
    assert run(f"{spoilt}\n/dev/null 17 0\n") == 1
    assert kernel.requests == [(17, 0)]
    assert capsys.readouterr().err.count("\n") == 2


def test_it_starts_with_nothing_but_the_standard_library(tmp_path):
    """-S: no site-packages; what it imports of doord's is itself."""
    (tmp_path / "edge").mkdir()
    for name in ("lock.py", "gpio_uapi.py"):
        shutil.copy(Path(lock.__file__).parent / name, tmp_path / "edge")
    (tmp_path / "edge" / "__init__.py").write_text("")
    (tmp_path / "lines").write_text("/dev/null 17 0\n")
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-m", "edge.lock", str(tmp_path / "lines")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, "can't be driven" in done.stderr) == (1, True), "/dev/null is no chip"
    assert "Inappropriate ioctl" in done.stderr


def test_a_driver_that_hangs_does_not_hold_it_up(tmp_path):
    (tmp_path / "lines").write_text("/dev/gpiochip0 17 0\n")
    code = (
        "import os, sys, time; from edge import lock, gpio_uapi\n"
        "gpio_uapi.drive = lambda *_: time.sleep(60)\n"
        "sys.exit(lock.main())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lines")], timeout=20)
    assert done.returncode < 0, "ended by its own alarm"


# The same calls find chips and lines for the daemon


@pytest.fixture
def dev(monkeypatch, tmp_path) -> Path:
    (tmp_path / "gpiochip0").touch()
    monkeypatch.setattr(chips, "_DEV", tmp_path)
    return tmp_path


def test_a_chip_is_found_by_its_label_and_a_line_by_its_name(kernel, dev):
    assert chips.chip_path("label:pinctrl-rp1") == str(dev / "gpiochip0")
    assert chips.line_offset(str(dev / "gpiochip0"), "RELAY") == 1


def test_no_or_two_chips_of_a_label_are_refused_with_those_there_are(kernel, dev):
    with pytest.raises(chips.LineError, match=r"label:x: expected one chip .* got 0 of .*'pinctrl-rp1'"):
        chips.chip_path("label:x")
    (dev / "gpiochip1").touch()
    with pytest.raises(chips.LineError, match="got 2 of"):
        chips.chip_path("label:pinctrl-rp1")


def test_no_or_two_lines_of_a_name_are_refused(kernel, dev):
    with pytest.raises(chips.LineError, match="expected one line named LOCK, got 0"):
        chips.line_offset(str(dev / "gpiochip0"), "LOCK")
    with pytest.raises(chips.LineError, match="got 2"):
        chips.line_offset(str(dev / "gpiochip0"), "")


def test_where_there_is_no_chip_that_is_said(dev):
    (dev / "gpiochip0").unlink()
    with pytest.raises(chips.LineError, match="no GPIO chip at all"):
        claim_relay(RelayConfig(17, chip="label:pinctrl-rp1"), simulation=False)
    with pytest.raises(chips.LineError, match="user or group may open"):
        chips.line_offset("/dev/no-such-chip", "RELAY")
