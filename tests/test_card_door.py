"""The office's ID cards: the door as a process, a typing reader, real faces, rights, a real broker."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from broker import Broker, Listener, wait_until
from door_site import PICTURES, Site, clip
from fakes_access import FakeWedge

from edge.link.wire import Denied, Granted, decode_event

KIAN, EXPIRED, DISABLED, UNKNOWN = "0000000007", "0000000008", "0000000009", "0000000666"
RIGHTS = "time_zone: Europe/Berlin\nsubjects: {kian: {}}\n"


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """Somebody standing before the door: kian, camera_2, nobody."""
    folder = tmp_path_factory.mktemp("scenes")
    clip(folder / "kian.avi", ["obama2.jpg"], seconds=10, empty_s=0.1)
    clip(folder / "camera_2.avi", ["biden.jpg"], seconds=10, empty_s=0.1)
    clip(folder / "nobody.avi", [], empty_s=10)
    return folder


class Office:
    """A door that opens by card and face; kian is enrolled and has cards."""

    def __init__(self, folder: Path, scenes: Path) -> None:
        self.scenes = scenes
        self.rights = folder / "rights.yaml"
        self.rights.write_text(RIGHTS)
        self.wedge = FakeWedge(folder / "event0")
        self.wedge.plug()
        self.site = Site(
            folder,
            rights_file=str(self.rights),
            readers={"wedge": {"device": str(self.wedge.path)}},
            # no clock of a test machine is sure to be synchronised
            access={"mode": "card_and_face", "claim_timeout_s": 1.5, "when_clock_untrusted": "judge"},
        )
        self.site.doord("enrol", "--subject", "kian", str(PICTURES / "obama.jpg"))
        self.give(KIAN)
        self.give(EXPIRED, "--expires", "2020-01-01T00:00:00Z")
        self.give(DISABLED, "--disabled")

    def give(self, number: str, *more: str) -> None:
        self.site.doord("card", "add", "--subject", "kian", "--number", number, *more)

    def show(self, who: str, **access: object) -> None:
        self.site.config["camera"] = {"source": f"file:{self.scenes / f'{who}.avi'}", "loop": True}
        self.site.config["access"] |= access
        self.site.write()

    def wait_until_ready(self) -> None:
        self.site.wait_for(f"card reader {self.wedge.path}: open")
        wait_until(lambda: self.site.status()["armed"], "armed", 30)


@pytest.fixture
def office(tmp_path, scenes) -> Office:
    return Office(tmp_path, scenes)


def test_the_right_card_and_the_right_face_open_and_the_event_says_so(office, tmp_path):
    office.show("kian")
    with Broker(tmp_path / "b") as broker, Listener(broker.port) as heard:
        office.site.config["mqtt"] = {"host": "127.0.0.1", "port": broker.port}
        office.site.write()
        with office.site.running():
            office.wait_until_ready()
            assert "AccessGranted" not in office.site.said  # the face alone has stood there for a while
            office.wedge.type(UNKNOWN)
            office.site.wait_for("AccessDenied: Unauthorized")
            office.wedge.type(KIAN)
            office.site.wait_for("AccessGranted: kian")
            wait_until(lambda: b"AccessGranted" in b"".join(heard.on("/event")), "the event")
        told = [decode_event(payload) for payload in heard.on("/event")]
        granted = [e for e in told if isinstance(e, Granted)]
        denied = [e for e in told if isinstance(e, Denied)]
        assert [e.subject for e in granted] == ["kian"]
        assert 0 < granted[0].distance < 0.7
        assert [e.reason.value for e in denied] == ["Unauthorized"]
        everything = b"".join(h.payload for h in heard.heard)
        assert UNKNOWN.encode() not in everything
        assert KIAN.encode() not in everything
    assert KIAN not in office.site.said
    assert UNKNOWN not in office.site.said


def test_kians_card_with_another_face_is_refused_and_five_times_locks_the_card_out(office):
    office.show("camera_2")
    with office.site.running():
        office.wait_until_ready()
        for count in range(1, 6):
            office.wedge.type(KIAN)
            wait_until(lambda: office.site.said.count("AccessDenied: FaceNotCards") == count, f"{count}", 30)  # noqa: B023
        office.wedge.type(KIAN)
        office.site.wait_for("AccessDenied: Throttled")
    assert "AccessGranted" not in office.site.said
    with office.site.running():  # a restart does not help
        wait_until(lambda: office.site.said.count("event0: open") == 2, "the reader")
        office.wedge.type(KIAN)
        wait_until(lambda: office.site.said.count("AccessDenied: Throttled") == 2, "throttled still")


def test_a_card_alone_and_cards_that_do_not_count_are_each_refused_for_their_own_reason(office):
    office.show("nobody")
    with office.site.running():
        office.wait_until_ready()
        for number, reason in (
            (KIAN, "NoFaceInTime"),
            (EXPIRED, "CredentialExpired"),
            (DISABLED, "CredentialNotEnabled"),
            (UNKNOWN, "Unauthorized"),
        ):
            office.wedge.type(number)
            office.site.wait_for(f"AccessDenied: {reason}")
    assert "AccessGranted" not in office.site.said


def test_where_a_card_is_enough_it_opens_and_who_is_disabled_meanwhile_is_out_at_once(office):
    office.show("nobody", mode="card")
    with office.site.running():
        office.wait_until_ready()
        office.wedge.type(KIAN)
        office.site.wait_for("AccessGranted: kian, by card")
        rows = json.loads(office.site.doord("card", "list", "--json").stdout)
        assert [(r["subject"], r["enabled"]) for r in rows].count(("kian", True)) == 2
        for row in rows:
            office.site.doord("card", "disable", row["id"])
        office.wedge.type("1234")  # else the second showing could count as the first going on
        office.wedge.type(KIAN)
        office.site.wait_for("AccessDenied: CredentialNotEnabled")
        office.site.doord("card", "remove", rows[0]["id"])
        assert office.site.doord("card", "remove", rows[0]["id"], code=2).stderr.endswith(
            "is not there: see doord card list\n"
        )


def test_rights_are_read_again_on_sighup_and_a_bad_file_keeps_the_old_ones(office):
    office.show("nobody", mode="card")
    with office.site.running() as daemon:
        office.wait_until_ready()
        office.rights.write_text(RIGHTS + "mode: opened\n")
        daemon.send_signal(signal.SIGHUP)
        office.site.wait_for("those before stay in force")
        office.wedge.type(KIAN)
        office.site.wait_for("AccessGranted: kian")
        office.rights.write_text(RIGHTS + "mode: lockdown\n")
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: office.site.said.count("rights of 1 subjects") == 2, "read again")
        office.wedge.type("1234")
        office.wedge.type(KIAN)
        office.site.wait_for("AccessDenied: NotPermittedAtThisTime")


def test_a_bad_rights_file_at_the_start_lets_nobody_in_and_stands_in_the_status(office):
    office.show("kian", mode="face")
    office.rights.write_text("time_zone: Mars\n")
    with office.site.running():
        office.site.wait_for("AccessDenied: Other")
        assert any("rights.yaml: time_zone" in why for why in office.site.status()["why_not"])
    assert "AccessGranted" not in office.site.said


def test_check_config_refuses_bad_rights_and_warns_of_cards_alone(office):
    said = office.site.doord("check-config").stdout
    assert "rights.yaml: 1 subjects: no mistake found" in said
    assert "warning" not in said
    office.show("kian", mode="card_or_face")
    office.site.config["readers"]["wiegand"] = {"data0": 5, "data1": 6, "bits": [26, 37]}
    office.site.write()
    said = office.site.doord("check-config").stdout
    assert "warning: readers.wiegand.bits: with several lengths" in said
    assert "warning: a Wiegand card and what a keyboard types can be copied" in said
    office.rights.write_text("time_zone: UTC\nsubjects: {kian: {groups: [staff]}}\n")
    refused = office.site.doord("check-config", code=78).stderr
    assert refused == (
        f"doord: {office.rights}: subjects.kian.groups[0]: expected one of groups (none), got 'staff'\n"
    )


def test_a_card_for_who_is_not_enrolled_is_noted_and_a_bad_number_refused(office):
    said = office.site.doord("card", "add", "--subject", "ada", "--number", "5").stdout
    assert "note: ada is not enrolled" in said
    refused = office.site.doord(
        "card", "add", "--subject", "ada", "--number", "300-1", "--format", "wiegand26", code=2
    )
    assert refused.stderr == "doord: card: expected FACILITY-NUMBER, up to 255-65535, got a larger one\n"
    refused = office.site.doord(
        "card", "add", "--subject", "ada", "--number", "5", "--expires", "tomorrow", code=2
    )
    assert "--expires: expected a time such as" in refused.stderr
    listed = office.site.doord("card", "list").stdout
    assert "ada" in listed
    assert "2020-01-01T00:00:00Z" in listed


def test_doctor_says_what_rights_and_readers_are(office):
    found = {
        f["part"]: f
        for f in map(json.loads, office.site.doord("doctor", "--json", code=None).stdout.splitlines())
    }
    assert found["rights"]["verdict"] == "ok"
    assert found["readers"]["verdict"] == "ok"
    assert found["clock"]["verdict"] in ("ok", "warn")
    office.rights.unlink()
    office.wedge.path.unlink()
    found = {
        f["part"]: f
        for f in map(json.loads, office.site.doord("doctor", "--json", code=2).stdout.splitlines())
    }
    assert found["rights"]["verdict"] == "fail"
    assert found["readers"]["verdict"] == "fail"
