"""The configuration of the broker: where it is, how it is spoken to, and where what it is shown is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edge.strict import Section as _Section

_CREDENTIAL = "credential:"
Kept = Annotated[
    str, Meta(pattern=rf"^({_CREDENTIAL}[A-Za-z0-9_][A-Za-z0-9_.-]{{0,63}}|(?!{_CREDENTIAL}).*)\Z")
]
"""Where something is kept that is read when it is used: a file, or `credential:NAME`, one of systemd's."""
GALLERY_KEY = "gallery.key"
"""The key of all that is sealed on the door: of that name a file in `state_dir`, or a credential."""


def credential_name(kept: str) -> str | None:
    """Of which credential `kept` speaks; None: of a file."""
    return kept[len(_CREDENTIAL) :] if kept.startswith(_CREDENTIAL) else None


class TlsConfig(_Section, frozen=True):
    """TLS for the broker. `cert` and `key` are this door's client certificate."""

    ca: Kept  # PEM; empty: the system's authorities
    cert: Kept = ""
    key: Kept = ""


class MqttConfig(_Section, frozen=True):
    """The broker, and how it is spoken to. Without a `host` it is the site's, of a joined door."""

    host: Annotated[str, Meta(pattern=r"^[^\s/]{0,253}\Z")] = ""
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    tls: TlsConfig | None = None
    username: str = ""
    password_file: Kept = ""
    keepalive_s: Annotated[int, Meta(ge=5, le=600)] = 30
    heartbeat_s: Annotated[float, Meta(ge=1, le=3600)] = 60
    home_assistant: bool = True  # the door's sensors are announced to it
    # what ends the sending of an event: that the broker has it, which a broker's crash may undo, or
    # that the site's collector has stored it
    acks: Literal["puback", "collector"] = "puback"

    @property
    def kept(self) -> dict[str, str]:
        """What is read for the broker, and where it is kept, by key."""
        tls = self.tls or TlsConfig(ca="")
        kept = {"tls.ca": tls.ca, "tls.cert": tls.cert, "tls.key": tls.key}
        kept["password_file"] = self.password_file
        return {f"mqtt.{key}": where for key, where in kept.items() if where}


def mqtt_contradictions(mqtt: MqttConfig) -> list[tuple[str, str, object]]:
    """What each field alone can't show: (path, expected, got)."""
    found: list[tuple[str, str, object]] = []
    tls = mqtt.tls
    if tls and bool(tls.cert) != bool(tls.key):
        found.append(("mqtt.tls.cert", "cert and key together", tls.cert or "no cert"))
    if mqtt.password_file and not mqtt.username:
        found.append(("mqtt.username", "a name beside password_file", ""))
    for path, kept in mqtt.kept.items():
        if credential_name(kept) == GALLERY_KEY:
            found.append((path, "a credential of its own", kept))
    if not mqtt.host and (tls or mqtt.username or mqtt.port != MqttConfig().port):
        found.append(("mqtt.host", "a broker beside its port, tls or username", "none"))
    return found
