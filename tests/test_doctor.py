"""What doctor finds: a machine in a folder, a systemd that says what it is told, a real broker."""

from __future__ import annotations

import json
import os
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from broker import Authority, Broker, tls_conf
from events import a_notice

from edge import __version__
from edge.cli import main
from edge.config import (
    Config,
    DoorConfig,
    MqttConfig,
    PadConfig,
    ReadersConfig,
    RelayConfig,
    TlsConfig,
    WedgeConfig,
)
from edge.door_config import ContactConfig
from edge.errors import LinkError, ModelError
from edge.keys import broker_login
from edge.link.ledger import Ledger
from edge.link.topics import Topics
from edge.tools import broker_trial
from edge.tools.doctor import door, link, machine, service, storage
from edge.tools.doctor.examine import examine
from edge.tools.doctor.finding import Finding, exit_code
from edge.tools.doctor.host import Host, run_command
from edge.tools.doctor.patient import Patient, admit

PATH = Path("/etc/doord/config.yaml")
ACTIVE = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "Result": "success",
    "ExecMainStatus": "0",
    "ActiveEnterTimestamp": "Sat 2026-11-21 07:00:00 UTC",
    "WatchdogUSec": "10s",
    "User": "doord",
    "SupplementaryGroups": "video gpio",
}


class Machine:
    """Files below a folder and answers of commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, str] = {}  # by the command's first word
        self.asked: list[list[str]] = []

    @property
    def host(self) -> Host:
        return Host(self.root, self._run)

    def _run(self, command) -> str | None:
        self.asked.append(list(command))
        return self.answers.get(command[0])

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def unit(tmp_path) -> Machine:
    return Machine(tmp_path / "root")


def door_of(tmp_path: Path, **more) -> Config:
    return Config(
        "hq",
        "front",
        DoorConfig(RelayConfig(17)),
        state_dir=str(tmp_path / "state"),
        socket=str(tmp_path / "s"),
        **more,
    )


def patient(unit: Machine, tmp_path: Path, status=None, service=None, **more) -> Patient:
    return Patient(door_of(tmp_path, **more), PATH, unit.host, status, service or {})


@pytest.mark.parametrize(
    ("changed", "verdict", "says"),
    [
        ({}, "ok", "enabled, active (running) since Sat 2026-11-21"),
        ({"ActiveState": "failed", "SubState": "failed"}, "fail", "enabled, failed (failed)"),
        ({"UnitFileState": "disabled"}, "warn", "it will not start with the unit"),
        ({"LoadState": "not-found"}, "warn", "is not installed (not-found)"),
        ({"WatchdogUSec": "infinity"}, "warn", "without a watchdog"),
    ],
)
def test_the_unit_is_judged_by_what_systemd_says(unit, tmp_path, changed, verdict, says):
    found = service.unit(patient(unit, tmp_path, service=ACTIVE | changed))
    assert (found.verdict, says in found.detail) == (verdict, True), found


@pytest.mark.parametrize(
    ("changed", "verdict", "says"),
    [
        ({}, "ok", "in order; started again by itself 0 times"),
        (
            {"Result": "watchdog", "NRestarts": "3"},
            "warn",
            "the watchdog ended it; started again by itself 3",
        ),
        ({"Result": "oom-kill", "NRestarts": "1"}, "warn", "for want of memory"),
        (
            {"Result": "exit-code", "ExecMainStatus": "78", "ActiveState": "failed"},
            "fail",
            "the configuration can't be used (78)",
        ),
        (
            {"Result": "exit-code", "ExecMainStatus": "69", "ActiveState": "activating", "NRestarts": "9"},
            "fail",
            "a line could not be claimed (69)",
        ),
    ],
)
def test_how_the_last_run_ended_is_said_in_words(unit, tmp_path, changed, verdict, says):
    found = service.last_run(patient(unit, tmp_path, service=ACTIVE | changed))
    assert (found.verdict, says in found.detail) == (verdict, True), found


@pytest.mark.parametrize(
    ("controllers", "told", "verdict", "says"),
    [
        ("cpu memory pids", None, "ok", "bounded"),
        ("cpu pids", None, "warn", "have no memory: MemoryMax= of the unit bounds nothing"),
        ("cpu memory pids", "device ACL ... Proceeding WITHOUT applying ACL", "warn", "WITHOUT applying ACL"),
    ],
)
def test_what_the_kernel_does_not_enforce_of_the_unit_is_said(
    unit, tmp_path, controllers, told, verdict, says
):
    unit.write("sys/fs/cgroup/cgroup.controllers", controllers)
    if told:
        unit.answers["journalctl"] = f"{told}\n"
    found = service.sandbox(patient(unit, tmp_path, service=ACTIVE))
    assert (found.verdict, says in found.detail) == (verdict, True), found


def test_the_properties_are_asked_of_systemd_once(unit, tmp_path):
    unit.answers["systemctl"] = "".join(f"{key}={value}\n" for key, value in ACTIVE.items())
    found = admit(door_of(tmp_path), PATH, unit.host)
    assert found.service == ACTIVE
    assert [command[:3] for command in unit.asked] == [["systemctl", "show", "doord.service"]]


def test_faults_of_the_journal_are_counted_and_the_last_is_shown(unit, tmp_path):
    lines = [json.dumps({"MESSAGE": f"fault {i}", "KIND": "CameraFault"}) for i in range(3)]
    unit.answers["journalctl"] = "\n".join([*lines, "not json", ""])
    found = service.journal(patient(unit, tmp_path, service=ACTIVE))
    assert (found.verdict, found.detail) == (
        "warn",
        "3 faults since the machine was started, the last: fault 2",
    )
    unit.answers["journalctl"] = ""
    assert service.journal(patient(unit, tmp_path, service=ACTIVE)).verdict == "ok"
    assert service.journal(patient(unit, tmp_path)).verdict == "note"  # no systemd, no word on faults


def test_a_daemon_older_than_what_is_installed_is_told_to_restart(unit, tmp_path):
    assert service.version(patient(unit, tmp_path, {"version": __version__})).verdict == "ok"
    found = service.version(patient(unit, tmp_path, {"version": "0.0.9"}))
    assert (found.verdict, found.cure) == ("warn", "systemctl restart doord")


def test_a_device_that_the_daemons_user_may_not_open_is_named(unit, tmp_path):
    reader = unit.write("reader", "")
    unit.write("etc/passwd", "root:x:0:0::/root:/bin/sh\ndoord:x:990:990::/:/usr/sbin/nologin\n")
    config = {"readers": ReadersConfig(wedge=WedgeConfig(str(reader)))}
    for gid, mode, verdict in ((0, 0o600, "fail"), (44, 0o660, "ok"), (0, 0o666, "ok")):
        unit.write("etc/group", f"video:x:44:\ngpio:x:{45}:doord\n")
        if os.geteuid() == 0:
            os.chown(reader, 0, gid)
        elif gid:
            pytest.skip("only root gives a file to another group")
        reader.chmod(mode)
        found = service.devices(patient(unit, tmp_path, service=ACTIVE, **config))
        assert (found.verdict, str(reader) in found.detail) == (verdict, True), found


def test_a_unit_that_runs_as_root_may_open_everything(unit, tmp_path):
    unit.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    found = service.devices(patient(unit, tmp_path, service=ACTIVE | {"User": ""}))
    assert (found.verdict, "user root" in found.detail) == ("ok", True)


@pytest.mark.parametrize(
    ("files", "check", "verdict", "says"),
    [
        ({}, machine.hardware_clock, "warn", "after a power cut the time is unknown"),
        (
            {"sys/class/rtc/rtc0/name": "ds1307", "sys/class/rtc/rtc0/hctosys": "1"},
            machine.hardware_clock,
            "ok",
            "rtc0 ds1307",
        ),
        (
            {"sys/class/rtc/rtc0/name": "ds1307", "sys/class/rtc/rtc0/hctosys": "0"},
            machine.hardware_clock,
            "warn",
            "did not set the clock",
        ),
        (
            {"sys/class/thermal/thermal_zone0/type": "cpu", "sys/class/thermal/thermal_zone0/temp": "83000"},
            machine.heat,
            "warn",
            "83 C",
        ),
        (
            {"sys/class/thermal/thermal_zone0/type": "cpu", "sys/class/thermal/thermal_zone0/temp": "51000"},
            machine.heat,
            "ok",
            "51 C",
        ),
        ({}, machine.power, "note", "does not tell"),
        (
            {"sys/devices/platform/soc/soc:firmware/get_throttled": "0"},
            machine.power,
            "ok",
            "no under-voltage",
        ),
        ({"sys/devices/platform/soc/soc:firmware/get_throttled": "50000"}, machine.power, "warn", "since"),
        ({"sys/devices/platform/soc/soc:firmware/get_throttled": "50005"}, machine.power, "fail", "now"),
        ({"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"}, machine.power, "fail", "under-voltage"),
        ({"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0"}, machine.power, "ok", "no under-voltage"),
        ({}, machine.processor, "fail", "400 times slower"),
        ({"proc/cpuinfo": "processor : 0\nflags : fpu avx2\n"}, machine.processor, "ok", "cores"),
        (
            {"proc/meminfo": "MemTotal: 2048000 kB\nMemAvailable: 1024000 kB\n"},
            machine.memory,
            "ok",
            "1000 of 2000 MB",
        ),
        ({"proc/meminfo": "MemTotal: 2048000 kB\nMemAvailable: 51200 kB\n"}, machine.memory, "warn", "50 of"),
        (
            {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 9 kB\n", "proc/vmstat": "oom_kill 2\n"},
            machine.memory,
            "warn",
            "killed 2 processes",
        ),
        ({"etc/os-release": 'PRETTY_NAME="Debian 12"\n'}, machine.versions, "note", "Debian 12"),
    ],
)
def test_the_machine_is_judged_by_its_files(unit, files, check, verdict, says):
    unit.root.mkdir()
    for name, text in files.items():
        unit.write(name, text)
    found = check(unit.host)
    assert (found.verdict, says in found.detail) == (verdict, True), found


@pytest.mark.parametrize(
    ("answer", "device", "verdict"),
    [(None, True, "note"), ("0", True, "warn"), ("15s", True, "ok"), ("15s", False, "warn")],
)
def test_a_hung_kernel_is_asked_about(unit, answer, device, verdict):
    (unit.root / "dev").mkdir(parents=True)
    if answer is not None:
        unit.answers["systemctl"] = f"RuntimeWatchdogUSec={answer}\n"
    if device:
        unit.write("dev/watchdog0", "")
    assert machine.kernel_watchdog(unit.host).verdict == verdict


def mounted(unit: Machine, *lines: str) -> None:
    unit.write("proc/self/mountinfo", "\n".join(lines) + "\n")


def test_state_that_would_be_forgotten_or_cant_be_written_is_a_fault(unit, tmp_path):
    def judged(mount: str):
        mounted(unit, "22 1 179:2 / / ro,relatime - ext4 /dev/mmcblk0p2 ro", mount)
        return storage.mounts(patient(unit, tmp_path))

    found = judged(f"23 22 179:3 / {tmp_path} rw - ext4 /dev/mmcblk0p3 rw")
    assert (found.verdict, "/ read-only" in found.detail) == ("ok", True)
    assert judged(f"23 22 0:40 / {tmp_path} rw - tmpfs tmpfs rw").verdict == "fail"
    assert judged(f"23 22 0:41 / {tmp_path} rw - overlay overlay rw").verdict == "fail"
    assert "events and clock are lost" in judged(f"23 22 179:3 / {tmp_path} ro - ext4 x ro").detail


@pytest.mark.parametrize(
    ("life", "end", "kind", "verdict", "says"),
    [
        ("0x01 0x02", "0x01", "MMC", "ok", "10 to 20 % of its life used"),
        ("0x0b 0x01", "0x01", "MMC", "fail", "mmcblk0"),
        ("0x03 0x03", "0x02", "MMC", "fail", "20 to 30 %"),
        ("", "", "SD", "note", "an SD card tells nothing of its wear"),
    ],
)
def test_the_wear_of_an_emmc_is_read(unit, tmp_path, life, end, kind, verdict, says):
    mounted(unit, "22 1 179:2 / / rw,relatime - ext4 /dev/mmcblk0p2 rw")
    unit.write("sys/block/mmcblk0/mmcblk0p2/partition", "2")
    unit.write("sys/block/mmcblk0/device/type", kind)
    if life:
        unit.write("sys/block/mmcblk0/device/life_time", life)
        unit.write("sys/block/mmcblk0/device/pre_eol_info", end)
    (unit.root / "sys/dev/block").mkdir(parents=True)
    (unit.root / "sys/dev/block/179:2").symlink_to(unit.root / "sys/block/mmcblk0/mmcblk0p2")
    found = storage.wear(patient(unit, tmp_path))
    assert (found.verdict, says in found.detail) == (verdict, True), found


def test_key_and_gallery_on_one_card_are_told(unit, tmp_path):
    mounted(
        unit,
        "22 1 179:2 / / rw - ext4 /dev/mmcblk0p2 rw",
        f"23 22 8:1 / {tmp_path}/stick rw - vfat /dev/sda1 rw",
    )
    (tmp_path / "stick").mkdir()
    assert "who takes it has both" in storage.key_place(patient(unit, tmp_path)).detail
    apart = patient(unit, tmp_path, key_file=str(tmp_path / "stick/gallery.key"))
    assert "the key lies elsewhere" in storage.key_place(apart).detail


def test_files_that_the_daemon_could_not_open_or_others_could_read_are_named(unit, tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    key = state / "gallery.key"
    key.write_text("")
    key.chmod(0o600)
    assert storage.owners(patient(unit, tmp_path)).verdict == "ok"
    key.chmod(0o644)
    found = storage.owners(patient(unit, tmp_path))
    assert (found.verdict, f"{key}: others may read it (0644)" in found.detail) == ("fail", True)
    key.chmod(0o600)
    state.chmod(0o755)
    assert "expected mode 0700, got 0755" in storage.owners(patient(unit, tmp_path)).detail
    state.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(key, 65534, -1)
        assert f"{key}: is not of the folder's owner" in storage.owners(patient(unit, tmp_path)).detail


def test_a_line_that_somebody_else_holds_is_told_with_who_has_the_chip_open(unit, tmp_path, monkeypatch):
    chip = "/dev/null"  # something that is there
    held = {17: "spi0 CS0", 27: ""}
    monkeypatch.setattr(door, "find", lambda wiring: dict.fromkeys(wiring, (chip, 17)))
    monkeypatch.setattr(door, "line_holder", lambda path, offset: held[offset])
    process = unit.root / "proc/4711"
    (process / "fd").mkdir(parents=True)
    (process / "fd/3").symlink_to(chip)
    (process / "comm").write_text("gpiomon\n")
    found = door.lines(patient(unit, tmp_path))
    assert found.verdict == "fail"
    assert found.detail.endswith('held: door.relay.line by "spi0 CS0"; the chip is open in gpiomon (4711)')
    held[17] = ""
    assert door.lines(patient(unit, tmp_path)).verdict == "warn"  # no door contact
    running = {"armed": True, "version": "1"}
    assert "held by nobody" in door.lines(patient(unit, tmp_path, running)).detail
    held[17] = "lg"
    assert door.lines(patient(unit, tmp_path, running)).verdict == "warn"


@pytest.mark.parametrize(
    ("pad", "says"),
    [
        (PadConfig(unsure=2.5), r"pad\.unsure: expected at most live \(2\), got 2\.5"),
        (PadConfig("monitor", models=("no-such-model",)), "no pad 'no-such-model'"),
    ],
)
def test_presentation_attack_detection_that_the_door_would_refuse_is_a_fault(unit, tmp_path, pad, says):
    with pytest.raises(ModelError, match=says):
        door.pad(patient(unit, tmp_path, pad=pad))


def test_presentation_attack_detection_is_told_as_it_is(unit, tmp_path):
    assert door.pad(patient(unit, tmp_path)).verdict == "ok"
    off = door.pad(patient(unit, tmp_path, pad=PadConfig("off")))
    assert (off.verdict, off.detail) == ("warn", "pad.mode is off: a photograph can open this door")


def test_a_camera_that_a_running_daemon_has_is_judged_by_its_word(unit, tmp_path):
    status = {"why_not": [], "vitals": {"camera_fps": 29.9}}
    assert "29.9 frames/s" in door.camera(patient(unit, tmp_path, status)).detail
    status["why_not"] = ["camera: black or covered for more than 10 s", "nobody is enrolled"]
    found = door.camera(patient(unit, tmp_path, status))
    assert (found.verdict, found.detail) == ("fail", "camera: black or covered for more than 10 s")


def test_events_are_verified_at_the_end_of_the_record(unit, tmp_path):
    (tmp_path / "state").mkdir()
    ledger = Ledger(tmp_path / "state/events.db")
    ledger.open()
    for i in range(30):
        ledger.append(a_notice(f"number {i}"))
    ledger.keep_head()
    ledger.close()
    found = link.events(patient(unit, tmp_path))
    assert (found.verdict, found.detail) == ("ok", "30 so far, the last 30 verified; 30 not delivered")
    view = link.LedgerView(tmp_path / "state/events.db")
    assert view.verify(5) is None
    view.close()
    with sqlite3.connect(tmp_path / "state/events.db") as db:
        db.execute("UPDATE events SET payload = replace(payload, 'number 28', 'number 82') WHERE seq = 29")
    view = link.LedgerView(tmp_path / "state/events.db")
    flaw = view.verify(5)
    view.close()
    assert flaw is not None
    assert flaw.seq == 29
    found = link.events(patient(unit, tmp_path))
    assert (found.verdict, "event 29 was altered" in found.detail) == ("fail", True)


def test_lost_events_are_a_fault(unit, tmp_path):
    status = {"events_lost": 2, "ledger_fault": "disk full"}
    found = link.events(patient(unit, tmp_path, status))
    assert (found.verdict, found.detail) == ("fail", "2 events lost since the start; disk full")


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_broker_with_tls_is_reached_and_its_rules_are_tried(unit, tmp_path, authority):
    acl = tmp_path / "acl"
    conf = (*tls_conf(authority), f"acl_file {acl}")
    acl.write_text("pattern readwrite doord/hq/door/%u/fence\n")
    cert, key = authority.issue("front")
    with Broker(tmp_path, *conf) as broker:
        mqtt = MqttConfig("127.0.0.1", broker.port, TlsConfig(str(authority.path), str(cert), str(key)))
        found = link.broker(patient(unit, tmp_path, mqtt=mqtt))
        assert (found.verdict, "answers with TLSv1.3, its certificate holds until" in found.detail) == (
            "ok",
            True,
        )
        assert link.access_rules(patient(unit, tmp_path, mqtt=mqtt)).verdict == "ok"
        with pytest.raises(LinkError, match=r"door/back/fence: (refused|written, and nothing came back)"):
            broker_trial.echo(broker_login(mqtt), Topics("hq", "back"))
    found = link.certificates(patient(unit, tmp_path, mqtt=mqtt))
    assert (found.verdict, "front.pem ends on" in found.detail) == ("warn", True)  # they last a day
    with pytest.raises(LinkError, match="nothing listens there"):
        link.broker(patient(unit, tmp_path, mqtt=mqtt))


def test_where_the_systems_authorities_are_trusted_no_certificate_is_judged(unit, tmp_path):
    found = link.certificates(patient(unit, tmp_path, mqtt=MqttConfig("localhost", tls=TlsConfig(""))))
    assert (found.verdict, "system's authorities" in found.detail) == ("note", True)


def test_a_certificate_is_judged_by_its_term(authority):
    begins, ends = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2027, 1, 1, tzinfo=timezone.utc)
    term = broker_trial.Term("door.pem", begins, ends)
    assert term.flaw(ends - timedelta(days=31)) is None
    assert term.flaw(ends - timedelta(days=30)) == "door.pem ends on 2027-01-01"
    assert term.flaw(ends) == "door.pem ended on 2027-01-01"
    assert term.flaw(begins - timedelta(days=1)) == "door.pem holds from 2026-01-01: is the clock right?"


def test_an_unusable_configuration_is_a_finding_and_the_machine_is_examined_all_the_same(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("site: hq\n")
    assert main(["doctor", "-c", str(path), "--json"]) == 78
    found = {f["part"]: f for f in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["config"]["verdict"] == "fail"
    assert "door_id: is missing" in found["config"]["detail"]
    assert found["versions"]["verdict"] == "note"
    assert "gallery" not in found


def test_no_check_ends_with_a_traceback_on_an_empty_machine(unit, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"{{site: hq, door_id: front, door: {{relay: {{line: 17}}}}, state_dir: {tmp_path}/state}}"
    )
    parts = [finding.part for finding in examine(path, unit.host)]
    assert len(parts) == len(set(parts)) > 30


@pytest.mark.parametrize(
    ("verdicts", "code"), [([], 0), (["ok", "note"], 0), (["warn", "ok"], 1), (["fail", "warn"], 2)]
)
def test_the_exit_code_is_the_worst_verdict(verdicts, code):
    assert exit_code([Finding("part", verdict, "") for verdict in verdicts]) == code


def test_a_command_that_hangs_fails_or_is_missing_says_nothing():
    assert run_command(["sleep", "30"], 0.1) is None
    assert run_command(["false"]) is None
    assert run_command(["doord-no-such-command"]) is None
    assert run_command(["echo", "hi"]) == "hi\n"


def test_a_door_contact_is_asked_for(unit, tmp_path):
    config = Config("hq", "front", DoorConfig(RelayConfig(17), dps=ContactConfig(27)), simulation=True)
    assert door.lines(Patient(config, PATH, unit.host)).verdict == "ok"
