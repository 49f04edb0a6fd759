"""The nouns: frozen values that travel from the camera to the event. Arrays are read-only.

Words follow ISO/IEC 2382-37 (probe, template, subject, gallery), ONVIF (door modes, denial
reasons) and FaceNet (L2 distance between unit vectors, 0..2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

ID = r"^[a-z0-9-]{1,32}\Z"
"""The pattern of every id: site, door, subject, model, schedule. No wildcard and no level of a topic."""
DISTANCE_CEILING = 0.7
"""L2 distance at and above which nobody is ever accepted. A config may lower it, never raise it."""


def read_only(array: NDArray) -> NDArray:  # type: ignore[type-arg]  # any dtype, same dtype back
    """The same array, no longer writeable."""
    array.setflags(write=False)
    return array


class Reason(str, Enum):
    """Why a probe or an attempt was refused."""

    NO_MATCH = "NoMatch"
    AMBIGUOUS = "Ambiguous"
    LOW_QUALITY = "LowQuality"
    STALE_FRAME = "StaleFrame"
    WRONG_MODEL = "WrongModel"
    FACE_NOT_CARDS = "FaceNotCards"
    NO_FACE_IN_TIME = "NoFaceInTime"
    ATTACK_SUSPECTED = "AttackSuspected"
    THROTTLED = "Throttled"
    CLOCK_NOT_TRUSTED = "ClockNotTrusted"
    GALLERY_EXPIRED = "GalleryExpired"
    CAMERA_FAULT = "CameraFault"
    CREDENTIAL_NOT_ENABLED = "CredentialNotEnabled"
    CREDENTIAL_NOT_ACTIVE = "CredentialNotActive"
    CREDENTIAL_EXPIRED = "CredentialExpired"
    NOT_PERMITTED_AT_THIS_TIME = "NotPermittedAtThisTime"
    UNAUTHORIZED = "Unauthorized"
    OTHER = "Other"


class Liveness(str, Enum):
    """What presentation-attack detection says of a face."""

    LIVE = "live"
    UNSURE = "unsure"
    ATTACK = "attack"


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture from a camera."""

    pixels: NDArray[np.uint8]  # (H, W, 3) RGB
    taken_at: float  # s, monotonic clock


@dataclass(frozen=True, slots=True)
class Face:
    """One detected face, in pixels of its frame (x to the right, y down)."""

    box: tuple[float, float, float, float]  # x, y, w, h
    landmarks: NDArray[np.float32]  # (6, 2): eye, eye (image left first), nose tip, mouth, 2 tragions
    score: float  # 0..1

    @property
    def left_eye(self) -> NDArray[np.float32]:
        """The eye on the picture's left, (2,) px."""
        return np.asarray(self.landmarks[0])

    @property
    def right_eye(self) -> NDArray[np.float32]:
        """The eye on the picture's right, (2,) px."""
        return np.asarray(self.landmarks[1])

    @property
    def eye_distance_px(self) -> float:
        """Distance between the eyes, px."""
        return float(np.hypot(*(self.right_eye - self.left_eye)))


@dataclass(frozen=True, slots=True)
class Quality:
    """What the quality gate measured on one face."""

    eye_distance_px: float
    sharpness: float  # variance of the Laplacian, grey levels squared, never of an enlarged face
    exposure: float  # mean luma of the aligned crop, 0..255
    contrast: float  # standard deviation of that luma, 0..127
    yaw: float  # nose offset from the mid-eye line / eye distance; 0 is frontal, +-0.5 about 45 deg
    pitch: float  # eye-to-nose over eye-to-mouth height; 0.6 is about frontal


@dataclass(frozen=True, slots=True)
class Probe:
    """A face turned into a vector, ready for comparison."""

    vector: NDArray[np.float32]  # (D,), unit L2 norm
    model: str  # id of the embedder that made it
    taken_at: float  # s, monotonic clock
    quality: Quality | None = None
    pad: Mapping[str, float] | None = None  # layer -> score of liveness, NaN: none; None: not scored


@dataclass(frozen=True, slots=True)
class Template:
    """An enrolled vector of one subject."""

    subject: str
    vector: NDArray[np.float32]  # (D,), unit L2 norm
    model: str
    enrolled_at_utc: str  # RFC 3339


@dataclass(frozen=True, slots=True)
class Gallery:
    """All templates in force. `owners[i]` is the index in `subjects` of `templates[i]`."""

    version: int
    model: str
    subjects: tuple[str, ...]
    templates: NDArray[np.float32]  # (N, D), unit L2 norm rows
    owners: NDArray[np.intp]  # (N,)
    digest: str = ""  # SHA-256, hex, of who is enrolled with which vectors by which model

    def __len__(self) -> int:
        return int(self.templates.shape[0])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject and how far its nearest template is from the probe."""

    subject: str
    distance: float  # L2, 0..2


@dataclass(frozen=True, slots=True)
class Match:
    """A 1:N search's result: the nearest subject and the nearest *other* subject."""

    best: Candidate | None = None
    runner_up: Candidate | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Open the door for this subject."""

    subject: str
    distance: float | None  # L2; None: a card opened, no face was compared
    extended: bool = False  # who needs longer to come in


@dataclass(frozen=True, slots=True)
class Deny:
    """Leave the door locked."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Observation:
    """What the vision thread learned from one frame.

    `probe` is set when a face passed the gate, and `match` when it was compared; `refused` says
    why a face did not get that far. None of them: no face.
    """

    taken_at: float  # s, monotonic clock: when the camera took the frame
    probe: Probe | None = None
    match: Match | None = None
    refused: Reason | None = None
    face: Face | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Votes:
    """Of the last `of` compared frames `agreeing` said the same subject; `needed` had to."""

    agreeing: int = 0
    needed: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A finished attempt: one event. `decided_at` and `began_at` are s of the monotonic clock."""

    decision: Grant | Deny
    began_at: float
    decided_at: float
    frames: int
    last: Observation
    margin: float  # what was asked of it, L2
    repeats: int = 0  # like attempts of the same unknown person that were not reported before
    votes: Votes = Votes()
    liveness: Liveness | None = None  # None: not judged
    pad: Mapping[str, float] = field(default_factory=dict)  # layer -> mean score, larger is more alive


class DoorMode(str, Enum):
    """Door modes as ONVIF names them."""

    LOCKED = "Locked"
    ACCESSED = "Accessed"
    UNLOCKED = "Unlocked"
    BLOCKED = "Blocked"
    LOCKED_DOWN = "LockedDown"
    LOCKED_OPEN = "LockedOpen"


class Alarm(str, Enum):
    """What is wrong at a door, as ONVIF names it (its door has no pre-alarm)."""

    DOOR_FORCED_OPEN = "DoorForcedOpen"  # opened while locked
    DOOR_OPEN_TOO_LONG = "DoorOpenTooLong"
    DOOR_OPEN_PRE_ALARM = "DoorOpenPreAlarm"  # will be too long soon
    DOOR_TAMPER = "DoorTamper"  # somebody opened the unit's case
    DOOR_FAULT = "DoorFault"  # a line can't be driven or read
