"""Which door runs what: judged from signed reports, over a real Mosquitto."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from broker import Broker
from scripted_door import ADDED, ScriptedDoor
from signing import AT, NOW, an_attestation, attested, in_s, keys_of, new_signer

from edge.admin.conversation import Conversation
from edge.admin.model import Door, Publication, Seen, Site
from edge.admin.records import Records
from edge.admin.reports import Reports
from edge.admin.status import DoorStatus, accept, judged, newest_version, site_status, table
from edge.config import MqttConfig
from edge.errors import AdminError
from edge.link import orders

DOOR = Door("front", ADDED, b"k" * 32, {}, 1)
PUBLISHED = [
    Publication(1, "2026-11-10T00:00:00.000Z", "", {}, 1, 1, []),
    Publication(2, "2026-11-11T00:00:00.000Z", "", {}, 1, 1, []),
    Publication(3, "2026-11-12T00:00:00.000Z", "", {}, 1, 1, []),
]


def row(said=None, seen: Seen | None = None, door: Door = DOOR, now=NOW, published=PUBLISHED) -> DoorStatus:
    reports = Reports({door.door: said} if said else {})
    (only,) = judged({door.door: door}, reports, {door.door: seen} if seen else {}, published, now)
    return only


def seen(**changes) -> Seen:
    return Seen(**{"door": "front", "at_utc": AT, "starts": 7, "seq": 12, "version": 3, **changes})


def test_a_door_that_runs_the_newest_is_well():
    well = row(an_attestation(), seen())
    assert (well.alarms, well.lags_since, well.silent_since, well.refusal) == ([], None, None, None)
    assert (well.version, well.people, well.templates, well.mode, well.lock) == (3, 2, 9, "Locked", "locked")
    assert (well.reported_at, well.expires_at) == (AT, in_s(86400))


@pytest.mark.parametrize(
    ("version", "since"),
    [(3, None), (2, PUBLISHED[2].at_utc), (1, PUBLISHED[1].at_utc), (None, PUBLISHED[0].at_utc)],
)
def test_a_door_lags_since_the_first_version_that_it_lacks(version, since):
    assert row(an_attestation(gallery=version)).lags_since == since


def test_nobody_lags_before_anything_is_published():
    quiet = row(an_attestation(gallery=None), published=[])
    assert (quiet.lags_since, quiet.alarms) == (None, [])


def test_a_door_is_silent_since_its_last_report():
    assert row(an_attestation(), now=NOW + timedelta(seconds=180)).silent_since is None
    assert row(an_attestation(), now=NOW + timedelta(seconds=181)).silent_since == AT


def test_a_door_without_a_report_is_silent_since_it_was_last_seen_or_added():
    assert row().silent_since == ADDED
    assert row(seen=seen(at_utc="2026-11-20T00:00:00.000Z")).silent_since == "2026-11-20T00:00:00.000Z"


def test_why_a_door_refused_what_was_published_is_told():
    assert row(an_attestation(gallery=2, refusal="GalleryExpired: …")).refusal == "GalleryExpired: …"


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        ({"gallery": 2}, "its gallery version went back from 3 to 2"),
        ({"gallery": None}, "its gallery version went back from 3 to 0"),
        ({"seq": 11}, "its number of events went back from 12 to 11"),
        ({"epoch": orders.epoch_of(6, bytes(8))}, "its count of starts went back from 7 to 6"),
    ],
)
def test_what_goes_back_is_an_alarm(changes, alarm):
    (got,) = row(an_attestation(**changes), seen()).alarms
    assert got == f"{alarm}: its card was restored, or this is an old report"


def test_all_that_goes_back_is_named():
    restored = an_attestation(gallery=1, seq=1, epoch=orders.epoch_of(1, bytes(8)))
    assert len(row(restored, seen()).alarms) == 3


def test_what_rises_is_no_alarm():
    said = an_attestation(seq=13, epoch=orders.epoch_of(8, bytes(8)))
    assert row(said, seen(version=2)).alarms == []


def test_a_version_that_was_never_published_is_an_alarm():
    (got,) = row(an_attestation(gallery=9)).alarms
    assert got == "runs version 9, but 3 was published last here"
    assert "nothing was published" in row(an_attestation(), published=[]).alarms[0]


def test_a_clock_that_is_ahead_is_an_alarm_since_it_would_hide_silence():
    assert row(an_attestation(at=in_s(119))).alarms == []
    assert row(an_attestation(at=in_s(121))).alarms == [f"its clock is ahead: it reports at {in_s(121)}"]


def test_a_retired_door_is_not_listed_unless_it_still_reports():
    def rows(retired_at: str) -> list[DoorStatus]:
        door = Door("front", ADDED, b"k" * 32, {}, 1, retired_at_utc=retired_at)
        return judged({"front": door}, Reports({"front": an_attestation()}), {}, PUBLISHED, NOW)

    assert rows(in_s(1)) == []
    assert [row.alarms for row in rows(in_s(-1))] == [[f"was retired on {in_s(-1)}, reports still"]]


def test_the_newest_version_is_the_highest():
    assert newest_version(PUBLISHED) == 3
    assert newest_version([]) is None


def test_people_read_a_line_for_each_door_and_its_alarms_below():
    rows = [
        row(an_attestation(), seen()),
        row(an_attestation(gallery=2, refusal="ModelMismatch"), seen(), now=NOW + timedelta(hours=1)),
        DoorStatus("side", [], silent_since=ADDED),
    ]
    assert table(rows, 3) == [
        "front  3 of 3        Locked, locked          ok",
        f"front  2 of 3        Locked, locked          lags since {PUBLISHED[2].at_utc}, "
        f"silent since {AT}, refused: ModelMismatch",
        "       ALARM its gallery version went back from 3 to 2: its card was restored, "
        "or this is an old report",
        f"side   no report     -, -                    silent since {ADDED}",
    ]
    assert table([], None) == []


# over the broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.create(tmp_path / "admin" / "records.db", b"d" * 32) as made:
        made.put_site(Site("hq", "Europe/Berlin", "127.0.0.1", 1, "facenet", 512, b"s" * 32, b"c" * 32))
        for publication in PUBLISHED:
            made.put(str(publication.version), publication)
        yield made


@pytest.fixture
def front(tmp_path: Path, broker: Broker, records: Records) -> Iterator[ScriptedDoor]:
    door = ScriptedDoor(tmp_path / "front", broker.port, keys_of(new_signer()))
    records.put("front", door.record())
    yield door
    door.stop()


@pytest.fixture
def ask(broker: Broker, records: Records):
    """ask(): the site's rows, now by the doors' clock."""

    def asked() -> list[DoorStatus]:
        with Conversation(MqttConfig(host="127.0.0.1", port=broker.port), "hq") as talk:
            return site_status(talk, records, NOW)

    return asked


def attest(door: ScriptedDoor, **changes) -> None:
    door.attest(**{"at": AT, **changes})


def test_a_doors_report_is_read_and_remembered(front, ask, records):
    assert [row.silent_since for row in ask()] == [ADDED]
    assert records.get(Seen, "front") is None
    attest(front)
    assert [(row.version, row.alarms) for row in ask()] == [(3, [])]
    assert records.get(Seen, "front") == Seen("front", AT, 1, 12, 3)


def test_an_alarm_stays_until_it_is_accepted(front, ask, records):
    attest(front, seq=100)
    assert ask()[0].alarms == []
    attest(front, seq=5)
    assert "went back from 100 to 5" in ask()[0].alarms[0]
    attest(front, seq=6)
    assert "went back from 100 to 6" in ask()[0].alarms[0]
    accept(records, "front")
    assert ask()[0].alarms == []
    with pytest.raises(AdminError, match="door 'back': expected one that has reported"):
        accept(records, "back")


def test_an_old_report_shown_again_is_an_alarm(front, ask):
    attest(front)
    ask()
    before = attested(an_attestation(epoch=front.epoch), front.signer)
    front.restart(attest=False)
    attest(front, seq=13)
    assert ask()[0].alarms == []
    front.publish("doord/hq/door/front/attestation", before, retain=True)
    assert len(ask()[0].alarms) == 2  # seq, starts


def test_a_door_with_a_restored_card_is_an_alarm(front, ask, tmp_path):
    saved = (tmp_path / "front" / "starts").read_bytes()
    front.restart(attest=False)
    front.restart(attest=False)
    attest(front)
    assert ask()[0].alarms == []
    (tmp_path / "front" / "starts").write_bytes(saved)
    front.restart(attest=False)
    attest(front)
    assert ask()[0].alarms[0].startswith("its count of starts went back from 3 to 2")


@pytest.mark.parametrize(
    "forge",
    [
        lambda door: door.attest(new_signer()),
        lambda door: door.attest(door="back"),
        lambda door: door.attest(site="lab"),
        lambda door: door.publish("doord/hq/door/front/attestation", b"\xff" * 50, retain=True),
        lambda door: door.publish("doord/hq/door/front/attestation", bytes(20_000), retain=True),
    ],
)
def test_a_forged_report_is_named_and_nothing_of_it_believed(front, ask, records, forge):
    forge(front)
    (told,) = ask()
    assert told.alarms[0].startswith("forged report: ")
    assert (told.version, told.reported_at, told.silent_since) == (None, None, ADDED)
    assert records.get(Seen, "front") is None


def test_a_report_of_a_door_that_nobody_added_is_named(front, ask):
    attest(front)
    front.publish("doord/hq/door/stranger/attestation", b"x", retain=True)
    rows = {row.door: row.alarms for row in ask()}
    assert rows == {"front": [], "stranger": ["forged report: no such door was added to this site"]}


def test_what_a_broker_or_a_door_makes_up_forges_no_line_of_the_table():
    forged = "x\nback  3 of 3"
    said = row(an_attestation(refusal="\x1b[2J\nback   3 of 3   Locked, locked  ok"))
    lines = table([said, DoorStatus(forged, [f"forged report: {forged}"])], 3)
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
