"""Eyes that do not come back from native code: a new process looks, when nobody would miss this one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker import wait_until
from door_site import Site, clip, python
from test_gpu import DETECTOR, verdicts

from edge import daemon as wiring
from edge.config import load_config
from edge.daemon import Daemon, build
from edge.errors import HangError
from edge.vision.pipeline import Look
from edge.worker import Replaced

MINUTE_S, YOUNG_S = 61.0, 601.0
ON_THE_CPU = {"models": {"delegate": "cpu"}}


class Eyes:
    """A door whose models take a frame and do not return."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.entered, self.let_go = threading.Event(), threading.Event()
        daemon.faces.pipeline = self._look
        (self.worker,) = daemon.sight.start(lambda _seen: None)

    def _look(self, *_: object) -> object:
        self.entered.set()
        self.let_go.wait(60)
        raise Replaced  # the way out of a worker's thread

    def hang(self) -> float:
        """Since when, s, monotonic."""
        self.worker.tend(time.monotonic())
        wait_until(self.entered.is_set, "the models have a frame", 20)
        return time.monotonic()

    def end_thread(self) -> None:
        self.worker.ask_to_stop()
        self.let_go.set()
        self.worker.stop(5)

    def close(self) -> None:
        self.end_thread()
        self.daemon.sight.grabber.stop(2)
        self.daemon.door.stop()


@pytest.fixture
def eyes(tmp_path, monkeypatch) -> Iterator[Eyes]:
    clip(tmp_path / "clip.avi", ["biden.jpg"])
    site = Site(tmp_path, **ON_THE_CPU, camera={"source": f"file:{tmp_path / 'clip.avi'}", "loop": True})
    monkeypatch.setattr(wiring, "GpuVerdicts", lambda models, folder: verdicts(folder, models=models))
    found = Eyes(build(load_config(site.path)))
    yield found
    found.close()


def test_a_disk_that_hangs_where_failed_attempts_are_counted_ends_no_process(eyes):
    """A new process would wait for it too, and the exit button with it."""
    told = threading.Event()

    def attend(_seen: object) -> None:
        told.set()
        eyes.let_go.wait(60)

    eyes.daemon.faces.pipeline = lambda *_: Look([])
    (eyes.worker,) = eyes.daemon.sight.start(attend)
    eyes.worker.tend(time.monotonic())
    wait_until(told.is_set, "a frame was looked at", 20)
    eyes.daemon.sight.tend(time.monotonic() + YOUNG_S, at_rest=True)
    assert eyes.worker.alive


def counted(eyes: Eyes) -> int:
    return json.loads((Path(eyes.daemon._config.state_dir) / "gpu.json").read_text())["starts"]


def test_a_thread_that_hangs_ends_the_process_only_when_the_door_is_at_rest(eyes):
    since = eyes.hang()
    eyes.daemon.sight.tend(since + YOUNG_S, at_rest=False)
    with pytest.raises(HangError, match=r"has not turned for 60\d s: a new process looks"):
        eyes.daemon.sight.tend(since + YOUNG_S, at_rest=True)


def test_a_door_that_hangs_after_each_start_is_not_started_once_a_minute(eyes):
    since = eyes.hang()
    eyes.daemon.sight.tend(since + MINUTE_S, at_rest=True)
    assert eyes.daemon.sight.why_not(since + MINUTE_S, None, seen=True) == ["the vision thread does not turn"]


def test_a_hang_while_the_gpu_has_not_proved_itself_ends_at_once_and_counts_as_a_death_by_it(eyes):
    assert eyes.daemon._gpu.refusal(DETECTOR) == ""
    since = eyes.hang()
    with pytest.raises(HangError):
        eyes.daemon.sight.tend(since + MINUTE_S, at_rest=True)
    eyes.daemon._gpu.close()  # as the end in order does
    assert counted(eyes) == 1


def test_a_thread_that_has_ended_and_waits_to_be_started_again_does_not_hang(eyes):
    eyes.hang()
    eyes.end_thread()
    assert not eyes.worker.alive
    eyes.daemon.sight.tend(time.monotonic() + YOUNG_S, at_rest=True)


HANGING = """
import sys, time
from edge import sight
from edge.config import load_config
from edge.daemon import build
from edge.door.lines import claim_door
from edge.process import serve
from edge.vision.pipeline import Pipeline

sight._HANG_S = sight._YOUNG_S = 1.0
config = load_config(sys.argv[1])
lines = claim_door(config.door, simulation=True)
daemon = build(config, lines.relay, None, lines.inputs, lines.signals)

def never_returns(*_):
    time.sleep(60)

Pipeline.__call__ = never_returns
code = serve(daemon)
print(*[change for _, change in lines.relay.history], flush=True)
sys.exit(code)
"""


def test_the_process_ends_locked_with_the_stacks_of_its_threads_in_the_log(tmp_path):
    clip(tmp_path / "clip.avi", ["biden.jpg"])
    site = Site(tmp_path, camera={"source": f"file:{tmp_path / 'clip.avi'}", "loop": True})
    done = python(HANGING, str(site.path))
    assert done.returncode == 70, (done.stdout, done.stderr)
    assert set(done.stdout.split()) == {"LOCK"}
    assert "the vision thread has not turned for" in done.stderr
    assert "never_returns" in done.stderr
