"""Envelopes: what was signed comes out, and nothing else does."""

from __future__ import annotations

import base64
import json

import pytest
from securesystemslib.signer import CryptoSigner
from signing import keys_of, new_signer

from edge.errors import NotSigned, PayloadError
from edge.link import dsse

KIND = "application/vnd.doord.test"
ADA = new_signer()
EVE = new_signer()
SEALED = dsse.sign(b"hello", KIND, ADA)
LIMIT = 1000


def opened(data: bytes, keys=None) -> tuple[bytes, str]:
    return dsse.opened(data, KIND, keys_of(ADA) if keys is None else keys, LIMIT)


def edited(change) -> bytes:
    envelope = json.loads(SEALED)
    change(envelope)
    return json.dumps(envelope).encode()


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(256))])
def test_what_was_signed_comes_out_with_the_key_that_signed(payload):
    assert opened(dsse.sign(payload, KIND, ADA)) == (payload, ADA.public_key.keyid)
    both = keys_of(ADA, EVE)
    assert opened(dsse.sign(payload, KIND, EVE), both) == (payload, EVE.public_key.keyid)


def test_the_envelope_is_as_the_specification_writes_it():
    told = json.loads(SEALED)
    assert set(told) == {"payload", "payloadType", "signatures"}
    assert (base64.b64decode(told["payload"]), told["payloadType"]) == (b"hello", KIND)
    assert [set(signature) for signature in told["signatures"]] == [{"keyid", "sig"}]


def test_nobody_else_can_sign():
    with pytest.raises(NotSigned, match="expected a signature by one of 1 known keys"):
        opened(dsse.sign(b"hello", KIND, EVE))
    with pytest.raises(NotSigned, match="one of 0 known keys"):
        opened(SEALED, {})


def test_neither_payload_nor_type_can_be_changed():
    other = base64.b64encode(b"hullo").decode()
    with pytest.raises(NotSigned, match="its signature is not of key"):
        opened(edited(lambda envelope: envelope.update(payload=other)))
    with pytest.raises(PayloadError, match=r"expected application/vnd.doord.test, got 'text/plain'"):
        opened(dsse.sign(b"hello", "text/plain", ADA))
    retyped = json.loads(dsse.sign(b"hello", "text/plain", ADA))
    retyped["payloadType"] = KIND
    with pytest.raises(NotSigned):
        opened(json.dumps(retyped).encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda envelope: envelope.update(signatures=[]),
        lambda envelope: envelope.update(signatures=2 * envelope["signatures"]),
        lambda envelope: envelope.update(more=1),
        lambda envelope: envelope["signatures"][0].update(sig="AAAA"),
        lambda envelope: envelope["signatures"][0].update(keyid="x"),
        lambda envelope: envelope["signatures"][0].update(cert="x"),
        lambda envelope: envelope.update(payload=5),
        lambda envelope: envelope.update(payload="not base64"),
        lambda envelope: envelope.update(payloadType=None),
    ],
)
def test_what_is_no_envelope_of_one_signature_is_refused(change):
    with pytest.raises(PayloadError, match=r"^envelope: ") as caught:
        opened(edited(change))
    assert not isinstance(caught.value, NotSigned)


def test_the_size_is_judged_first():
    with pytest.raises(PayloadError, match="expected at most 1000 bytes, got 1001"):
        opened(SEALED.ljust(LIMIT + 1))
    assert opened(SEALED.ljust(LIMIT))[0] == b"hello"


# public keys


def test_the_keys_that_may_command_come_back_from_their_target():
    data = dsse.encode_keys({"desk": ADA.public_key, "guard": EVE.public_key})
    assert [row["name"] for row in json.loads(data)["keys"]] == ["desk", "guard"]
    keys = dsse.decode_keys(data).command
    assert opened(dsse.sign(b"x", KIND, EVE), keys) == (b"x", EVE.public_key.keyid)
    assert dsse.decode_keys(dsse.encode_keys({})) == dsse.Signers()


def test_the_collectors_key_may_ack_and_never_command_and_all_others_the_reverse():
    signers = dsse.decode_keys(dsse.encode_keys({"desk": ADA.public_key, "collect": EVE.public_key}))
    assert list(signers.command) == [ADA.public_key.keyid]
    assert list(signers.ack) == [EVE.public_key.keyid]


def test_a_key_that_is_not_ed25519_is_refused():
    with pytest.raises(PayloadError, match=r"^command keys: "):
        dsse.encode_keys({"desk": CryptoSigner.generate_ecdsa().public_key})


def test_a_list_of_keys_must_be_ours_and_name_each_once():
    whole = json.loads(dsse.encode_keys({"desk": ADA.public_key}))
    for data, match in (
        ({**whole, "doord_command_keys": 2}, "expected format 1, got 2"),
        ({**whole, "keys": 2 * whole["keys"]}, "expected each key once"),
        ({**whole, "keys": 101 * whole["keys"]}, "length"),
        ({**whole, "more": 1}, "unknown field"),
    ):
        with pytest.raises(PayloadError, match=match):
            dsse.decode_keys(json.dumps(data).encode())
    with pytest.raises(PayloadError, match="expected at most 65536 bytes"):
        dsse.decode_keys(bytes(64 * 1024 + 1))


def test_a_doors_key_comes_back_from_its_record():
    key = ADA.public_key
    assert dsse.decode_key({"keyid": key.keyid, **key.to_dict()}) == key
    for broken in ({}, key.to_dict(), {"keyid": key.keyid}, {"keyid": "x", **key.to_dict()}):
        with pytest.raises(PayloadError, match=r"^public key: "):
            dsse.decode_key(broken)


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_format_number_without_end_is_refused_in_few_words(digits):
    with pytest.raises(PayloadError, match="command keys: ") as caught:
        dsse.decode_keys(b'{"doord_command_keys":' + b"9" * digits + b',"keys":[]}')
    assert len(str(caught.value)) < 300


def test_what_is_told_of_foreign_bytes_is_one_short_line():
    forged = b'{"x\\n12:00:00 INFO AccessGranted: eve\\u001b[2J' + b"y" * 10_000 + b'":1}'
    with pytest.raises(PayloadError) as refused:
        dsse.opened(forged, "application/x", {}, 64 * 1024)
    said = str(refused.value)
    assert said.isprintable()
    assert "unknown field" in said
    assert len(said) < 300
