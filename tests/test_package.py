"""Building the package, and the parts of an upgrade that need no machine (tests/system/packages has one)."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from edge import joined
from edge.identity import sealing, shards, store
from edge.link import bundle, ledger

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "deploy" / "package").exists():
    pytest.skip("needs the repository", allow_module_level=True)
sys.path[:0] = [str(ROOT / "deploy" / "package"), str(ROOT / "deploy" / "upgrading")]

import debian_files  # noqa: E402
import package  # noqa: E402
import trial  # noqa: E402
import wheels  # noqa: E402
from system import Refused  # noqa: E402
from targets import TARGETS  # noqa: E402

# of the number: the formats of what lies in the state directory, and a digest of its tables
STATE = {2: ((1, 1, 1, 1, 2), "4954fbda31acf1c4")}


def test_the_package_says_another_state_format_when_a_file_of_the_state_has_one() -> None:
    """A rollback restores the state's copy only where the numbers differ: raise debian_files.STATE_FORMAT."""
    formats = (store.FORMAT, sealing.FORMAT, shards.FORMAT, bundle.FORMAT, joined.FORMAT)
    tables = hashlib.sha256(repr((store._SCHEMA, ledger._TABLES)).encode()).hexdigest()[:16]
    assert STATE[debian_files.STATE_FORMAT] == (formats, tables)


def a_wheel(folder: Path, **members: str) -> Path:
    path = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name if "/" in name else name.replace("__", "/"), text)
    return path


def test_a_wheel_is_unpacked_without_its_scripts(tmp_path: Path) -> None:
    wheel = a_wheel(
        tmp_path,
        **{
            "thing__a.py": "a",
            "thing-1.0.data__purelib__thing__b.py": "b",
            "thing-1.0.data__platlib__thing__c.so": "c",
            "thing-1.0.data__scripts__thing": "#!python",
            "thing/__pycache__/a.cpython-310.pyc": "old",
        },
    )
    wheels.unpack(wheel, tmp_path / "site")
    found = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.*")}
    assert found == {"thing/a.py", "thing/b.py", "thing/c.so"}


@pytest.mark.parametrize("name", ["..__evil.py", "__evil.py", "x-1.0.data__purelib__..__evil.py"])
def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leads out of its folder"):
        wheels.unpack(a_wheel(tmp_path, **{name: "x"}), tmp_path / "site")
    assert not list(tmp_path.rglob("evil.py"))


def test_a_library_nobody_is_known_to_have_is_a_fault_of_the_build() -> None:
    assert debian_files._package_of("libm.so.6") == ""
    assert debian_files._package_of("libstdc++.so.6") == "libstdc++6"
    with pytest.raises(LookupError, match=r"libGL\.so\.1: a wheel links to it"):
        debian_files._package_of("libGL.so.1")


def test_the_package_asks_for_exactly_its_interpreter(tmp_path: Path) -> None:
    for target in TARGETS:
        needs = debian_files.depends(target, tmp_path)
        text = debian_files.control(target, "1.2.3+" + target.tag, needs, 7)
        assert f"Depends: python{target.python}, systemd (>= 249)" in text
        assert "Recommends:" not in text, "all that a door needs comes with it"
        assert "\n\n" not in text


def test_the_copyright_file_names_each_bundled_part_and_where_its_licence_is(tmp_path: Path) -> None:
    info = tmp_path / "thing-1.0.dist-info"
    (info / "licenses").mkdir(parents=True)
    (info / "METADATA").write_text(
        "Name: thing\nVersion: 1.0\nLicense-Expression: MIT\nAuthor: some people\n"
    )
    (info / "licenses" / "LICENSE").write_text("text")
    text = debian_files.copyright_file(tmp_path)
    assert "Comment: thing 1.0: MIT" in text
    assert " usr/lib/doord/site-packages/thing-1.0.dist-info/licenses/LICENSE" in text


# The way back


class Door:
    """A machine that plays one second per look: what systemd and the daemon say at each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: list[tuple[dict, dict]]) -> None:
        self.now = 0.0
        self.looks = looks
        monkeypatch.setattr(trial, "unit_state", lambda: self.look()[0])
        monkeypatch.setattr(trial, "door_status", lambda: self.look()[1])
        monkeypatch.setattr(trial.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(trial.time, "sleep", self.sleep)

    def look(self) -> tuple[dict, dict]:
        return self.looks[min(int(self.now), len(self.looks) - 1)]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def unit(state: str, pid: int = 7, restarts: int = 0) -> dict:
    return {"ActiveState": state, "MainPID": str(pid), "NRestarts": str(restarts), "Result": "exit-code"}


STARTING = (unit("activating"), {})
ARMED = (unit("active"), {"version": "2.0", "armed": True})
UNARMED = (unit("active"), {"version": "2.0", "armed": False, "why_not": ["camera: no frame"]})


def watched(looks: list[tuple[dict, dict]], monkeypatch: pytest.MonkeyPatch, armed: bool = True) -> str:
    Door(monkeypatch, looks)
    return trial.watch("2.0", armed=armed, within_s=30)


def test_a_version_that_is_armed_and_stays_so_counts_as_working(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched([STARTING, STARTING, UNARMED, ARMED], monkeypatch) == ""


def test_where_the_version_before_was_not_armed_ready_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched([STARTING, UNARMED], monkeypatch, armed=False) == ""


@pytest.mark.parametrize(
    ("looks", "why"),
    [
        ([STARTING], "did not become ready within 30 s"),
        ([STARTING, UNARMED], "was not armed ['camera: no frame'] within 30 s"),
        ([(unit("active"), {"version": "1.0", "armed": True})], "did not answer as 2.0 within 30 s"),
        ([STARTING, (unit("failed"), {})], "did not start: exit-code"),
        ([(unit("activating", restarts=n), {}) for n in range(9)], "crashes again and again"),
        ([(unit("activating", restarts=n + 70), {}) for n in range(9)], "crashes again and again"),
        ([STARTING, ARMED, ARMED, (unit("activating", 0, 1), {})], "became ready, and crashed"),
        ([STARTING, ARMED, (unit("active", 8, 1), ARMED[1])], "became ready, and crashed"),
        ([*[ARMED, ARMED, UNARMED] * 9, ARMED, ARMED, ARMED], "was not steady within 30 s"),
    ],
)
def test_a_version_that_does_not_work_is_told_apart(
    looks: list, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watched(looks, monkeypatch) == why


def test_restarts_counted_before_the_trial_are_not_the_new_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched([(unit("active", 3, 90), {"version": "1.0", "armed": True}), ARMED], monkeypatch) == ""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TRIAL", "RESULT", "NEW", "OLD", "SAVED", "SELF", "UNIT", "WANTED"):
        monkeypatch.setattr(trial, name, tmp_path / getattr(trial, name).name)
    monkeypatch.setattr(trial, "installed", lambda: None)
    monkeypatch.setattr(trial, "run", lambda *command: subprocess.CompletedProcess(command, 0, "", ""))
    return tmp_path


def a_trial(phase: str) -> trial.Trial:
    return trial.Trial(phase, "1.0+py311", "2.0+py311", "2.0", True, "/var/lib/doord", False, 30.0)


@pytest.mark.parametrize("phase", ["trying", "back"])
def test_a_trial_that_was_cut_off_ends_with_the_version_before(
    phase: str, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(trial, "put_back", lambda trial: done.append(trial.old) or "armed")
    trial.write_down(trial.TRIAL, vars(a_trial(phase)))
    assert trial.finish() == 0
    assert done == ["1.0+py311"]
    assert not trial.TRIAL.exists()
    assert json.loads(trial.RESULT.read_text())["good"] is False


def test_a_trial_that_was_cut_off_after_its_verdict_is_not_taken_back(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "put_back", lambda _: pytest.fail("was good"))
    trial.write_down(trial.TRIAL, vars(a_trial("good")))
    trial.finish()
    assert json.loads(trial.RESULT.read_text()) == {"good": True, "words": "doord 2.0+py311 runs"}


@pytest.mark.parametrize(("runs", "how"), [("1.0", "restart"), ("2.0", "start"), (None, "start")])
def test_a_new_version_is_tried_though_the_package_was_not_allowed_to_start_it(
    runs: str | None, how: str, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(trial, "run", lambda *command: done.append(command))
    monkeypatch.setattr(trial, "dpkg", lambda *_: True)
    monkeypatch.setattr(trial, "door_status", lambda: {"version": runs})
    monkeypatch.setattr(trial, "watch", lambda *_, **__: "")
    assert trial.carry_out(a_trial("trying")).phase == "good"
    assert done == [("systemctl", "--no-block", how, "doord.service")]


def test_a_root_that_is_read_only_again_after_a_power_cut_is_written_once_more(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        done.append(" ".join(command))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(trial, "run", run)
    monkeypatch.setattr(trial, "put_back", lambda _: done.append("put back") or "armed")
    monkeypatch.setattr(
        trial.os, "statvfs", lambda _: os.statvfs_result((0, 0, 0, 0, 0, 0, 0, 0, os.ST_RDONLY, 255))
    )
    trial.write_down(trial.TRIAL, vars(a_trial("trying")))
    trial.finish()
    steps = [words for words in done if "mount" in words or words == "put back"]
    assert steps == ["mount -o remount,rw /", "put back", "mount -o remount,ro /"]


def test_state_that_was_not_copied_whole_is_never_put_back(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = room / "state-of-the-door"
    state.mkdir()
    (state / "gallery.db").write_text("as it is")
    trial.SAVED.mkdir()
    monkeypatch.setattr(trial, "dpkg", lambda *_: True)
    monkeypatch.setattr(trial, "watch", lambda *_, **__: "")
    attempt = trial.replace(a_trial("back"), state_dir=str(state), keep_state=True)
    assert trial.put_back(attempt) == "armed"
    assert (state / "gallery.db").read_text() == "as it is"


def test_a_copy_of_the_state_is_put_back_as_it_was(room: Path) -> None:
    state = room / "state-of-the-door"
    (state / "site").mkdir(parents=True)
    (state / "gallery.db").write_text("before")
    (state / "site" / "joined").write_text("hq")
    trial._copy_state(state, trial.SAVED)
    (state / "gallery.db").write_text("spoilt")
    (state / "new").write_text("x")
    trial._copy_state(trial.SAVED, state)
    assert {path.name: path.read_text() for path in state.rglob("*") if path.is_file()} == {
        "gallery.db": "before",
        "joined": "hq",
    }


def test_a_file_that_is_no_package_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "doord.deb"
    file.write_text("nothing of the kind")
    with pytest.raises(Refused, match="expected a whole Debian package") as refusal:
        package.unwrapped(file, tmp_path / "copy")
    assert "\n" not in str(refusal.value)


def test_the_upgrade_without_root_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["upgrade", "x.deb"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "deploy" / "upgrading"), run_name="__main__")
    assert (end.value.code, capsys.readouterr().err) == (1, "upgrade: expected root: sudo\n")


# How it is called


@pytest.fixture
def upgrading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`deploy/upgrading` as a program, with all its paths below a folder, run by root."""
    spec = importlib.util.spec_from_file_location("upgrading", ROOT / "deploy/upgrading/__main__.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    room = tmp_path / "doord-upgrade"
    monkeypatch.setattr(program, "ROOM", room)
    for name in ("TRIAL", "RESULT", "NEW", "OLD", "TREE", "UNIT", "WANTED"):
        monkeypatch.setattr(program, name, room / getattr(program, name).name)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(program, "installed", lambda: a_package())
    monkeypatch.setattr(sys, "argv", ["upgrade", str(tmp_path / "doord.deb")])
    return program


def a_package() -> package.Package:
    return package.Package("1.0+py311", "amd64", ("python3.11",), "1", 10)


def an_installed_doord(folder: Path, monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """dpkg tells of a package of two files; those that are missing are only listed."""
    names = ["/.", *(str(folder / "lib" / name) for name in ("a.py", "b.txt"))]
    (folder / "lib").mkdir()
    for name in names[1:]:
        if Path(name).name not in missing:
            Path(name).write_text("x")
    control = (
        "Package: doord\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@localhost>\nDescription: d"
    )
    told = {"--status": control, "--listfiles": "\n".join(names), "--control-path": ""}

    def run(*command: str, **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "dpkg-query":
            return subprocess.CompletedProcess(command, 0, told[command[1]], "")
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    monkeypatch.setattr(package, "run", run)


needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")


@needs_dpkg
def test_the_way_back_has_folders_that_everybody_may_enter_whatever_root_s_umask(
    upgrading: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_installed_doord(tmp_path, monkeypatch)
    monkeypatch.setattr(
        upgrading, "upgrade", lambda *_: package.repack(tmp_path / "old.deb", tmp_path / "tree")
    )
    before = os.umask(0o077)
    try:
        upgrading.main()
    finally:
        os.umask(before)
    told = subprocess.run(["dpkg-deb", "--contents", tmp_path / "old.deb"], capture_output=True, text=True)
    folders = [line for line in told.stdout.splitlines() if line.startswith("d")]
    assert folders, told.stderr
    assert [line for line in folders if not line.startswith("drwxr-xr-x")] == []


@needs_dpkg
def test_the_way_back_is_made_though_a_system_keeps_no_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_installed_doord(tmp_path, monkeypatch, "b.txt")
    package.repack(tmp_path / "old.deb", tmp_path / "tree")
    told = subprocess.run(["dpkg-deb", "--contents", tmp_path / "old.deb"], capture_output=True, text=True)
    assert "a.py" in told.stdout
    assert "b.txt" not in told.stdout


def test_a_second_upgrade_does_not_take_what_the_first_lays_ready(
    upgrading: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    upgrading.ROOM.mkdir()
    upgrading.OLD.write_text("the way back")
    handle = os.open(upgrading.ROOM, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        assert upgrading.main() == 1
    finally:
        os.close(handle)
    words = "upgrade: another installation or upgrade is being made ready: nothing was changed\n"
    assert capsys.readouterr().err == words
    assert upgrading.OLD.read_text() == "the way back"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: nothing was changed\n"),
        (KeyboardInterrupt(), "upgrade: ended: run it again\n"),
    ],
)
def test_a_full_disk_and_ctrl_c_end_it_with_one_line_and_leave_nothing(
    upgrading: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, fault, says: str
) -> None:
    def unwrapped(*_: object) -> None:
        upgrading.TREE.mkdir()
        (upgrading.TREE / "half").write_text("x")
        raise fault

    monkeypatch.setattr(upgrading, "unwrapped", unwrapped)
    assert upgrading.main() == 1
    said = capsys.readouterr().err
    assert said.endswith(says)
    assert said.count("\n") == 1
    assert list(upgrading.ROOM.iterdir()) == []


def test_the_upgrade_takes_nothing_of_the_callers_environment(tmp_path: Path) -> None:
    """Such as `sudo -E` brings along."""
    shutil.copy(ROOT / "deploy/upgrade", tmp_path)
    (tmp_path / "upgrading").mkdir()
    (tmp_path / "upgrading/__main__.py").write_text("import os\nprint(*sorted(os.environ))")
    odd = {**os.environ, "TMPDIR": "/none", "PYTHONHOME": "/none", "DPKG_ROOT": "/none", "PATH": "/usr/bin"}
    done = subprocess.run([tmp_path / "upgrade"], env=odd, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "LC_ALL PATH\n"), done.stderr


@needs_dpkg
def test_what_dpkg_says_of_a_package_it_can_not_read_is_told(tmp_path: Path, monkeypatch) -> None:
    an_installed_doord(tmp_path, monkeypatch)
    package.repack(tmp_path / "old.deb", tmp_path / "tree")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(Refused, match=r"dpkg-deb can't read the package: .*No such file"):
        package.read_package(tmp_path / "old.deb")


def test_the_upgrade_leaves_no_bytecode_beside_itself(tmp_path: Path) -> None:
    """The package does not know of it: it would be left after a purge."""
    shutil.copy(ROOT / "deploy/upgrade", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "deploy/upgrading", tmp_path / "upgrading", ignore=ignored)
    done = subprocess.run([tmp_path / "upgrade", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("__pycache__")) == []
