"""`doord log`, `doord why`, `doord admin collect`, as typed: over a door's ledger and a site's store."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest
from admin_site import PASSPHRASE, made_site
from broker import PATIENCE_S, die_with_parent, wait_until
from collecting import Numbered
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from events import SETTING, edit, tamper
from securesystemslib.signer import CryptoSigner
from signing import an_attestation, attested
from site_broker import Guest, site_broker

from edge.admin.doors import add_door
from edge.cli import main
from edge.link import wire
from edge.link.details import Details, Near, encode_details
from edge.link.ledger import Ledger

CONFIG = """\
site: hq
door_id: front
state_dir: {state}
socket: {state}/control.sock
door: {{relay: {{chip: "label:x", line: 1}}}}
"""
DETAILS = Details(
    Near("ada", 0.83), Near("bob", 1.1), 0.7, 0.1, 0, 2, 3, "not asked", None, 3, "m", 3, {}, None
)

Doord = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doord(capsys) -> Doord:
    """Runs a command: exit code, output, complaints."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(one) for one in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def stamp(number: int) -> wire.Stamp:
    return wire.Stamp.of(1_790_000_000.0 + 60 * number, number.to_bytes(10, "big"))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Of a door: 30 presses of the exit button, a minute apart, and a denial with its details."""
    path = tmp_path / "state" / "events.db"
    path.parent.mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG.format(state=path.parent))
    opened = Ledger(path)
    opened.open()
    for number in range(1, 31):
        opened.append(wire.notice("ExitRequested", f"press {number}", stamp(number), SETTING))
    common = {"id": stamp(31).id, "at": stamp(31).at, "seq": 0, "prev": "", "model": "m", "gallery": 3}
    common |= {
        "simulation": False,
        "threshold": 0.7,
        "margin": 0.1,
        "quality": None,
        "pad": None,
        "stages_ms": {},
    }
    common |= {"frame_age_ms": 9.0, "frames": 3, "repeats": 0, "kind": "AccessDenied"}
    opened.append(wire.Denied(**common, reason="NoMatch"), encode_details(DETAILS))
    opened.keep_head()
    opened.close()
    return path


def here(tmp_path: Path) -> list[object]:
    return ["-c", tmp_path / "config.yaml"]


def test_tail_tells_the_newest_events_of_this_door(doord, ledger, tmp_path):
    code, out, _ = doord("log", "tail", "-n", 3, *here(tmp_path))
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()] == ["29", "30", "31"]
    assert out.splitlines()[-1].endswith("AccessDenied        NoMatch")


def test_show_goes_by_time_and_kind(doord, ledger, tmp_path):
    since, until = stamp(10).at, stamp(12).at
    _, out, _ = doord("log", "show", "--since", since, "--until", until, *here(tmp_path))
    assert [line.split()[2] for line in out.splitlines()] == ["10", "11", "12"]
    _, out, _ = doord("log", "show", "--kind", "AccessDenied", "--kind", "Started", *here(tmp_path))
    assert [line.split()[2] for line in out.splitlines()] == ["31"]
    _, out, err = doord("log", "show", "--kind", "AccesDenied", *here(tmp_path))
    assert (out, err) == ("", "doord: note: --kind 'AccesDenied': no kind that this doord writes\n")
    assert doord("log", "show", "--since", "soon", *here(tmp_path))[0] == 2
    assert doord("log", "show", "--door", "back", *here(tmp_path))[1] == ""
    code, _, err = doord("log", "show", "--since", "1h", "--until", "2h", *here(tmp_path))
    assert (code, "--since: expected a time before --until" in err) == (2, True)


def test_export_gives_json_lines_or_csv(doord, ledger, tmp_path):
    _, out, _ = doord("log", "export", *here(tmp_path))
    assert [json.loads(line)["event"]["seq"] for line in out.splitlines()] == list(range(1, 32))
    _, out, _ = doord("log", "export", "--csv", *here(tmp_path))
    assert [row["seq"] for row in csv.DictReader(io.StringIO(out))] == [str(seq) for seq in range(1, 32)]


def test_the_log_names_nobody_who_was_denied_and_why_on_the_door_does(doord, ledger, tmp_path):
    told = [
        doord("log", *words, *here(tmp_path))[1] for words in (("show",), ("export",), ("export", "--csv"))
    ]
    assert all("NoMatch" in out and "ada" not in out and "0.83" not in out for out in told)
    code, out, _ = doord("why", 31, *here(tmp_path))
    assert code == 0
    assert "nearest: ada at 0.83, less than 0.70 is needed: too far" in out
    assert doord("why", stamp(31).id, *here(tmp_path))[1] == out
    code, _, err = doord("why", 99, *here(tmp_path))
    assert (code, err) == (2, "doord: event '99': expected one that is here, got none of that id or number\n")


def test_verify_names_the_first_record_that_is_broken_or_missing(doord, ledger, tmp_path):
    assert doord("log", "verify", *here(tmp_path))[:2] == (0, "front: nothing is broken or missing\n")
    code, _, err = doord("log", "verify", "--door", "frnt", *here(tmp_path))
    assert (code, err) == (2, "doord: door 'frnt': expected front, whose log this is, or --store\n")
    tamper(ledger, "DELETE FROM events WHERE seq = 20")
    code, out, _ = doord("log", "verify", *here(tmp_path))
    assert (code, out) == (1, "front: event 20 is missing\n")
    edit(ledger, 9, lambda payload: payload.replace(b"press 9", b"press 8"))
    assert doord("log", "verify", *here(tmp_path))[1].startswith("front: event 9 was altered")


def test_reading_beside_the_daemon_that_writes_sees_what_was_committed_last(doord, ledger, tmp_path):
    opened = Ledger(ledger)
    opened.open()
    opened.append(wire.notice("Started", "", stamp(40), SETTING))
    assert "Started" in doord("log", "tail", "-n", 1, *here(tmp_path))[1]
    assert doord("log", "verify", *here(tmp_path))[0] == 0
    opened.close()


def test_follow_tells_each_event_as_it_comes(ledger, tmp_path):
    words = [
        sys.executable,
        "-u",
        "-m",
        "edge.cli",
        "log",
        "tail",
        "-f",
        "-n",
        "1",
        *map(str, here(tmp_path)),
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, preexec_fn=die_with_parent, env=os.environ)
    assert process.stdout is not None
    assert b"AccessDenied" in process.stdout.readline()
    opened = Ledger(ledger)
    opened.open()
    opened.append(wire.notice("Started", "", stamp(40), SETTING))
    assert b"Started" in process.stdout.readline()
    opened.keep_head()
    opened.set_aside("damaged")
    opened.open()
    opened.append(wire.notice("LedgerDamaged", "", stamp(41), SETTING))
    assert b"LedgerDamaged" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    opened.close()


def test_where_there_is_no_record_the_command_says_so(doord, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(state=tmp_path / "none"))
    code, _, err = doord("log", "tail", *here(tmp_path))
    assert (code, "expected a ledger, got none" in err) == (2, True)
    code, _, err = doord("log", "tail", "--store", tmp_path / "none.db")
    assert (code, "expected collected events, got no file: doord admin collect" in err) == (2, True)


# over a site's store


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with the door front, its broker with the shipped rules, and a guest that is the door."""
    (tmp_path / "pass").write_text(f"{PASSPHRASE}\n")
    (tmp_path / "pass").chmod(0o600)
    monkeypatch.setenv("DOORD_ADMIN_DIR", str(tmp_path / "hq"))
    monkeypatch.setenv("DOORD_ADMIN_PASSPHRASE_FILE", str(tmp_path / "pass"))
    with made_site(tmp_path / "hq") as opened, site_broker(opened, tmp_path / "broker") as broker:
        bundle = add_door(opened, "front", datetime.now(timezone.utc))
        with Guest(
            broker.port, tmp_path / "guest", bundle.ca, bundle.certificate, bundle.certificate_key
        ) as guest:
            opened.close()
            yield guest, bundle, broker


def attest(guest: Guest, bundle, door: Numbered) -> None:
    now = wire.rfc3339(time.time())
    signer = CryptoSigner(load_pem_private_key(bundle.signing_key.encode(), None))
    said = an_attestation(seq=door.head.seq, prev=door.head.prev, at=now)
    assert guest.say("doord/hq/door/front/attestation", attested(said, signer), retain=True) < 128


@pytest.mark.parametrize("alone", [False, True])
def test_a_site_is_collected_as_typed_by_the_admin_or_by_who_only_collects(doord, site, tmp_path, alone):
    guest, bundle, _ = site
    door = Numbered()
    more: list[object] = []
    if alone:
        assert doord("admin", "collector-files", tmp_path / "alone")[0] == 0
        more = ["--as", tmp_path / "alone"]
    store = tmp_path / ("alone" if alone else "hq") / "collected" / "events.db"
    assert doord("admin", "collect", "--once", *more)[0] == 0  # now the broker keeps what comes for it
    for _ in range(5):
        assert guest.say("doord/hq/door/front/event", door.next()) < 128
    attest(guest, bundle, door)
    guest.subscribe("doord/hq/door/front/event/ack")
    assert doord("admin", "collect", "--once", *more)[:2] == (0, "")
    wait_until(lambda: "doord/hq/door/front/event/ack" in guest.kept, "the door hears the ack")
    code, out, _ = doord("admin", "collect", "--status", "--json", *more)
    (row,) = json.loads(out)
    assert (code, row["door"], row["from"], row["to"], row["signed"]) == (0, "front", 1, 5, 5)
    assert doord("log", "verify", "--store", store)[:2] == (0, "front (1): nothing is broken or missing\n")
    code, _, err = doord("log", "verify", "--store", store, "--door", "frnt")
    assert (code, "door 'frnt': expected one that was collected" in err) == (2, True)
    out = doord("log", "show", "--store", store, "--door", "front")[1]
    assert [line.split()[2] for line in out.splitlines()] == ["1", "2", "3", "4", "5"]
    assert doord("log", "tail", "-n", 2, "--store", store)[1].splitlines() == out.splitlines()[-2:]
    assert "ExitRequested: press 3" in doord("why", 3, "--store", store)[1]
    with closing(sqlite3.connect(store)) as database, database:
        altered = door.sent[2].replace(b"press 2", b"press 9")
        database.execute("UPDATE event SET payload = ? WHERE seq = 2", (altered,))
    code, out, _ = doord("log", "verify", "--store", store)
    assert (code, out[:25]) == (1, "front (1): event 2 was al")


def test_a_fork_and_a_gap_are_told_and_change_the_exit_code(doord, site):
    guest, _, _ = site
    door, swapped = Numbered(), Numbered(grain=1)
    doord("admin", "collect", "--once")
    sent = door.some(6)
    for payload in (*sent[:2], *sent[4:], swapped.next()):
        assert guest.say("doord/hq/door/front/event", payload) < 128
    code, out, _ = doord("admin", "collect", "--once")
    assert code == 1
    assert [line.split()[2] for line in out.splitlines()] == ["Gap:", "Fork:"]
    assert doord("admin", "collect", "--status")[0] == 1
    code, out, _ = doord("log", "verify", "--door", "front")
    assert (code, out.splitlines()[0]) == (1, "front (1): event 3 is missing")
    code, _, err = doord("why", 1)
    assert (code, "expected one, got 2, of front: name its id" in err) == (2, True)


def test_the_service_collects_until_it_is_stopped_and_holds_up_no_other_command(doord, site):
    guest, _, broker = site
    door = Numbered()
    words = [sys.executable, "-u", "-m", "edge.cli", "admin", "collect", "--json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, preexec_fn=die_with_parent, env=os.environ)
    wait_until(lambda: "doord/hq/door/+/event" in broker.log, "it subscribes")
    assert guest.say("doord/hq/door/front/event", door.next()) < 128
    swapped = Numbered(grain=1).next()
    assert guest.say("doord/hq/door/front/event", swapped) < 128
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["kind"] == "Fork"
    assert doord("admin", "door", "list")[0] == 0
    code, _, err = doord("admin", "collect", "--once")
    assert (code, "is in use by process" in err) == (2, True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def test_a_store_in_the_sites_own_folder_is_refused(doord, site, tmp_path):
    code, _, err = doord("admin", "collect", "--once", "--store", tmp_path / "hq" / "events.db")
    assert (code, "expected a folder of its own" in err) == (2, True)
