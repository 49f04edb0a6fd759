"""The configuration read again: what comes in force, what waits for a restart, what is refused whole."""

from __future__ import annotations

import json
import signal

import pytest
import yaml
from broker import Broker, Listener, wait_until
from door_site import Site, clip, python

from edge.config import Config, parse_config
from edge.errors import ConfigError
from edge.link.wire import Notice, decode_event
from edge.reload import Reloader, differences

BASE = {"site": "hq", "door_id": "front", "door": {"relay": {"line": 17}}}


def config(**changes: object) -> Config:
    return parse_config(yaml.safe_dump({**BASE, **changes}))


class Door:
    """What a Reloader works on; `history` has every configuration put in force."""

    def __init__(self, before: Config) -> None:
        self.file: Config | ConfigError = before
        self.history: list[Config] = []
        self.told: list[tuple[str, str]] = []
        self.refuse: ConfigError | None = None
        self.reloader = Reloader(before, self._read, self._apply, lambda *told: self.told.append(told))

    def _read(self) -> Config:
        if isinstance(self.file, ConfigError):
            raise self.file
        return self.file

    def _apply(self, now: Config) -> None:
        if self.refuse:
            raise self.refuse
        self.history.append(now)

    def reload(self, **changes: object) -> str:
        self.file = config(**changes)
        return self.reloader.reload()


def test_differences_are_dotted_paths():
    door = {"relay": {"line": 18}, "unlock_s": 5}
    assert differences(config(), config(door=door, decision={"margin": 0.2})) == (
        "door.relay.line",
        "door.unlock_s",
        "decision.margin",
    )
    assert differences(config(), config(mqtt={"host": "broker"}))[0].startswith("mqtt")
    assert differences(config(), config()) == ()


def test_what_decides_comes_in_force_and_what_claims_a_line_waits_for_a_restart():
    door = Door(config())
    came = door.reload(decision={"threshold": 0.6}, door={"relay": {"line": 18}})
    assert came == "in force: decision.threshold; after a restart: door.relay.line"
    assert door.history == [config(decision={"threshold": 0.6})]
    assert door.reloader.waiting == ("door.relay.line",)
    assert door.told == [("ConfigReloaded", came)]
    assert door.reload(decision={"threshold": 0.6}) == "no key changed"
    assert door.reloader.waiting == ()


def test_a_file_that_can_not_be_used_is_refused_and_told_until_it_can():
    door = Door(config())
    door.file = ConfigError("config.yaml: site: expected an id, got 'H Q'")
    with pytest.raises(ConfigError):
        door.reloader.reload()
    assert door.history == []
    assert door.reloader.refusal == "config.yaml: site: expected an id, got 'H Q'"
    assert door.told[0][0] == "ConfigRefused"
    door.reload()
    assert door.reloader.refusal is None


def test_what_can_not_be_put_in_force_leaves_the_one_before():
    door = Door(config())
    door.refuse = ConfigError("mqtt.tls.ca: expected certificates")
    with pytest.raises(ConfigError, match=r"mqtt\.tls"):
        door.reload(decision={"threshold": 0.6})
    door.refuse = None
    assert door.reload(decision={"threshold": 0.6}).startswith("in force: decision.threshold")


def test_half_of_a_change_that_would_contradict_the_rest_is_refused():
    door = Door(config())
    with pytest.raises(ConfigError, match="needs a restart, with simulation"):
        door.reload(simulation=True, camera={"source": "file:/clip.avi"})
    assert door.history == []


def test_the_manager_is_told_of_both_ends_of_a_reload(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr("edge.reload.notify", told.append)
    door = Door(config())
    door.reload()
    door.file = ConfigError("no")
    with pytest.raises(ConfigError):
        door.reloader.reload()
    assert [words.partition("\n")[0] for words in told] == ["RELOADING=1", "READY=1"] * 2
    assert told[0].partition("\n")[2].startswith("MONOTONIC_USEC=")


# The daemon


@pytest.fixture
def site(tmp_path) -> Site:
    clip(tmp_path / "clip.avi", ["biden.jpg", "obama2.jpg"])
    return Site(tmp_path, camera={"source": f"file:{tmp_path / 'clip.avi'}", "loop": True})


def states(listener: Listener) -> list[str]:
    locks = [json.loads(payload)["lock"] for payload in listener.on("/state")]
    return [lock for i, lock in enumerate(locks) if i == 0 or lock != locks[i - 1]]


def notices(listener: Listener) -> list[Notice]:
    found = [decode_event(payload) for payload in listener.on("/event")]
    return [event for event in found if isinstance(event, Notice)]


def test_a_reload_changes_the_decision_and_a_bad_file_changes_nothing(site):
    site.enrol("obama", "obama.jpg")
    site.config["decision"] = {"threshold": 0.05}
    site.write()
    with site.running():
        site.wait_for("armed")
        site.wait_for("AccessDenied")
        assert "AccessGranted" not in site.said
        site.config["decision"] = {"threshold": 0.7}
        site.config["door"]["relay"]["line"] = 18
        site.write()
        done = site.doord("reload")
        assert done.stdout == "in force: decision.threshold; after a restart: door.relay.line\n"
        site.wait_for("AccessGranted: obama")
        good = site.path.read_text()
        site.path.write_text(good.replace("threshold: 0.7", "threshold: 0.9"))
        refused = site.doord("reload", "--socket", site.config["socket"], code=78)
        assert "decision.threshold: expected a value <= 0.7, got 0.9" in refused.stderr
        site.path.write_text(good)
        status = site.status()
        assert "decision.threshold" in status["config_refusal"]
        assert status["restart_needed"] == ["door.relay.line"]
        before = site.said.count("AccessGranted: obama")
        wait_until(lambda: site.said.count("AccessGranted: obama") > before, "the old one works on", 30)
    assert "ConfigRefused" in site.said


def test_a_reload_moves_the_camera_and_the_broker_and_not_the_relay(site, tmp_path):
    (tmp_path / "empty").mkdir()
    site.enrol("obama", "obama.jpg")
    there = dict(site.config["camera"])
    site.config["camera"] = {"source": f"folder:{tmp_path / 'empty'}"}
    with (
        Broker(tmp_path / "a") as first,
        Broker(tmp_path / "b") as second,
        Listener(first.port) as old,
        Listener(second.port) as new,
    ):
        site.config["mqtt"] = {"host": "127.0.0.1", "port": first.port}
        site.write()
        with site.running() as daemon:
            site.wait_for("CameraFault")
            site.config["camera"] = there
            site.config["mqtt"]["port"] = second.port
            site.write()
            daemon.send_signal(signal.SIGHUP)
            site.wait_for("in force: camera.source, mqtt")
            site.wait_for("CameraRestored")
            wait_until(lambda: b'"stopped"' in old.on("/status")[-1], "the first broker is left")
            wait_until(lambda: states(new)[:1] == ["locked"], "the second has the state")
            site.wait_for("AccessGranted: obama")
        assert states(old) == ["locked"]
        kinds = [event.kind for event in notices(new)]
    assert "ConfigReloaded" in kinds


def test_a_reload_with_certificates_that_are_none_is_refused(site, tmp_path):
    with site.running():
        site.wait_for("armed")
        (tmp_path / "ca.pem").write_text("no certificate")
        site.config["mqtt"] = {"host": "127.0.0.1", "port": 1, "tls": {"ca": str(tmp_path / "ca.pem")}}
        site.write()
        assert "mqtt.tls.ca" in site.doord("reload", code=78).stderr
        assert site.status()["restart_needed"] == []


HANGS = """
import os, signal, sys, threading, time
from pathlib import Path
from edge import process
from edge.config import load_config
from edge.daemon import build
from fakes_door import FakeLines

class Lines(FakeLines):
    def _change(self, what):
        super()._change(what)
        Path(sys.argv[3]).write_text(" ".join(self.history))

def hang(*_):
    threading.Event().wait()

what, lines = sys.argv[2], Lines()
if what == "models":
    from edge.vision.pipeline import Pipeline
    import edge.faces
    edge.faces._LOAD_S = 0.5
    Pipeline.load = hang
daemon = build(load_config(sys.argv[1]), lines=lines, open_source=hang if what == "camera" else None)
if what == "worker":
    daemon.meter.measure = hang
def end():
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
sys.exit(process.serve(daemon))
"""


@pytest.mark.parametrize("what", ["nothing", "camera", "models", "worker", "broker"])
def test_whatever_hangs_a_stop_ends_locked_with_its_events_kept(site, tmp_path, what):
    """In time, too: after 1.9 s the kernel ends the process (SIGALRM), as it may on a busy machine.

    Then the last event alone may be missing.
    """
    if what == "broker":
        import socket

        deaf = socket.create_server(("127.0.0.1", 0))
        site.config["mqtt"] = {"host": "127.0.0.1", "port": deaf.getsockname()[1]}
        site.write()
    done = python(HANGS, str(site.path), what, str(tmp_path / "lines"))
    assert done.returncode in (0, -signal.SIGALRM), done.stderr
    assert (tmp_path / "lines").read_text() == "LOCK"
    log = site.doord("log", "show", "--json").stdout
    assert "Started" in log
    assert "Stopped" in log or done.returncode == -signal.SIGALRM
