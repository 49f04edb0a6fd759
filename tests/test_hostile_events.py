"""What a broker's operator can make up: nothing of it stops the collector, a reader, or a terminal."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from broker import PATIENCE_S, die_with_parent
from collecting import FixedRoster, Numbered, rows
from signing import NOW, an_attestation, attested, new_signer

from edge.admin.intake import Intake
from edge.admin.jsonl import JsonLines
from edge.admin.reports import door_of
from edge.admin.store import EventStore
from edge.cli import main
from edge.errors import AdminError, PayloadError
from edge.link import orders, wire
from edge.log_view import Entry, as_csv, as_json, lines

ESCAPES = "\x1b[2J\x9b31m\u202e"


class Came:
    """A message of a broker that keeps to no rule."""

    def __init__(self, topic: str, payload: bytes, dup: bool = False) -> None:
        self.topic, self.payload, self.dup = topic, payload, dup


EVENT, REPORT = "doord/hq/door/front/event", "doord/hq/door/front/attestation"


@pytest.fixture
def store(tmp_path: Path):
    with EventStore(tmp_path / "collected" / "events.db", "hq") as opened:
        yield opened


def take(store: EventStore, *messages: Came, roster: FixedRoster | None = None) -> list[str]:
    roster = roster or FixedRoster(front=new_signer())
    intake = Intake(store, "hq")
    with store.transaction():
        return [one.kind for one in intake.take(messages, roster.doors(), NOW).findings]


def changed(payload: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(payload) | fields).encode()


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("topic", ["", "event", "a/b/event", "////", "set", "x/y/set", "doord/hq"])
def test_a_topic_that_nobody_subscribed_to_stops_nobody(store, topic):
    assert len(door_of(topic)) <= 32
    door = Numbered()
    assert "Gap" not in take(store, Came(topic, b"{}"), Came(EVENT, door.next()))
    assert len(rows(store)) == 1


@pytest.mark.parametrize("number", [2**53, 2**63, 2**64, 10**30])
def test_a_number_that_no_store_can_hold_is_refused_of_a_signed_report_too(store, number):
    signer = new_signer()
    said = attested(an_attestation(seq=number), signer)
    assert take(store, Came(REPORT, said), roster=FixedRoster(front=signer)) == ["Forged"]
    with pytest.raises(PayloadError):
        orders.decode_attestation(orders.encode(an_attestation(seq=number)))
    with pytest.raises(PayloadError):
        wire.decode_event(changed(Numbered().next(), seq=number))


def test_names_of_doors_that_are_none_fill_no_store(store):
    intake, roster = Intake(store, "hq"), FixedRoster(front=new_signer())
    for turn in range(10):
        with store.transaction():
            messages = [Came(f"doord/hq/door/x{turn}-{i}/event", b"{}") for i in range(100)]
            taken = intake.take(messages, roster.doors(), NOW)
        intake.told(taken.findings, NOW)
    assert store.connection.execute("SELECT count(*) FROM finding").fetchone()[0] <= 200


def test_what_is_told_of_foreign_bytes_is_told_once_however_they_vary(store):
    intake, roster = Intake(store, "hq"), FixedRoster(front=new_signer())
    for number in range(50):
        with store.transaction():
            signature = {"keyid": "0" * 64, "sig": base64.b64encode(bytes(64)).decode()}
            forged = {"payload": "", "payloadType": f"x{number}", "signatures": [signature]}
            taken = intake.take([Came(REPORT, json.dumps(forged).encode())], roster.doors(), NOW)
        intake.told(taken.findings, NOW)
    assert store.connection.execute("SELECT kind FROM finding").fetchall() == [("Forged",)]


@pytest.mark.parametrize("name", ["frames", "distance", "detail", "repeats", "model"])
def test_an_event_that_can_not_be_shown_hides_no_other_from_an_export(name):
    good, other = Numbered().some(2)
    odd = changed(other, **{name: ["=1"]})
    table = list(csv.DictReader(io.StringIO("\n".join(as_csv([_entry(odd), _entry(good)])))))
    assert [row["kind"] for row in table] == ["?", "ExitRequested"]
    assert table[0]["door"] == "front"


def _entry(payload: bytes) -> Entry:
    return Entry(1, "front", 1, payload)


def test_no_text_of_an_event_reaches_a_terminal_as_it_is():
    payload = json.dumps(
        json.loads(Numbered().next()) | {"detail": ESCAPES, "model": ESCAPES}, ensure_ascii=False
    )
    entry = _entry(payload.replace("\\u001b", "\\u001b").encode())
    for told in (*lines([entry]), *as_csv([entry]), as_json(entry)):
        assert told.isprintable()
    assert json.loads(as_json(entry))["event"]["detail"] == ESCAPES


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"{", b"", b'{"a":1}\n{"b":2}', b"[" * 5000, b"\x00"])
def test_a_record_that_was_altered_into_no_event_breaks_no_line_of_json(payload):
    told = as_json(_entry(payload))
    assert "\n" not in told
    assert set(json.loads(told)) == {"door", "chain", "unreadable"}


@pytest.mark.parametrize("cell", ["\n=1+1", "\x0b=1", "＝1+1", "＠A", "\u00a0=1"])  # noqa: RUF001
def test_no_odd_space_or_wide_sign_makes_a_formula(cell):
    payload = json.dumps(json.loads(Numbered().next()) | {"detail": cell}).encode()
    (row,) = csv.DictReader(io.StringIO("\n".join(as_csv([_entry(payload)]))))
    assert row["detail"][0] in "'?"


@pytest.fixture
def doord(capsys):
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_what_readers_tell_of_a_hostile_event_moves_no_cursor(store, doord):
    door = Numbered()
    field = {ESCAPES * 100: 1}
    take(store, Came(EVENT, changed(door.next(), **field)))
    for words in (("log", "show"), ("log", "show", "--json"), ("log", "export", "--csv"), ("log", "verify"),
                  ("why", 1), ("why", 1, "--json"), ("log", "tail")):  # fmt: skip
        code, out, err = doord(*words, "--store", store.path)
        assert is_harmless(out + err), words
        assert (out + err).count("\n") <= 3, words
        assert code < 2, (words, err)


def test_an_event_of_a_later_doord_is_explained_by_what_all_events_have(store, doord):
    take(store, Came(EVENT, changed(Numbered().next(), kind="MoonRose", phase=3)))
    code, out, _ = doord("why", 1, "--store", store.path)
    assert (code, out.split()[3]) == (0, "MoonRose")
    code, out, _ = doord("why", 1, "--json", "--store", store.path)
    assert (code, json.loads(out)["event"]["phase"]) == (0, 3)


@pytest.mark.parametrize("words", [("why", "9" * 30), ("why", "9" * 5000), ("log", "tail", "-n", "9" * 30)])
def test_a_number_beyond_all_events_is_a_wrong_word_and_no_crash(store, doord, words):
    take(store, Came(EVENT, Numbered().next()))
    code, _, err = doord(*words, "--store", store.path)
    assert (code, err.count("\n")) == (2, 1)


def test_lines_of_json_go_on_behind_an_event_that_is_nested_as_deep_as_can_be(store, tmp_path):
    door = Numbered()
    plain = door.next()
    deepest = max(d for d in range(1, 1100) if _readable(_nested(plain, d)))
    for depth in range(deepest - 20, deepest + 1):
        take(store, Came(EVENT, _nested(plain, depth)))
    assert JsonLines(tmp_path / "lines").follow(store, NOW) > 0
    take(store, Came(EVENT, changed(plain, detail="after")))
    assert JsonLines(tmp_path / "lines").follow(store, NOW) == 1


def _nested(payload: bytes, depth: int) -> bytes:
    return payload.replace(b"{", b'{"x":' + b"[" * depth + b"]" * depth + b",", 1)


def _readable(payload: bytes) -> bool:
    from edge.admin.placing import read_event

    try:
        read_event(payload)
    except PayloadError:
        return False
    return True


@pytest.mark.parametrize("content", [b"x" * 200_000, b"x" * 200, b'{"n":"1"}\n'])
def test_a_file_of_others_among_the_lines_is_not_cut_off(store, tmp_path, content):
    (tmp_path / "lines").mkdir()
    other = tmp_path / "lines" / "events-mine.jsonl"
    other.write_bytes(content)
    with pytest.raises(AdminError, match="lines that doord wrote"):
        JsonLines(tmp_path / "lines").follow(store, NOW)
    assert other.read_bytes() == content


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 30])
def test_a_first_line_that_a_kill_cut_short_is_written_again(store, tmp_path, cut):
    take(store, Came(EVENT, Numbered().next()))
    lines_of = JsonLines(tmp_path / "lines")
    lines_of.follow(store, NOW)
    (file,) = (tmp_path / "lines").glob("*")
    whole = file.read_bytes()
    file.write_bytes(whole[:cut])
    assert JsonLines(tmp_path / "lines").follow(store, NOW) == 1
    assert file.read_bytes() == whole


def test_what_is_followed_through_a_pipe_comes_at_once(store):
    door = Numbered()
    take(store, Came(EVENT, door.next()))
    words = [sys.executable, "-m", "edge.cli", "log", "tail", "-f", "--store", str(store.path)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, preexec_fn=die_with_parent, env={**os.environ, "PYTHONUNBUFFERED": ""}
    )
    with closing(process.stdout) as pipe:
        assert b"press 1" in pipe.readline()
        take(store, Came(EVENT, door.next()))
        assert b"press 2" in pipe.readline()
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)
