"""The configuration, typed and parsed once. Times carry their unit in the name.

Everything has a default that is safe; only `site`, `door_id` and the relay's line must be told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edge.door_config import DoorConfig as DoorConfig
from edge.door_config import RelayConfig as RelayConfig
from edge.door_config import contradictions
from edge.errors import ConfigError
from edge.strict import Section as _Section
from edge.strict import convert, parse_yaml
from edge.values import DISTANCE_CEILING

Id = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
DEFAULT_PATH = Path("/etc/doord/config.yaml")


class CameraConfig(_Section, frozen=True):
    """Where frames come from.

    `source`: a V4L2 index or path (`0`, `/dev/video0`), `http://...` (MJPEG), or, with
    `simulation: true` only, `file:PATH` (a video) or `folder:PATH` (pictures in name order).
    """

    source: str = "0"
    width: Annotated[int, Meta(ge=160, le=4096)] = 640
    height: Annotated[int, Meta(ge=120, le=4096)] = 480
    fps: Annotated[float, Meta(gt=0, le=120)] = 30
    loop: bool = True  # file and folder only
    stall_s: Annotated[float, Meta(gt=0, le=30)] = 2
    max_frame_age_ms: Annotated[int, Meta(gt=0, le=2000)] = 500
    frozen_s: Annotated[float, Meta(gt=0, le=60)] = 1  # byte-identical frames for longer: fault
    blind_s: Annotated[float, Meta(gt=0, le=600)] = 10  # black, covered or blurred for longer: fault


class ModelsConfig(_Section, frozen=True):
    """Which models of the manifest run. Empty ids mean the manifest's first of that role."""

    dir: str = ""  # empty: those that ship with the package
    detector: Annotated[str, Meta(pattern=r"^[a-z0-9-]{0,32}\Z")] = ""
    embedder: Annotated[str, Meta(pattern=r"^[a-z0-9-]{0,32}\Z")] = ""
    runtime: Literal["auto", "ai-edge-litert", "tflite-runtime"] = "auto"
    threads: Annotated[int, Meta(ge=1, le=16)] = 2
    min_face_score: Annotated[float, Meta(gt=0, lt=1)] = 0.5


class QualityConfig(_Section, frozen=True):
    """The gate a face passes before it is embedded.

    The defaults refuse 0.12 % of LFW's faces (`doord evaluate`); stricter ones refused more without
    making the rest more accurate.
    """

    min_eye_distance_px: Annotated[float, Meta(ge=4, le=400)] = 20
    min_sharpness: Annotated[float, Meta(ge=0)] = 10
    min_exposure: Annotated[float, Meta(ge=0, le=255)] = 25
    max_exposure: Annotated[float, Meta(ge=0, le=255)] = 235
    min_contrast: Annotated[float, Meta(ge=0, le=127)] = 10
    max_yaw: Annotated[float, Meta(gt=0, le=2)] = 1.0
    min_pitch: Annotated[float, Meta(ge=-1, le=1)] = 0.1
    max_pitch: Annotated[float, Meta(ge=0, le=2)] = 1.0


class DecisionConfig(_Section, frozen=True):
    """When a face opens the door."""

    threshold: Annotated[float, Meta(gt=0, le=DISTANCE_CEILING)] = DISTANCE_CEILING
    margin: Annotated[float, Meta(ge=0, le=1)] = 0.10
    confirm: Annotated[int, Meta(ge=1, le=10)] = 2
    confirm_of: Annotated[int, Meta(ge=1, le=10)] = 3
    confirm_window_s: Annotated[float, Meta(gt=0, le=10)] = 1.5
    attempt_s: Annotated[float, Meta(gt=0, le=30)] = 3
    no_face_s: Annotated[float, Meta(gt=0, le=10)] = 1
    repeat_s: Annotated[float, Meta(ge=0, le=600)] = 10
    cooldown_s: Annotated[float, Meta(ge=0, le=600)] = 5
    throttle_attempts: Annotated[int, Meta(ge=1, le=1000)] = 10
    throttle_window_s: Annotated[float, Meta(gt=0, le=86400)] = 300
    max_fpir: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    fpir_accepted_by: Annotated[str, Meta(max_length=100)] = ""  # who accepts a higher one


class PadConfig(_Section, frozen=True):
    """Presentation-attack detection. This version has none and says so at every start."""

    mode: Literal["off"] = "off"


class TlsConfig(_Section, frozen=True):
    """TLS for the broker. `cert` and `key` are this door's client certificate."""

    ca: str
    cert: str = ""
    key: str = ""


class MqttConfig(_Section, frozen=True):
    """The broker."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 8883
    tls: TlsConfig | None = None
    username: str = ""
    password_file: str = ""
    keepalive_s: Annotated[int, Meta(ge=5, le=600)] = 30
    heartbeat_s: Annotated[float, Meta(ge=1, le=3600)] = 60


class Config(_Section, frozen=True):
    """The whole file."""

    site: Id
    door_id: Id
    door: DoorConfig
    simulation: bool = False  # mock lines and file cameras; stands in every status and event
    state_dir: str = "/var/lib/doord"
    socket: str = "/run/doord/control.sock"
    key_file: str = ""  # empty: gallery.key in state_dir
    camera: CameraConfig = CameraConfig()
    models: ModelsConfig = ModelsConfig()
    quality: QualityConfig = QualityConfig()
    decision: DecisionConfig = DecisionConfig()
    pad: PadConfig = PadConfig()
    mqtt: MqttConfig | None = None

    @property
    def gallery_path(self) -> Path:
        """The gallery database."""
        return Path(self.state_dir) / "gallery.db"

    @property
    def key_path(self) -> Path:
        """The gallery's key file."""
        return Path(self.key_file) if self.key_file else Path(self.state_dir) / "gallery.key"


def load_config(path: str | Path) -> Config:
    """The configuration in a file.

    Raises:
        ConfigError: `config.yaml: door.unlock_s: expected ..., got ...`, one line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#04x}") from None
    return parse_config(text, str(path))


def parse_config(text: str, where: str = "config.yaml") -> Config:
    """The configuration in a text. Raises ConfigError."""
    config = convert(parse_yaml(text, where), Config, where)
    for path, expected, got in _contradictions(config):
        raise ConfigError(f"{where}: {path}: expected {expected}, got {got}")
    return config


def _contradictions(config: Config) -> list[tuple[str, str, object]]:
    """What each field alone can't show: (path, expected, got)."""
    found = contradictions(config.door)
    decision, quality = config.decision, config.quality
    if decision.confirm > decision.confirm_of:
        found.append(("decision.confirm", f"at most confirm_of ({decision.confirm_of})", decision.confirm))
    if quality.min_exposure >= quality.max_exposure:
        found.append(
            ("quality.min_exposure", f"< max_exposure ({quality.max_exposure})", quality.min_exposure)
        )
    if quality.min_pitch >= quality.max_pitch:
        found.append(("quality.min_pitch", f"< max_pitch ({quality.max_pitch})", quality.min_pitch))
    if is_simulated(config.camera.source) and not config.simulation:
        found.append(("camera.source", "a real camera unless simulation: true", config.camera.source))
    tls = config.mqtt.tls if config.mqtt else None
    if tls and bool(tls.cert) != bool(tls.key):
        found.append(("mqtt.tls.cert", "cert and key together", tls.cert or "no cert"))
    if config.mqtt and config.mqtt.password_file and not config.mqtt.username:
        found.append(("mqtt.username", "a name beside password_file", ""))
    return found


def is_simulated(source: str) -> bool:
    """Whether a camera source is a file or a folder."""
    return source.startswith(("file:", "folder:"))
