"""What a site publishes: what goes out comes in, and nothing else does."""

from __future__ import annotations

import os
import resource
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from site_content import CARD_KEY, SITE_KEY, in_shard, manifest_of, templates

from edge.errors import GalleryError, GalleryKeyError, ModelMismatch
from edge.identity import sealing, shards
from edge.identity.rights_file import LimitsText, PeriodText
from edge.identity.sealing import SiteKeys, seal_target, unseal_target
from edge.identity.shards import HeldCard, Holder, RightsSite, decode_people_shard, encode_people_shard

INPUTS = int(os.environ.get("DOORD_FUZZ_INPUTS", "2000"))
"""How many foreign inputs each decoder is given; 100,000 take some minutes."""

ROWS = templates(12)
SHARDS = 4
MANIFEST = manifest_of(ROWS, SHARDS)
INDEX = shards.shard_of("p-0", SHARDS)
PEOPLE = encode_people_shard(INDEX, MANIFEST, in_shard(ROWS, INDEX, SHARDS))
HOLDERS = [
    Holder(
        subject="ada", groups=["staff"], from_="2026-01-01", cards=(HeldCard(b"1" * 32, True, 1_800_000_000),)
    ),
    Holder(subject="eve", extended_release=True, cards=(HeldCard(b"2" * 32, False), HeldCard(b"3" * 32))),
]
SITE = RightsSite(
    format=1,
    shards=1,
    time_zone="Europe/Berlin",
    holidays=["2026-12-25"],
    schedules={"office": [PeriodText(["mon"], "07:00", "19:00")]},
    groups={"staff": LimitsText(schedule="office")},
    others=["staff"],
    free_access=[LimitsText(schedule="office", doors=["front"])],
)
RIGHTS = shards.encode_rights_shard(0, 1, HOLDERS)
KEYS = sealing.encode_keys(SiteKeys(1, SITE_KEY, CARD_KEY))
SEALED = seal_target(SITE_KEY, "hq", "people/0", b"secret")
DECODERS = {
    "keys": (KEYS, sealing.decode_keys),
    "manifest": (shards.encode_manifest(MANIFEST), shards.decode_manifest),
    "people": (PEOPLE, lambda data: decode_people_shard(data, INDEX, MANIFEST)),
    "rights": (RIGHTS, lambda data: shards.decode_rights_shard(data, 0, SITE)),
    "rights site": (shards.encode_rights_site(SITE), shards.decode_rights_site),
    "sealed": (SEALED, lambda data: unseal_target(SITE_KEY, "hq", "people/0", data)),
}


def test_a_shard_of_people_comes_in_as_float16_unit_vectors():
    rows = sorted(in_shard(ROWS, INDEX, SHARDS), key=lambda row: row.subject)
    shard = decode_people_shard(PEOPLE, INDEX, MANIFEST)
    assert shard.subjects == tuple(sorted({row.subject for row in rows}))
    assert [shard.subjects[i] for i in shard.owners] == [row.subject for row in rows]
    assert shard.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(shard.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(shard.vectors, [row.vector for row in rows], atol=1e-3)


def test_the_same_people_give_the_same_bytes_whatever_their_order():
    rows = in_shard(ROWS, INDEX, SHARDS)
    by_subject = sorted(rows, key=lambda row: row.subject, reverse=True)
    assert encode_people_shard(INDEX, MANIFEST, by_subject) == PEOPLE
    through_float16 = [replace(row, vector=row.vector.astype("<f2").astype(np.float32)) for row in rows]
    assert encode_people_shard(INDEX, MANIFEST, through_float16) == PEOPLE


def test_an_empty_shard_is_one_too():
    empty = decode_people_shard(encode_people_shard(1, MANIFEST, []), 1, MANIFEST)
    assert (empty.subjects, empty.vectors.shape, empty.owners.shape) == ((), (0, 16), (0,))


@pytest.mark.parametrize(
    ("count", "last"), [(1, "people/0"), (16, "people/f"), (32, "people/1f"), (4096, "people/fff")]
)
def test_a_shard_is_named_by_its_index_in_as_many_digits_as_the_last_has(count, last):
    assert shards.people_name(count - 1, count) == last
    assert len(shards.rights_name(0, count)) == len(last)


def test_every_subject_has_one_shard_and_they_fill_evenly():
    found = [shards.shard_of(f"s-{i}", 64) for i in range(6400)]
    assert set(found) == set(range(64))
    assert max(found.count(i) for i in range(64)) < 160
    assert shards.shard_of("ada", 1) == 0
    assert shards.shard_of("ada", 128) == shards.shard_of("ada", 4096) >> 5


def test_rights_cards_keys_and_manifest_come_in_as_they_went_out():
    assert shards.decode_rights_shard(RIGHTS, 0, SITE) == HOLDERS
    assert shards.decode_rights_site(shards.encode_rights_site(SITE)) == SITE
    assert sealing.decode_keys(KEYS) == SiteKeys(1, SITE_KEY, CARD_KEY)
    assert shards.decode_manifest(shards.encode_manifest(MANIFEST)) == MANIFEST


def edited(**changes: object) -> bytes:
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(PEOPLE), **changes})


def vectors_with(value: float) -> bytes:
    numbers = np.frombuffer(msgspec.msgpack.decode(PEOPLE)["vectors"], "<f2").copy()
    numbers[0] = value
    return numbers.tobytes()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (edited(format=2), "expected format 1, got 2: made by another doord"),
        (edited(shard=1 - INDEX % 2), "expected shard"),
        (edited(dimension=8), "expected shard"),
        (edited(subjects=["p-0", "p-0"]), "expected subjects in order"),
        (edited(subjects=["../p"]), "expected content of doord"),
        (edited(counts=[1]), "templates of"),
        (edited(counts=[0, 1]), "expected content of doord"),
        (edited(vectors=b"\0" * 64), "templates of"),
        (edited(vectors=vectors_with(float("nan"))), "expected vectors of norm 1, got nan"),
        (edited(vectors=vectors_with(float("inf"))), "expected vectors of norm 1, got inf"),
        (edited(vectors=vectors_with(1.5)), "expected vectors of norm 1, got 1"),
        (edited(more=1), "expected content of doord"),
        (b"", "expected content of doord"),
    ],
)
def test_what_must_not_enter_a_gallery_is_refused_in_one_line(data, says):
    with pytest.raises(GalleryError, match=says) as caught:
        decode_people_shard(data, INDEX, MANIFEST)
    assert str(caught.value).startswith(f"people/{INDEX}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_number_without_end_is_refused_in_few_words(digits):
    number = b"9" * digits
    for decode, data in (
        (shards.decode_rights_site, b'{"format":' + number + b"}"),
        (shards.decode_rights_site, b'{"format":1,"shards":' + number + b',"time_zone":"UTC"}'),
    ):
        with pytest.raises(GalleryError, match="expected content of doord") as caught:
            decode(data)
        assert len(str(caught.value)) < 300


def test_a_subject_in_anothers_shard_is_refused():
    other = next(i for i in range(SHARDS) if i != INDEX)
    with pytest.raises(GalleryError, match="expected subjects of shard"):
        encode_people_shard(other, MANIFEST, in_shard(ROWS, INDEX, SHARDS))
    with pytest.raises(GalleryError, match="expected subjects of shard"):
        decode_people_shard(edited(shard=other), other, MANIFEST)
    with pytest.raises(GalleryError, match="expected subjects of shard"):
        shards.encode_rights_shard(1 - shards.shard_of("ada", 2), 2, HOLDERS[:1])


def test_templates_of_another_embedder_are_a_mismatch_on_both_sides():
    with pytest.raises(ModelMismatch, match="expected templates of facenet-a, got one of facenet-b"):
        decode_people_shard(edited(model="facenet-b"), INDEX, MANIFEST)
    foreign = [replace(row, model="facenet-b") for row in in_shard(ROWS, INDEX, SHARDS)]
    with pytest.raises(ModelMismatch, match="subject p-0: expected templates of facenet-a"):
        encode_people_shard(INDEX, MANIFEST, foreign)


@pytest.mark.parametrize("shard_count", [3, 0, 8192])
def test_a_number_of_shards_that_is_no_power_of_two_or_too_large_is_refused(shard_count):
    with pytest.raises(GalleryError, match="people/manifest"):
        shards.decode_manifest(shards.encode_manifest(msgspec.structs.replace(MANIFEST, shards=shard_count)))
    with pytest.raises(GalleryError, match="rights/site"):
        shards.decode_rights_site(
            shards.encode_rights_site(msgspec.structs.replace(SITE, shards=shard_count))
        )


@pytest.mark.parametrize(
    "change",
    [{"templates": 64_001}, {"dimension": 4097}, {"subjects": 25}, {"templates": -1}, {"model": "A"}],
)
def test_a_manifest_that_promises_too_much_is_refused(change):
    with pytest.raises(GalleryError, match="people/manifest: expected"):
        shards.decode_manifest(shards.encode_manifest(msgspec.structs.replace(MANIFEST, **change)))


def test_a_sealed_target_opens_only_with_its_key_site_and_name():
    assert unseal_target(SITE_KEY, "hq", "people/0", SEALED) == b"secret"
    assert b"secret" not in SEALED
    for site, name in (("hq2", "people/0"), ("hq", "people/1"), ("hq", "rights/0")):
        with pytest.raises(GalleryError, match="was altered, or sealed with another key"):
            unseal_target(SITE_KEY, site, name, SEALED)
    with pytest.raises(GalleryKeyError, match=f"expected key {sealing.site_key_id(CARD_KEY).hex()}"):
        unseal_target(CARD_KEY, "hq", "people/0", SEALED)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_every_altered_byte_of_a_sealed_target_is_noticed(at, change):
    altered = bytearray(SEALED)
    altered[at] ^= change
    with pytest.raises(GalleryError):
        unseal_target(SITE_KEY, "hq", "people/0", bytes(altered))


def test_a_target_too_long_is_not_made_and_not_opened():
    with pytest.raises(GalleryError, match="expected at most 4194304 bytes"):
        seal_target(SITE_KEY, "hq", "people/0", b"x" * 4 * 2**20)
    with pytest.raises(GalleryError, match="expected at most 4194304 bytes"):
        unseal_target(SITE_KEY, "hq", "people/0", SEALED + b"x" * 4 * 2**20)
    many = [Holder(subject=f"s-{i}", doors=["x" * 30] * 8) for i in range(5000)]
    with pytest.raises(GalleryError, match="rights/0: expected at most 1048576 bytes"):
        shards.encode_rights_shard(0, 1, many)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Foreign bytes, and what is nearly right: cut short, prolonged, overwritten somewhere."""
    at = st.integers(0, len(whole))
    return st.one_of(
        st.binary(max_size=300),
        at.map(lambda i: whole[:i]),
        st.binary(min_size=1, max_size=8).map(lambda more: whole + more),
        st.tuples(at, st.binary(min_size=1, max_size=8)).map(
            lambda t: whole[: t[0]] + t[1] + whole[t[0] + len(t[1]) :]
        ),
        st.tuples(at, st.binary(min_size=1, max_size=8)).map(lambda t: whole[: t[0]] + t[1] + whole[t[0] :]),
    )


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_raises_gallery_errors_and_nothing_else(name):
    whole, decode = DECODERS[name]
    decode(whole)

    @settings(max_examples=INPUTS, deadline=None, database=None)
    @given(damaged(whole))
    def refuse(data: bytes) -> None:
        refusal = ""
        try:
            decode(data)
        except GalleryError as error:
            refusal = str(error)
        assert "\n" not in refusal

    refuse()


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x86\xa6format\x01\xa5shard\x00\xa5model\xa1a\xa9dimension\x10\xa8subjects\xdd\xff\xff\xff\xff",
        b"\x83\xa6format\x01\xa5shard\x00\xa7holders\xdd\x00\x00\xfa\x00",
        b"\x91" * 1_000_000,
        b"[" * 60_000,
        b'{"a":' * 12_000,
    ],
)
def test_a_length_that_promises_gigabytes_takes_no_memory(name, bomb):
    _, decode = DECODERS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GalleryError):
        decode(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
