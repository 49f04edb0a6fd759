"""A bad configuration gives one clear line that names file, path, what was expected and what came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import load_config, parse_config, shown_source
from edge.errors import ConfigError

GOOD = """
site: hq
door_id: front
door: {relay: {line: 17}, unlock_s: 3}
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_three_keys_are_enough_and_the_defaults_are_the_documented_ones():
    config = parse_config(GOOD)
    assert (config.decision.threshold, config.decision.margin) == (0.7, 0.10)
    assert (config.decision.confirm, config.decision.confirm_of) == (2, 3)
    assert (config.door.unlock_s, config.camera.max_frame_age_ms, config.simulation) == (3, 500, False)


def test_a_camera_may_be_an_index_without_quotes():
    assert parse_config(GOOD + "camera: {source: 0}\n").camera.source == 0


def test_the_shipped_config_is_valid():
    assert load_config(Path(__file__).parents[1] / "config.yaml").door_id == "front"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("door: {relay: {line: 17}, unlock_s: 500}", "door.unlock_s: expected a value <= 60.0, got 500"),
        ("door: {relay: {line: 17}, unlock_ms: 3000}", "door.unlock_ms: unknown key; did you mean unlock_s?"),
        ("door: {relay: {line: 17}, unlock_s: 3s}", "door.unlock_s: expected float, got '3s'"),
        ("door: {relay: {line: 17}, unlock_s: 22:30}", "door.unlock_s: expected float, got '22:30'"),
        (
            "door: {relay: {line: 017}}",
            "door.relay.line: expected an offset such as 17, or name:LINE, got 017",
        ),
        ("door: {relay: {line: 17, chip: gpiochip0}}", "door.relay.chip: expected text matching"),
        (
            "door: {relay: {line: 17}, rex: {line: 17}}",
            "door.rex.line: expected a line that door.relay.line has",
        ),
        (
            "door: {relay: {line: 17, chip: 'label:x'}, dps: {line: 4}, rex: {line: 4, chip: 'label:x'}}",
            "door.rex.line: expected a line that door.dps.line has not taken, got 4",
        ),
        (
            "door: {relay: {line: 17}, dps: {line: 4, debounce_ms: 0}}",
            "door.dps.debounce_ms: expected a value",
        ),
        ("door: {relay: {line: 17}, open_s: 2}", "door.open_s: expected at least unlock_s (3), got 2"),
        (
            "door: {relay: {line: 17}, extended_unlock_s: 2}",
            "door.extended_unlock_s: expected at least unlock_s (3), got 2",
        ),
        (
            "door: {relay: {line: 17}, extended_open_s: 20}",
            "door.extended_open_s: expected at least open_s (30)",
        ),
        (
            "door: {relay: {line: 17}, pre_alarm_s: 30}",
            "door.pre_alarm_s: expected less than open_s (30), got 30",
        ),
        (
            "door: {relay: {line: 17}, relock: on_open}",
            "door.relock: expected a dps beside on_open, got none",
        ),
        ("door: {relay: {line: 17}, max_unlocked_s_per_hour: 5}", "door.max_unlocked_s_per_hour: expected a"),
        ("door: {relay: {line: 17, active: off}}", "door.relay.active"),
        ("door: {unlock_s: 3}", "door.relay: is missing"),
    ],
)
def test_a_wrong_door_is_refused_with_its_path(change, says):
    text = f"site: hq\ndoor_id: front\n{change}\n"
    assert refusal(text).startswith(f"config.yaml: {says}")


@pytest.mark.parametrize("threshold", ["0.71", "0.7000001", "2", "0", "-0.1", ".nan", ".inf", "yes"])
def test_a_threshold_above_the_ceiling_or_without_meaning_is_refused(threshold):
    assert "decision.threshold" in refusal(GOOD + f"decision: {{threshold: {threshold}}}")


@given(st.floats(min_value=0.01, max_value=0.7))
def test_any_threshold_up_to_the_ceiling_is_taken(threshold):
    assert parse_config(GOOD + f"decision: {{threshold: {threshold!r}}}").decision.threshold == threshold


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "site: other\n", "line 5, column 1: the key 'site' stands here twice"),
        (GOOD + "colour: red\n", "colour: unknown key"),
        (
            GOOD + "camera: {max_frame_age_s: 1}\n",
            "camera.max_frame_age_s: unknown key; did you mean max_frame_age_ms?",
        ),
        (GOOD + "a: [1, 2\n", "line 6, column 1: expected ',' or ']', but got '<stream end>'"),
        (GOOD + "camera: &x {fps: 5}\nquality: *x\n", "aliases are not allowed here"),
        (GOOD + "camera: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("- a list", "the whole file: expected keys with values, got"),
        ("", "the whole file: expected keys with values, got"),
        (
            "site: HQ\ndoor_id: front\ndoor: {relay: {line: 1}}",
            "site: expected text matching ^[a-z0-9-]{1,32}$, got 'HQ'",
        ),
        ('site: "hq\\n"\ndoor_id: front\ndoor: {relay: {line: 1}}', "site: expected text matching"),
        (
            GOOD + "camera: {source: 'file:clip.avi'}\n",
            "camera.source: expected a real camera unless simulation: true",
        ),
        (
            GOOD + "decision: {confirm: 4, confirm_of: 3}\n",
            "decision.confirm: expected at most confirm_of (3), got 4",
        ),
        (GOOD + "quality: {min_pitch: 0.9, max_pitch: 0.5}\n", "quality.min_pitch"),
        (GOOD + "pad: {mode: strong}\n", "pad.mode"),
        (GOOD + "pad: {live: -.inf}\n", "pad.live"),
        (GOOD + "pad: {live: .nan}\n", "pad.live"),
        (GOOD + "pad: {unsure: .nan}\n", "pad.unsure"),
        (GOOD + "mqtt: {port: 1}\n", "mqtt.host: expected a broker beside its port, tls or username"),
        (GOOD + "mqtt: {tls: {ca: a}}\n", "mqtt.host: expected a broker beside its port, tls or username"),
        (GOOD + "mqtt: {host: 'mqtt://b'}\n", "mqtt.host: expected text matching"),
        (GOOD + "mqtt: {host: b, tls: true}\n", "mqtt.tls: expected keys with values | null, got True"),
        (GOOD + "camera: {source: video0}\n", "camera.source: expected an index, a /dev path, http://"),
        (GOOD + "camera: {source: 'onvif://a:b@c/d?e=f'}\n", "got onvif://...@c/d?..."),
        (
            GOOD + "camera: {source: 'rtsp://a:b@c/d?e=f'}\n",
            "camera.source: expected rtsps://, or camera.insecure: true (a network can read and forge the "
            "picture), got rtsp://...@c/d?...",
        ),
        (GOOD + "camera: {source: 'http://cam.local/v'}\n", "camera.source: expected https://, or camera."),
        (GOOD + "camera: {source: 'http://127.0.0.1.evil/v'}\n", "camera.source: expected https://, or"),
        (
            GOOD + "camera: {source: 'rtsp://a:p@ss@c/d', insecure: true}\n",
            "got a malformed URL, rtsp://...@c/d",
        ),
        (
            GOOD + "camera: {source: 'rtsp://a:p/ss@c/d', insecure: true}\n",
            "got a malformed URL, rtsp://...@c/d",
        ),
        (
            GOOD + "camera: {source: 'rtsp://a:p#ss@c/d', insecure: true}\n",
            "got a malformed URL, rtsp://...@c/d",
        ),
        (GOOD + "camera: {source: 'rtsp://c:0/d', insecure: true}\n", "camera.source: expected scheme://["),
        (
            GOOD + "camera: {source: 'rtsps://c/d', transport: udp}\n",
            "camera.transport: expected tcp with rtsps",
        ),
        (
            GOOD + "camera: {source: 'rtsp://c/d', ca_file: /x, insecure: true}\n",
            "camera.ca_file: expected rtsps:// beside it, got rtsp://c/d",
        ),
        (GOOD + "camera: {source: 'picamera2:x'}\n", "camera.source: expected an index"),
        (GOOD + "camera: {rotation: 45}\n", "camera.rotation"),
        (
            GOOD + "camera: {region: [0.5, 0, 0.6, 1]}\n",
            "camera.region: expected [x, y, w, h] inside [0, 0, 1, 1]",
        ),
        (GOOD + "camera: {region: [0, 0, 0, 1]}\n", "camera.region: expected [x, y, w, h] inside"),
        (GOOD + "camera: {region: [0, 0, 1]}\n", "camera.region"),
        (GOOD + "state_dir: state\n", "state_dir: expected text matching ^/, got 'state'"),
        (GOOD + f"socket: /{'x' * 107}\n", "socket: expected a path of at most 107 bytes"),
        (GOOD + "decision: {cooldown_s: 0}\n", "decision.cooldown_s"),
        (GOOD + "models: {runtime: ai-edge-litert}\n", "models.runtime: "),
        (GOOD + "models: {delegate: libgpu.so}\n", "models.delegate: expected text matching"),
        (GOOD + "models: {delegate_options: {a: b}}\n", "models.delegate: expected the path of a library"),
        (GOOD + "models: {delegate: /a.so, delegate_options: {a: 1}}\n", "models.delegate_options"),
        (GOOD + "mqtt: {host: h, tls: {ca: a, cert: b}}\n", "mqtt.tls.cert: expected cert and key together"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text, says):
    assert says in refusal(text)


def test_a_missing_and_a_binary_file_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"site: \xff\xfe")
    with pytest.raises(ConfigError, match="expected UTF-8 text, got byte 0xff"):
        load_config(tmp_path / "b.yaml")


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fall_over(text):
    assert "\n" not in answer(text)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda c: (
            st.lists(c, max_size=3)
            | st.dictionaries(
                st.sampled_from(["site", "door_id", "door", "relay", "camera", "mqtt", "tls", "x"]),
                c,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_no_data_makes_the_explanation_fall_over(data):
    assert "\n" not in answer("{}" if _has_nan(data) else json.dumps(data))


def answer(text: str) -> str:
    """The refusal's words; empty when the text was taken."""
    try:
        parse_config(text)
    except ConfigError as error:
        return str(error)
    return ""


def _has_nan(data) -> bool:
    if isinstance(data, float):
        return data != data or data in (float("inf"), float("-inf"))
    if isinstance(data, dict):
        return any(map(_has_nan, data.values()))
    return isinstance(data, list) and any(map(_has_nan, data))


def test_a_door_with_all_its_lines_is_taken():
    door = parse_config(
        "site: hq\ndoor_id: front\ndoor:\n"
        "  relay: {chip: 'label:pinctrl-rp1', line: 'name:RELAY', active: low}\n"
        "  dps: {line: 4, pull: off}\n  rex: {line: 5, debounce_ms: 20}\n  tamper: {line: 6}\n"
        "  sounder: {line: 7}\n  led: {line: 17, chip: /dev/gpiochip1}\n"
        "  relock: on_open\n  unlock_s: 25\n"
    ).door
    assert list(door.lines()) == ["relay", "dps", "rex", "tamper", "sounder", "led"]
    assert (door.dps.active, door.rex.active, door.rex.pull) == ("high", "low", "up")
    assert (door.release_s(False), door.release_s(True)) == (25, 60)
    assert (door.may_stand_open_s(False), door.may_stand_open_s(True)) == (30, 60)


@pytest.mark.parametrize(
    "camera",
    [
        "source: 'rtsp://127.0.0.1:8554/live'",
        "source: 'http://[::1]/v'",
        "source: 'http://localhost:8080/v'",
        "source: 'rtsp://10.0.0.9/live', insecure: true, transport: udp",
        "source: 'rtsps://u:p%40ss@camera.example/live', ca_file: /etc/doord/camera.pem",
        "source: 'https://camera.example/video.mjpg'",
        "source: picamera2",
        "source: 'picamera2:1', rotation: 270, region: [0.1, 0.0, 0.8, 1.0]",
        "source: 'gstreamer:nvarguscamerasrc ! appsink'",
    ],
)
def test_what_a_camera_may_be(camera):
    parse_config(GOOD + f"camera: {{{camera}}}\n")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://u:p@c/d", "rtsp://...@c/d"),
        ("rtsp://u:p@x@c/d", "rtsp://...@c/d"),
        ("rtsp://u:p/x@c/d", "rtsp://...@c/d"),
        ("rtsp://u:p?x@c/d?y=z", "rtsp://...@c/d?..."),
        ("rtsp://c:554/user=admin_password=tl_channel=1.sdp", "rtsp://c:554/..."),
        ("gstreamer:rtspsrc location=rtsp://u:p@c user-pw=p ! appsink", "gstreamer:..."),
        ("/dev/v4l/by-id/usb-a=b", "/dev/v4l/by-id/usb-a=b"),
        (0, "0"),
    ],
)
def test_no_part_of_a_password_is_shown(source, shown):
    assert shown_source(source) == shown


def test_check_config_says_that_a_camera_is_readable(tmp_path, capsys):
    from edge.cli import main

    path = tmp_path / "config.yaml"
    path.write_text(GOOD + "camera: {source: 'rtsp://u:secret@10.0.0.9/live', insecure: true}\n")
    assert main(["check-config", str(path)]) == 0
    said = capsys.readouterr().out
    assert "note: camera.insecure: whoever is on the camera's network can read and forge its picture" in said
    assert "secret" not in said
