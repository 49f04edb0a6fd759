"""The configuration, typed and parsed once. Times carry their unit in the name.

Everything has a default that is safe; only `site`, `door_id` and the relay's line must be told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.camera_config import CameraConfig as CameraConfig
from edge.camera_config import camera_contradictions
from edge.camera_config import is_device as is_device
from edge.camera_config import is_plain as is_plain
from edge.camera_config import is_simulated as is_simulated
from edge.camera_config import shown_source as shown_source
from edge.door_config import Chip, Line, Wiring, contradictions, line_contradictions
from edge.door_config import DoorConfig as DoorConfig
from edge.door_config import RelayConfig as RelayConfig
from edge.errors import ConfigError
from edge.mqtt_config import GALLERY_KEY as GALLERY_KEY
from edge.mqtt_config import MqttConfig as MqttConfig
from edge.mqtt_config import TlsConfig as TlsConfig
from edge.mqtt_config import credential_name as credential_name
from edge.mqtt_config import mqtt_contradictions
from edge.strict import Section as _Section
from edge.strict import convert, parse_yaml
from edge.values import DISTANCE_CEILING, ID

Id = Annotated[str, Meta(pattern=ID)]
_SOCKET_BYTES = 107  # what a unix socket's address holds: sun_path less its end, unix(7)
DEFAULT_PATH = Path("/etc/doord/config.yaml")
DEFAULT_SOCKET = Path("/run/doord/control.sock")


class ModelsConfig(_Section, frozen=True):
    """Which models of the manifest run, and on what. Empty ids mean the manifest's first of that role.

    `delegate`: `cpu`; `gpu` and `auto` try LiteRT's GPU accelerator; or the path of a TFLite delegate's
    library (a GPU's, Edge TPU), which `delegate_options` are for. Each is used only if it gives the known
    answer, and a GPU only if it is faster too; else the CPU is, and `status` says why.
    """

    dir: str = ""  # empty: those that ship with the package
    detector: Annotated[str, Meta(pattern=r"^[a-z0-9-]{0,32}\Z")] = ""
    embedder: Annotated[str, Meta(pattern=r"^[a-z0-9-]{0,32}\Z")] = ""
    runtime: Literal["auto", "litert", "tflite-runtime"] = "auto"  # auto: the first that is installed
    delegate: Annotated[str, Meta(pattern=r"^(auto|cpu|gpu|/[^\0\n]+)\Z")] = "auto"
    delegate_options: dict[str, str] = msgspec.field(default_factory=dict)
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
    cooldown_s: Annotated[float, Meta(ge=1, le=600)] = 5
    throttle_attempts: Annotated[int, Meta(ge=1, le=1000)] = 10
    throttle_window_s: Annotated[float, Meta(gt=0, le=86400)] = 300
    max_fpir: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    fpir_accepted_by: Annotated[str, Meta(max_length=100)] = ""  # who accepts a higher one


PadMode = Literal["off", "monitor", "step-up", "enforce"]


class PadPeriod(_Section, frozen=True):
    """What holds while a schedule of the rights file is open."""

    schedule: Id
    mode: PadMode


_PadLimit = Annotated[float, Meta(ge=-1000, le=1000)]  # bounds keep out what is no number


class PadConfig(_Section, frozen=True):
    """Presentation-attack detection. Of `by_schedule` the first that is open holds, else `mode`.

    `auto`: step-up where there is a card reader, else enforce. `enforce`: a face that is not clearly
    alive is refused; `step-up`: one that may be is asked for its card; `monitor`: scores are told only.
    """

    mode: Literal["auto", "off", "monitor", "step-up", "enforce"] = "auto"
    by_schedule: tuple[PadPeriod, ...] = ()
    models: tuple[Annotated[str, Meta(pattern=ID)], ...] = ()  # empty: the manifest's first of that role
    # of the texture layer alone: a tuned model has limits of its own
    live: _PadLimit | None = None  # mean score from which a face is alive; None: as the model's entry says
    unsure: _PadLimit | None = None  # mean score below which it is an attack
    # what a face must move beyond a rigid plane in the last second, eye distances; None: not asked. 0.003
    # refuses photographs on a stand, and whoever stands like a statue: try `monitor` at this door first
    stillness: Annotated[float, Meta(gt=0, le=1)] | None = None
    frames: Annotated[int, Meta(ge=1, le=10)] = 3  # scored ones that a decision needs
    every_ms: Annotated[int, Meta(ge=0, le=1000)] = 250  # between two of them
    alarm_after: Annotated[int, Meta(ge=1, le=100)] = 3  # attacks within decision.throttle_window_s


AccessMode = Literal["face", "card_and_face", "card", "card_or_face"]


class AccessPeriod(_Section, frozen=True):
    """What opens while a schedule of the rights file is open."""

    schedule: Id
    mode: AccessMode


class AccessConfig(_Section, frozen=True):
    """What somebody must show. Of `by_schedule` the first that is open holds, else `mode`."""

    mode: AccessMode = "face"
    by_schedule: tuple[AccessPeriod, ...] = ()
    claim_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 10  # from the card to a face
    # deny: a right that depends on the time is none while the time is not trusted; judge: it is
    # judged by the clock as it is
    when_clock_untrusted: Literal["deny", "judge"] = "deny"


class WedgeConfig(_Section, frozen=True):
    """A card reader that types: an input device of the kernel."""

    device: Annotated[str, Meta(pattern=r"^/[^\0]+\Z")]  # /dev/input/by-id/...-event-kbd


class WiegandConfig(_Section, frozen=True):
    """A card reader on two lines of one chip. No `chip`: the relay's."""

    data0: Line
    data1: Line
    chip: Chip | None = None
    bits: Annotated[tuple[Literal[26, 34, 37], ...], Meta(min_length=1)] = (26,)  # of the site's cards


class ReadersConfig(_Section, frozen=True):
    """The card readers."""

    wedge: WedgeConfig | None = None
    wiegand: WiegandConfig | None = None


class EventsConfig(_Section, frozen=True):
    """How long the door keeps its events. What either bound drops, an event says."""

    keep_days: Annotated[float, Meta(ge=1, le=3650)] = 90
    max_mb: Annotated[int, Meta(ge=8, le=65536)] = 256  # of the ledger: 100,000 events take about 130


class SyncConfig(_Section, frozen=True):
    """What a door that is part of a site does when the site has not been heard of for too long.

    `deny_limited`: whoever's rights have a last day is refused, so that who can jam a door keeps no
    dismissed employee's rights for ever; `deny`: everybody, in hours of free access too; `warn`: nobody. How
    long is too long says the site (`doord admin init --fresh-for`), seven days unless told otherwise.
    """

    when_expired: Literal["deny_limited", "deny", "warn"] = "deny_limited"
    every_s: Annotated[float, Meta(ge=10, le=86400)] = 3600  # asked for news though none was told


class Config(_Section, frozen=True):
    """The whole file."""

    site: Id
    door_id: Id
    door: DoorConfig
    simulation: bool = False  # mock lines and file cameras; stands in every status and event
    state_dir: Annotated[str, Meta(pattern="^/")] = "/var/lib/doord"
    socket: Annotated[str, Meta(pattern="^/")] = str(DEFAULT_SOCKET)
    key_file: str = ""  # empty: the credential gallery.key, else that file in state_dir
    rights_file: str = ""  # empty: everybody enrolled may enter always
    camera: CameraConfig = CameraConfig()
    models: ModelsConfig = ModelsConfig()
    quality: QualityConfig = QualityConfig()
    decision: DecisionConfig = DecisionConfig()
    pad: PadConfig = PadConfig()
    access: AccessConfig = AccessConfig()
    readers: ReadersConfig = ReadersConfig()
    sync: SyncConfig = SyncConfig()
    events: EventsConfig = EventsConfig()
    mqtt: MqttConfig | None = None

    @property
    def gallery_path(self) -> Path:
        """The gallery database."""
        return Path(self.state_dir) / "gallery.db"

    @property
    def key_path(self) -> Path:
        """The gallery's key file."""
        return Path(self.key_file) if self.key_file else Path(self.state_dir) / GALLERY_KEY

    @property
    def events_path(self) -> Path:
        """The ledger of events."""
        return Path(self.state_dir) / "events.db"

    @property
    def cards_path(self) -> Path:
        """The cards that were given out."""
        return Path(self.state_dir) / "cards.sealed"

    @property
    def tuning_path(self) -> Path:
        """What was recorded and fitted to tune presentation-attack detection to this door."""
        return Path(self.state_dir) / "pad.sealed"

    @property
    def wiring(self) -> Wiring:
        """Each GPIO line of the door and of its reader."""
        wiegand = self.readers.wiegand
        if wiegand is None:
            return self.door.wiring()
        chip = wiegand.chip or self.door.relay.chip
        lines = {"data0": wiegand.data0, "data1": wiegand.data1}
        return self.door.wiring() | {f"readers.wiegand.{name}": (chip, at) for name, at in lines.items()}

    @property
    def has_reader(self) -> bool:
        """Whether cards can be shown here."""
        return self.readers.wedge is not None or self.readers.wiegand is not None

    @property
    def pad_mode(self) -> PadMode:
        """What holds outside `pad.by_schedule`."""
        if self.pad.mode != "auto":
            return self.pad.mode
        return "step-up" if self.has_reader else "enforce"

    @property
    def pad_modes(self) -> list[PadMode]:
        """Every mode of presentation-attack detection that can hold at this door."""
        return [self.pad_mode, *(period.mode for period in self.pad.by_schedule)]

    @property
    def pad_warning(self) -> str | None:
        """What somebody should know who relies on this door; None: nothing."""
        weak = [mode for mode in self.pad_modes if mode in ("off", "monitor")]
        return f"pad.mode is {weak[0]}: a photograph can open this door" if weak else None

    @property
    def camera_warning(self) -> str | None:
        """What somebody should know who relies on this camera; None: nothing."""
        if not is_plain(self.camera.source):
            return None
        return "camera.insecure: whoever is on the camera's network can read and forge its picture"

    @property
    def modes(self) -> list[AccessMode]:
        """Every access mode that can hold at this door."""
        return [self.access.mode, *(period.mode for period in self.access.by_schedule)]


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
    check_config(config, where)
    return config


def check_config(config: Config, where: str) -> None:
    """Whether its sections fit each other. Raises ConfigError."""
    for path, expected, got in _contradictions(config):
        raise ConfigError(f"{where}: {path}: expected {expected}, got {got}")


def _contradictions(config: Config) -> list[tuple[str, str, object]]:
    """What each field alone can't show: (path, expected, got)."""
    found = contradictions(config.door) + line_contradictions(config.wiring)
    decision, quality = config.decision, config.quality
    if decision.confirm > decision.confirm_of:
        found.append(("decision.confirm", f"at most confirm_of ({decision.confirm_of})", decision.confirm))
    if quality.min_exposure >= quality.max_exposure:
        found.append(
            ("quality.min_exposure", f"< max_exposure ({quality.max_exposure})", quality.min_exposure)
        )
    if quality.min_pitch >= quality.max_pitch:
        found.append(("quality.min_pitch", f"< max_pitch ({quality.max_pitch})", quality.min_pitch))
    if len(config.socket.encode()) > _SOCKET_BYTES:
        found.append(("socket", f"a path of at most {_SOCKET_BYTES} bytes", config.socket))
    found += camera_contradictions(config.camera, config.simulation)
    delegate = config.models.delegate
    if config.models.delegate_options and not delegate.startswith("/"):
        found.append(("models.delegate", "the path of a library beside delegate_options", delegate))
    found += mqtt_contradictions(config.mqtt) if config.mqtt else []
    return found + _reader_contradictions(config)


def _reader_contradictions(config: Config) -> list[tuple[str, str, object]]:
    found: list[tuple[str, str, object]] = []
    cards = [mode for mode in config.modes if mode != "face"]
    if cards and not config.has_reader:
        found.append(("access.mode", "a reader in readers beside a mode with cards", cards[0]))
    if "step-up" in config.pad_modes and not config.has_reader:
        found.append(("pad.mode", "a reader in readers beside step-up, which asks for a card", "step-up"))
    for section, periods in (("access", config.access.by_schedule), ("pad", config.pad.by_schedule)):
        if periods and not config.rights_file:
            found.append((f"{section}.by_schedule", "a rights_file, where the schedules stand", "none"))
    live, unsure = config.pad.live, config.pad.unsure
    if live is not None and unsure is not None and unsure > live:
        found.append(("pad.unsure", f"at most live ({live})", unsure))
    confirming_ms = config.pad.frames * config.pad.every_ms
    if confirming_ms >= config.decision.attempt_s * 1000:
        limit = f"pad.frames * every_ms < decision.attempt_s ({config.decision.attempt_s} s)"
        found.append(("pad.frames", limit, f"{confirming_ms} ms"))
    return found
