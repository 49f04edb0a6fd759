"""The whole door as a process: real models, a real broker, a clip for a camera, a mock line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest
from broker import Broker, Listener, wait_until
from door_site import Site, clip, python

from edge.config import PadConfig, load_config
from edge.daemon import build
from edge.errors import LineError
from edge.identity.pad import Limit
from edge.link.wire import GENESIS, Denied, Granted, Notice, decode_state, decode_status, follow
from edge.liveness import PadSubsystem


@pytest.fixture(scope="session")
def visitors(tmp_path_factory) -> Path:
    """biden, then obama2, then nobody."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    clip(path, ["biden.jpg", "obama2.jpg"])
    return path


@pytest.fixture
def site(tmp_path, visitors) -> Site:
    return Site(tmp_path, camera={"source": f"file:{visitors}", "loop": False})


def events(listener: Listener) -> list:
    """All events heard, their chain checked from the first on."""
    head, found = GENESIS, []
    for payload in listener.on("/event"):
        event, head = follow(payload, head)
        found.append(event)
    return found


def test_the_enrolled_face_opens_the_door_and_the_stranger_does_not(site, tmp_path):
    with Broker(tmp_path / "b") as broker, Listener(broker.port) as heard:
        site.config["mqtt"] = {"host": "127.0.0.1", "port": broker.port}
        site.write()
        site.enrol("obama", "obama.jpg")
        with site.running() as daemon:
            site.wait_for("the clip has ended")
            wait_until(lambda: len(heard.on("/state")) >= 4, "the relay's return")
        assert daemon.returncode == 0
        wait_until(lambda: b'"stopped"' in heard.on("/status")[-1], "the status stopped")
        told = [e for e in events(heard) if not isinstance(e, Notice)]
        assert [type(e) for e in told] == [Denied, Granted]
        assert told[0].reason.value == "NoMatch"
        assert (told[1].subject, told[1].simulation) == ("obama", True)
        assert 0.4 < told[1].distance < 0.7
        assert {"detect", "align", "embed", "search"} <= set(told[1].stages_ms)
        assert b"biden" not in b"".join(h.payload for h in heard.heard)
        locks = [decode_state(p).lock for p in heard.on("/state")]
        assert [lock for i, lock in enumerate(locks) if i == 0 or lock != locks[i - 1]] == [
            "locked",
            "unlocked",
            "locked",
        ]
        assert any(decode_status(p).armed for p in heard.on("/status"))
    assert "AccessGranted: obama" in site.said
    assert "AccessDenied: NoMatch" in site.said
    assert "pad.mode is monitor: a photograph can open this door" in site.said


def test_without_a_broker_the_door_works_and_says_so_once(site):
    site.enrol("obama", "obama.jpg")
    with site.running():
        site.wait_for("AccessGranted: obama")
    assert site.said.count("no broker is configured or usable") == 1


def test_an_unreachable_broker_is_said_once_and_the_door_works(site):
    site.config["mqtt"] = {"host": "127.0.0.1", "port": 1}
    site.write()
    site.enrol("obama", "obama.jpg")
    with site.running():
        site.wait_for("AccessGranted: obama")
    assert site.said.count("nothing listens there") == 1


def test_kill_minus_nine_leaves_offline_on_the_broker(site, tmp_path):
    with Broker(tmp_path / "b") as broker, Listener(broker.port) as heard:
        site.config["mqtt"] = {"host": "127.0.0.1", "port": broker.port}
        site.write()
        with site.running() as daemon:
            wait_until(lambda: heard.on("/status"), "the status online")
            daemon.kill()
            daemon.wait()
            wait_until(lambda: decode_status(heard.on("/status")[-1]).state == "offline", "the last will")


def test_status_and_log_say_what_runs_the_models_and_why_not_what_was_asked_for(site, tmp_path, monkeypatch):
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))
    clip(tmp_path / "clip.avi", ["obama2.jpg"], seconds=1, empty_s=1)
    site.config["models"] = {"delegate": "gpu"}
    site.write()
    with site.running():
        site.wait_for("not armed")
        status = site.status()
    assert status["backend"].endswith(" cpu 2t")
    assert status["backend_why"] == "no GPU: no Vulkan driver is installed"
    assert site.said.count("no GPU: no Vulkan driver is installed") == 1


def test_a_delegate_that_kills_the_door_is_left_alone_at_the_third_start(site, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: no delegate can be built")
    library, source = tmp_path / "libdeadly.so", Path(__file__).parent / "delegate" / "prelu.c"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-nostdlib", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=60)
    clip(tmp_path / "clip.avi", ["obama2.jpg"], seconds=1, empty_s=1)
    site.config["models"] = {"delegate": str(library), "delegate_options": {"invoke": "die"}}
    site.write()
    for _ in range(2):
        with site.running() as daemon:
            assert daemon.wait(30) < 0  # the PAD model has what the library claims
    with site.running():
        site.wait_for("not armed")
        status = site.status()
    assert status["backend"].endswith(" cpu 2t")
    assert status["backend_why"].startswith(f"{library}: the door died 2 times within minutes of using it")


def test_who_is_enrolled_while_the_daemon_runs_is_let_in_at_once(site, tmp_path):
    clip(tmp_path / "clip.avi", ["obama2.jpg"] * 3, seconds=2, empty_s=5.5)
    site.config["camera"] = {"source": f"file:{tmp_path / 'clip.avi'}", "loop": True}
    site.write()
    with site.running():
        site.wait_for("not armed: nobody is enrolled")
        site.enrol("obama", "obama.jpg")
        site.wait_for("AccessGranted: obama")
        assert site.status()["armed"]
        assert site.doord("gallery", "list").stdout.count("obama") == 1
        site.doord("gallery", "remove", "obama")
        wait_until(lambda: site.status()["why_not"] == ["nobody is enrolled"], "removed at once")


def test_a_sitting_before_the_doors_camera_enrols_and_opens_nothing(site, tmp_path):
    clip(tmp_path / "clip.avi", ["obama2.jpg"], seconds=30, empty_s=0.1)
    site.config["camera"] = {"source": f"file:{tmp_path / 'clip.avi'}", "loop": True}
    site.write()
    site.enrol("biden", "biden.jpg")
    with site.running():
        site.wait_for("armed")
        site.doord("enrol", "--subject", "obama", "--camera")
        assert "AccessGranted" not in site.said.split("gallery version 2")[0]
        assert "obama" in site.doord("gallery", "list").stdout


def test_a_camera_enrolment_works_without_a_daemon(site, tmp_path):
    clip(tmp_path / "clip.avi", ["obama2.jpg"], seconds=6, empty_s=0.1)
    site.config["camera"] = {"source": f"file:{tmp_path / 'clip.avi'}", "loop": True}
    site.write()
    assert "5 enrolled" in site.doord("enrol", "--subject", "obama", "--camera").stdout


@pytest.mark.parametrize("spoil", ["model", "gallery", "key"])
def test_a_broken_part_leaves_the_door_locked_and_running_and_named(site, tmp_path, spoil):
    site.enrol("obama", "obama.jpg")
    before = (tmp_path / "state" / "gallery.db").read_bytes()
    if spoil == "model":
        (tmp_path / "models").mkdir()
        site.config["models"] = {"dir": str(tmp_path / "models")}
        site.write()
    elif spoil == "gallery":
        (tmp_path / "state" / "gallery.db").write_bytes(before[:5000])
    else:
        (tmp_path / "state" / "gallery.key").unlink()
    with site.running() as daemon:
        site.wait_for("not armed")
        site.wait_for("door Locked, lock locked")
        status = site.status()
        assert not status["armed"]
        assert any(
            {"model": "manifest.yaml", "gallery": "gallery.db", "key": "gallery.key"}[spoil] in w
            for w in status["why_not"]
        )
        time.sleep(1)
        assert daemon.poll() is None
    assert "AccessGranted" not in site.said
    if spoil == "key":
        assert (tmp_path / "state" / "gallery.db").read_bytes() == before
        assert not (tmp_path / "state" / "gallery.key").exists()


def test_a_camera_that_is_not_there_is_a_fault_and_comes_back_without_a_restart(site, tmp_path, visitors):
    later = tmp_path / "later.avi"
    site.config["camera"] = {"source": f"file:{later}", "loop": True}
    site.write()
    site.enrol("obama", "obama.jpg")
    with site.running():
        site.wait_for("CameraFault")
        assert not site.status()["armed"]
        later.write_bytes(visitors.read_bytes())
        site.wait_for("CameraRestored")
        site.wait_for("AccessGranted: obama")


def test_a_second_daemon_does_not_get_the_gallery_and_opens_nothing(site, tmp_path):
    site.enrol("obama", "obama.jpg")
    with site.running():
        site.wait_for("armed")
        (tmp_path / "x").mkdir()
        other = Site(tmp_path / "x")
        other.config |= {"state_dir": site.config["state_dir"], "camera": site.config["camera"]}
        other.write()
        with other.running():
            other.wait_for("is in use by process")
            other.wait_for("the clip has ended")
        assert "AccessGranted" not in other.said


def test_a_reload_signal_reads_the_gallery_again(site):
    site.enrol("obama", "obama.jpg")
    with site.running() as daemon:
        site.wait_for("armed")
        count = site.said.count("gallery version")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: site.said.count("gallery version") > count, "the gallery read again")


def test_a_gallery_too_large_for_its_fmr_is_not_opened_by_face_alone(site):
    site.enrol("obama", "obama.jpg")
    site.config["decision"] = {"max_fpir": 1e-9}
    site.write()
    with site.running():
        site.wait_for("the clip has ended")
        assert any("max_fpir" in why for why in site.status()["why_not"])
    assert "AccessGranted" not in site.said
    site.config["decision"]["fpir_accepted_by"] = "head of security"
    site.write()
    with site.running():
        site.wait_for("AccessGranted: obama")


DEATH = """
import sys, threading, time
from pathlib import Path
from edge.config import load_config
from edge import daemon as d
from edge.process import listen
from fakes_door import FakeLines

lines = FakeLines()
daemon = d.build(load_config(sys.argv[1]), lines=lines)
listen(daemon)
daemon.start()
if sys.argv[2] == "door":
    lock = lines.lock
    def broken():
        Path(sys.argv[3]).write_text("asked to lock")
        lock()
    lines.lock = broken
    daemon.door.grant(None, float("inf"), None)  # no grant: the door's thread dies of it
else:
    daemon.attendant.attend = lambda seen: 1 / 0  # bound before: see below
    daemon._workers[-1]._step = lambda: 1 / 0
    time.sleep(2.5)
    daemon.watch()
    assert daemon.door.alive
    daemon.stop()
    assert lines.history == ["LOCK"], lines.history
    sys.exit(0)
time.sleep(10)
sys.exit(1)
"""


def test_a_dying_door_thread_locks_the_door_and_ends_the_process(site, tmp_path):
    done = python(DEATH, str(site.path), "door", str(tmp_path / "mark"))
    assert done.returncode == 70, done.stderr
    assert (tmp_path / "mark").read_text() == "asked to lock"


def test_a_dying_vision_thread_is_started_again_and_the_door_goes_on(site, tmp_path):
    done = python(DEATH, str(site.path), "vision", str(tmp_path / "mark"))
    assert done.returncode == 0, done.stderr


def test_every_exit_leaves_the_line_locked(site, tmp_path):
    code = DEATH.split("if sys.argv[2]")[0] + (
        "daemon.ask_to_stop(); daemon.wait(); daemon.stop(); daemon.stop()\n"
        "assert lines.history[-1] == 'LOCK' and lines.closed, lines.history\n"
    )
    done = python(code, str(site.path), "-", str(tmp_path / "mark"))
    assert done.returncode == 0, done.stderr


def test_frames_from_a_slow_decision_never_open_the_door(site, visitors):
    """The frame's age limit holds at the moment the line would move."""
    site.config["camera"] = {"source": f"file:{visitors}", "loop": True, "max_frame_age_ms": 1}
    site.write()
    site.enrol("obama", "obama.jpg")
    with site.running():
        site.wait_for("AccessDenied: StaleFrame")
    assert "AccessGranted" not in site.said


def test_readiness_is_told_to_systemd(site, tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            with site.running():
                told = b""
                while b"WATCHDOG=1" not in told:
                    told += manager.recv(1000) + b"\n"
        finally:
            del os.environ["NOTIFY_SOCKET"]
    assert b"READY=1" in told
    assert b"STATUS=not armed" in told


# The door by hand, and with everything else broken


def test_the_door_is_moved_by_hand(site):
    site.config["door"]["unlock_s"] = 30
    site.write()
    with site.running():
        site.wait_for("door Locked, lock locked")
        wait_until(lambda: site.doord("door", "state", code=None).returncode == 0, "the socket answers")
        assert site.doord("door", "pulse").stdout == "done\n"
        state = json.loads(site.doord("door", "state", "--json").stdout)
        assert (state["mode"], state["lock"]) == ("Accessed", "unlocked")
        site.doord("door", "lock")
        site.doord("door", "open", "5")
        assert json.loads(site.doord("door", "state", "--json").stdout)["mode"] == "LockedOpen"
        assert "not obeyed" in site.doord("door", "open", "5000", code=1).stdout
        site.doord("door", "lockdown")
        assert "not obeyed" in site.doord("door", "pulse", code=1).stdout
        site.doord("door", "normal")
        assert "Locked\n" in site.doord("door").stdout


def test_no_restart_lifts_a_lockdown(site):
    with site.running() as daemon:
        site.wait_for("door Locked, lock locked")
        wait_until(lambda: site.doord("door", "lockdown", code=None).returncode == 0, "it is locked down")
        daemon.kill()
        daemon.wait()
    with site.running():
        site.wait_for("door LockedDown, lock locked")
        wait_until(lambda: site.doord("door", "normal", code=None).returncode == 0, "it is lifted")
    with site.running():
        wait_until(lambda: site.said.count("door Locked, lock locked") == 3, "it stays so")


EXIT = """
import sys, threading, time
from edge.config import load_config
from edge import daemon as d
from edge.process import listen
from edge.door.lines import claim_door

config = load_config(sys.argv[1])
lines = claim_door(config.door, simulation=True)
daemon = d.build(config, lines.relay, None, lines.inputs, lines.signals)
listen(daemon)
daemon.start()
pin = lines.pin("rex")

def leave():
    pin.drive_low()
    deadline = time.monotonic() + 10
    while [change for _, change in lines.relay.history] != ["LOCK", "UNLOCK", "LOCK"]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    daemon.ask_to_stop()

threading.Thread(target=leave).start()
daemon.wait()
print("WHY NOT", daemon.reporter.health(time.monotonic()).why_not)
daemon.stop()
history = [change for _, change in lines.relay.history]
assert history == ["LOCK", "UNLOCK", "LOCK"], history
"""


def test_the_exit_button_works_with_camera_network_gallery_and_models_down(site, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "gallery.db").write_bytes(b"no database")
    site.config["models"] = {"dir": str(tmp_path / "models")}
    site.config["camera"] = {"source": f"file:{tmp_path / 'none.avi'}"}
    site.config["mqtt"] = {"host": "127.0.0.1", "port": 1}
    site.config["door"]["rex"] = {"line": 22}
    site.write()
    done = python(EXIT, str(site.path))
    assert done.returncode == 0, done.stderr
    assert "manifest.yaml" in done.stdout
    assert "gallery" in done.stdout


DISK_HANGS = """
import sys, time
from edge.config import load_config
from edge.daemon import build

daemon = build(load_config(sys.argv[1]))
asked = []

def hangs(at_once=False):
    asked.append(at_once)
    time.sleep(100)

daemon.clock.keep = hangs
daemon.start()
while not asked:
    time.sleep(0.05)
for _ in range(3):
    daemon.watch()
print("WATCHED", daemon.door.alive, flush=True)
"""


def test_a_disk_that_hangs_where_the_time_is_kept_holds_up_neither_main_nor_the_door(site):
    assert python(DISK_HANGS, str(site.path)).stdout.endswith("WATCHED True\n")


def test_what_doord_lock_has_to_do_is_written_for_real_lines_only(site, tmp_path, gpiod):
    gpiod()
    site.config |= {"simulation": False, "camera": {"source": "0"}}
    site.config["door"]["relay"] = {"line": 17, "active": "low"}
    site.config["door"] |= {"led": {"line": 5}, "sounder": {"line": 6, "active": "low"}}
    site.write()
    daemon = build(load_config(site.path))
    daemon.door.stop()
    assert (tmp_path / "lines").read_text() == "/dev/gpiochip0 17 1\n/dev/gpiochip0 5 0\n/dev/gpiochip0 6 1\n"
    site.config |= {"simulation": True}
    site.write()
    build(load_config(site.path)).door.stop()
    assert not (tmp_path / "lines").exists()


def test_a_readers_line_that_can_not_be_claimed_leaves_none_of_the_doors_held(site, gpiod):
    fake = gpiod(chips=(0, 1))
    site.config |= {
        "simulation": False,
        "camera": {"source": "0"},
        "readers": {"wiegand": {"data0": 1, "data1": 2, "chip": "/dev/gpiochip511"}},
    }
    site.config["door"] |= {"rex": {"line": 22, "chip": "/dev/gpiochip1"}, "led": {"line": 5}}
    site.write()
    with pytest.raises(LineError, match="lines 1 and 2: can't be claimed"):
        build(load_config(site.path))
    assert fake.opened == set()


def test_a_fit_that_ends_while_a_reload_makes_pad_stricter_does_not_undo_it(site, monkeypatch):
    daemon = build(load_config(site.path))
    stricter = msgspec.structs.replace(daemon._config, pad=PadConfig("enforce", live=60, unsure=50))
    reload = threading.Thread(target=daemon._adopt, args=(stricter,), daemon=True)
    made = PadSubsystem

    def slow(config, mode, gpu):
        if config is not stricter:  # the fit's, of the configuration as it was
            reload.start()
            reload.join(1.5)
        return made(config, mode, gpu)

    monkeypatch.setattr("edge.sight.PadSubsystem", slow)
    daemon.sight.tuned()
    reload.join(10)
    daemon.door.stop()
    assert daemon.sight.pad.limits == {"texture": Limit(60, 50)}


def test_a_tune_that_could_not_be_read_is_read_again_with_the_configuration(site):
    site.config["pad"] = {"mode": "enforce"}
    site.write()
    config = load_config(site.path)
    config.tuning_path.parent.mkdir(parents=True, exist_ok=True)
    config.tuning_path.write_bytes(b"damaged" * 20)
    daemon = build(config)
    assert (daemon.sight.pad.limits, daemon.sight.pad.problem is None) == ({}, False)
    daemon._adopt(config)
    assert daemon.sight.pad.limits == {}
    config.tuning_path.unlink()
    daemon._adopt(config)
    daemon.door.stop()
    assert (list(daemon.sight.pad.limits), daemon.sight.pad.problem) == (["texture"], None)


def test_a_face_that_is_alive_opens_where_attacks_are_refused_and_its_score_is_in_the_event(site, tmp_path):
    clip(tmp_path / "visit.avi", ["obama3.jpg"])
    site.config |= {"pad": {"mode": "enforce"}, "camera": {"source": f"file:{tmp_path / 'visit.avi'}"}}
    with Broker(tmp_path / "b") as broker, Listener(broker.port) as heard:
        site.config["mqtt"] = {"host": "127.0.0.1", "port": broker.port}
        site.write()
        site.enrol("obama", "obama.jpg")
        with site.running():
            site.wait_for("AccessGranted: obama")
            wait_until(lambda: heard.on("/event"), "the event")
        (granted,) = [e for e in events(heard) if isinstance(e, Granted)]
    assert granted.pad is not None
    assert granted.pad["texture"] >= 2.0
    assert "pad" in granted.stages_ms
    assert "can open this door" not in site.said


def test_a_face_that_is_not_alive_enough_is_refused_and_the_door_stays_locked(site):
    site.config |= {"pad": {"mode": "enforce", "live": 60, "unsure": 50}}
    site.write()
    site.enrol("obama", "obama.jpg")
    with site.running():
        site.wait_for("the clip has ended")
    assert "AccessDenied: AttackSuspected" in site.said
    assert "AccessGranted" not in site.said


def test_with_a_missing_pad_model_the_door_is_not_armed_and_a_face_opens_nothing(site):
    site.config |= {"pad": {"mode": "enforce", "models": ["no-such-model"]}}
    site.write()
    site.enrol("obama", "obama.jpg")
    with site.running():
        site.wait_for("no grants by face alone: pad: ")
        assert any(why.startswith("pad: ") for why in site.status()["why_not"])
        site.wait_for("the clip has ended")
    assert "AccessGranted" not in site.said
