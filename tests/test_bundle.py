"""The support bundle: what a door knows of people and secrets is planted, and must not come out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from door_site import PICTURES, Site
from events import SETTING

from edge.cli import main
from edge.config import load_config
from edge.disk import FileKey
from edge.identity.store import open_gallery
from edge.link import wire
from edge.link.ledger import Ledger
from edge.tools.doctor.bundle import WHAT, write_bundle
from edge.tools.doctor.examine import examine
from edge.tools.doctor.finding import Finding
from edge.tools.doctor.host import Host
from edge.tools.doctor.scrub import Scrubber
from edge.values import Attempt, Grant, Observation

PASSWORD, LOGIN, OFFICER, USER = "hunter2-broker", "cam:s3cr3t-cam", "Grace Hopper", "front-desk-user"
SUBJECTS = ("ada-lovelace", "eve", "gone-again", "walter")


def journal(subject: str) -> str:
    records = [
        {"MESSAGE": f"AccessGranted: {subject}, distance 0.41, 3 frames", "KIND": "AccessGranted",
         "SUBJECT": subject, "PRIORITY": "6", "__REALTIME_TIMESTAMP": "1", "_HOSTNAME": "planted-host"},
        {"MESSAGE": "gallery: 3 templates of gone-again removed", "PRIORITY": "6"},
        {"MESSAGE": f"http://{LOGIN}@10.0.0.9/video: expected a frame, got none", "PRIORITY": "3"},
        {"MESSAGE": "-----BEGIN PRIVATE KEY-----\nMIIEplanted\n-----END PRIVATE KEY-----", "PRIORITY": "3"},
        {"MESSAGE": f"the broker refuses {USER} with {PASSWORD}", "PRIORITY": "3"},
        {"MESSAGE": [1, 2, 3], "PRIORITY": "3"},
    ]  # fmt: skip
    return "".join(f"{json.dumps(record)}\n" for record in records) + "no json\n"


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Site, Host, dict[str, bytes]]:
    """A door with people and secrets everywhere, its machine, and the secrets by name."""
    folder = tmp_path_factory.mktemp("door")
    rights = folder / "rights.yaml"
    rights.write_text("subjects: {walter: {}, eve: {}}\nschedule: typo\n")  # can't be used
    (folder / "password").write_text(f"{PASSWORD}\n")
    site = Site(
        folder,
        simulation=False,
        camera={"source": f"http://{LOGIN}@127.0.0.1:1/video?token=t0ken-planted", "stall_s": 0.5},
        rights_file=str(rights),
        decision={"fpir_accepted_by": OFFICER},
        mqtt={"host": "127.0.0.1", "port": 1, "username": USER, "password_file": str(folder / "password")},
        readers={"wedge": {"device": "/dev/null"}},
    )
    site.enrol("ada-lovelace", "obama.jpg")
    site.doord("card", "add", "--subject", "eve", "--number", "123-45678", "--format", "wiegand26")
    with site.path.open("a") as file:
        file.write("# note to self: comment-planted\n")
    config = load_config(site.path)
    ledger = Ledger(config.events_path)
    ledger.open()
    seen = Observation(0.0)
    stamp = wire.Stamp.of(1_700_000_000.0, b"0123456789")
    attempt = Attempt(Grant("eve", 0.4), 0.0, 0.1, 2, seen, 0.1)
    ledger.append(wire.attempt_event(attempt, stamp, SETTING))
    ledger.close()
    store = open_gallery(config.gallery_path, FileKey(config.key_path))
    vector = store.all()[0].vector
    store.close()
    host = Host(
        folder / "root", lambda command: journal("ada-lovelace") if command[0] == "journalctl" else None
    )
    secrets = {
        "key": config.key_path.read_bytes().strip(),
        "key bytes": bytes.fromhex(config.key_path.read_text().strip()),
        "password": PASSWORD.encode(),
        "login": LOGIN.encode(),
        "camera password": b"s3cr3t-cam",
        "token": b"t0ken-planted",
        "officer": OFFICER.encode(),
        "user": USER.encode(),
        "card": b"123-45678",
        "comment": b"comment-planted",
        "pem": b"MIIEplanted",
        "host": b"planted-host",
        **{subject: subject.encode() for subject in SUBJECTS if subject != "eve"},
        **vector_forms(vector),
    }
    return site, host, secrets


def vector_forms(vector: np.ndarray) -> dict[str, bytes]:
    """A template's bytes in the forms that it is kept or could be told in: any 8 values of it."""
    forms = {}
    for name, values in (("float32", vector.astype("<f4")), ("float16", vector.astype("<f2"))):
        raw = values[:8].tobytes()
        forms[name] = raw
        forms[f"{name} hex"] = raw.hex().encode()
        forms[f"{name} base64"] = base64.b64encode(raw)[:-4]
    forms["text"] = f"{float(vector[0]):.5f}".encode()
    return forms


def opened(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {Path(entry.name).name: archive.extractfile(entry).read() for entry in archive.getmembers()}


@pytest.fixture(scope="module")
def bundle(planted, tmp_path_factory) -> dict[str, bytes]:
    site, host, _ = planted
    path = tmp_path_factory.mktemp("support") / "b.tar.gz"
    findings = [Finding("rights", "fail", f"subjects.walter: bad; {OFFICER}", "mend it")]
    said = write_bundle(path, site.path, findings, host)
    assert "without templates, pictures" in said
    assert path.stat().st_mode & 0o777 == 0o600
    return opened(path)


def test_none_of_what_was_planted_comes_out(planted, bundle):
    _, _, secrets = planted
    for name, content in bundle.items():
        for what, secret in secrets.items():
            assert secret not in content, f"{what} stands in {name}"
        assert not re.search(rb"(?<![a-z])eve(?![a-z])", content), name


def test_nor_does_any_of_it_where_the_configuration_can_not_be_used(planted, tmp_path):
    """Which is when a bundle is asked for."""
    site, host, secrets = planted
    path = tmp_path / "config.yaml"
    path.write_text(f"{site.path.read_text()}\nthreshold: a typo\n")
    findings = [Finding("lines", "fail", f"subjects.walter: bad; {OFFICER}; eve", "mend it")]
    write_bundle(tmp_path / "b.tar.gz", path, findings, host)
    for name, content in opened(tmp_path / "b.tar.gz").items():
        leaked = [what for what, secret in secrets.items() if secret in content]
        assert (name, leaked) == (name, [])
        assert not re.search(rb"(?<![a-z])eve(?![a-z])", content), name


def test_the_log_can_still_be_followed(bundle):
    records = [json.loads(line) for line in bundle["journal.jsonl"].splitlines()]
    assert records[0]["MESSAGE"] == "AccessGranted: subject-1, distance 0.41, 3 frames"
    assert records[1]["MESSAGE"] == "gallery: 3 templates of subject-3 removed"
    assert records[2]["MESSAGE"] == "http://...@10.0.0.9/video: expected a frame, got none"
    assert len(records) == 5
    assert json.loads(bundle["doctor.jsonl"])["detail"] == "subjects.subject-4: bad; ***"


def test_it_has_what_support_asks_for(planted, bundle):
    site, _, _ = planted
    assert set(bundle) == {"manifest.json", *WHAT}
    assert "relay:" in bundle["config.yaml"].decode()
    assert "fpir_accepted_by: (somebody)" in bundle["config.yaml"].decode()
    assert "source: http://...@127.0.0.1:1/video?..." in bundle["config.yaml"].decode()
    events = json.loads(bundle["events.json"])
    assert (events["records"], events["kinds"], events["undelivered"]) == (1, {"AccessGranted": 1}, 1)
    assert {model["role"] for model in json.loads(bundle["models.json"])} == {"detector", "embedder"}
    assert "numpy" in json.loads(bundle["versions.json"])["wheels"]
    assert load_config(site.path).site == "hq"


def test_its_manifest_has_every_files_digest(bundle):
    manifest = json.loads(bundle["manifest.json"])
    told = {row["name"]: row["sha256"] for row in manifest["files"]}
    assert told == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in bundle.items()
        if name != "manifest.json"
    }


def test_of_an_unusable_configuration_only_what_was_expected_goes_out(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "site: hq\ndoor_id: front\ndoor: {relay: {line: 1}, unlock_s: hunter2-in-a-wrong-place}\n"
    )
    findings = list(examine(path, Host(tmp_path / "root", lambda _command: None)))
    assert "hunter2" in findings[0].detail + findings[1].detail  # on the screen, for who is there
    write_bundle(tmp_path / "b.tar.gz", path, findings, Host(tmp_path / "root", lambda _command: None))
    found = opened(tmp_path / "b.tar.gz")
    assert found["config.yaml"].decode() == f"# can't be used: {path}: door.unlock_s: expected float\n"
    assert not any(b"hunter2" in content for content in found.values())
    assert set(found) == {"manifest.json", "doctor.jsonl", "versions.json", "journal.jsonl", "config.yaml"}


def test_the_command_writes_it_beside_its_findings_and_never_over_a_file(tmp_path, capsys):
    site = Site(tmp_path, camera={"source": f"folder:{PICTURES}"})
    out = tmp_path / "b.tar.gz"
    assert main(["doctor", "-c", str(site.path), "--json", "--bundle", str(out)]) == 1
    said = capsys.readouterr()
    assert len(opened(out)["doctor.jsonl"].splitlines()) == len(said.out.splitlines())
    assert said.err.startswith(f"{out}: ")
    before = out.read_bytes()
    assert main(["doctor", "-c", str(site.path), "--bundle", str(out)]) == 2
    assert "expected no file yet, got one" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_subjects_of_a_rights_file_that_is_no_yaml_are_found_all_the_same(planted, tmp_path):
    site, host, _ = planted
    rights = Path(site.config["rights_file"])
    before = rights.read_text()
    rights.write_text("subjects:\n  walter: {}\n  walter: [\n")
    findings = [Finding("lines", "fail", "walter was here", "")]
    write_bundle(tmp_path / "b.tar.gz", site.path, findings, host)
    rights.write_text(before)
    assert not any(b"walter" in content for content in opened(tmp_path / "b.tar.gz").values())


def test_only_whole_ids_are_taken_out():
    scrub = Scrubber(["ada", "ada-2"], ["", "ab", "pass-word"])
    assert scrub("ada, ada-2 and adapter; Ada; nada; abc pass-word!") == (
        "subject-1, subject-2 and adapter; Ada; nada; abc ***!"
    )
