"""A gallery as a file: what went out comes in, and nothing else does."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import GalleryError, ModelMismatch
from edge.identity import transfer
from edge.identity.transfer import export_gallery, import_gallery, merge
from edge.values import Template

PASSPHRASE = "correct horse"
NOW = "2026-01-02T03:04:05Z"


def template(subject: str, seed: int, dimension: int = 16) -> Template:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return Template(subject, (vector / np.linalg.norm(vector)).astype(np.float32), "facenet-a", NOW)


TEMPLATES = [template("ada", 1), template("bob", 2), template("bob", 3)]
ENCRYPTED = export_gallery(TEMPLATES, PASSPHRASE)
PLAIN = export_gallery(TEMPLATES, None)


def plain(templates: list[Template]) -> list[tuple[str, str, str, bytes]]:
    return [(t.subject, t.model, t.enrolled_at_utc, t.vector.tobytes()) for t in templates]


def edited(**changes: object) -> bytes:
    """The plaintext file with some fields of its first template changed."""
    data = json.loads(PLAIN)
    data["templates"][0].update(changes)
    return json.dumps(data).encode()


def numbers(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


@pytest.mark.parametrize("passphrase", [PASSPHRASE, None, "p\u00e4ssw\u00f6rter", "x" * 1000])
@pytest.mark.parametrize("templates", [[], TEMPLATES])
def test_what_goes_out_comes_in(templates: list[Template], passphrase: str | None) -> None:
    assert plain(import_gallery(export_gallery(templates, passphrase), passphrase)) == plain(templates)


def test_an_encrypted_file_tells_nothing_and_never_looks_the_same() -> None:
    assert b"ada" not in ENCRYPTED
    assert b"facenet" not in ENCRYPTED
    again = export_gallery(TEMPLATES, PASSPHRASE)
    assert again[15:31] != ENCRYPTED[15:31]  # the salt
    assert again[31:43] != ENCRYPTED[31:43]  # the nonce


def test_a_passphrase_typed_on_another_system_is_the_same() -> None:
    data = export_gallery(TEMPLATES, "p\u00e4ssw\u00f6rter")
    assert len(import_gallery(data, "pa\u0308sswo\u0308rter")) == 3


def test_a_wrong_passphrase_is_refused_in_one_line() -> None:
    with pytest.raises(
        GalleryError, match=r"^gallery file: wrong passphrase, or the file was altered or cut short$"
    ):
        import_gallery(ENCRYPTED, "incorrect horse")


def test_an_encrypted_file_asks_for_its_passphrase() -> None:
    with pytest.raises(GalleryError, match="is encrypted: expected a passphrase, got none"):
        import_gallery(ENCRYPTED, None)


def test_a_plaintext_file_is_not_passed_off_as_an_encrypted_one() -> None:
    with pytest.raises(GalleryError, match="expected an encrypted one"):
        import_gallery(PLAIN, PASSPHRASE)


@pytest.mark.parametrize("passphrase", ["", "short"])
def test_a_short_passphrase_is_refused(passphrase: str) -> None:
    with pytest.raises(GalleryError, match="passphrase: expected at least 8 characters"):
        export_gallery(TEMPLATES, passphrase)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(ENCRYPTED) - 1), st.integers(1, 255))
def test_every_altered_byte_of_an_encrypted_file_is_noticed(at: int, change: int) -> None:
    altered = bytearray(ENCRYPTED)
    altered[at] ^= change
    with pytest.raises(GalleryError, match=r"^gallery file: "):
        import_gallery(bytes(altered), PASSPHRASE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(ENCRYPTED) - 1), st.booleans())
def test_a_file_cut_short_is_refused(length: int, encrypted: bool) -> None:
    cut = ENCRYPTED[:length] if encrypted else PLAIN[: length % len(PLAIN)]
    with pytest.raises(GalleryError, match=r"^gallery file: "):
        import_gallery(cut, PASSPHRASE if encrypted else None)


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(GalleryError, match=r"^gallery file: "):
        import_gallery(data, None)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b'{"doord_gallery":1}',
        b"PK\x03\x04",
    ],
)
def test_a_foreign_file_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(GalleryError, match=r"^gallery file: expected a gallery of doord") as refused:
        import_gallery(data, None)
    assert "\n" not in str(refused.value)


def test_a_file_of_a_later_format_says_so() -> None:
    later = bytearray(ENCRYPTED)
    later[ENCRYPTED.index(b"\0") + 1] = 2
    with pytest.raises(GalleryError, match="expected format 1, got 2: made by another doord"):
        import_gallery(bytes(later), PASSPHRASE)
    with pytest.raises(GalleryError, match="expected format 1, got 2: made by another doord"):
        import_gallery(b'{"doord_gallery": 2, "templates": "of another shape"}', None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (edited(subject="../ada"), "expected 1 to 32 of a-z"),
        (edited(subject=""), "expected 1 to 32 of a-z"),
        (edited(subject="x" * 33), "Expected `str` of length <= 32"),
        (edited(subject=7), "Expected `str`"),
        (edited(model="FaceNet"), "expected a model id"),
        (edited(enrolled_at_utc="now"), "expected a UTC time"),
        (edited(surname="x"), "unknown field `surname`"),
        (edited(vector="!"), "base64"),
        (edited(vector="AAAA"), "expected float32 numbers, got 3 bytes"),
        (edited(vector=""), "expected 1 to 4096 float32 numbers"),
        (edited(vector=numbers(*[0.5] * 16)), "expected a vector of norm 1, got 2.0000"),
        (edited(vector=numbers(*[0] * 16)), "expected a vector of norm 1, got 0.0000"),
        (edited(vector=numbers(float("nan"), *[0] * 15)), "expected a vector of norm 1, got nan"),
        (edited(vector=numbers(float("inf"), *[0] * 15)), "expected a vector of norm 1, got inf"),
        (edited(vector=numbers(1, 0)), "expected 2 numbers as the others of facenet-a, got 16"),
        (edited(vector=numbers(*[0] * 5000)), "Expected `bytes` of length <= 16384"),
    ],
)
def test_a_template_that_must_not_enter_keeps_the_whole_file_out(data: bytes, problem: str) -> None:
    with pytest.raises(GalleryError) as refused:
        import_gallery(data, None)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sizes_are_bounded_before_anything_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 100)
    monkeypatch.setattr(transfer, "MAX_FILE_BYTES", 100)
    with pytest.raises(GalleryError, match="expected at most 100 bytes, got 2000"):
        import_gallery(b"[" * 2000, None)
    with pytest.raises(GalleryError, match="expected at most"):
        export_gallery(TEMPLATES, None)


def test_more_templates_than_a_door_holds_are_refused() -> None:
    rows = ",".join([json.dumps(json.loads(PLAIN)["templates"][0])] * 20_001)
    with pytest.raises(GalleryError, match="length <= 20000"):
        import_gallery(f'{{"doord_gallery":1,"templates":[{rows}]}}'.encode(), None)
    with pytest.raises(GalleryError, match="expected at most 20000 templates, got 20001"):
        export_gallery([TEMPLATES[0]] * 20_001, None)


# into a gallery that is there


def test_importing_twice_adds_nothing() -> None:
    first = merge([], TEMPLATES + TEMPLATES[:1], "facenet-a", 16)
    assert plain(first) == plain(TEMPLATES)
    assert merge(first, TEMPLATES, "facenet-a", 16) == []
    assert plain(merge(TEMPLATES[:2], TEMPLATES, "facenet-a", 16)) == plain(TEMPLATES[2:])


def test_templates_this_door_could_not_load_are_not_merged() -> None:
    other = replace(TEMPLATES[0], model="facenet-b")
    with pytest.raises(ModelMismatch, match="expected templates of facenet-a, got one of facenet-b"):
        merge(TEMPLATES, [other], "facenet-a", 16)
    with pytest.raises(GalleryError, match="expected 16 numbers"):
        merge(TEMPLATES, [template("eve", 4, dimension=8)], "facenet-a", 16)
