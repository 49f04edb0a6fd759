"""`doord admin`, as a facility manager types it: real models, real pictures, a real broker with TLS."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from broker import Broker, die_with_parent, wait_until
from conftest import PICTURES
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mjpeg import MjpegServer, Wire
from securesystemslib.signer import CryptoSigner
from signing import an_attestation, attested
from site_broker import Guest

from edge.admin import records
from edge.admin.folder import OpenSite
from edge.cli import main
from edge.cli_admin_common import now
from edge.disk import transaction
from edge.identity.sealing import COMMAND_KEYS
from edge.link.bundle import DoorBundle, decode_bundle
from edge.link.fetch import FolderFetch
from edge.link.trust import SiteTrust
from edge.link.wire import rfc3339

Admin = Callable[..., tuple[int, str, str]]


@pytest.fixture
def admin(tmp_path: Path, capsys, monkeypatch) -> Admin:
    """Runs `doord admin …` on a folder of its own; exit code, output, complaints."""
    (tmp_path / "pass").write_text("correct horse battery\n")
    (tmp_path / "pass").chmod(0o600)
    monkeypatch.setenv("DOORD_ADMIN_DIR", str(tmp_path / "hq"))
    for who in ("", "_ROOT", "_SECOND"):
        monkeypatch.setenv(f"DOORD_ADMIN{who}_PASSPHRASE_FILE", str(tmp_path / "pass"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["admin", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def site(admin: Admin) -> Admin:
    """A site without anybody."""
    assert admin("init", "hq", "--time-zone", "Europe/Berlin", "--broker", "127.0.0.1")[0] == 0
    return admin


def add(site: Admin, *subjects: str, consent: str = "C-1") -> None:
    for subject in subjects:
        assert site("person", "add", subject, "--consent", consent)[0] == 0


def enrol(site: Admin, subject: str, *pictures: str, force: bool = False) -> None:
    more = ["--force-lookalike"] if force else []
    assert site("enrol", subject, *(PICTURES / name for name in pictures), *more)[0] == 0


def rows(site: Admin, *arguments: str) -> list[dict]:
    code, out, _ = site(*arguments, "--json")
    assert code in (0, 1)
    return json.loads(out)


def content(folder: Path) -> str:
    """All that lies in a folder, but not who holds it."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "holder.pid" and not path.name.startswith("records.db-"):
            found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def test_a_site_begins_once_and_root_is_explained_in_one_paragraph(admin, tmp_path):
    code, out, _ = admin("init", "hq", "--time-zone", "Europe/Berlin", "--broker", "broker.example:8884")
    assert (code, "move it to a stick in a safe" in out) == (0, True)
    assert (tmp_path / "hq").stat().st_mode & 0o777 == 0o700
    shown = json.loads(admin("site", "show", "--json")[1])
    assert (shown["broker_host"], shown["broker_port"]) == ("broker.example", 8884)
    assert {"site_key", "card_key"}.isdisjoint(shown)
    code, _, err = admin("init", "hq", "--time-zone", "Europe/Berlin", "--broker", "broker.example")
    assert (code, "expected no " in err, err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("HQ", "--time-zone", "UTC", "--broker", "b"), "expected 1 to 32 of a-z"),
        (("hq", "--time-zone", "Mars/Base", "--broker", "b"), "expected an IANA time zone"),
        (("hq", "--time-zone", "UTC", "--broker", "b:x"), "--broker: expected HOST, HOST:PORT or [ADDRESS]"),
        (("hq", "--time-zone", "UTC", "--broker", "::1"), "--broker: expected HOST, HOST:PORT or [ADDRESS]"),
        (("hq", "--time-zone", "UTC", "--broker", "mqtts://b:8883"), "--broker: expected HOST, HOST:PORT"),
        (("hq", "--time-zone", "UTC", "--broker", "b_1.example"), "expected a host name or address"),
        (("hq", "--time-zone", "UTC", "--broker", "b:99999"), "broker_port: expected 1 to 65535, got 99999"),
    ],
)
def test_a_site_that_could_not_work_does_not_begin(admin, tmp_path, arguments, expected):
    code, _, err = admin("init", *arguments)
    assert (code, expected in err) == (2, True)
    assert not (tmp_path / "hq").exists()


def test_without_a_site_every_command_says_so_in_one_line(admin):
    for command in (["person", "list"], ["push"], ["status"], ["verify"], ["door", "list"], ["report"]):
        code, _, err = admin(*command)
        assert (code, "expected a site, got none: doord admin init" in err, err.count("\n")) == (2, True, 1)


def test_a_wrong_passphrase_opens_nothing(site, tmp_path):
    (tmp_path / "pass").write_text("something else\n")
    code, _, err = site("person", "list")
    assert (code, "wrong passphrase" in err) == (2, True)


def test_a_person_is_added_shown_changed_and_removed(site):
    assert site("schedule", "set", "office", "mon-fri,holiday/07:00-19:00", "sat/08:00-12:00")[0] == 0
    assert site("group", "set", "staff", "--schedule", "office", "--door", "front")[0] == 0
    more = ["--name", "Ada", "--group", "staff", "--until", "2027-12-31", "--retain-until", "2028-01-31"]
    assert site("person", "add", "ada", *more, "--consent", "C-1", "--reason", "employee")[0] == 0
    assert site("person", "edit", "ada", "--until", "", "--extended-release")[0] == 0
    assert site("person", "disable", "ada")[0] == 0
    shown = json.loads(site("person", "show", "ada", "--json")[1])
    assert (shown["name"], shown["groups"], shown["until"]) == ("Ada", ["staff"], None)
    assert (shown["enabled"], shown["extended_release"], shown["consent"]) == (False, True, "C-1")
    assert rows(site, "group", "list") == [
        {"group": "staff", "people": 1, "doors": ["front"], "schedule": "office", "from": None, "until": None}
    ]
    assert rows(site, "schedule", "list")[0]["periods"] == [
        "mon,tue,wed,thu,fri,holiday/07:00-19:00",
        "sat/08:00-12:00",
    ]
    code, _, err = site("group", "remove", "staff")
    assert (code, "subjects.ada.groups[0]" in err) == (2, True)
    assert site("person", "remove", "ada")[0] == 0
    assert rows(site, "person", "list") == []


def test_a_command_that_changes_nothing_or_no_schedule_is_told_so(site):
    add(site, "ada")
    assert "expected something to change" in site("person", "edit", "ada")[2]
    assert "expected something to change" in site("site", "set")[2]
    assert "expected periods such as" in site("schedule", "set", "office", "mo-fr/7-19")[2]
    assert "expected text matching" in site("schedule", "set", "office", "mon/25:00-26:00")[2]
    for flag, value in (
        ("--max-fpir", "0"),
        ("--max-fpir", "nan"),
        ("--fresh-for", "100000000000000"),
        ("--tries", "inf"),
        ("--broker-port", "99999"),
        ("--broker-host", "https://broker.example"),
    ):
        code, _, err = site("site", "set", flag, value)
        assert (code, "expected" in err, err.count("\n")) == (2, True, 1)
    assert site("site", "set", "--others", "nobody")[0] == 2


def test_people_come_from_a_spreadsheet_all_or_none(site, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(site("person", "import", "--template")[1])
    header = path.read_text().strip()
    path.write_text(f"{header}\nada,=cmd(),,,,,,,,,,,\nEve,,,,,,,,,,,,\n")
    code, _, err = site("person", "import", path)
    assert code == 2
    assert [line.split(": ", 1)[1] for line in err.replace("doord: ", "").strip().split("\n")] == [
        "row 2, column name: expected text (with a ' before it), got a formula, '=cmd()'",
        "row 3, column subject: expected 1 to 32 of a-z, 0-9 and -, got 'Eve'",
    ]
    path.write_text(f"{header}\nada,Ada,,,,,,,,C-1,,,wedge:12\neve,Eve,,,,,,,,C-2,,,\n", "utf-8-sig")
    assert "would be: 2 added" in site("person", "import", path, "--dry-run")[1]
    assert rows(site, "person", "list") == []
    assert site("person", "import", path)[0] == 0
    assert [(row["subject"], row["cards"]) for row in rows(site, "person", "list")] == [
        ("ada", 1),
        ("eve", 0),
    ]
    listed = site("person", "list", "--csv")[1]
    assert listed.splitlines()[1].startswith("ada,Ada,")


def test_cards_are_given_listed_disabled_and_removed(site):
    add(site, "ada")
    assert (
        site("card", "add", "ada", "12-3456", "--format", "wiegand26", "--expires", "2030-01-01T00:00:00Z")[0]
        == 0
    )
    (card,) = rows(site, "card", "list")
    assert (card["subject"], card["enabled"], card["expires_at"]) == ("ada", True, 1893456000)
    assert site("card", "disable", card["card"])[0] == 0
    assert rows(site, "card", "list")[0]["enabled"] is False
    assert site("card", "remove", card["card"])[0] == 0
    assert rows(site, "card", "list") == []
    assert site("card", "add", "ada", "x", "--format", "wiegand26")[0] == 2


def test_photographs_are_judged_one_by_one_and_a_stranger_is_refused(site, tmp_path):
    add(site, "obama", "biden")
    wall = tmp_path / "wall.png"
    cv2.imwrite(str(wall), np.full((200, 200, 3), 128, np.uint8))
    code, out, _ = site("enrol", "obama", PICTURES / "obama.jpg", PICTURES / "obama2.jpg", wall, "--json")
    said = json.loads(out)
    assert (code, said["templates"], said["looks_like"]) == (0, 2, None)
    assert [(p["name"], p["used"], p["reason"]) for p in said["photos"]] == [
        ("obama.jpg", True, ""),
        ("obama2.jpg", True, ""),
        ("wall.png", False, "no face found"),
    ]
    assert said["photos"][0]["quality"]["eye_distance_px"] > 20
    code, _, err = site("enrol", "biden", PICTURES / "obama3.jpg")
    assert (code, "biden looks like obama, 0." in err, "same person, twin, or a mistake?" in err) == (
        2,
        True,
        True,
    )
    code, _, err = site("enrol", "biden", PICTURES / "biden.jpg", PICTURES / "astronaut.jpg")
    assert (code, "not the person of" in err) == (2, True)
    code, _, err = site("enrol", "nobody", PICTURES / "biden.jpg")
    assert (code, "person 'nobody': is not there" in err) == (2, True)
    assert site("enrol", "biden", PICTURES / "biden.jpg", "--dry-run")[0] == 0
    assert {row["subject"]: row["templates"] for row in rows(site, "person", "list")} == {
        "biden": 0,
        "obama": 2,
    }


def test_a_folder_of_photographs_for_each_person_enrols_many_and_can_be_run_again(site, tmp_path):
    add(site, "obama", "biden")
    for subject, names in {
        "obama": ["obama.jpg", "obama2.jpg"],
        "biden": ["biden.jpg"],
        "ghost": ["obama3.jpg"],
    }.items():
        (tmp_path / "faces" / subject).mkdir(parents=True)
        for name in names:
            shutil.copy(PICTURES / name, tmp_path / "faces" / subject / name)
    code, out, _ = site("enrol", "--folder", tmp_path / "faces")
    assert (code, "2 people enrolled, 1 refused" in out, "person 'ghost': is not there" in out) == (
        1,
        True,
        True,
    )
    shutil.rmtree(tmp_path / "faces" / "ghost")
    code, out, _ = site("enrol", "--folder", tmp_path / "faces")
    assert (code, out.count("nothing new")) == (0, 2)
    assert {row["subject"]: row["templates"] for row in rows(site, "person", "list")} == {
        "biden": 1,
        "obama": 2,
    }


def test_a_folder_that_is_only_tried_is_refused_for_what_would_refuse_it(site, tmp_path):
    add(site, "obama", "twin")
    for subject, name in (("obama", "obama.jpg"), ("twin", "obama3.jpg")):
        (tmp_path / "faces" / subject).mkdir(parents=True)
        shutil.copy(PICTURES / name, tmp_path / "faces" / subject / name)
    code, out, _ = site("enrol", "--folder", tmp_path / "faces", "--dry-run")
    assert (code, "looks like" in out, "1 people would be enrolled, 1 refused" in out) == (1, True, True)
    assert [row["templates"] for row in rows(site, "person", "list")] == [0, 0]


def test_a_person_is_enrolled_before_this_machines_camera(site, picture):
    add(site, "obama")
    still = picture("obama.jpg")

    def show(wire: Wire, _visit: int) -> None:
        wire.head()
        for i in range(1000):
            wire.frame(np.roll(still, i % 40, axis=1))
            wire.pause(0.05)

    with MjpegServer(show) as server:
        code, out, err = site("enrol", "obama", "--camera", server.url, "--json")
    assert code == 0, err
    assert {photo["name"] for photo in json.loads(out)["photos"]} == {f"picture {i}" for i in range(1, 6)}


def test_a_camera_that_is_not_there_enrols_nobody(site):
    add(site, "obama")
    code, _, err = site("enrol", "obama", "--camera", "/dev/video77")
    assert (code, "/dev/video77" in err) == (2, True)


def test_a_lookalike_is_not_pushed_until_somebody_is_named_who_accepts_it(site):
    add(site, "obama", "biden")
    enrol(site, "obama", "obama.jpg")
    enrol(site, "biden", "obama3.jpg", force=True)
    assert site("report")[0] == 1
    code, out, _ = site("push", "--no-publish")
    assert (code, "biden looks like obama, 0." in out, "not pushed" in out) == (1, True, True)
    assert rows(site, "versions") == []
    code, out, _ = site("push", "--no-publish", "--accept", "Kim")
    assert (code, "signed as version 2: 2 people, 2 templates" in out) == (0, True)
    assert [row["accepted_by"] for row in rows(site, "versions")] == ["Kim"]
    assert site("push", "--no-publish")[0] == 0


def test_where_there_is_a_second_signer_nobody_accepts_alone(site, tmp_path):
    add(site, "obama", "biden")
    enrol(site, "obama", "obama.jpg")
    enrol(site, "biden", "obama3.jpg", force=True)
    assert site("second-signer", tmp_path / "second.keys")[0] == 0
    code, _, err = site("push", "--no-publish", "--accept", "Kim")
    assert (code, "expected a second signer" in err) == (2, True)
    second = ["--second-signer", tmp_path / "second.keys"]
    assert site("push", "--no-publish", "--accept", "Kim", *second)[0] == 0
    assert site("verify")[0] == 0


def test_what_two_have_accepted_needs_no_second_signer_again_until_it_gets_worse(site, tmp_path):
    add(site, "obama", "biden")
    enrol(site, "obama", "obama.jpg")
    assert site("door", "add", "front", tmp_path / "front.doord")[0] == 0
    assert site("site", "set", "--max-fpir", "1e-7")[0] == 0
    assert site("second-signer", tmp_path / "second.keys")[0] == 0
    second = ["--second-signer", tmp_path / "second.keys"]
    assert site("push", "--no-publish", "--accept", "Kim")[0] == 2
    assert site("push", "--no-publish", "--accept", "Kim", *second)[0] == 0
    assert site("person", "edit", "obama", "--name", "Barack")[0] == 0
    code, _, err = site("push", "--no-publish")
    assert code == 0, err
    assert rows(site, "versions")[-1]["accepted_by"] == "Kim"
    enrol(site, "biden", "biden.jpg")
    assert site("push", "--no-publish")[0] == 1


def test_nothing_that_would_publish_changes_anything_in_a_dry_run(site, tmp_path):
    add(site, "obama")
    enrol(site, "obama", "obama.jpg")
    assert site("push", "--no-publish")[0] == 0
    add(site, "biden")
    site("report")
    before = content(tmp_path / "hq")
    for command in (
        ["push"],
        ["rollback", "2"],
        ["refresh"],
        ["republish"],
        ["rotate-keys", "people", "root"],
    ):
        code, out, err = site(*command, "--dry-run")
        assert (code, "would" in out) == (0, True), err
    assert content(tmp_path / "hq") == before
    assert json.loads(site("push", "--dry-run", "--json")[1])["dry_run"] is True


def test_keys_are_rotated_and_an_earlier_version_comes_back_as_a_new_one(site, tmp_path):
    add(site, "obama")
    enrol(site, "obama", "obama.jpg")
    assert site("push", "--no-publish")[0] == 0
    assert site("rotate-keys", "people", "rights", "publish", "commands", "root")[0] == 0
    add(site, "biden")
    enrol(site, "biden", "biden.jpg")
    assert site("push", "--no-publish")[0] == 0
    code, out, _ = site("rollback", "2", "--no-publish")
    assert (code, "1 people, 1 templates" in out) == (0, True)
    assert site("rollback", "99", "--no-publish")[0] == 2
    code, out, _ = site("verify")
    assert (code, "not pushed yet" in out, "all is well" in out) == (0, True, True)
    for path in (tmp_path / "hq" / "tree" / "targets" / "people").iterdir():
        path.write_bytes(b"x" + path.read_bytes()[1:])
    assert site("verify")[0] == 1


def test_a_stick_has_what_a_door_needs(site, tmp_path):
    assert site("door", "add", "front", tmp_path / "front.doord")[0] == 0
    assert (tmp_path / "front.doord").stat().st_mode & 0o777 == 0o600
    add(site, "obama")
    enrol(site, "obama", "obama.jpg")
    assert site("push", "--no-publish")[0] == 0
    assert site("export-tree", tmp_path / "stick")[0] == 0
    bundle = bundle_of(tmp_path / "front.doord")
    trust = SiteTrust(tmp_path / "door", bundle.root, FolderFetch(tmp_path / "stick"), now, bytes(32))
    release = trust.refresh()
    assert (release.version, release.target("keys/front") is not None) == (2, True)


def test_a_door_is_added_only_together_with_its_file(site, tmp_path):
    (tmp_path / "there").write_text("mine")
    for where in (tmp_path / "there", tmp_path / "no" / "folder"):
        assert site("door", "add", "front", where)[0] == 2
    assert rows(site, "door", "list") == []
    assert (tmp_path / "there").read_text() == "mine"
    assert site("door", "add", "front", tmp_path / "front.doord", "--card-and-face")[0] == 0
    assert rows(site, "door", "list")[0]["face_only"] is False
    assert site("door", "retire", "front")[0] == 0
    assert rows(site, "door", "list")[0]["retired_at_utc"]


def test_a_door_whose_record_could_not_be_kept_leaves_no_file_with_keys(site, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def full(connection: sqlite3.Connection) -> Iterator[None]:
        with transaction(connection):
            yield
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(records, "transaction", full)
    code, _, err = site("door", "add", "front", tmp_path / "front.doord")
    assert (code, "disk is full" in err, (tmp_path / "front.doord").exists()) == (2, True, False)
    assert rows(site, "door", "list") == []


def bundle_of(path: Path) -> DoorBundle:
    return decode_bundle(path.read_bytes(), str(path))


@pytest.fixture
def broker(site: Admin, tmp_path: Path) -> Iterator[Broker]:
    """The site's broker, configured by `broker-files`."""
    files = tmp_path / "files"
    assert site("broker-files", files, "--host", "127.0.0.1", "--at", files)[0] == 0
    lines = (files / "mosquitto.conf").read_text().splitlines()
    with Broker(tmp_path / "run", *(x for x in lines if not x.startswith(("#", "listener")))) as started:
        assert site("site", "set", "--broker-port", started.port)[0] == 0
        yield started


def attest(bundle: DoorBundle, port: int, folder: Path, version: int) -> None:
    """What the door's daemon says of itself, through the broker's access rules."""
    signer = CryptoSigner(load_pem_private_key(bundle.signing_key.encode(), None))
    said = an_attestation(door=bundle.door, at=rfc3339(now().timestamp()), gallery=version)
    with Guest(port, folder, bundle.ca, bundle.certificate, bundle.certificate_key) as door:
        topic = f"doord/{bundle.site}/door/{bundle.door}/attestation"
        assert door.say(topic, attested(said, signer), retain=True) < 128


def test_a_removed_person_has_a_receipt_once_every_door_has_confirmed(site, broker, tmp_path):
    for name in ("front", "back"):
        assert site("door", "add", name, tmp_path / f"{name}.doord")[0] == 0
    add(site, "obama")
    enrol(site, "obama", "obama.jpg")
    code, out, err = site("push")
    assert (code, "version 2 is at the broker" in out) == (0, True), err
    assert site("person", "remove", "obama")[0] == 0
    assert site("push")[0] == 0
    assert "0 files of 0 bytes sent" in site("republish")[1]
    attest(bundle_of(tmp_path / "front.doord"), broker.port, tmp_path / "g1", 3)
    attest(bundle_of(tmp_path / "back.doord"), broker.port, tmp_path / "g2", 2)
    code, out, err = site("status")
    assert (code, "obama: removed, but not confirmed by back" in out) == (0, True), err
    assert site("receipts", "obama")[0] == 1
    attest(bundle_of(tmp_path / "back.doord"), broker.port, tmp_path / "g2", 3)
    assert site("status")[0] == 0
    code, out, _ = site("receipts", "obama", "--json")
    (receipt,) = json.loads(out)
    assert (code, receipt["complete"], sorted(receipt["confirmed"])) == (0, True, ["back", "front"])


def test_a_door_whose_version_goes_back_confirms_nothing_and_is_an_alarm(site, broker, tmp_path):
    assert site("door", "add", "front", tmp_path / "front.doord")[0] == 0
    assert site("push")[0] == 0
    bundle = bundle_of(tmp_path / "front.doord")
    for version, code in ((2, 0), (1, 1)):
        attest(bundle, broker.port, tmp_path / "g", version)
        assert site("status")[0] == code
    assert site("status", "--accept-door", "front")[0] == 0


def test_a_door_that_has_reported_nothing_gets_no_order(site, broker, tmp_path):
    assert site("door", "add", "front", tmp_path / "front.doord")[0] == 0
    code, out, _ = site("command", "lock", "front", "--wait", "0.1", "--json")
    assert (code, json.loads(out)[0]["outcome"]) == (1, "no report")
    assert "expected DOOR… or --all" in site("command", "lock")[2]
    assert site("command", "lock", "nowhere")[0] == 2


def test_a_broker_that_is_away_leaves_a_signed_version_to_be_published_later(site, broker):
    add(site, "ada")
    broker.stop()
    code, _, err = site("push")
    assert (code, "version 2 is signed: doord admin republish" in err) == (2, True)
    broker.start()
    assert "version 2 is at the broker" in site("republish")[1]


def test_all_that_is_stored_about_a_person_is_exported_once(site, tmp_path):
    add(site, "ada")
    assert site("person", "export", "ada", tmp_path / "ada.json")[0] == 0
    assert json.loads((tmp_path / "ada.json").read_text())["person"]["consent"] == "C-1"
    assert (tmp_path / "ada.json").stat().st_mode & 0o777 == 0o600
    assert site("person", "export", "ada", tmp_path / "ada.json")[0] == 2


def test_who_is_past_the_retention_date_is_listed(site):
    assert site("person", "add", "old", "--retain-until", "2020-01-01")[0] == 0
    add(site, "new")
    assert [row["subject"] for row in rows(site, "person", "list", "--past-retention")] == ["old"]
    assert "past their retention date: old" in site("report")[1]


def commanders(folder: Path) -> set[str]:
    """Whose keys the tree says may command."""
    site = OpenSite(folder, "correct horse battery")
    with site:
        return {row["name"] for row in json.loads(site.tree.target(COMMAND_KEYS))["keys"]}


def test_the_bridge_gets_a_key_of_its_own_with_the_root_keys_and_is_revoked_with_them(site, tmp_path):
    (tmp_path / "hq" / "root.keys").rename(tmp_path / "stick")
    code, _, err = site("bridge-files", tmp_path / "bridge")
    assert (code, "root.keys" in err, commanders(tmp_path / "hq")) == (2, True, {"admin", "collect"})
    stick = ("--root-keys", tmp_path / "stick")
    code, out, _ = site("bridge-files", tmp_path / "bridge", *stick)
    assert (code, "a new key: doord admin republish" in out) == (0, True)
    assert commanders(tmp_path / "hq") == {"admin", "bridge", "collect"}
    before = (tmp_path / "bridge" / "order.key").read_text()
    code, out, _ = site("bridge-files", tmp_path / "bridge")  # as after a new door: without the stick
    assert (code, "a new key" in out, (tmp_path / "bridge" / "order.key").read_text()) == (0, False, before)
    assert site("push", "--no-publish")[0] == 0
    assert site("bridge-files", "--revoke", *stick)[0] == 0
    assert site("verify")[0] == 0
    assert site("bridge-files", tmp_path / "bridge")[0] == 0
    assert (tmp_path / "bridge" / "order.key").read_text() != before


def test_the_bridge_runs_as_typed_and_says_goodbye(site, broker, tmp_path):
    assert site("door", "add", "front", tmp_path / "front.doord")[0] == 0
    assert site("bridge-files", tmp_path / "bridge")[0] == 0
    pem = [
        (tmp_path / "bridge" / name).read_text()
        for name in ("ca.pem", "homeassistant.pem", "homeassistant.key")
    ]
    command = [sys.executable, "-m", "edge.cli", "admin", "bridge", str(tmp_path / "bridge")]
    with Guest(broker.port, tmp_path / "home", *pem) as home:
        home.subscribe("#")
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        try:
            wait_until(lambda: "homeassistant/lock/doord-front/config" in home.kept, "the lock is announced")
            wait_until(lambda: home.kept.get("doord/hq/bridge/status") == b"online", "the bridge is there")
            running.send_signal(signal.SIGTERM)
            _, said = running.communicate(timeout=20)
        finally:
            running.kill()
        assert running.returncode == 0, said
        wait_until(lambda: home.kept["doord/hq/bridge/status"] == b"offline", "it said goodbye")
    assert said.count("connected to 127.0.0.1") == 1


def test_words_that_could_not_be_kept_are_refused_before_anything_is_signed(site):
    for words in ("\udcff", "two\nlines", "x" * 201):
        for flag in ("--note", "--accept"):
            with pytest.raises(SystemExit):
                site("push", "--no-publish", flag, words)
    assert rows(site, "versions") == []


def test_an_order_with_a_wrong_time_is_refused_before_any_broker_is_asked(site, capsys):
    code, _, err = site("command", "free-access", "front", "--until", "tomorrow")
    assert (code, "--until: expected a time such as" in err) == (2, True)
    for wait in ("inf", "nan", "-1", "1e300"):
        with pytest.raises(SystemExit):
            site("command", "lock", "front", f"--wait={wait}")


def test_a_dry_run_names_the_keys_that_are_not_at_hand(site, tmp_path):
    code, out, _ = site("rotate-keys", "root", "--dry-run", "--root-keys", tmp_path / "hq" / "site.keys")
    assert (code, "would fail: root lies in none of the files" in out) == (1, True)


def test_a_stolen_certificate_of_the_admins_is_refused_once_the_broker_has_the_new_list(
    site, broker, tmp_path
):
    folder = tmp_path / "hq"
    ca, certificate, key = ((folder / name).read_text() for name in ("ca.pem", "admin.pem", "admin.key"))
    assert "would be" in site("rotate-keys", "certificate", "--dry-run")[1]
    assert (folder / "admin.pem").read_text() == certificate
    assert site("rotate-keys", "certificate", "people")[0] == 2
    code, out, _ = site("rotate-keys", "certificate")
    assert (code, "doord admin broker-files" in out) == (0, True)
    assert (folder / "admin.key").stat().st_mode & 0o777 == 0o600
    files = tmp_path / "files"
    assert site("broker-files", files, "--at", files)[0] == 0
    broker.stop()
    broker.start()
    thief = Guest(broker.port, tmp_path / "thief", ca, certificate, key)
    wait_until(thief.over.is_set, "the broker turns the thief away")
    thief.close()
    assert not thief.connected.is_set()
    assert "version 1 is at the broker" in site("republish")[1]
