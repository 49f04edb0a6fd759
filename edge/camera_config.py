"""The configuration of the camera: where frames come from, and how they are turned before anybody looks."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from edge.strict import Section as _Section

_SOURCE = (
    r"[0-9]{1,3}|/.+|(http|https|rtsp|rtsps)://.+|picamera2(:[0-9]{1,2})?|gstreamer:.+|file:.+|folder:.+"
)
_KINDS = (
    "an index, a /dev path, http://..., https://..., rtsp://..., rtsps://..., picamera2, gstreamer:..., "
    "file:... or folder:..."
)
_PLAIN = {"http": "https", "rtsp": "rtsps"}
"""Schemes that cross the network readably, and what carries the same inside TLS."""

_Part = Annotated[float, Meta(ge=0, le=1)]
WHOLE = (0.0, 0.0, 1.0, 1.0)


class CameraConfig(_Section, frozen=True):
    """Where frames come from.

    `source`: a V4L2 index or path (`0`, `/dev/video0`), `http(s)://...` (MJPEG), `rtsp(s)://...` (H.264),
    `picamera2[:index]` (a Raspberry Pi's CSI camera), `gstreamer:PIPELINE` (a Jetson's), or, with
    `simulation: true` only, `file:PATH` (a video) or `folder:PATH` (pictures in name order).
    """

    source: str | Annotated[int, Meta(ge=0, le=999)] = "0"
    width: Annotated[int, Meta(ge=160, le=4096)] = 640
    height: Annotated[int, Meta(ge=120, le=4096)] = 480
    fps: Annotated[float, Meta(gt=0, le=120)] = 30
    loop: bool = True  # file and folder only
    stall_s: Annotated[float, Meta(gt=0, le=30)] = 2
    max_frame_age_ms: Annotated[int, Meta(gt=0, le=2000)] = 500
    frozen_s: Annotated[float, Meta(gt=0, le=60)] = 1  # byte-identical frames for longer: fault
    blind_s: Annotated[float, Meta(gt=0, le=600)] = 10  # black, covered or blurred for longer: fault
    insecure: bool = False  # http:// and rtsp:// over a network: who is on it sees and forges the picture
    ca_file: str = ""  # PEM, for https and rtsps; empty: the system's authorities
    transport: Literal["tcp", "udp"] = "tcp"  # of rtsp://
    rotation: Literal[0, 90, 180, 270] = 0  # degrees clockwise
    region: tuple[_Part, _Part, _Part, _Part] = WHOLE  # x, y, w, h of the picture as rotated


def camera_contradictions(camera: CameraConfig, simulation: bool) -> list[tuple[str, str, object]]:
    """What each field alone can't show: (path, expected, got)."""
    source, shown = str(camera.source), shown_source(camera.source)
    if not re.fullmatch(_SOURCE, source):
        return [("camera.source", _KINDS, shown)]
    found: list[tuple[str, str, object]] = []
    if is_simulated(source) and not simulation:
        found.append(("camera.source", "a real camera unless simulation: true", shown))
    x, y, w, h = camera.region
    if not (w > 0 and h > 0 and x + w <= 1 and y + h <= 1):
        found.append(("camera.region", "[x, y, w, h] inside [0, 0, 1, 1], w and h > 0", list(camera.region)))
    return found + (_url_contradictions(camera) if is_network(source) else [])


def _url_contradictions(camera: CameraConfig) -> list[tuple[str, str, object]]:
    source, shown = str(camera.source), shown_source(camera.source)
    url = camera_url(source)
    if url is None:
        kind = "scheme://[user:password@]host[:port]/path, with special characters as %40"
        return [("camera.source", kind, f"a malformed URL, {shown}")]
    found: list[tuple[str, str, object]] = []
    if is_plain(source) and not camera.insecure:
        cure = f"{_PLAIN[url.scheme]}://, or camera.insecure: true (a network can read and forge the picture)"
        found.append(("camera.source", cure, shown))
    if url.scheme == "rtsps" and camera.transport == "udp":
        found.append(("camera.transport", "tcp with rtsps://", "udp"))
    if camera.ca_file and url.scheme in _PLAIN:
        found.append(("camera.ca_file", f"{_PLAIN[url.scheme]}:// beside it", shown))
    return found


def camera_url(source: str) -> SplitResult | None:
    """A network camera's URL in parts; None when it's malformed."""
    try:
        url = urlsplit(source)
        sound = url.port != 0 and bool(url.hostname)  # .port raises what is no port
    except ValueError:
        return None
    # a bare @, / or # in a password would make the host, or a part of the password, something else
    bare = url.netloc.count("@") > 1 or "@" in url.path or bool(url.fragment)
    return url if sound and not bare and source.isprintable() and " " not in source else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown_source(source: str | int) -> str:
    """A camera source as it may be printed: without user, password, query, pipeline, and `a=b` in a path."""
    text = str(source)
    for secret, shown in ((r"^gstreamer:.*", "gstreamer:..."), (r"//.*@", "//...@"), (r"\?.*", "?...")):
        text = re.sub(secret, shown, text, count=1, flags=re.DOTALL)
    return re.sub(r"(://[^/]*/).*=.*", r"\1...", text, flags=re.DOTALL)  # /user=a_password=b_channel=1


def is_plain(source: str | int) -> bool:
    """Whether a camera's picture crosses a network readably: neither TLS nor this machine's loopback."""
    url = camera_url(str(source)) if is_network(source) else None
    return url is not None and url.scheme in _PLAIN and not _is_loopback(url.hostname or "")


def is_device(source: str | int) -> bool:
    """Whether a camera source is a V4L2 device of this machine."""
    return re.fullmatch(r"[0-9]{1,3}|/.+", str(source)) is not None


def is_network(source: str | int) -> bool:
    """Whether a camera source is a URL."""
    return str(source).startswith(("http://", "https://", "rtsp://", "rtsps://"))


def is_simulated(source: str | int) -> bool:
    """Whether a camera source is a file or a folder."""
    return str(source).startswith(("file:", "folder:"))
