"""Cards: their spelling, what they prove, how they are kept."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.disk import FileKey
from edge.errors import CardError, GalleryError, GalleryKeyError
from edge.identity import cards as cards_module
from edge.identity.cards import CardFile
from edge.identity.credentials import (
    Cards,
    Credential,
    Evidence,
    card_digest,
    card_key,
    card_text,
    claimed,
    enough,
)
from edge.values import Deny, Reason

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
KEY = card_key(bytes(range(32)))
CARD = "wiegand26:12-3456"


def book(**more: object) -> Cards:
    made = Credential(card_digest(KEY, CARD), "kian", **more)
    return Cards(KEY, {made.digest: made})


def test_a_card_in_force_claims_its_subject():
    found = claimed(book(), CARD, NOW, True)
    assert isinstance(found, Credential)
    assert found.subject == "kian"


@pytest.mark.parametrize(
    ("more", "card", "trusted", "reason"),
    [
        ({}, "wiegand26:12-3457", True, Reason.UNAUTHORIZED),
        ({}, "wiegand34:12-3456", True, Reason.UNAUTHORIZED),
        ({"enabled": False}, CARD, True, Reason.CREDENTIAL_NOT_ENABLED),
        ({"expires_at_utc": NOW}, CARD, True, Reason.CREDENTIAL_EXPIRED),
        ({"expires_at_utc": NOW + timedelta(days=1)}, CARD, False, Reason.CLOCK_NOT_TRUSTED),
    ],
)
def test_an_unknown_a_disabled_and_an_expired_card_are_each_denied_for_their_own_reason(
    more, card, trusted, reason
):
    assert claimed(book(**more), card, NOW, trusted) == Deny(reason)


def test_a_card_that_expires_later_counts_by_a_trusted_clock():
    cards = book(expires_at_utc=NOW + timedelta(seconds=1))
    assert claimed(cards, CARD, NOW, True) == next(iter(cards.by_digest.values()))


def test_without_any_card_given_out_every_card_is_unknown():
    assert claimed(Cards(), CARD, NOW, True) == Deny(Reason.UNAUTHORIZED)


@given(st.text(max_size=20).filter(lambda text: text != "3456"))
def test_no_other_text_has_the_digest_of_a_card(text):
    assert card_digest(KEY, f"wiegand26:12-{text}") != card_digest(KEY, CARD)


def test_another_gallerys_key_makes_other_digests():
    assert card_digest(card_key(bytes(32)), CARD) != card_digest(KEY, CARD)


@pytest.mark.parametrize(
    ("format_", "number", "text"),
    [
        ("wedge", "0012345678", "wedge:0012345678"),
        ("wedge", " 04a3f1 ", "wedge:04A3F1"),
        ("wiegand26", "012-03456", CARD),
        ("wiegand34", "65535-65535", "wiegand34:65535-65535"),
        ("wiegand37", "1-524287", "wiegand37:1-524287"),
    ],
)
def test_a_card_has_one_spelling(format_, number, text):
    assert card_text(format_, number) == text


@pytest.mark.parametrize(
    ("format_", "number"),
    [
        ("wedge", ""),
        ("wedge", "12 34"),
        ("wedge", "1" * 33),
        ("wedge", "१२३"),
        ("wiegand26", "3456"),
        ("wiegand26", "256-1"),
        ("wiegand26", "1-65536"),
        ("wiegand26", "१-१"),
        ("wiegand37", "1-524288"),
        ("osdp", "1"),
    ],
)
def test_what_no_reader_reports_is_refused_without_repeating_the_number(format_, number):
    with pytest.raises(CardError, match="card: expected") as caught:
        card_text(format_, number)
    if format_ != "osdp" and number:
        assert number not in str(caught.value)


FACE, CARD_ALONE, BOTH = Evidence.FACE, Evidence.CARD, Evidence.BOTH


@pytest.mark.parametrize(
    ("modes", "opens"),
    [
        (["face"], {FACE, BOTH}),
        (["card"], {CARD_ALONE, BOTH}),
        (["card_or_face"], {FACE, CARD_ALONE, BOTH}),
        (["card_and_face"], {BOTH}),
        (["face", "card_or_face"], {FACE, BOTH}),
        (["face", "card"], {BOTH}),
    ],
)
def test_what_opens_by_several_modes_is_what_opens_by_each(modes, opens):
    assert enough(modes) == opens


@given(st.lists(st.sampled_from(["face", "card", "card_or_face", "card_and_face"])))
def test_card_and_face_always_open_and_a_further_mode_never_opens_more(modes):
    assert BOTH in enough(modes)
    assert enough(["card_and_face", *modes]) <= enough(modes)


@pytest.fixture
def kept(tmp_path) -> CardFile:
    keys = FileKey(tmp_path / "gallery.key")
    keys.create(tmp_path / "gallery.db")
    return CardFile(tmp_path / "cards.sealed", keys)


def test_cards_are_given_listed_disabled_enabled_and_removed(kept):
    made = kept.add(CARD, "kian", True, NOW)
    assert kept.load().by_digest == {made.digest: made}
    assert not kept.enable(made.id, False).enabled
    assert claimed(kept.load(), CARD, NOW, True) == Deny(Reason.CREDENTIAL_NOT_ENABLED)
    assert kept.enable(made.id, True) == made
    assert kept.remove(made.id) == made
    assert kept.load().by_digest == {}


def test_a_card_given_again_has_one_subject(kept):
    kept.add(CARD, "kian", True, None)
    kept.add(CARD, "ada", True, None)
    assert [card.subject for card in kept.load().by_digest.values()] == ["ada"]


def test_a_card_that_is_not_there_can_not_be_changed(kept):
    with pytest.raises(CardError, match="card '0123': is not there"):
        kept.remove("0123")


def test_neither_number_nor_subject_can_be_read_from_the_file(kept, tmp_path):
    kept.add("wedge:0012345678", "kian", True, None)
    content = (tmp_path / "cards.sealed").read_bytes()
    assert b"kian" not in content
    assert b"0012345678" not in content
    assert (tmp_path / "cards.sealed").stat().st_mode & 0o777 == 0o600


def test_an_altered_file_or_another_key_gives_no_cards(kept, tmp_path):
    kept.add(CARD, "kian", True, None)
    path = tmp_path / "cards.sealed"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(GalleryError, match="was altered"):
        kept.load()
    path.write_bytes(good)
    (tmp_path / "gallery.key").write_text("0" * 64)
    with pytest.raises(GalleryError, match="was altered, or sealed with another key"):
        kept.load()
    (tmp_path / "gallery.key").unlink()
    with pytest.raises(GalleryKeyError):
        kept.load()


def test_a_sealed_file_of_another_shape_is_refused(kept, tmp_path):
    from edge.disk import seal

    path = tmp_path / "cards.sealed"
    path.write_bytes(seal(kept._key(), b"\x80", b"doord cards 1"))
    with pytest.raises(GalleryError, match="expected cards of doord"):
        kept.load()
    path.unlink()
    path.mkdir()
    with pytest.raises(GalleryError, match="Is a directory"):
        kept.load()


def test_too_many_cards_and_a_disk_that_refuses_change_nothing(kept, monkeypatch):
    kept.add(CARD, "kian", True, None)
    before = kept.load()
    monkeypatch.setattr(cards_module, "MAX_CARDS", 1)
    with pytest.raises(CardError, match="expected at most 1 cards, got 2"):
        kept.add("wedge:1", "ada", True, None)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.disk.write_atomically", full)
    with pytest.raises(GalleryError, match="No space left"):
        kept.add(CARD, "ada", True, None)
    assert kept.load() == before
