"""The parent of a camera's child process: real children, most of them hostile."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from broker import wait_until
from children import child

from edge.errors import CameraError
from edge.vision import child as child_module
from edge.vision.child import ChildCamera, Program
from edge.vision.decoder import HEADER

FOREVER = "while True: time.sleep(1)"


@pytest.fixture
def start(monkeypatch):
    """start(body, stall_s): a ChildCamera over a child that does what `body` says; closed at the end."""
    cameras = []

    def begin(body, stall_s=5.0):
        cameras.append(ChildCamera(child(body), stall_s))
        return cameras[-1]

    yield begin
    for camera in cameras:
        camera.close()


def refusal(start, body, monkeypatch=None, **options):
    with pytest.raises(CameraError) as refused:
        start(body, **options).read()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_frame_arrives_as_it_was_written_with_its_time(start):
    camera = start(f"paint(2, 7, 99)\ntell(slot=2, at=5_000_000_000, sequence=7)\n{FOREVER}")
    frame = camera.read()
    assert (frame.pixels.shape, frame.taken_at) == ((48, 64, 3), 5.0)
    assert np.all(frame.pixels == 99)
    assert not frame.pixels.flags.writeable


def test_of_several_frames_that_wait_the_newest_is_read(start):
    body = "for n in (1, 2, 3): paint(n % 3, n, n)\n"
    body += "os.write(1, b''.join(RECORD.pack(MAGIC, n % 3, 64, 48, 1, n) for n in (1, 2, 3)))\n"
    assert np.all(start(body + FOREVER).read().pixels == 3)


def test_what_was_read_stays_when_the_child_writes_on(start):
    camera = start("paint(0, 1, 1); tell(); time.sleep(0.2)\nwhile True: paint(0, 1, 2)")
    frame = camera.read()
    before = frame.pixels.copy()
    wait_until(lambda: camera._memory[HEADER.size] == 2, "the child writes on")
    assert np.array_equal(frame.pixels, before)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("tell(width=65535, height=65535)", "expected at most 16.8 megapixels, got 65535 x 65535"),
        ("tell(width=2**32 - 1, height=2**32 - 1)", "expected at most 16.8 megapixels"),
        ("tell(width=0)", "expected at most 16.8 megapixels, got 0 x 48"),
        ("tell(slot=3)", r"expected a record of the decoder, got b'DFR1', slot 3"),
        ("tell(slot=2**32 - 1)", "expected a record of the decoder"),
        ("tell(magic=b'DFR2')", "expected a record of the decoder, got b'DFR2', slot 0"),
        ("os.write(1, os.urandom(4096))", "expected a record of the decoder"),
        ("os.write(1, b'x')", "expected more frames, got the end of the decoder (status 0)"),
        ("tell(sequence=0)", "expected a frame after 0, got 0"),
        ("tell(sequence=5); tell(sequence=5)", "expected a frame after 5, got 5"),
        ("sys.exit(3)", "expected more frames, got the end of the decoder (status 3)"),
        ("os.kill(os.getpid(), 11)", "expected more frames, got the end of the decoder (signal 11)"),
        ("say('error: no camera')", "the camera: no camera"),
        ("say('error: old'); say('error: \\x1b[2Jnew\\udcff')", "the camera: [2Jnew"),
        ("os.write(2, b'error: secret\\n')", "expected more frames, got the end of the decoder (status 0)"),
        ("os.write(2, b'method DESCRIBE failed: 401 to u:secret\\n')", "wrong user or password (401)"),
    ],
)
def test_a_child_that_lies_or_dies_is_a_camera_error_in_one_line(start, told, says):
    message = refusal(start, told)
    assert says in message
    assert message.startswith("the camera: ")
    assert "secret" not in message


def test_a_frame_that_is_always_torn_is_none(start):
    body = "n = 0\nwhile True:\n  n += 1; paint(0, 10**6, n % 200); tell(sequence=n); time.sleep(0.01)"
    assert refusal(start, body, stall_s=0.2).endswith("got torn ones")


def test_a_stamp_of_the_future_makes_no_frame_fresh(start):
    camera = start(f"paint(0, 1, 1); tell(at=2**63)\n{FOREVER}")
    assert camera.read().taken_at <= time.monotonic()


def test_a_child_that_falls_silent_is_given_up_after_the_stall_time(start):
    camera = start(f"paint(0, 1, 1); tell()\n{FOREVER}", stall_s=0.2)
    camera.read()
    with pytest.raises(CameraError, match=r"^the camera: expected a frame in 0.2 s, got none$"):
        camera.read()


def test_a_child_that_floods_its_stderr_is_neither_blocked_nor_kept(start):
    body = "while True:\n  for n in range(999): os.write(2, b'x' * 9999)\n  paint(0, 1, 1); tell(); break\n"
    camera = start(body + FOREVER)
    assert np.all(camera.read().pixels == 1)
    assert sum(map(len, camera._lines)) < 10_000


def test_a_child_that_ends_its_records_and_talks_for_ever_is_given_up(start):
    body = "os.close(1)\nwhile True: os.write(2, b'x' * 9999)"
    assert "expected more frames, got the end of the decoder" in refusal(start, body)


@pytest.mark.parametrize("call", ["os.ftruncate(fd, 0)", "os.ftruncate(fd, 4096)", "os.ftruncate(fd, 2**40)"])
def test_no_child_takes_the_memory_from_under_its_parent(start, call):
    body = f"try: {call}\nexcept PermissionError: paint(0, 1, 42); tell()\n{FOREVER}"
    assert np.all(start(body).read().pixels == 42)


def test_closing_kills_and_reaps_the_child_and_leaves_nothing_open(start):
    gc.collect()
    before = set(Path("/proc/self/fd").iterdir())
    camera = start(f"import signal; signal.signal(15, signal.SIG_IGN); paint(0, 1, 1); tell()\n{FOREVER}")
    pid = camera._process.pid
    camera.close()
    camera.close()
    assert not Path(f"/proc/{pid}").exists()
    assert set(Path("/proc/self/fd").iterdir()) == before
    with pytest.raises(CameraError, match="got a closed one"):
        camera.read()


def test_a_child_that_cannot_be_started_is_a_camera_error():
    with pytest.raises(CameraError, match=r"^x: expected a decoder, got: No such file or directory$"):
        ChildCamera(Program(("/nowhere/python",), {}, "x"), 1)


def test_a_child_knows_nothing_of_its_parents_environment_and_files(start, monkeypatch, tmp_path):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/doord.service")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    with (tmp_path / "gallery.db").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        body = (
            "known, files = sorted(os.environ), []\n"
            "for f in os.listdir('/proc/self/fd'):\n"
            "  try: files.append(os.readlink('/proc/self/fd/' + f).split(':')[0])\n"
            "  except OSError: pass\n"  # the list's own
            "say(f'error: {known} {sorted(set(files))}')"
        )
        message = refusal(start, body)
    known = "['LANG', 'OPENBLAS_NUM_THREADS', 'PATH']"
    assert message == f"the camera: {known} ['/memfd', 'pipe']"


def test_a_child_dies_with_its_parent(tmp_path):
    """The parent is killed -9 while its decoder has a camera open that sends nothing."""
    code = f"""
import socket, sys, threading
sys.path.insert(0, {str(Path(child_module.__file__).parents[2])!r})
from edge.config import CameraConfig
from edge.vision.decoded import stream_camera
import subprocess
listener = socket.create_server(("127.0.0.1", 0))
kept = subprocess.Popen.__init__
def told(self, *a, **k):
    kept(self, *a, **k); print(self.pid, flush=True)
subprocess.Popen.__init__ = told
stream_camera(CameraConfig(source=f"rtsp://127.0.0.1:{{listener.getsockname()[1]}}/", stall_s=20))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        pid = int(parent.stdout.readline())
        time.sleep(0.5)  # it puts its leash on before it opens anything
        assert Path(f"/proc/{pid}").exists()
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        wait_until(lambda: _gone(pid), "the child ends")
    finally:
        parent.kill()
        parent.stdout.close()


def _gone(pid):
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
