"""What the door shows its broker, under the shipped unit: scenarios of scenarios.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from broker import Authority, Broker, tls_conf
from machine import wait_for
from published import Published, joined_bundle_file
from repository import Repository

if TYPE_CHECKING:
    from scenarios import Bench

UNIT, STATE, SITE = "doord.service", "/var/lib/doord", "/var/lib/doord/site"
CREDENTIALS = "/usr/lib/doord/credentials"
DROP_IN = "/etc/systemd/system/doord.service.d/credentials.conf"
PASSWORD = "a secret that stands nowhere else"


def a_brokers_password_is_a_credential(bench: Bench) -> None:
    """As a file of root's, then encrypted: the door logs in, and nothing on its disk says the password."""
    _stop(bench)
    folder = bench.shared / "guarded"
    folder.mkdir(exist_ok=True)
    passwords = folder / "passwords"
    passwords.touch(0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "door", PASSWORD], check=True, timeout=30)
    bench.machine.run(CREDENTIALS, code=0)  # the gallery's key, as deploy/install has it
    with Broker(folder, f"password_file {passwords}") as guarded:
        mqtt = {"host": "127.0.0.1", "port": guarded.port, "username": "door"}
        bench.configure(mqtt={**mqtt, "password_file": "credential:broker.password"})
        _without_it_the_door_works(bench)
        _seals(bench, "env", "PATH=/tmp/without", said="LoadCredential=")
        _logs_in(bench)
        _seals(bench, "env", "POSIXLY_CORRECT=1", said="LoadCredentialEncrypted=")
        _logs_in(bench)
        _can_not_be_decrypted(bench)
        _is_gone_and_told(bench)
    bench.note("a broker's password as a credential", "logs in, doctor sees it, nowhere in plain")
    _forget(bench, "broker.password")


def _stop(bench: Bench) -> None:
    """However long it takes: that is measured elsewhere."""
    bench.machine.run("systemctl", "stop", UNIT, code=0)


def _without_it_the_door_works(bench: Bench) -> None:
    bench.start()
    bench.armed()
    assert "credential:broker.password: no such credential" in bench.machine.journal(UNIT)
    _stop(bench)


def _seals(bench: Bench, *prefix: str, said: str) -> None:
    """The command, twice; the second time there is no plain file any more."""
    machine, plain = bench.machine, "/root/password"
    machine.run(
        "sh", "-c", "rm -rf /tmp/without; mkdir /tmp/without && ln -s /usr/bin/* /tmp/without/", code=0
    )
    machine.run("rm", "/tmp/without/systemd-creds", code=0)
    machine.write(plain, PASSWORD + "\n")
    machine.run("chmod", "600", plain, code=0)
    note = f"credentials: note: {plain} is not there: broker.password stays as it was"
    for again in (False, True):
        done = machine.run(*prefix, CREDENTIALS, "broker.password", plain, code=0)
        told = done.stdout
        assert (note in done.stderr) is again, done.stderr
        assert f"{said}broker.password:" in told, told
        assert PASSWORD not in told
        assert machine.run("test", "-e", plain).returncode == 1
    lines = machine.read(DROP_IN).splitlines()
    assert lines.count("[Service]") == 1, lines
    for name in ("broker.password", "gallery.key"):  # one line that loads each, one that stands in for it
        assert sum(line.startswith("Load") and f"={name}:" in line for line in lines) == 1, lines
        assert lines.count(f"SetCredential={name}:missing") == 1, lines


def _logs_in(bench: Bench) -> None:
    machine = bench.machine
    bench.start()
    wait_for(lambda: machine.status().get("broker_connected"), "the broker lets the door in", 20)
    found = [json.loads(line) for line in machine.run("doord", "doctor", "--json").stdout.splitlines()]
    verdicts = {one["part"]: one["verdict"] for one in found}
    assert (verdicts["broker"], verdicts["acl"]) == ("warn", "ok"), found  # warn: it has no TLS
    assert PASSWORD not in machine.journal(UNIT)
    for place in ("/var/lib", "/etc/doord", "/etc/systemd", "/etc/credstore.encrypted"):
        assert machine.run("grep", "-rlF", PASSWORD, place).returncode != 0, place
    assert machine.run("sh", "-c", "ls -d /run/doord-key-*").returncode != 0, "a secret was left in /run"
    _stop(bench)


def _can_not_be_decrypted(bench: Bench) -> None:
    """systemd would not start the door, whatever SetCredential= says: it is set aside, and comes back."""
    machine, sealed = bench.machine, "/etc/credstore.encrypted/doord.broker.password"
    machine.run("sh", "-c", f"cp -a {sealed} /root/sealed && head -c 100 /root/sealed >{sealed}", code=0)
    _without_it_the_door_works(bench)
    assert "can't be decrypted on this machine: set aside as" in machine.journal("doord-credentials.service")
    assert "243/CREDENTIALS" not in machine.journal(UNIT)
    machine.run("mv", "/root/sealed", f"{sealed}.set-aside", code=0)
    _logs_in(bench)
    assert machine.run("test", "-e", f"{sealed}.set-aside").returncode == 1


def _is_gone_and_told(bench: Bench) -> None:
    """A file that is missing keeps no door from starting."""
    machine, sealed = bench.machine, "/etc/credstore.encrypted/doord.broker.password"
    assert machine.run("test", "-e", "/etc/credstore/doord.broker.password").returncode == 1
    assert machine.run("stat", "--format=%U %a", sealed, code=0).stdout == "root 600\n"
    machine.run("rm", sealed, code=0)
    _without_it_the_door_works(bench)
    _refused(bench, "broker.password", "/root/password", words="expected a file, and there is no credential")
    _refused(bench, "gallery.key", "/root/password", words="expected another name")
    _refused(bench, "../x", "/root/password", words="expected A-Z")
    _refused(bench, "broker.password", "-", words="expected a secret, got nothing")
    machine.write("/root/other", "of root's\n")
    machine.run("chmod", "600", "/root/other", code=0)
    link = f"{STATE}/link"  # the service's own, to a file of root's
    machine.run(
        "setpriv", "--reuid=doord", "--regid=doord", "--clear-groups", "ln", "-s", "/root/other", link
    )
    _refused(bench, "broker.password", link, words="can't be read by its folder's owner")
    assert machine.read("/root/other") == "of root's\n"
    assert machine.run("test", "-e", sealed).returncode == 1
    machine.run("rm", link, code=0)


def _refused(bench: Bench, *arguments: str, words: str) -> None:
    done = bench.machine.run(CREDENTIALS, *arguments)
    assert (done.returncode, words in done.stderr) == (1, True), done


def _forget(bench: Bench, name: str) -> None:
    machine = bench.machine
    machine.run("sed", "-i", f"/={name}:/d", DROP_IN, code=0)
    machine.run("systemctl", "daemon-reload", code=0)
    bench.configure()


def a_joined_door_has_no_key_in_plain(bench: Bench) -> None:
    """It shows the broker its certificate out of the sealed bundle; what an older doord left is removed."""
    _stop(bench)
    machine, authority = bench.machine, Authority(bench.shared / "authority")
    certificate, key = authority.issue("front")
    with Broker(bench.shared / "tls", *tls_conf(authority)) as broker:
        bundle = Published(Repository()).bundle(
            broker.port,
            ca=authority.path.read_text(),
            certificate=certificate.read_text(),
            certificate_key=key.read_text(),
        )
        file = joined_bundle_file(bundle, bench.shared / "front.door")
        bench.configure(mqtt=None)
        machine.run("doord", "join", f"/srv/{file.name}", code=0)
        _shows_its_certificate(bench, broker)
        for name in ("ca.pem", "door.pem", "door.key"):  # as an older doord had joined
            machine.run("install", "-m", "600", "-o", "doord", f"/srv/{_OLD[name]}", f"{SITE}/{name}", code=0)
        _shows_its_certificate(bench, broker)
        machine.run("doord", "leave", code=0)
    bench.configure()
    bench.note("a joined door's key for its broker", "in the sealed bundle alone; TLS in the unit's sandbox")


_OLD = {"ca.pem": "authority/ca.pem", "door.pem": "authority/front.pem", "door.key": "authority/front.key"}


def _shows_its_certificate(bench: Bench, broker: Broker) -> None:
    machine, before = bench.machine, broker.log.count("doord-hq-front ")
    bench.start()
    wait_for(lambda: machine.status().get("broker_connected"), "the broker takes its certificate", 20)
    assert broker.log.count("doord-hq-front ") > before
    assert "bundle.sealed" in machine.run("ls", SITE, code=0).stdout.split()
    assert machine.run("grep", "-rl", "PRIVATE KEY", STATE).returncode == 1
    assert machine.run("sh", "-c", f"ls {SITE}/*.pem {SITE}/*.key").returncode != 0
    pid = machine.show(UNIT, "MainPID")["MainPID"]
    assert "doord-tls" not in machine.run("ls", "-l", f"/proc/{pid}/fd", code=0).stdout
    found = [json.loads(line) for line in machine.run("doord", "doctor", "--json").stdout.splitlines()]
    verdicts = {one["part"]: (one["verdict"], one["detail"]) for one in found}
    assert verdicts["broker"][0] == "ok", verdicts
    assert "front" not in verdicts["owners"][1], verdicts
    assert f"{Path(SITE) / 'bundle.sealed'}: certificate ends on" in verdicts["certificates"][1], verdicts
    _stop(bench)
