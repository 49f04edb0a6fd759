"""The command, as a person or a script calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from door_site import PICTURES, Site

from edge.cli import main


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    site = Site(tmp_path_factory.mktemp("door"))
    site.enrol("obama", "obama.jpg")
    return site


def run(site: Site, capsys, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "-c", str(site.path)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_verify_says_yes_with_zero_and_no_with_one(site, capsys):
    code, out, _ = run(site, capsys, "verify", "--subject", "obama", str(PICTURES / "obama2.jpg"))
    assert (code, "is obama (distance 0." in out) == (0, True)
    code, out, _ = run(site, capsys, "verify", "--subject", "obama", str(PICTURES / "biden.jpg"))
    assert (code, "is not obama (distance 1." in out) == (1, True)
    code, out, _ = run(site, capsys, "verify", "--subject", "nobody", str(PICTURES / "obama2.jpg"))
    assert (code, "nobody is not enrolled here" in out) == (1, True)


def test_identify_names_the_subject_and_the_expected_fpir(site, capsys):
    code, out, _ = run(site, capsys, "identify", str(PICTURES / "obama3.jpg"))
    assert code == 0
    assert "is obama" in out
    assert "expected FPIR of one search among 1 templates" in out
    code, out, _ = run(site, capsys, "identify", str(PICTURES / "astronaut.jpg"))
    assert (code, "nobody in the gallery" in out) == (1, True)


def test_json_is_one_object_with_the_decision(site, capsys):
    code, out, _ = run(site, capsys, "identify", "--json", str(PICTURES / "obama3.jpg"))
    report = json.loads(out)
    assert (code, report["granted"], report["nearest"], report["reason"]) == (0, True, "obama", None)
    assert 0.3 < report["distance"] < 0.7


def test_an_annotated_picture_is_written_and_differs_from_the_photograph(site, capsys, tmp_path, picture):
    out = tmp_path / "out.png"
    run(site, capsys, "verify", "--subject", "obama", str(PICTURES / "obama2.jpg"), "--annotate", str(out))
    drawn = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)
    assert drawn.shape == picture("obama2.jpg").shape
    assert (drawn != picture("obama2.jpg")).any()


def test_a_picture_without_a_face_is_not_compared(site, capsys, tmp_path):
    path = tmp_path / "wall.png"
    cv2.imwrite(str(path), np.full((300, 300, 3), 128, np.uint8))
    code, out, _ = run(site, capsys, "identify", str(path))
    assert (code, "not compared: no face found" in out) == (1, True)


@pytest.mark.parametrize("content", [b"", b"not a picture", (PICTURES / "obama.jpg").read_bytes()[:20_000]])
def test_a_bad_picture_is_one_line_and_exit_two(site, capsys, tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    for arguments in (["identify", str(path)], ["enrol", "--subject", "x", str(path)]):
        code, _, err = run(site, capsys, *arguments)
        assert code == 2
        assert err.startswith(f"doord: {path}") or "bad.jpg" in err
        assert err.count("\n") == 1


def test_a_hundred_megapixels_are_refused_without_being_decoded(site, capsys, tmp_path):
    path = tmp_path / "huge.png"
    cv2.imwrite(str(path), np.zeros((10_000, 10_000), np.uint8))
    code, _, err = run(site, capsys, "identify", str(path))
    assert (code, "megapixel" in err) == (2, True)


@pytest.mark.parametrize("kind", ["grey", "rgba", "rotated", "sixteen"])
def test_odd_photographs_are_the_same_person_still(site, capsys, tmp_path, kind):
    bgr = cv2.imread(str(PICTURES / "obama2.jpg"))
    path = tmp_path / "odd.png"
    if kind == "grey":
        cv2.imwrite(str(path), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
    elif kind == "rgba":
        cv2.imwrite(str(path), np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)]))
    elif kind == "sixteen":
        cv2.imwrite(str(path), bgr.astype(np.uint16) * 257)
    else:
        path = tmp_path / "odd.jpg"
        jpeg = cv2.imencode(".jpg", cv2.rotate(bgr, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    assert run(site, capsys, "verify", "--subject", "obama", str(path))[0] == 0


@pytest.mark.parametrize("command", ["run", "enrol", "identify", "check-config", "status", "gallery"])
def test_a_bad_configuration_is_seventy_eight_whatever_the_command(command, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("site: hq\ndoor_id: front\ndoor: {relay: {line: 1}, unlock_s: 500}\n")
    more = {
        "enrol": ["--subject", "x", str(PICTURES / "obama.jpg")],
        "identify": [str(PICTURES / "obama.jpg")],
        "gallery": ["list"],
    }
    code = main([command, *more.get(command, []), "-c", str(path)])
    err = capsys.readouterr().err
    assert code == 78
    assert err == f"doord: {path}: door.unlock_s: expected a value <= 60.0, got 500\n"


def test_a_relay_that_can_not_be_claimed_ends_the_start_so_that_systemd_tries_again(tmp_path):
    site = Site(tmp_path, simulation=False, camera={"source": "0"})
    site.config["door"]["relay"] = {"line": 3, "chip": "/dev/gpiochip77"}
    site.write()
    soon = (
        f"from edge import cli, process; process._CLAIM_S = 2.0; exit(cli.main(['run', '-c', '{site.path}']))"
    )
    done = subprocess.run([sys.executable, "-c", soon], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("/dev/gpiochip77")) == (69, 1)


class Closed(type(Path())):
    """In a folder that this user may not enter."""

    def exists(self, **_: object) -> bool:
        raise PermissionError(13, "Permission denied")


def test_who_may_read_nothing_of_the_door_is_told_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("edge.cli_common.DEFAULT_SOCKET", Closed("/run/doord/control.sock"))
    path = tmp_path / "none.yaml"
    assert main(["status", "-c", str(path)]) == 78
    said = f"doord: {path}: No such file or directory: as root, or in the group doord\n"
    assert capsys.readouterr().err == said


def test_check_config_finds_no_mistake_in_a_good_file(site, capsys):
    code, out, _ = run(site, capsys, "check-config")
    assert (code, "no mistake found" in out) == (0, True)


def test_nothing_is_known_of_a_gallery_that_is_not_there(tmp_path, capsys):
    site = Site(tmp_path)
    code, _, err = run(site, capsys, "identify", str(PICTURES / "obama.jpg"))
    assert (code, "nobody is enrolled yet" in err) == (2, True)


def test_the_gallery_is_listed_exported_removed_and_imported(tmp_path, capsys):
    site = Site(tmp_path)
    site.enrol("obama", "obama.jpg", "obama2.jpg")
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse battery\n")
    code, out, _ = run(site, capsys, "gallery", "list", "--json")
    assert [(r["subject"], r["templates"]) for r in json.loads(out)] == [("obama", 2)]
    backup = tmp_path / "backup.doord"
    assert run(site, capsys, "gallery", "export", str(backup), "--passphrase-file", str(phrase))[0] == 0
    assert backup.stat().st_mode & 0o777 == 0o600
    assert run(site, capsys, "gallery", "remove", "obama")[0] == 0
    assert run(site, capsys, "gallery", "remove", "obama")[0] == 1
    code, out, _ = run(site, capsys, "gallery", "import", str(backup), "--passphrase-file", str(phrase))
    assert (code, "2 templates added" in out) == (0, True)


def test_an_export_without_a_passphrase_must_be_asked_for(site, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115
    code, _, err = run(site, capsys, "gallery", "export", str(tmp_path / "x"))
    assert (code, "--passphrase-file or --plaintext" in err) == (2, True)
    assert run(site, capsys, "gallery", "export", str(tmp_path / "x"), "--plaintext")[0] == 0


def test_what_stands_for_a_typed_passphrase_is_an_option_of_that_command(site, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115
    code, _, err = run(site, capsys, "pad", "export", str(tmp_path / "x"))
    assert (code, err) == (2, "doord: expected --passphrase-file where nobody can type\n")


def test_an_export_never_replaces_a_device_or_a_link(site, capsys, tmp_path):
    (tmp_path / "link").symlink_to("/dev/null")
    for target in ("/dev/null", str(tmp_path / "link")):
        code, _, err = run(site, capsys, "gallery", "export", target, "--plaintext")
        assert (code, "expected a file or nothing there" in err) == (2, True)


def test_the_configuration_may_stand_before_the_action(site, capsys):
    assert main(["gallery", "-c", str(site.path), "--json", "list"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["subject"] == "obama"


def test_a_device_that_never_ends_is_no_photograph(site, capsys):
    code, _, err = run(site, capsys, "enrol", "--subject", "x", "/dev/zero")
    assert (code, err) == (2, "doord: /dev/zero: expected a file, got something else\n")


@pytest.mark.parametrize("command", ["gallery", "pad"])
def test_no_more_is_read_of_a_file_to_import_than_an_export_may_have(command, site, capsys, tmp_path):
    imported = command, "import"
    code, _, err = run(site, capsys, *imported, "/dev/zero")
    assert (code, err) == (2, "doord: /dev/zero: expected a file, got something else\n")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(65 << 20)
    code, _, err = run(site, capsys, *imported, str(large))
    most = (64 << 20 if command == "gallery" else 16 << 20) + 1024
    assert (code, err) == (2, f"doord: {large}: expected at most {most} bytes, got more\n")


def test_a_gallery_file_may_be_larger_than_a_photograph(site, capsys, tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(40 << 20)
    code, _, err = run(site, capsys, "gallery", "import", str(large), "--plaintext")
    assert (code, "gallery file: expected a gallery of doord, got" in err) == (2, True)


def test_two_people_in_one_photograph_enrol_nobody(site, capsys, tmp_path, picture):
    both = np.hstack([cv2.resize(picture(n)[:500], (480, 480)) for n in ("obama2.jpg", "biden.jpg")])
    path = tmp_path / "both.png"
    cv2.imwrite(str(path), cv2.cvtColor(both, cv2.COLOR_RGB2BGR))
    code, _, err = run(site, capsys, "enrol", "--subject", "two", str(path))
    assert (code, "expected one face, got 2" in err) == (2, True)


def test_doctor_tries_every_part_and_names_what_fails(tmp_path, capsys):
    site = Site(tmp_path, mqtt={"host": "127.0.0.1", "port": 1})
    code, out, _ = run(site, capsys, "doctor", "--json")
    found = {f["part"]: f for f in map(json.loads, out.splitlines())}
    assert code == 2
    verdicts = {part: f["verdict"] for part, f in found.items()}
    assert (
        verdicts
        | {
            "config": "ok",
            "mode": "warn",
            "daemon": "note",
            "models": "ok",
            "camera": "fail",
            "gallery": "warn",
            "rights": "ok",
            "readers": "ok",
            "lines": "ok",
            "boot": "note",
            "broker": "fail",
            "acl": "fail",
            "events": "note",
            "site": "note",
            "pad": "warn",
        }
        == verdicts
    )
    for f in found.values():  # whatever asks somebody to act says what to do, in one line
        assert bool(f["cure"]) == (f["verdict"] in ("warn", "fail")), f
        assert "\n" not in f["detail"] + f["cure"], f


def test_status_of_a_door_that_does_not_run_is_no(site, capsys):
    code, out, _ = run(site, capsys, "status")
    assert (code, out) == (1, "doord is not running here\n")


def test_the_doors_table_is_drawn_from_itself_and_the_readme_shows_it(capsys):
    assert main(["door", "diagram"]) == 0
    drawn = capsys.readouterr().out
    assert drawn.startswith("stateDiagram-v2\n    [*] --> Locked\n    Locked --> Accessed: Granted, Rex")
    readme = PICTURES.parents[1] / "README.md"
    if readme.exists():  # it is no part of the wheel
        assert f"```mermaid\n{drawn}```" in readme.read_text()


@pytest.mark.parametrize(
    "action", [["state"], ["pulse"], ["lock"], ["lockdown"], ["normal"], ["open", "5"], []]
)
def test_a_door_that_does_not_run_is_not_moved(site, capsys, action):
    code, _, err = run(site, capsys, "door", *action)
    assert (code, err) == (2, "doord is not running here\n")


def test_bench_and_evaluate_run_without_a_configuration(capsys, tmp_path):
    assert main(["bench", str(PICTURES / "obama.jpg"), "--frames", "5", "--subjects", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 5
    for subject, names in {"a": ["obama.jpg", "obama2.jpg"], "b": ["biden.jpg"]}.items():
        (tmp_path / subject).mkdir()
        for name in names:
            (tmp_path / subject / name).write_bytes((PICTURES / name).read_bytes())
    assert main(["evaluate", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["genuine_pairs"], report["impostor_pairs"]) == (1, 2)
    assert report["fmr"]["count"] == 0


def test_no_command_prints_help_and_fails():
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2


@pytest.mark.parametrize("command", ["check-config", "run"])
def test_a_delegate_that_is_not_there_is_a_mistake_in_the_configuration(command, tmp_path, capsys):
    site = Site(tmp_path)
    site.path.write_text(site.path.read_text() + "\nmodels: {delegate: /nowhere/libgpu.so}\n")
    code, _, err = run(site, capsys, command)
    assert code == 78
    expected = "models.delegate: /nowhere/libgpu.so: expected a delegate's library, got: No such file"
    assert expected in err
    assert err.count("\n") == 1
