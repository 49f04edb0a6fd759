"""`doord setup`: driven through a terminal as an installer would, and by answers given in advance."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path

import cv2
import pytest
import yaml
from broker import Authority, Broker, tls_conf, wait_until
from door_site import PICTURES, Site
from hypothesis import given
from hypothesis import strategies as st
from installer import Keyboard, Screen, Visitor, mode_of, soon

from edge.cli import main
from edge.config import Config, load_config, parse_config
from edge.door_config import ButtonConfig, ContactConfig, DoorConfig, RelayConfig
from edge.errors import ConfigError
from edge.strict import parse_yaml
from edge.tools.setup import devices, lines_trial
from edge.tools.setup.commissioning import UNTOLD, Commissioning
from edge.tools.setup.config_text import put, render
from edge.tools.setup.flow import REFUSED, Unit, run_report, run_setup
from edge.tools.setup.outcome import failed, passed, untested
from edge.tools.setup.questions import KEYS, Found, ask_all
from edge.tools.setup.talk import Terminal

ANSWERS = {
    "site": "hq",
    "door": "front",
    "camera": f"folder:{PICTURES}",
    "camera_rotation": "0",
    "chip": "/dev/gpiochip0",
    "relay_line": "17",
    "dps_line": "27",
    "aim_s": "1",
    "relay_locked": "yes",
    "relay_released": "yes",
    "try_dps": "no",
}


def sets(answers: dict[str, str]) -> list[str]:
    return [part for key, answer in answers.items() for part in ("--set", f"{key}={answer}")]


def scripted(path: Path, capsys, *more: str, **changed: str) -> tuple[int, str]:
    """`doord setup` without a terminal."""
    told = sets({**ANSWERS, **changed})
    code = main(["setup", "-c", str(path), "--simulation", "--no-questions", *told, *more])
    return code, capsys.readouterr().out


def test_an_installer_at_a_terminal_is_led_from_nothing_to_a_configuration(tmp_path):
    path, picture = tmp_path / "etc/config.yaml", tmp_path / "seen.png"
    with Keyboard("-c", str(path), "--simulation") as keys:
        keys.answer("Site, an id such as hq [hq]: ", "")
        keys.answer("This door", "Front Door")  # no id: asked again
        keys.expect("expected text matching")
        keys.answer("This door", "front")
        keys.answer("Camera", f"folder:{PICTURES}")
        keys.answer("Degrees to turn its picture clockwise", "45")  # no camera hangs so: asked again
        keys.answer("Degrees to turn its picture clockwise", "0")
        keys.answer("GPIO chip of the relay", "")
        keys.answer("Relay: line", "17")
        keys.answer("Relay: level that unlocks, high or low [high]", "")
        keys.answer("Door contact: line, or none [none]", "17")  # it is the relay's
        keys.expect("expected a line that door.relay.line has not taken")
        keys.answer("Door contact", "27")
        keys.answer("Exit button", "")
        keys.answer("Case contact", "")
        keys.answer("Seconds a grant releases the lock [3]", "4")
        keys.answer("Broker's name", "")
        keys.answer("Enter ends it.", "")
        keys.answer("Write one picture", "yes")
        keys.answer("Where", str(picture))
        keys.expect("is a picture of a person, for root alone")
        wait_until(picture.exists, "the picture")
        assert mode_of(picture) == 0o600
        assert cv2.imread(str(picture)) is not None
        keys.answer("Delete it now? [yes]", "")
        keys.answer("Try the relay now?", "")
        assert not picture.exists()
        keys.answer("Is the lock locked now? [yes / no / skip]", "no")
        keys.expect("level low unlocks, not high")
        keys.answer("Is the lock locked now?", "what?")
        keys.answer("Is the lock locked now?", "yes")
        keys.answer("Did the lock release for a moment, and lock again?", "yes")
        keys.answer("Try the door contact now?", "no")
        keys.answer("Measure how fast it opens?", "no")
        assert not path.exists()
        keys.answer(f"Write {path}?", "yes")
        assert keys.ends() == 0, keys.said
    assert REFUSED in keys.said
    assert "\r512x512" in keys.said  # one line, drawn over itself
    config = load_config(path)
    assert (config.door_id, config.door.unlock_s, config.door.dps) == ("front", 4, ContactConfig(27))
    assert config.door.relay == RelayConfig(17, active="low")  # what the installer's eyes said
    assert "# the level that unlocks" in path.read_text()
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.yaml"]  # no report, no answers


def test_ctrl_c_changes_nothing_and_keeps_the_answers(tmp_path):
    path = tmp_path / "config.yaml"
    before = "site: old\ndoor_id: back\nsimulation: true\ndoor: {relay: {line: 4}} # mine\n"
    path.write_text(before)
    with Keyboard("-c", str(path)) as keys:
        keys.answer("Go on from it (its values are the defaults)? [yes]", "")
        keys.answer("Site, an id such as hq [old]", "hq")
        keys.answer("This door, an id such as front [back]", "side")
        keys.expect("Camera: number")
        keys.type("\x03")
        assert keys.ends() == 130, keys.said
    answers = tmp_path / "config.yaml.answers"
    assert f"doord setup --answers {answers}" in keys.said
    assert path.read_text() == before
    assert mode_of(answers) == 0o600
    assert yaml.safe_load(answers.read_text()) == {"keep": "yes", "site": "hq", "door": "side"}
    with Keyboard("-c", str(path), "--answers", str(answers), *sets({**ANSWERS, "door": "side"})) as keys:
        keys.answer("Relay: level", "")
        keys.expect("Exit button")
        keys.process.send_signal(signal.SIGHUP)  # the connection is lost
        assert keys.ends() == 130
    assert path.read_text() == before


def test_ctrl_c_before_the_picture_leaves_no_picture(tmp_path):
    path, picture = tmp_path / "config.yaml", tmp_path / "seen.png"
    told = sets({**ANSWERS, "rex_line": "none", "tamper_line": "none", "unlock_s": "3", "broker": "none"})
    told += sets({"relay_active": "high", "picture": "yes", "picture_path": str(picture)})
    with Keyboard("-c", str(path), "--simulation", *told) as keys:
        keys.answer("Enter ends it.", "")
        keys.expect("Delete it now?")
        assert picture.exists()
        keys.type("\x03")
        assert keys.ends() == 130
    assert not picture.exists()
    assert not path.exists()


def test_answers_in_advance_ask_nothing_and_a_second_run_keeps_what_it_does_not_ask(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    answers = tmp_path / "answers.yaml"
    answers.write_text(yaml.safe_dump(ANSWERS | {"relay_line": 17, "try_dps": False}))
    told = ["--simulation", "--no-questions", "--answers", str(answers)]
    assert main(["setup", "-c", str(path), *told]) == 0
    assert REFUSED in capsys.readouterr().out
    first = path.read_text()
    assert mode_of(path) == 0o640
    path.write_text(f"{first}rights_file: /etc/doord/rights.yaml # mine\n")
    path.chmod(0o600)
    edited = path.read_text()
    code, _ = scripted(path, capsys, door="side")
    assert code == 0
    config = load_config(path)
    assert (config.door_id, config.rights_file) == ("side", "/etc/doord/rights.yaml")
    assert (tmp_path / "config.yaml.bak").read_text() == edited
    assert (mode_of(path), mode_of(tmp_path / "config.yaml.bak")) == (0o600, 0o600)


def test_a_configuration_that_can_not_be_used_is_kept_and_replaced(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("site: [\n")
    code, out = scripted(path, capsys)
    assert (code, "It can't be used; a new one will replace it" in out) == (0, True)
    assert (tmp_path / "config.yaml.bak").read_text() == "site: [\n"
    assert load_config(path).site == "hq"


def test_who_does_not_want_it_written_gets_nothing_written(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    code, out = scripted(path, capsys, write="no")
    assert (code, "Nothing was written." in out, path.exists()) == (1, True, False)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"site": "H Q"}, "setup: site: site: expected text matching"),
        ({"relay_line": "RELAY"}, "setup: relay_line: door.relay.line: expected an offset such as 17"),
        ({"relay_active": "up"}, "setup: relay_active: door.relay.active:"),
        ({"unlock_s": "soon"}, "setup: unlock_s: expected seconds, got 'soon'"),
        ({"dps_line": "17"}, "setup: dps_line: door.dps.line: expected a line that door.relay.line has not"),
        ({"broker": "a b"}, "setup: broker: mqtt.host: expected text matching"),
        ({"relay_locked": "maybe"}, "setup: relay_locked: expected yes, no or skip, got 'maybe'"),
        ({"lock": "yes"}, "setup: lock: no such question; doord setup --keys lists them"),
    ],
)
def test_an_answer_that_can_not_be_is_refused_in_one_line(tmp_path, capsys, changed, says):
    told = sets({**ANSWERS, **changed})
    path = tmp_path / "config.yaml"
    code = main(["setup", "-c", str(path), "--simulation", "--no-questions", *told])
    err = capsys.readouterr().err
    assert (code, says in err, err.count("\n")) == (78, True, 1), err
    assert not path.exists()


def test_what_nobody_can_guess_must_be_answered(tmp_path, capsys):
    told = {key: answer for key, answer in ANSWERS.items() if key != "relay_line"}
    code = main(["setup", "-c", str(tmp_path / "c.yaml"), "--simulation", "--no-questions", *sets(told)])
    assert code == 78
    assert "setup: relay_line: expected an answer: --set relay_line=..." in capsys.readouterr().err


def test_every_question_has_a_key_that_is_listed(capsys):
    assert main(["setup", "--keys"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(KEYS)


def test_setup_is_refused_beside_a_running_daemon(tmp_path, capsys):
    site = Site(tmp_path, camera={"source": f"folder:{PICTURES}"})
    with site.running():
        site.wait_for("not armed")
        wait_until((tmp_path / "control.sock").exists, "the socket")
        code = main(["setup", "-c", str(site.path), "--no-questions"])
    assert code == 78
    assert "doord runs and holds lines and camera: systemctl stop doord" in capsys.readouterr().err


def test_the_report_of_a_simulation_is_refused_with_one_line(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    scripted(path, capsys)
    assert main(["setup", "-c", str(path), "--report", "--no-questions"]) == 1
    assert capsys.readouterr().out == f"{REFUSED}\n"
    assert not (tmp_path / "commissioning.txt").exists()


# the lines, with gpiod in memory


DOOR = DoorConfig(RelayConfig(17), dps=ContactConfig(27), rex=ButtonConfig(22))


def at_rest(fake) -> None:
    fake.put(22, 1)  # a released button; the contact is closed


def terminal(**answers: str | list[str]) -> tuple[Terminal, Screen]:
    screen = Screen()
    told = {key: [word] if isinstance(word, str) else word for key, word in answers.items()}
    return Terminal(told, None, screen), screen


def tried(gpiod, talk: Terminal, may_turn: bool = True, wait_s: float = 5.0, door: DoorConfig = DOOR):
    fake = gpiod()
    at_rest(fake)
    level, outcomes = lines_trial.try_lines(Config("hq", "front", door), talk, wait_s, may_turn)
    assert not fake.open
    return level, {o.part: o for o in outcomes}, fake


def test_the_relay_is_locked_released_for_a_second_and_locked(gpiod):
    talk, _ = terminal(relay_locked="yes", relay_released="yes")
    level, found, fake = tried(gpiod, talk)
    assert level == "high"
    assert [drive for drive in fake.drives if drive[0] == 17][:4] == [(17, 0), (17, 1), (17, 0), (17, 0)]
    assert fake.drives[-1] == (17, 0)
    assert found["relay"].result == "passed"
    assert "unlocks high: seen locked, released for 1 s, locked again" in found["relay"].words
    assert found["door contact"].result == "not tested"  # nobody's hands were there


def test_a_lock_that_is_released_at_the_locked_level_turns_the_polarity_at_once(gpiod):
    talk, _ = terminal(relay_locked=["no", "yes"], relay_released="yes")
    level, found, fake = tried(gpiod, talk)
    assert (level, found["relay"].result) == ("low", "passed")
    levels = [drive[1] for drive in fake.drives if drive[0] == 17]
    assert set(levels[: levels.index(1)]) == {0}
    assert levels[-1] == 1  # locked, as it is now known
    assert levels.count(0) - levels[: levels.index(1)].count(0) == 1  # released once


def test_a_report_alone_does_not_turn_the_polarity_but_says_so(gpiod):
    talk, _ = terminal(relay_locked="no")
    level, found, _ = tried(gpiod, talk, may_turn=False)
    assert level == "high"
    assert (found["relay"].result, "active: low" in found["relay"].words) == ("failed", True)


@pytest.mark.parametrize(
    ("answers", "result", "says"),
    [
        ({}, "not tested", "nobody said what the lock did"),
        ({"try_relay": "no"}, "not tested", "did not want to"),
        ({"relay_locked": "yes"}, "not tested", "nobody said"),
        ({"relay_locked": "yes", "relay_released": "no"}, "failed", "the lock did not move"),
        ({"relay_locked": "no"}, "failed", "at both levels"),
    ],
)
def test_what_was_not_seen_is_not_called_tested(gpiod, answers, result, says):
    talk, _ = terminal(**answers)
    _, found, _ = tried(gpiod, talk)
    assert (found["relay"].result, says in found["relay"].words) == (result, True)


def test_ctrl_c_in_the_middle_of_a_release_locks(gpiod, monkeypatch):
    fake = gpiod()
    at_rest(fake)
    talk, _ = terminal(relay_locked="yes")

    def interrupted(_seconds: float) -> None:
        assert fake.drives[-1] == (17, 1)  # released
        raise KeyboardInterrupt

    monkeypatch.setattr(lines_trial.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lines_trial.try_lines(Config("hq", "front", DOOR), talk, 1.0, True)
    assert fake.drives[-1] == (17, 0)
    assert not fake.open


def test_contact_and_button_are_seen_to_change_and_to_come_back(gpiod):
    talk, screen = terminal(try_relay="no", try_dps="yes", try_rex="yes")
    fake = gpiod()
    at_rest(fake)
    screen.when("Open the door", lambda: soon(lambda: fake.put(27, 1)))
    screen.when("Press the exit button", lambda: soon(lambda: fake.put(22, 0)))
    screen.when("  seen", lambda: soon(lambda: (fake.put(27, 0), fake.put(22, 1))))
    _, outcomes = lines_trial.try_lines(Config("hq", "front", DOOR), talk, 5.0, True)
    found = {o.part: o for o in outcomes}
    assert found["door contact"] == passed(
        "door contact", "/dev/gpiochip0 line 27 became active and came back"
    )
    assert found["exit button"].result == "passed"
    assert found["case contact"] == untested("case contact", "none is configured")


def test_a_contact_that_never_changes_or_is_active_at_rest_failed(gpiod):
    talk, _ = terminal(try_relay="no", try_dps="yes", try_rex="yes")
    fake = gpiod()
    fake.put(22, 0)  # a button wired the wrong way round
    _, outcomes = lines_trial.try_lines(Config("hq", "front", DOOR), talk, 0.1, True)
    found = {o.part: o.words for o in outcomes if o.result == "failed"}
    assert found == {
        "door contact": "/dev/gpiochip0 line 27 did not become active in 0.1 s",
        "exit button": "/dev/gpiochip0 line 22 is active while nobody touches it: "
        "pull, active, or a cut wire",
    }


def test_a_line_that_can_not_be_claimed_is_a_failed_trial_and_no_end(gpiod):
    talk, _ = terminal(relay_locked="yes")
    gpiod(held={27: "spi0 CS0"})
    _, outcomes = lines_trial.try_lines(Config("hq", "front", DOOR), talk, 0.1, True)
    assert [o.result for o in outcomes] == ["failed"]
    assert 'held by "spi0 CS0"' in outcomes[0].words


# the whole, with real models, a real broker, and lines and a visitor that move


@pytest.fixture
def on_site(tmp_path, gpiod, monkeypatch):
    """A unit with gpiod in memory and a visitor before the camera, and its installer's screen."""
    fake = gpiod()
    at_rest(fake)
    visitor = Visitor()
    screen = Screen()
    screen.when("step out of view", lambda: soon(visitor.go, 0.2))
    screen.when("before the camera.", lambda: soon(visitor.come, 0.3))
    unit = Unit(
        tmp_path / "config.yaml",
        tmp_path / "commissioning.txt",
        wait_s=20.0,
        open_source=lambda _config: visitor,
    )
    return unit, screen, fake


def test_a_real_door_ends_with_a_report_of_what_was_tried_and_what_was_not(on_site, tmp_path):
    unit, screen, fake = on_site
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue("front")
    acl = tmp_path / "acl"
    acl.write_text("pattern readwrite doord/hq/door/%u/fence\n")
    with Broker(tmp_path, *tls_conf(authority), f"acl_file {acl}") as broker:
        told = {
            **ANSWERS,
            "camera": "/dev/video0",
            "try_dps": "no",
            "latency": "yes",
            "broker": "127.0.0.1",
            "broker_port": str(broker.port),
            "broker_ca": str(authority.path),
            "broker_cert": str(cert),
            "broker_key": str(key),
            "people": "40",
            "installer": "A. Installer",
        }
        talk = Terminal({key: [answer] for key, answer in told.items()}, None, screen)
        code = run_setup(unit, talk)
    report = unit.report.read_text()
    assert report in screen.getvalue()
    assert mode_of(unit.report) == 0o640
    tested, rest = report.split("\nTESTED, AND NOT AS IT SHOULD BE\n")
    flawed, rest = rest.split("\nNOT TESTED\n")
    untried, rest = rest.split("\nWIRING\n")
    assert "Commissioning report: door front of site hq" in tested
    assert "by A. Installer" in tested
    assert "relay" in tested
    assert "seen locked, released for 1 s, locked again" in " ".join(tested.split())
    assert "(5 of 5 visits granted; without the record of the event)" in " ".join(tested.split())
    assert "expected 0.09% of strangers' tries among 40 people x 3 templates" in " ".join(tested.split())
    assert "the door's own topic was written and read back" in " ".join(tested.split())
    assert "front.pem ends on" in " ".join(flawed.split())  # certificates of a day
    assert code == 1
    assert "door contact" in untried
    assert "dps" in rest
    assert "line 27, active high" in rest
    assert "facenet-512-int8-1" in rest
    assert "relay_locked, relay_released" in " ".join(rest.split())  # said by a file, and so it stands there
    for words in UNTOLD:
        assert " ".join(words.split()) in " ".join(rest.split())
    assert "Presentation attacks: pad.mode is enforce, and no attack was tried" in " ".join(rest.split())
    assert fake.drives[-1] == (17, 0)
    assert not fake.open


def test_the_report_alone_is_made_again_without_touching_the_configuration(on_site):
    unit, screen, _ = on_site
    unit.path.write_text(
        "site: hq\ndoor_id: front\ndoor: {relay: {line: 17}} # mine\ncamera: {source: /dev/video0}\n"
        "pad: {mode: monitor}\n"
    )
    before = unit.path.read_text()
    unit.report.write_text("the one before\n")
    talk = Terminal({"aim_s": ["1"], "people": ["500"]}, None, screen)
    assert run_report(unit, talk) == 1
    report = " ".join(unit.report.read_text().split())
    assert "latency not measured: models and relay have to work first" in report
    assert "use card + face" in report  # 1,500 templates are too many for a face alone
    assert "Presentation attacks: pad.mode is monitor: a photograph can open this door." in report
    assert unit.path.read_text() == before
    assert unit.report.with_name("commissioning.txt.bak").read_text() == "the one before\n"


def test_without_a_face_nothing_is_said_of_one(on_site):
    unit, screen, _ = on_site
    visitor = unit.open_source(None)
    visitor.go()
    unit.path.write_text("site: hq\ndoor_id: front\ndoor: {relay: {line: 17}}\n")
    run_report(unit, Terminal({"aim_s": ["1"]}, None, screen))
    report = " ".join(unit.report.read_text().split())
    assert "face nobody good enough to compare stood there" in report
    assert visitor.closed


# the parts


JSON = st.recursive(
    st.text(st.characters(codec="utf-8"), max_size=20)
    | st.integers(-(10**9), 10**9)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcdefghij_", min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcdefghij_", min_size=1, max_size=8), JSON, min_size=1, max_size=5))
def test_what_is_rendered_reads_back_as_it_was(data):
    assert parse_yaml(render(data), "config.yaml") == data


@pytest.mark.parametrize(
    "word", ["no", "on", "22:30", "010", "1e3", "~", "null", "a: b", "# x", "-", "=", ""]
)
def test_words_that_yaml_takes_for_something_else_stay_words(word):
    assert parse_yaml(render({"key": word}), "config.yaml") == {"key": word}


def test_the_shipped_configuration_survives_being_rendered():
    shipped = PICTURES.parents[1] / "config.yaml"
    data = parse_yaml(shipped.read_text(), "config.yaml")
    assert parse_config(render(data)) == load_config(shipped)


def test_a_value_is_put_and_taken_without_touching_the_data_before():
    before = {"door": {"relay": {"line": 1}}}
    assert put(before, "door.dps.line", 2) == {"door": {"relay": {"line": 1}, "dps": {"line": 2}}}
    assert put(before, "door.relay", None) == {"door": {}}
    assert before == {"door": {"relay": {"line": 1}}}


def test_a_camera_of_the_list_is_named_by_what_stays():
    camera = devices.Camera("/dev/v4l/by-id/usb-cam-index0", "/dev/video2", "Cam")
    talk, _ = terminal(**{**ANSWERS, "camera": "1"})
    data = ask_all(talk, {}, Found([camera]))
    assert data["camera"]["source"] == "/dev/v4l/by-id/usb-cam-index0"
    talk, _ = terminal(**{**ANSWERS, "camera": "2"})
    assert ask_all(talk, {}, Found([camera]))["camera"]["source"] == "2"  # V4L2's index


def test_a_camera_in_plain_text_must_be_accepted_by_name():
    plain = {**ANSWERS, "camera": "rtsp://camera.example/live"}
    talk, _ = terminal(**plain, camera_insecure="yes", broker="none")
    assert ask_all(talk, {}, Found())["camera"]["insecure"] is True
    talk, _ = terminal(**plain, camera_insecure="no", broker="none")
    with pytest.raises(ConfigError, match=r"camera\.source: expected rtsps://, or camera\.insecure: true"):
        ask_all(talk, {}, Found())
    talk, _ = terminal(**{**ANSWERS, "camera": "rtsps://camera.example/live"}, broker="none")
    assert "insecure" not in ask_all(talk, {}, Found())["camera"]


def test_a_broker_that_is_no_longer_wanted_goes_with_its_tls():
    before = {"mqtt": {"host": "old", "tls": {"ca": "/ca.pem"}}}
    answers = {**ANSWERS, "camera": "0"}
    talk, _ = terminal(**answers, broker="none")
    assert "mqtt" not in ask_all(talk, before, Found())
    talk, _ = terminal(**answers, broker_ca="none")
    assert ask_all(talk, before, Found())["mqtt"] == {"host": "old", "port": 8883}


def test_what_a_door_of_a_site_says_of_its_broker_outlives_another_setup():
    before = {"mqtt": {"acks": "collector", "heartbeat_s": 30}}
    talk, _ = terminal(**{**ANSWERS, "camera": "0"}, broker="none")
    assert ask_all(talk, before, Found())["mqtt"] == before["mqtt"]


def test_a_broker_s_password_is_asked_for_by_its_place_and_goes_with_the_name():
    answers = {**ANSWERS, "camera": "0", "broker": "b", "broker_ca": "none"}
    talk, _ = terminal(**answers, broker_user="front", broker_password="credential:broker.password")
    data = ask_all(talk, {}, Found())
    kept = {"username": "front", "password_file": "credential:broker.password"}
    assert data["mqtt"] == {"host": "b", "port": 8883, **kept}
    talk, _ = terminal(**answers, broker_user="none")
    assert ask_all(talk, data, Found())["mqtt"] == {"host": "b", "port": 8883}


@pytest.mark.parametrize(
    ("driver", "capabilities", "device", "is_camera"),
    [
        (b"uvcvideo", 0x84A00001, 0x04200001, True),
        (b"uvcvideo", 0x84A00001, 0x04A00000, False),  # its metadata node
        (b"bcm2835-codec", 0x84208000, 0x04208001, False),
        (b"vivid", 0x00000001, 0, True),
    ],
)
def test_of_v4l2_devices_those_that_film_are_cameras(
    tmp_path, monkeypatch, driver, capabilities, device, is_camera
):
    (tmp_path / "video0").write_text("")
    (tmp_path / "v4l/by-id").mkdir(parents=True)
    (tmp_path / "v4l/by-id/usb-x-index0").symlink_to(tmp_path / "video0")

    def ioctl(_fd: int, number: int, answer: bytearray) -> int:
        assert (number, len(answer)) == (0x80685600, 104)  # linux/videodev2.h: VIDIOC_QUERYCAP
        answer[:] = devices._CAPABILITY.pack(driver, b"Cam", b"usb", 1, capabilities, device)
        return 0

    monkeypatch.setattr(devices.fcntl, "ioctl", ioctl)
    found = devices.cameras(tmp_path)
    wanted = [devices.Camera(f"{tmp_path}/v4l/by-id/usb-x-index0", f"{tmp_path}/video0", "Cam")]
    assert found == (wanted if is_camera else [])


def test_a_report_with_a_failed_trial_is_not_flawless():
    def report(*outcomes) -> Commissioning:
        return Commissioning("hq", "front", "now", "", outcomes, [], [])

    assert report(passed("a", "x"), untested("b", "y")).flawless
    assert not report(failed("a", "x")).flawless
    assert "\n  nothing\n" in report().text()


def test_a_terminal_that_is_gone_ends_it():
    with pytest.raises(KeyboardInterrupt):
        Terminal({}, io.StringIO(""), io.StringIO()).ask("site", "Site", None, str)


def test_answers_that_are_no_mapping_are_refused(tmp_path, capsys):
    (tmp_path / "a").write_text("[1]")
    assert main(["setup", "--answers", str(tmp_path / "a")]) == 78
    assert "expected lines such as `door: front`" in capsys.readouterr().err
    assert main(["setup", "--set", "site"]) == 78
    assert "expected KEY=ANSWER" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        parse_config(json.dumps({"site": "hq"}))
