"""A gallery as one file, to carry to another door or to keep. Bytes in, bytes out.

Encrypted as in `edge.passphrase`. Plaintext: JSON, vectors as base64 of float32 little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edge.errors import GalleryError
from edge.identity.gallery import MAX_DIMENSION, MAX_STORED, build_gallery, check_template
from edge.passphrase import decrypt, encrypt
from edge.values import Template

FORMAT = 1
MAX_BYTES = 64 * 2**20  # 20,000 templates of 512 numbers take 58 MB as JSON
MAX_FILE_BYTES = MAX_BYTES + 1024  # with what encryption adds
_MAGIC = b"doord gallery\0"
_WHERE = "gallery file"


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subject: Annotated[str, Meta(max_length=32)]
    model: Annotated[str, Meta(max_length=32)]
    enrolled_at_utc: Annotated[str, Meta(max_length=40)]
    vector: Annotated[bytes, Meta(max_length=4 * MAX_DIMENSION)]  # base64 in JSON


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    doord_gallery: int  # the format; first, so that a reader of the file knows what it is
    templates: Annotated[list[_Row], Meta(max_length=MAX_STORED)]


class _Head(msgspec.Struct, frozen=True):
    """Enough of any format to say which it is."""

    doord_gallery: int


def export_gallery(templates: Sequence[Template], passphrase: str | None) -> bytes:
    """The templates as a file, encrypted unless `passphrase` is None.

    Raises:
        GalleryError: the passphrase is too short, or the gallery too large to be read back.
    """
    rows = [
        _Row(row.subject, row.model, row.enrolled_at_utc, row.vector.astype("<f4").tobytes())
        for row in templates
    ]
    plain = msgspec.json.encode(_File(FORMAT, rows))
    if len(rows) > MAX_STORED or len(plain) > MAX_BYTES:
        raise GalleryError(f"{_WHERE}: expected at most {MAX_STORED} templates, got {len(rows)}")
    if passphrase is None:
        return plain
    return encrypt(_MAGIC, FORMAT, plain, passphrase)


def import_gallery(data: bytes, passphrase: str | None) -> list[Template]:
    """The templates in a file, each checked.

    Raises:
        GalleryError: wrong passphrase, altered, cut short, no gallery file, of a later format, or
            a template that must not enter a gallery.
    """
    if len(data) > MAX_FILE_BYTES:
        raise GalleryError(f"{_WHERE}: expected at most {MAX_FILE_BYTES} bytes, got {len(data)}")
    if data.startswith(_MAGIC):
        data = _decrypted(data, passphrase)
    elif passphrase is not None:  # else who can replace the file could leave the encryption out
        raise GalleryError(f"{_WHERE}: expected an encrypted one, since a passphrase was given, got another")
    templates = [_template(row) for row in _parsed(data).templates]
    sizes: dict[str, int] = {}
    for row in templates:
        check_template(row)
        if sizes.setdefault(row.model, row.vector.size) != row.vector.size:
            raise GalleryError(
                f"{_WHERE}: subject {row.subject}: expected {sizes[row.model]} numbers as the "
                f"others of {row.model}, got {row.vector.size}"
            )
    return templates


def merge(
    existing: Sequence[Template], imported: Sequence[Template], model: str, dimension: int
) -> list[Template]:
    """Those imported templates a gallery lacks; importing a file twice adds nothing.

    Raises:
        ModelMismatch, GalleryError: the two together are no gallery this door could load.
    """
    seen = {_identity(row) for row in existing}
    new = list({_identity(row): row for row in imported if _identity(row) not in seen}.values())
    build_gallery(list(existing) + new, model, dimension, version=0)
    return new


def _identity(row: Template) -> tuple[str, str, bytes]:
    return row.subject, row.model, row.vector.tobytes()


def _decrypted(data: bytes, passphrase: str | None) -> bytes:
    if passphrase is None:
        raise GalleryError(f"{_WHERE}: is encrypted: expected a passphrase, got none")
    return decrypt(_MAGIC, FORMAT, data, passphrase, _WHERE)


def _parsed(plain: bytes) -> _File:
    try:
        found = msgspec.json.decode(plain, type=_Head).doord_gallery
        if found != FORMAT:
            raise GalleryError(f"{_WHERE}: expected format {FORMAT}, got {found}: made by another doord")
        return msgspec.json.decode(plain, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise GalleryError(f"{_WHERE}: expected a gallery of doord, got: {error}") from None


def _template(row: _Row) -> Template:
    if len(row.vector) % 4:
        raise GalleryError(
            f"{_WHERE}: subject {row.subject!r}: expected float32 numbers, got {len(row.vector)} bytes"
        )
    vector = np.frombuffer(row.vector, "<f4").astype(np.float32, copy=False)
    return Template(row.subject, vector, row.model, row.enrolled_at_utc)
