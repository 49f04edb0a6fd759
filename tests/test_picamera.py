"""CSI cameras: doord's own child with full siblings of picamera2 and of an OpenCV with GStreamer."""

import sys
from pathlib import Path

import numpy as np
import pytest
from children import python_with

from edge.config import CameraConfig
from edge.errors import CameraError
from edge.vision.camera import open_camera
from edge.vision.decoder import SensorClock

SIBLINGS = Path(__file__).parent / "siblings"
REAL_PYTHON = "/usr/bin/python3"


@pytest.fixture
def system_python(tmp_path, monkeypatch):
    """system_python(name): the child's interpreter finds the sibling of that name first."""

    def choose(name):
        python = python_with(SIBLINGS / name, tmp_path / "python")
        monkeypatch.setattr("edge.vision.decoded.SYSTEM_PYTHON", str(python))

    return choose


def frames(source, count=3, **options):
    camera = open_camera(CameraConfig(source=source, **options))
    try:
        return [camera.read() for _ in range(count)]
    finally:
        camera.close()


def refusal(source):
    with pytest.raises(CameraError) as refused:
        frames(source)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_frames_are_rgb_of_the_configured_size_stamped_by_the_sensor(system_python):
    system_python("picamera2_works")
    shown = frames("picamera2:1", width=320, height=240, fps=25)
    assert {frame.pixels.shape for frame in shown} == {(240, 320, 3)}
    assert shown[0].pixels[0, 0].tolist() == [10, 20, 30]  # R, G, B
    apart = np.diff([frame.taken_at for frame in shown])
    assert np.allclose(apart / 0.04, np.round(apart / 0.04), atol=1e-3)  # the sensor's steps, not ours


@pytest.mark.parametrize(
    ("sibling", "source", "says"),
    [
        ("picamera2_none", "picamera2", "picamera2: expected camera 0, got 0 cameras: look at its cable and"),
        ("picamera2_works", "picamera2:2", "picamera2:2: expected camera 2, got 2 cameras"),
        ("picamera2_refuses", "picamera2", "picamera2: expected a free camera, got a busy one"),
        (
            "picamera2_refuses",
            "picamera2:1",
            "picamera2:1: expected a camera that starts, got: Frontend has timed",
        ),
        (
            "picamera2_dies",
            "picamera2",
            "picamera2: expected more frames, got the end of the decoder (signal 6)",
        ),
        ("gstreamer_without", "gstreamer:x ! appsink", "cv2 4.6.0 without: a wheel hides"),
        (
            "gstreamer_none",
            "gstreamer:x ! appsink",
            "expected a pipeline that plays, got none: try it with gst",
        ),
        ("gstreamer_grey", "gstreamer:x ! appsink", "expected (H, W, 3) uint8 BGR, got (48, 64) uint8"),
    ],
)
def test_each_failure_has_its_own_message(system_python, sibling, source, says):
    system_python(sibling)
    message = refusal(source)
    assert says.replace("cv2 ", "") in message
    assert "x ! appsink" not in message


def test_a_pipelines_frames_come_as_rgb(system_python):
    system_python("gstreamer_works")
    shown = frames("gstreamer:nvarguscamerasrc ! appsink", stall_s=5)
    assert shown[0].pixels.shape == (48, 64, 3)
    assert shown[0].pixels[0, 0].tolist() == [30, 20, 10]


@pytest.mark.skipif(not Path(REAL_PYTHON).exists(), reason="no system Python")
@pytest.mark.parametrize(
    ("source", "module", "says"),
    [
        ("picamera2", "picamera2", "apt-get install python3-picamera2"),
        ("gstreamer:videotestsrc ! appsink", "cv2", "install JetPack's OpenCV, or Debian's python3-opencv"),
    ],
)
def test_the_real_system_python_says_what_it_lacks(source, module, says):
    import subprocess

    if (
        subprocess.run([REAL_PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode
        == 0
    ):
        pytest.skip(f"{REAL_PYTHON} has {module}")
    message = refusal(source)
    assert f"in {REAL_PYTHON}, got" in message
    assert says in message


def test_a_sensors_stamp_is_believed_on_either_clock():
    s = 10**9
    monotonic, boot = SensorClock(), SensorClock()
    # 1,000 s of the time since boot the machine was suspended
    assert monotonic.taken_at(500 * s - 30, 500 * s, 1500 * s) == 500 * s - 30
    assert boot.taken_at(1500 * s - 30, 500 * s, 1500 * s) == 500 * s - 30
    assert boot.taken_at(1490 * s, 501 * s, 1501 * s) == 490 * s  # settled: an old frame looks old
    assert monotonic.taken_at(502 * s, 501 * s, 1501 * s) == 501 * s
    assert SensorClock().taken_at(None, 7, 9) == 7


def test_the_child_runs_on_the_oldest_python_a_board_may_have():
    """JetPack 5 has 3.8: no syntax and no name that it does not know."""
    import ast

    folder = Path(sys.modules["edge.vision.decoder"].__file__).parent
    for name in ("decoder", "confine", "relay"):
        ast.parse((folder / f"{name}.py").read_text(), feature_version=(3, 8))
