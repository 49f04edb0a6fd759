"""A site's shards put together: one gallery, whoever made it, and nothing where they contradict."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec
import numpy as np
import pytest
from site_content import CARD_KEY, MODEL, in_shard, manifest_of, templates

from edge.errors import GalleryError
from edge.identity.credentials import card_digest, claimed
from edge.identity.gallery import build_gallery
from edge.identity.match import search
from edge.identity.rights import Permitted, decide
from edge.identity.rights_file import LimitsText, PeriodText
from edge.identity.shards import (
    HeldCard,
    Holder,
    PeopleShard,
    RightsSite,
    decode_people_shard,
    encode_people_shard,
)
from edge.identity.site_gallery import assemble, cards_of, rights_of
from edge.values import Deny, Probe, Reason, Template

ROWS = templates(40, each=3)
NOW = datetime(2026, 11, 16, 12, tzinfo=timezone.utc)  # a Monday


def published(rows: list[Template], shards: int) -> list[PeopleShard]:
    manifest = manifest_of(rows, shards)
    return [
        decode_people_shard(encode_people_shard(i, manifest, in_shard(rows, i, shards)), i, manifest)
        for i in range(shards)
    ]


@pytest.mark.parametrize("shards", [1, 8, 256])
def test_shards_make_the_gallery_that_their_templates_would_make(shards):
    found = published(ROWS, shards)
    gallery = assemble(manifest_of(ROWS, shards), found, 7)
    in_order = [
        Template(shard.subjects[owner], vector, MODEL, "2026-01-02T03:04:05Z")
        for shard in found
        for owner, vector in zip(shard.owners, shard.vectors, strict=True)
    ]
    same = build_gallery(in_order, MODEL, 16, 7)
    assert (gallery.digest, gallery.subjects, gallery.version) == (same.digest, same.subjects, 7)
    np.testing.assert_array_equal(gallery.templates, same.templates)
    np.testing.assert_array_equal(gallery.owners, same.owners)
    with pytest.raises(ValueError, match="read-only"):
        gallery.templates[0, 0] = 0


def test_every_template_is_found_as_its_own_subjects():
    gallery = assemble(manifest_of(ROWS, 8), published(ROWS, 8), 1)
    for row in ROWS:
        match = search(Probe(row.vector, MODEL, 0.0), gallery)
        assert match is not None
        assert match.best is not None
        assert match.best.subject == row.subject
        assert match.best.distance < 0.01


def test_a_site_without_people_has_an_empty_gallery():
    gallery = assemble(manifest_of([], 1), published([], 1), 1)
    assert (len(gallery), gallery.subjects, gallery.templates.shape) == (0, (), (0, 16))


@pytest.mark.parametrize(
    "change", [{"templates": 119}, {"templates": 121}, {"subjects": 39}, {"subjects": 41}]
)
def test_what_does_not_add_up_to_the_manifest_is_refused(change):
    manifest = msgspec.structs.replace(manifest_of(ROWS, 8), **change)
    with pytest.raises(GalleryError, match="people: expected"):
        assemble(manifest, published(ROWS, 8), 1)


def test_a_shard_given_twice_is_refused():
    once = published(ROWS, 1)
    twice = msgspec.structs.replace(manifest_of(ROWS, 1), templates=240, subjects=80)
    with pytest.raises(GalleryError, match="expected 240 templates of 80 subjects, got 240 of 40"):
        assemble(twice, once + once, 1)


SITE = RightsSite(
    format=1,
    shards=1,
    time_zone="Europe/Berlin",
    schedules={"office": [PeriodText(["mon"], "07:00", "19:00")]},
    groups={"staff": LimitsText(schedule="office", doors=["front"])},
)
ADA = Holder(subject="ada", groups=["staff"], cards=(HeldCard(card_digest(CARD_KEY, "wedge:1")),))
EVE = Holder(subject="eve", enabled=False, cards=(HeldCard(b"2" * 32, True, 1),))


def test_rights_are_those_that_rights_yaml_would_give():
    rights = rights_of(SITE, [ADA, EVE])
    assert decide(rights, "ada", "front", NOW, True) == Permitted()
    assert decide(rights, "ada", "back", NOW, True) == Deny(Reason.UNAUTHORIZED)
    assert decide(rights, "eve", "front", NOW, True) == Deny(Reason.CREDENTIAL_NOT_ENABLED)
    assert decide(rights, "bob", "front", NOW, True) == Deny(Reason.UNAUTHORIZED)


def test_a_contradiction_is_refused_with_its_path():
    lost = Holder(subject="ada", groups=["guards"])
    with pytest.raises(GalleryError, match=r"^rights: subjects\.ada\.groups\[0\]: expected one of groups"):
        rights_of(SITE, [lost])
    with pytest.raises(GalleryError, match=r"^rights: time_zone: expected an IANA time zone"):
        rights_of(msgspec.structs.replace(SITE, time_zone="Mars/Base"), [])


def test_cards_are_claimed_as_those_of_the_door_itself():
    cards = cards_of([ADA, EVE], CARD_KEY)
    found = claimed(cards, "wedge:1", NOW, True)
    assert not isinstance(found, Deny)
    assert found.subject == "ada"
    assert claimed(cards, "wedge:2", NOW, True) == Deny(Reason.UNAUTHORIZED)
    assert cards.by_digest[b"2" * 32].expires_at_utc == datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)


def test_a_card_of_two_subjects_is_refused():
    with pytest.raises(GalleryError, match="card 323232323232: expected one subject, got eve and bob"):
        cards_of([EVE, Holder(subject="bob", cards=EVE.cards)], CARD_KEY)
