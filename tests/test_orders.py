"""Orders, replies, attestations: what each is made of, and that nothing else is read."""

from __future__ import annotations

import json
import tracemalloc
from datetime import datetime, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import AT, EPOCH, an_attestation, an_order, attested, in_s, keys_of, new_signer, signed

from edge.errors import PayloadError
from edge.link import dsse, orders
from edge.link.counters import decode_counters
from edge.link.orders import Reply

DESK = new_signer()
KEYS = keys_of(DESK)
KEYID = DESK.public_key.keyid
REPLY = Reply("hq", "front", EPOCH, KEYID, 1000, True, "Accessed")
INPUTS = max(2000, settings.default.max_examples if settings.default else 0)  # --hypothesis-profile thorough


def changed(message: orders.Message, **fields: object) -> bytes:
    return json.dumps({**json.loads(orders.encode(message)), **fields}).encode()


@pytest.mark.parametrize(
    ("message", "decode"),
    [
        (an_order(), orders.decode_order),
        (an_order(do="free-access", until=in_s(60)), orders.decode_order),
        (REPLY, orders.decode_reply),
        (an_attestation(), orders.decode_attestation),
        (an_attestation(gallery=None, gallery_expires_at=None, refusal="expired"), orders.decode_attestation),
    ],
)
def test_what_is_encoded_is_decoded(message, decode):
    assert decode(orders.encode(message)) == message


@pytest.mark.parametrize(
    "fields",
    [
        {"site": "HQ"},
        {"doors": {}},
        {"doors": {"Front": EPOCH}},
        {"doors": {"front": "7"}},
        {"doors": {"front": "0-0011223344556677"}},
        {"doors": {"front": f"{EPOCH}\n"}},
        {"doors": {f"d{i}": EPOCH for i in range(501)}},
        {"counter": 0},
        {"counter": -1},
        {"counter": 2**53},
        {"counter": 10**400},
        {"counter": 1.5},
        {"counter": 1e308},
        {"counter": float("nan")},
        {"counter": float("inf")},
        {"counter": True},
        {"counter": "1000"},
        {"expires_at": "2026-02-30T12:00:00.000Z"},
        {"expires_at": "2026-11-22T24:00:00.000Z"},
        {"expires_at": "0000-01-01T00:00:00.000Z"},
        {"expires_at": "2026-11-22T12:00:60.000Z"},
        {"expires_at": "2026-11-22T12:00:00.000+02:00"},
        {"expires_at": "\u0662026-11-22T12:00:00.000Z"},
        {"expires_at": 1_800_000_000},
        {"do": "open-sesame"},
        {"do": ["unlock"]},
        {"do": "free-access"},
        {"do": "unlock", "until": "2026-11-22T12:00:00.000Z"},
        {"do": "free-access", "until": "2026-02-30T12:00:00.000Z"},
        {"more": 1},
    ],
)
def test_what_is_no_order_is_refused(fields):
    with pytest.raises(PayloadError, match=r"^(order|time): "):
        orders.decode_order(changed(an_order(), **fields))


def test_an_order_that_no_door_would_read_is_not_made():
    for broken in (an_order(doors={}), an_order(do="free-access"), an_order(counter=0)):
        with pytest.raises(PayloadError, match=r"^order: "):
            orders.encode(broken)


def test_an_order_to_500_doors_fits_its_limit():
    doors = {f"{'d' * 28}-{i:03}": orders.epoch_of(999_999_999, b"\xff" * 8) for i in range(500)}
    data = signed(an_order(doors=doors, do="free-access", until=in_s(60)), DESK)
    assert len(data) < orders.MAX_ORDER_BYTES
    payload, _ = dsse.opened(data, orders.COMMAND_TYPE, KEYS, orders.MAX_ORDER_BYTES)
    assert orders.decode_order(payload).doors == doors


def test_long_and_odd_texts_of_a_report_are_cut_and_it_fits_its_limit():
    for text in ("\u20ac\x00" * 5000, "\udcff" * 5000):
        state = msgspec.structs.replace(an_attestation().state, fault=text, gallery_refusal=text)
        data = attested(an_attestation(state=state), DESK)
        payload, _ = dsse.opened(data, orders.ATTESTATION_TYPE, KEYS, orders.MAX_REPORT_BYTES)
        assert len(orders.decode_attestation(payload).state.gallery_refusal) == 300
    assert (
        len(orders.decode_reply(orders.encode(msgspec.structs.replace(REPLY, detail="x" * 999))).detail)
        == 300
    )


def test_an_epoch_is_a_count_and_a_random_half():
    assert EPOCH == "7-0001020304050607"
    assert orders.epoch_count(EPOCH) == 7


def test_a_time_is_utc():
    assert orders.utc(AT) == datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
    for text in ("", "Z", "2026-13-01T00:00:00.000Z", "2026-11-22T12:00:00.000+02:00", "nan"):
        with pytest.raises(PayloadError, match=r"^time: expected UTC"):
            orders.utc(text)


# Every decoder, fed with anything

DECODERS = {
    "order": (orders.decode_order, orders.encode(an_order())),
    "reply": (orders.decode_reply, orders.encode(REPLY)),
    "ack": (orders.decode_ack, orders.encode(orders.Ack("hq", "front", 7, "0" * 64, AT))),
    "attestation": (orders.decode_attestation, orders.encode(an_attestation())),
    "keys": (dsse.decode_keys, dsse.encode_keys({"desk": DESK.public_key})),
    "counters": (decode_counters, msgspec.json.encode({"counters": {KEYID: 5}})),
    "envelope": (
        lambda data: dsse.opened(data, orders.COMMAND_TYPE, KEYS, orders.MAX_ORDER_BYTES),
        signed(an_order(), DESK),
    ),
}
_ODD = (b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b"[" * 50, b"{}", b'"\\ud800"', b"\xff", b"null")


@st.composite
def spoilt(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid message with some places overwritten, cut or repeated."""
    data = valid
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 8))
        new = draw(st.one_of(st.sampled_from(_ODD), st.binary(max_size=6), st.just(data[at : at + 40])))
        data = data[:at] + new + data[at + gone :]
    return data if draw(st.booleans()) else data[: draw(st.integers(0, len(data)))]


@st.composite
def reshaped(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid message with a value of it replaced by any JSON."""
    any_json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    data = json.loads(valid)
    data[draw(st.sampled_from(sorted(data)))] = draw(any_json)
    return json.dumps(data).encode()


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_knows_no_fault_but_payload_error(name):
    decode, valid = DECODERS[name]

    @settings(max_examples=INPUTS, deadline=None)
    @given(st.one_of(st.binary(max_size=200), spoilt(valid), reshaped(valid)))
    def feed(data: bytes) -> None:
        said = ""
        try:
            decode(data)
        except PayloadError as error:
            said = str(error)
        assert len(said) < 400

    decode(valid)
    feed()


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_needs_little_memory_whatever_it_is_sent(name):
    decode, _ = DECODERS[name]
    size = 512 * 1024
    greedy = [
        b"[" * size,
        b'{"a":' * (size // 5),
        b"[" + b"0," * (size // 2),
        b'"' + b"\\u0000" * (size // 6),
    ]
    greedy += [b'{"doors":{' + b",".join(b'"d%d":"%s"' % (i, EPOCH.encode()) for i in range(1500)) + b"}}"]
    greedy += [b'{"keys":[' + b"{}," * 20000 + b"{}]}", bytes(50 * 2**20)]
    for data in greedy:
        tracemalloc.start()
        with pytest.raises(PayloadError):
            decode(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2 * 2**20, f"{data[:20]!r} took {peak} bytes"
