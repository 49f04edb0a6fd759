"""What setup asks, as a table; each answer is judged by the parser that the daemon uses."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge.config import is_plain, parse_config
from edge.door.chips import ChipLines
from edge.errors import ConfigError
from edge.tools.doctor.boot import HEADER_CHIPS
from edge.tools.setup.config_text import Data, get, put, render
from edge.tools.setup.devices import Camera
from edge.tools.setup.talk import Talk

_NONE = "none"
_GOES_WITH = {
    "mqtt.tls.cert": "mqtt.tls.key",
    "mqtt.username": "mqtt.password_file",
}  # without the first no second
_STAND_IN: tuple[tuple[str, object], ...] = (("site", "hq"), ("door_id", "front"), ("door.relay.line", 0))


@dataclass(frozen=True, slots=True)
class Found:
    """What this machine has."""

    cameras: Sequence[Camera] = ()
    chips: Sequence[ChipLines] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One row: its key for flags and answer files, where the answer stands in the file, the words."""

    key: str
    path: str
    words: str
    default: Callable[[Found], str | None] = lambda _found: None  # None: somebody has to say
    only_if: str = ""  # asked only where this path has a value
    when: Callable[[Data], bool] = lambda _data: True  # ... and the answers so far say so
    convert: Callable[[str], object] = str


def _number(answer: str) -> object:
    return int(answer) if answer.isascii() and answer.isdecimal() else answer


def _seconds(answer: str) -> object:
    try:
        return float(answer) if "." in answer else int(answer)
    except ValueError:
        raise ValueError(f"expected seconds, got {answer!r:.40}") from None


def _consent(answer: str) -> object:
    if answer not in ("yes", "no"):
        raise ValueError(f"expected yes or no, got {answer!r:.40}")
    return answer == "yes"


def _said(word: str) -> Callable[[Found], str]:
    return lambda _found: word


def _host_name(_found: Found) -> str:
    return re.sub("[^a-z0-9-]", "-", socket.gethostname().split(".")[0].lower())[:32] or "front"


def _first_camera(found: Found) -> str | None:
    return found.cameras[0].source if found.cameras else None


def _likely_chip(found: Found) -> str | None:
    labels = [chip.label for chip in found.chips]
    known = [label for label in HEADER_CHIPS if label in labels] or labels[:1]
    if known and labels.count(known[0]) == 1:
        return f"label:{known[0]}"
    return found.chips[0].path if found.chips else "/dev/gpiochip0"


QUESTIONS: tuple[Question, ...] = (
    Question("site", "site", "Site, an id such as hq", _said("hq")),
    Question("door", "door_id", "This door, an id such as front", _host_name),
    Question(
        "camera", "camera.source", "Camera: number of the list, device, picamera2, or URL", _first_camera
    ),
    Question(
        "camera_insecure",
        "camera.insecure",
        "Its picture crosses the network readable and forgeable: accept that? (yes; no: give it as TLS)",
        convert=_consent,
        when=lambda data: is_plain(get(data, "camera.source")),
    ),
    Question(
        "camera_rotation",
        "camera.rotation",
        "Degrees to turn its picture clockwise: 0, 90, 180, 270",
        _said("0"),
        convert=_number,
    ),
    Question("chip", "door.relay.chip", "GPIO chip of the relay: label:..., or a device", _likely_chip),
    Question("relay_line", "door.relay.line", "Relay: line, as an offset or name:LINE", convert=_number),
    Question("relay_active", "door.relay.active", "Relay: level that unlocks, high or low", _said("high")),
    Question("dps_line", "door.dps.line", "Door contact: line, or none", _said(_NONE), convert=_number),
    Question("rex_line", "door.rex.line", "Exit button: line, or none", _said(_NONE), convert=_number),
    Question("tamper_line", "door.tamper.line", "Case contact: line, or none", _said(_NONE), convert=_number),
    Question("unlock_s", "door.unlock_s", "Seconds a grant releases the lock", _said("3"), convert=_seconds),
    Question(
        "broker", "mqtt.host", "Broker's name, or none (a door of a site: none, doord join)", _said(_NONE)
    ),
    Question("broker_port", "mqtt.port", "Broker's port", _said("8883"), "mqtt.host", convert=_number),
    Question(
        "broker_ca", "mqtt.tls.ca", "Broker: file of its CA, or none: no TLS", _said(_NONE), "mqtt.host"
    ),
    Question("broker_cert", "mqtt.tls.cert", "This door's certificate, or none", _said(_NONE), "mqtt.tls.ca"),
    Question("broker_key", "mqtt.tls.key", "Its key: file, or credential:NAME", only_if="mqtt.tls.cert"),
    Question("broker_user", "mqtt.username", "User name at the broker, or none", _said(_NONE), "mqtt.host"),
    Question(
        "broker_password",
        "mqtt.password_file",
        "Its password: file, or credential:NAME (README, Keys)",
        only_if="mqtt.username",
    ),
)

KEYS: dict[str, str] = {question.key: question.words for question in QUESTIONS} | {
    "keep": "Go on from the configuration that is there? (yes, no)",
    "aim_s": "Seconds to look through the camera where nobody sits at a terminal",
    "picture": "Write one picture with faces? (yes, no)",
    "picture_path": "Where",
    "picture_delete": "Delete it at once? (yes, no)",
    "try_relay": "Try the relay? (yes, no)",
    "relay_locked": "Is the lock locked? (yes, no, skip; a list: one answer each time)",
    "relay_released": "Did the lock release and lock again? (yes, no, skip)",
    "try_dps": "Try the door contact? (yes, no)",
    "try_rex": "Try the exit button? (yes, no)",
    "try_tamper": "Try the case contact? (yes, no)",
    "latency": "Measure the latency? (yes, no)",
    "write": "Write the configuration? (yes, no)",
    "people": "How many people the door will know",
    "installer": "The installer's name",
}
"""Every question there is, for flags and answer files."""


def ask_all(talk: Talk, data: Data, found: Found) -> Data:
    """The data with all answers. What stood there before is the default. Raises ConfigError."""
    for question in QUESTIONS:
        if (question.only_if and get(data, question.only_if) is None) or not question.when(data):
            continue
        before = get(data, question.path)
        default = question.default(found) if before is None else str(before)
        value = talk.ask(question.key, question.words, default, _judge(question, data, found))
        data = _answered(question, data, value)
    parse_config(render(data), "setup")
    return data


def _judge(question: Question, data: Data, found: Found) -> Callable[[str], object]:
    def check(answer: str) -> object:
        if not answer:
            raise ValueError("expected an answer")
        value: object = None if answer == _NONE else question.convert(answer)
        if question.key == "camera" and isinstance(value, str) and value.isdecimal():
            value = _of_list(int(value), found)
        trial = _answered(question, data, value)
        for path, stand_in in _STAND_IN:
            trial = trial if get(trial, path) is not None else put(trial, path, stand_in)
        if question.key == "camera" and is_plain(str(value)):
            trial = put(trial, "camera.insecure", True)  # asked next
        if question.key == "broker_cert" and value is not None:
            trial = put(trial, "mqtt.tls.key", "asked next")
        try:
            parse_config(render(trial), "setup")
        except ConfigError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        return value

    return check


def _of_list(number: int, found: Found) -> str:
    """A camera by its place in the list that was shown, from 1; else an index of V4L2's."""
    return found.cameras[number - 1].source if 0 < number <= len(found.cameras) else str(number)


def _answered(question: Question, data: Data, value: object) -> Data:
    """Without a line, a host or a CA there is no contact, broker or TLS at all."""
    if value is None and question.path.count("."):
        section, _, last = question.path.rpartition(".")
        if last == "host" and get(data, question.path) is None:
            return data  # none there was: what else `mqtt` says, such as `acks`, holds for the site's broker
        if last in ("line", "host", "ca"):
            return put(data, section, None)
    if value is None and question.path in _GOES_WITH:
        data = put(data, _GOES_WITH[question.path], None)
    return put(data, question.path, value)


def shown(data: Data) -> list[str]:
    """The answers as they stand, for who is about to say yes."""
    rows: list[tuple[str, Any]] = [(q.words.split(":")[0], get(data, q.path)) for q in QUESTIONS]
    return [f"  {words:34}{value}" for words, value in rows if value is not None]
