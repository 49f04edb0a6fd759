"""Picture files: bounded before they are decoded, upright, three channels; and drawing on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ImageError
from edge.values import Face, read_only
from edge.vision.headers import PictureHeader, read_header

MAX_FILE_BYTES = 32 * 2**20
MAX_PIXELS = 40_000_000  # a 100-megapixel picture would take 300 MB to decode
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_GREY = 128  # what shows through where a picture is transparent


def load_picture(path: str | Path) -> NDArray[np.uint8]:
    """The picture in a file: (H, W, 3) uint8 RGB, read-only, as `decode_picture` makes it.

    Raises:
        ImageError: missing, unreadable, larger than 32 MiB, or refused by `decode_picture`.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device could block for ever
            raise ImageError(f"{path}: expected a picture file, got something else")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ImageError(f"{path}: expected a readable picture, got: {error.strerror or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{path}: expected at most {MAX_FILE_BYTES >> 20} MiB, got a larger file")
    return decode_picture(data, str(path))


def decode_picture(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture in a JPEG, PNG, WebP or BMP file's bytes: (H, W, 3) uint8 RGB, read-only.

    Grey becomes three equal channels, 16 bits become 8 (the high byte), EXIF rotation is undone.
    Transparency is composed on mid-grey, not dropped: what a viewer hides must not be enrolled.
    (EXIF rotation of a picture with transparency is not undone.) Damage in the middle of a
    complete file is not found: JPEG has no checksum.

    Raises:
        ImageError: no picture, truncated, undecodable, or more than `max_pixels`; all but the
            undecodable are refused before decoding.
    """
    header = read_header(data, where)
    if header.width * header.height > max_pixels:
        raise ImageError(
            f"{where}: expected at most {max_pixels / 1e6:g} megapixels, got {header.width} x {header.height}"
        )
    if not header.complete:
        raise ImageError(f"{where}: expected a whole {header.kind}, got a truncated one")
    return read_only(_decode(data, header, where))


def _decode(data: bytes, header: PictureHeader, where: str) -> NDArray[np.uint8]:
    how = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error:  # OpenCV raises for some damaged files and returns None for others
        decoded = None
    if decoded is None:
        raise ImageError(f"{where}: expected a {header.kind} picture, got one that can't be decoded")
    pixels = (decoded // 256 if decoded.dtype == np.uint16 else decoded).astype(np.uint8, copy=False)
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    rgb = np.asarray(cv2.cvtColor(pixels[:, :, :3], cv2.COLOR_BGR2RGB), np.uint8)
    return _on_grey(rgb, pixels[:, :, 3]) if pixels.shape[2] == 4 else rgb


def _on_grey(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    opacity = alpha[:, :, None].astype(np.uint16)
    blended = (rgb * opacity + _GREY * (255 - opacity) + 127) // 255
    return blended.astype(np.uint8)


def save_picture(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 RGB picture; the suffix tells the format.

    Raises:
        ImageError: an unknown suffix, or the file can't be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        known = " ".join(sorted(PICTURE_SUFFIXES))
        raise ImageError(f"{path}: expected a suffix of {known}, got {path.suffix!r}")
    try:
        path.write_bytes(encode_picture(path.suffix.lower(), rgb))
    except OSError as error:
        raise ImageError(f"{path}: expected to write it, got: {error.strerror or error}") from None


def encode_picture(suffix: str, rgb: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB picture as a file of this suffix. Raises ImageError: it can't be encoded."""
    done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ImageError(f"{suffix}: expected a picture that can be encoded, got {rgb.shape}")
    return data.tobytes()


def draw_face(
    pixels: NDArray[np.uint8], face: Face, text: str, colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """A copy of an (H, W, 3) RGB picture with the face's box, landmarks and a caption.

    `text` is ASCII, one or more lines; it stands above the box, or below it where there is no
    room above. `colour` is RGB, 0..255. Line width and letters grow with the picture.
    """
    drawn = np.array(pixels)
    thickness = max(1, round(max(drawn.shape[:2]) / 400))
    x, y, w, h = (round(v) for v in face.box)
    cv2.rectangle(drawn, (x, y), (x + w, y + h), colour, thickness)
    for landmark in face.landmarks:
        cv2.circle(drawn, (round(float(landmark[0])), round(float(landmark[1]))), thickness + 1, colour, -1)
    if text:
        _caption(drawn, text.split("\n"), (x, y, y + h), colour)
    return drawn


_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 22  # height of its capitals at scale 1


def _caption(
    drawn: NDArray[np.uint8], lines: list[str], box: tuple[int, int, int], colour: tuple[int, int, int]
) -> None:
    """Write lines on a bar of `colour` over or under a box (left, top, bottom), inside the picture."""
    height, width = drawn.shape[:2]
    scale = max(12.0, height / 30) / _FONT_PX
    scale *= min(1.0, (width - 6) / max(1, _widest(lines, scale)))
    bar = (min(width, _widest(lines, scale) + 6), max(8, round(scale * _FONT_PX * 1.6)) * len(lines))
    left, top, bottom = box
    y = top - bar[1] if top >= bar[1] else min(bottom, height - bar[1])
    x, y = max(0, min(left, width - bar[0])), max(0, y)
    cv2.rectangle(drawn, (x, y), (x + bar[0], y + bar[1]), colour, -1)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]  # luma, ITU-R BT.601
    ink = (0, 0, 0) if bright > 140 else (255, 255, 255)
    for row, line in enumerate(lines, start=1):
        base = (x + 3, y + round(bar[1] / len(lines) * (row - 0.28)))
        cv2.putText(drawn, line, base, _FONT, scale, ink, _weight(scale), cv2.LINE_AA)


def _widest(lines: list[str], scale: float) -> int:
    return max(int(cv2.getTextSize(line, _FONT, scale, _weight(scale))[0][0]) for line in lines)


def _weight(scale: float) -> int:
    return max(1, round(scale * 1.5))
