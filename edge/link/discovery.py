"""What a door tells Home Assistant of itself: one device with sensors, and no lock. Pure.

The payload is that of MQTT device discovery (home-assistant.io/integrations/mqtt, "Device discovery
payload"). The values are those of `status`, `state` and `event`, read by Home Assistant's own
templates. The door obeys no unsigned topic, so it has nothing to offer that can be operated: the lock
entity is `doord admin bridge`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from edge.link.wire import KINDS, Topics
from edge.values import Alarm, DoorMode

BIRTH_TOPIC = "homeassistant/status"  # Home Assistant says `online` there when it starts
BIRTH = b"online"
_SILENT_HEARTBEATS = 3  # after so many that did not come the figures count no more
_DIAGNOSTIC: dict[str, Any] = {"entity_category": "diagnostic"}
_MEASURED: dict[str, Any] = {**_DIAGNOSTIC, "state_class": "measurement"}


@dataclass(frozen=True, slots=True)
class Announcement:
    """A retained message."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Entity:
    """One thing that Home Assistant shows."""

    platform: Literal["sensor", "binary_sensor", "event"]
    name: str
    source: Literal["status", "state", "event"]
    template: str  # Jinja; gives ON, OFF, a value, or None for unknown
    more: dict[str, Any] = field(default_factory=dict)


def _alarm(name: str, alarm: Alarm, device_class: str) -> _Entity:
    template = f"{{{{ 'ON' if '{alarm.value}' in value_json.alarms else 'OFF' }}}}"
    return _Entity("binary_sensor", name, "state", template, {"device_class": device_class})


def _vital(name: str, figure: str, unit: str, device_class: str | None = None) -> _Entity:
    more = {**_MEASURED, "unit_of_measurement": unit}
    if device_class is not None:
        more["device_class"] = device_class
    template = f"{{{{ value_json.vitals.{figure} if value_json.vitals else None }}}}"
    return _Entity("sensor", name, "status", template, more)


_EVENT = (
    "{{ {'event_type': value_json.kind, 'seq': value_json.seq, 'reason': value_json.reason | default(None), "
    "'subject': value_json.subject | default(None), 'detail': value_json.detail | default(None)} | tojson }}"
)
_ENTITIES: dict[str, _Entity] = {
    "door": _Entity(
        "binary_sensor",
        "Door",
        "state",
        "{{ 'ON' if value_json.dps == 'open' else 'OFF' if value_json.dps == 'closed' else None }}",
        {"device_class": "door"},
    ),
    "lock": _Entity(
        "sensor",
        "Lock",
        "state",
        "{{ value_json.lock }}",
        {"device_class": "enum", "options": ["locked", "unlocked", "unknown"]},
    ),
    "mode": _Entity(
        "sensor",
        "Mode",
        "state",
        "{{ value_json.mode }}",
        {"device_class": "enum", "options": [mode.value for mode in DoorMode]},
    ),
    "tamper": _alarm("Tamper", Alarm.DOOR_TAMPER, "tamper"),
    "forced": _alarm("Forced open", Alarm.DOOR_FORCED_OPEN, "safety"),
    "held": _alarm("Open too long", Alarm.DOOR_OPEN_TOO_LONG, "problem"),
    "fault": _alarm("Fault", Alarm.DOOR_FAULT, "problem"),
    "event": _Entity(
        "event",
        "Last event",
        "event",
        _EVENT,
        {"event_types": list(KINDS)},
    ),
    "armed": _Entity(
        "binary_sensor", "Armed", "status", "{{ 'ON' if value_json.armed else 'OFF' }}", _DIAGNOSTIC
    ),
    "temperature": _vital("Temperature", "temperature_c", "°C", "temperature"),
    "throttled": _Entity(
        "binary_sensor",
        "Throttled",
        "status",
        "{{ None if not value_json.vitals or value_json.vitals.throttled is none "
        "else 'ON' if value_json.vitals.throttled else 'OFF' }}",
        {**_DIAGNOSTIC, "device_class": "problem"},
    ),
    "latency": _vital("Latency p95", "latency_p95_ms", "ms", "duration"),
    "fps": _vital("Camera frames", "camera_fps", "fps"),
    "memory": _vital("Memory", "rss_mb", "MB", "data_size"),
    "queue": _vital("Events waiting", "queue", "events"),
    "gallery": _Entity("sensor", "Gallery version", "state", "{{ value_json.gallery }}", _DIAGNOSTIC),
}


def config_topic(door: str) -> str:
    """Retained: what a door tells Home Assistant of itself."""
    return f"homeassistant/device/doord-{door}/config"


def announce(topics: Topics, version: str, heartbeat_s: float) -> Announcement:
    """The door's discovery message.

    Args:
        topics: the door's.
        version: of doord.
        heartbeat_s: how often `status` comes; what it carries is unknown after three that did not.
    """
    unit = device_id(topics.site, topics.door)
    expire_after_s = int(_SILENT_HEARTBEATS * heartbeat_s) + 1
    payload = {
        "device": {
            "identifiers": [unit],
            "name": f"Door {topics.door}",
            "manufacturer": "doord",
            "model": "door unit",
            "sw_version": version,
        },
        "origin": {"name": "doord", "sw_version": version},
        "availability_topic": topics.status,
        # `stopped` is not available either, and a word that is neither would be ignored
        "availability_template": "{{ 'online' if value_json.state == 'online' else 'offline' }}",
        "qos": 1,
        "components": {
            key: _component(entity, f"{unit}-{key}", topics, expire_after_s)
            for key, entity in _ENTITIES.items()
        },
    }
    return Announcement(config_topic(topics.door), msgspec.json.encode(payload))


def device_id(site: str, door: str) -> str:
    """By which Home Assistant knows the unit, whoever tells of it."""
    return f"doord-{site}-{door}"


def _component(entity: _Entity, unique_id: str, topics: Topics, expire_after_s: int) -> dict[str, Any]:
    expires = {"expire_after": expire_after_s} if entity.source == "status" else {}
    return {
        "platform": entity.platform,
        "unique_id": unique_id,
        "name": entity.name,
        "state_topic": f"{topics.base}/{entity.source}",
        "value_template": entity.template,
        **expires,
        **entity.more,
    }
