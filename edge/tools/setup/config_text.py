"""A configuration as a person would write it: block YAML, a comment where a key is explained. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Data = dict[str, Any]
"""What stands in a configuration file: nested mappings, lists, text, numbers, booleans."""
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./:@-]*[A-Za-z0-9_/]")
_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
_HEAD = (
    "# doord's configuration, written by `doord setup`. `doord check-config` says what is wrong with it.",
    "# Every key with its default and range is in edge/config.py and edge/door_config.py.",
)
_COMMENTS = {
    "site": "ids: a-z, 0-9 and -",
    "simulation": "mock lines, no real door is driven",
    "door.relay.chip": "by label, which no kernel renumbers, or a device",
    "door.relay.line": "offset on that chip, or name:LINE",
    "door.relay.active": "the level that unlocks",
    "door.dps": "door position switch: closed to ground while the door is shut",
    "door.rex": "exit button: closed to ground while pressed",
    "door.tamper": "contact of the unit's case: closed to ground while it is shut",
    "door.unlock_s": "how long a grant releases the lock",
    "camera.source": "a device, an index, picamera2, https://... (MJPEG), rtsps://... (H.264)",
    "camera.insecure": "accepted: a network can read and forge the picture",
    "camera.rotation": "degrees clockwise",
    "decision.threshold": "a ceiling: it may be lowered, never raised",
    "mqtt": "without it the door works alone",
    "mqtt.tls.ca": "who signed the broker's certificate",
}


_FIRST = ("site", "door_id", "simulation", "door", "camera")


def render(data: Mapping[str, Any]) -> str:
    """The text of a configuration file. `strict.parse_yaml` reads the same data from it."""
    ordered = {key: data[key] for key in (*_FIRST, *data) if key in data}
    return "\n".join([*_HEAD, "", *_lines(ordered, "", "")]).rstrip("\n") + "\n"


def _lines(data: Mapping[str, Any], path: str, indent: str) -> Iterator[str]:
    for key, value in data.items():
        where = f"{path}.{key}" if path else key
        comment = f" # {_COMMENTS[where]}" if where in _COMMENTS else ""
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_scalar(key)}:{comment}"
            yield from _lines(value, where, f"{indent}  ")
        else:
            yield f"{indent}{_scalar(key)}: {_scalar(value)}{comment}"
        if not path and isinstance(value, Mapping):
            yield ""


def _scalar(value: object) -> str:
    """JSON, which YAML reads as it is; text without its quotes where that changes nothing."""
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(key)}: {_scalar(inner)}' for key, inner in value.items())}}}"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return f'"{"".join(map(_letter, value))}"'


def _letter(letter: str) -> str:
    """As it stands between double quotes; JSON's escapes of letters above U+FFFF are none of YAML's."""
    return letter if letter.isprintable() and letter not in '"\\' else f"\\U{ord(letter):08x}"


def put(data: Data, path: str, value: object) -> Data:
    """A copy with `value` at `a.b.c`; None takes the key away."""
    key, _, rest = path.partition(".")
    copy = dict(data)
    if rest:
        below = copy.get(key)
        copy[key] = put(below if isinstance(below, dict) else {}, rest, value)
    elif value is None:
        copy.pop(key, None)
    else:
        copy[key] = value
    return copy


def get(data: Mapping[str, Any], path: str) -> Any:
    """What stands at `a.b.c`; None: nothing."""
    found: Any = data
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
