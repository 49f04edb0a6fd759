"""The link against a real Mosquitto: started, stopped, killed, and wrong in every usual way."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from broker import Authority, Broker, Listener, die_with_parent, tls_conf, wait_until
from lying_broker import CONNACK, LyingBroker, packet

from edge.config import MqttConfig, TlsConfig
from edge.errors import ConfigError
from edge.keys import broker_login
from edge.link import broker as link_broker
from edge.link import mqtt as module
from edge.link import wire
from edge.link.ledger import Ledger
from edge.link.mqtt import Attest, MqttLink
from edge.link.port import Health, NullLink
from edge.values import DoorMode, Reason

TOPICS = wire.Topics("berlin", "front")
SETTING = wire.Setting(0.7, "facenet", 1, simulation=True)
AT = "2026-01-31T12:00:00.000Z"
LOCKED = wire.State(DoorMode.LOCKED, "locked", None, 1, None, AT, None, "closed", [])
REFUSED = wire.State(DoorMode.LOCKED, "locked", None, 1, None, AT, Reason.NO_MATCH, "closed", [])
HEALTHY = Health(armed=True, why_not=(), gallery=1, backend="cpu")
QUICK = (0.05, 0.1)


def opened(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.open()
    return ledger


def post(link: MqttLink, told: wire.Event) -> None:
    """As the recorder does."""
    link._ledger.append(told)
    link.wake()


def event(detail: str) -> wire.Notice:
    stamp = wire.Stamp.of(time.time(), os.urandom(10))
    return wire.notice("CameraFault", detail, stamp, SETTING)


@pytest.fixture
def links(tmp_path):
    """links(port, ...): a started link with its ledger in tmp_path; closed at the end."""
    made: list[MqttLink] = []

    def make(port: int, host: str = "127.0.0.1", attest: Attest | None = None, **config) -> MqttLink:
        settings = MqttConfig(host=host, port=port, **config)
        ledger = opened(tmp_path / "events.db")
        link = MqttLink(broker_login(settings), TOPICS, ledger, simulation=True, attest=attest, retry_s=QUICK)
        made.append(link)
        link.start()
        return link

    yield make
    for link in made:
        link.close(1.0)


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def listener(broker):
    with Listener(broker.port) as listening:
        yield listening


def connected(link: MqttLink) -> MqttLink:
    wait_until(lambda: link.connected, "the link is connected")
    return link


def statuses(listener: Listener) -> list[str]:
    return [wire.decode_status(payload).state for payload in listener.on("/status")]


def details(listener: Listener) -> list[str]:
    return [json.loads(payload)["detail"] for payload in listener.on("/event")]


def errors(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_chain_is_signed_for_every_minute_whatever_the_heartbeat_and_however_often_the_status_changes(
    broker, links, listener, monkeypatch
):
    monkeypatch.setattr(module, "_SIGN_EVERY_S", 0.3)
    link = links(broker.port, attest=lambda _state, head: b"up to %d" % head.seq, heartbeat_s=3600)
    link.set_state(LOCKED)
    wait_until(lambda: listener.on("/attestation") == [b"up to 0"], "signed with the state")
    post(link, event("later"))

    def signed_for_it() -> bool:
        link.set_health(replace(HEALTHY, events_lost=next(lost)))
        return b"up to 1" in listener.on("/attestation")

    lost = itertools.count(1)
    wait_until(signed_for_it, "the event is signed for while the status changes all the time")


def test_status_and_state_are_retained_and_events_are_not(broker, links):
    link = connected(links(broker.port))
    link.set_health(HEALTHY)
    link.set_state(LOCKED)
    post(link, event("once"))
    with Listener(broker.port) as first:
        wait_until(lambda: first.on("/state") and first.on("/status"), "status and state")
        wait_until(lambda: wire.decode_status(first.on("/status")[-1]).armed, "the health is told")
    with Listener(broker.port) as late:
        wait_until(lambda: len(late.heard) >= 2, "what is retained")
        assert sorted((heard.topic, heard.retained) for heard in late.heard) == [
            (TOPICS.state, True),
            (TOPICS.status, True),
        ]
        status = wire.decode_status(late.on("/status")[0])
    assert (status.state, status.armed, status.why_not) == ("online", True, [])
    assert (status.gallery, status.backend, status.simulation) == (1, "cpu", True)
    assert status.connected_at is not None


def test_events_arrive_numbered_and_chained(broker, listener, links):
    link = connected(links(broker.port))
    for i in range(100):
        post(link, event(str(i)))
    wait_until(lambda: len(listener.on("/event")) == 100, "a hundred events")
    head = wire.GENESIS
    for i, payload in enumerate(listener.on("/event")):
        told, head = wire.follow(payload, head)
        assert told.detail == str(i)


def test_the_chain_goes_on_when_the_link_starts_again(broker, listener, links):
    first = connected(links(broker.port))
    post(first, event("a"))
    first.close()
    first._ledger.close()
    second = connected(links(broker.port))
    post(second, event("b"))
    wait_until(lambda: len(listener.on("/event")) == 2, "two events")
    head = wire.GENESIS
    for payload in listener.on("/event"):
        _, head = wire.follow(payload, head)
    assert head.seq == 2


def test_an_orderly_stop_sends_what_waits_and_says_stopped(broker, listener, links):
    link = connected(links(broker.port))
    for i in range(50):
        post(link, event(str(i)))
    link.close()
    wait_until(lambda: "stopped" in statuses(listener), "stopped")
    assert details(listener) == [str(i) for i in range(50)]
    assert statuses(listener)[-1] == "stopped"
    wait_until(lambda: "doord-berlin-front disconnected." in broker.log, "goodbye, so no will is sent")
    assert not any(thread.name in ("mqtt", "outbox") for thread in threading.enumerate())


DYING = """
import sys, time
from pathlib import Path
from edge.config import MqttConfig
from edge.link import broker as link_broker
from edge.link import mqtt as module
from edge.link import wire
from edge.link.ledger import Ledger
from edge.link.mqtt import MqttLink
topics = wire.Topics("berlin", "front")
access = link_broker.Login(MqttConfig(host="127.0.0.1", port=int(sys.argv[1])))
link = MqttLink(access, topics, Ledger(Path(sys.argv[2])), simulation=True)
link.start()
time.sleep(60)
"""


def test_a_killed_door_is_offline_by_its_will(broker, listener, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", DYING, str(broker.port), str(tmp_path / "dying.db")],
        preexec_fn=die_with_parent,
    )
    try:
        wait_until(lambda: statuses(listener) == ["online"], "online")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    wait_until(lambda: statuses(listener) == ["online", "offline"], "offline")
    will = wire.decode_status(listener.on("/status")[-1])
    assert (will.armed, will.why_not, will.simulation) == (False, ["offline"], True)


def test_a_broker_that_was_killed_is_told_everything_that_is_retained_again(broker, links):
    link = connected(links(broker.port))
    link.set_health(HEALTHY)
    link.set_state(LOCKED)
    broker.stop(signal.SIGKILL)
    wait_until(lambda: not link.connected, "the loss is seen")
    link.set_state(REFUSED)
    broker.start()
    with Listener(broker.port) as listener:
        wait_until(lambda: listener.on("/state") and listener.on("/status"), "state and status again")
        assert set(listener.on("/state")) == {wire.encode(REFUSED)}
        assert wire.decode_status(listener.on("/status")[-1]).armed


def test_no_event_posted_while_the_broker_is_away_is_lost(tmp_path, links):
    with Broker(tmp_path / "broker", "persistence true") as broker, Listener(broker.port) as listener:
        link = connected(links(broker.port))
        post(link, event("before"))
        wait_until(lambda: details(listener) == ["before"], "the first event")
        wait_until(lambda: not link._ledger.undelivered, "its acknowledgement; else it is rightly sent again")
        broker.stop(signal.SIGTERM)
        wait_until(lambda: not link.connected, "the loss is seen")
        for i in range(100):
            post(link, event(str(i)))
        broker.start()
        wait_until(lambda: len(listener.on("/event")) >= 101, "the events posted while it was away")
        head = wire.GENESIS
        for payload in listener.on("/event"):
            _, head = wire.follow(payload, head)
        assert details(listener) == ["before", *map(str, range(100))]


def test_an_event_the_broker_took_to_its_grave_is_sent_again(broker, links):
    link = connected(links(broker.port))
    broker.send(signal.SIGSTOP)
    post(link, event("not acknowledged"))
    wait_until(lambda: link._outbox._under_way, "the event is under way")
    broker.stop(signal.SIGKILL)
    wait_until(lambda: not link.connected, "the loss is seen")
    broker.start()
    wait_until(lambda: "front/event" in broker.log, "the event arrives")


@pytest.fixture
def attempts(monkeypatch):
    """Attempts to connect that failed; grows."""
    made: list[str] = []

    def counted(error: Exception) -> str:
        made.append(why(error))
        return made[-1]

    why = link_broker.why_unreachable
    monkeypatch.setattr(link_broker, "why_unreachable", counted)
    return made


def test_a_broker_that_is_not_there_is_told_once_and_found_when_it_comes(tmp_path, links, caplog, attempts):
    caplog.set_level(logging.INFO)
    broker = Broker(tmp_path / "broker")
    link = links(broker.port)
    post(link, event("early"))
    wait_until(lambda: len(attempts) >= 4, "several attempts")
    where = f"broker 127.0.0.1:{broker.port}"
    assert errors(caplog) == [f"{where}: nothing listens there; tried again for ever, the door works on"]
    with broker:
        connected(link)
        wait_until(lambda: caplog.messages.count(f"{where}: connected") == 1, "it is said once")
        wait_until(lambda: "front/event" in broker.log, "the early event arrives")
        link.close()


def test_a_broker_that_says_nothing_is_told(links, caplog, monkeypatch):
    monkeypatch.setattr(link_broker, "CONNACK_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        links(silent.getsockname()[1])
        wait_until(lambda: errors(caplog), "an error")
    assert "no answer to CONNECT" in errors(caplog)[0]


def test_a_broker_of_another_authority_is_refused_and_told_once(tmp_path, links, caplog, attempts):
    mine, other = Authority(tmp_path / "mine"), Authority(tmp_path / "other")
    with Broker(tmp_path / "broker", *tls_conf(other)) as broker:
        link = links(broker.port, tls=TlsConfig(ca=str(mine.path)))
        wait_until(lambda: len(attempts) >= 3, "several attempts")
        assert not link.connected
    assert len([e for e in errors(caplog) if "its certificate is not accepted" in e]) == 1


def test_a_broker_of_another_name_is_refused(tmp_path, links, caplog):
    authority = Authority(tmp_path / "ca")
    with Broker(tmp_path / "broker", *tls_conf(authority)) as broker:
        links(broker.port, host="localhost", tls=TlsConfig(ca=str(authority.path)))
        wait_until(lambda: errors(caplog), "an error")
    assert "Hostname mismatch" in errors(caplog)[0]


def test_a_door_with_a_certificate_gets_in(tmp_path, links, caplog):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("front")
    with Broker(tmp_path / "broker", *tls_conf(authority)) as broker:
        tls = TlsConfig(ca=str(authority.path), cert=str(certificate), key=str(key))
        link = connected(links(broker.port, tls=tls))
        post(link, event("over tls"))
        link.close()
        assert "front/event" in broker.log
    assert errors(caplog) == []


def test_a_door_without_a_certificate_stays_out_and_says_where_to_look(tmp_path, links, caplog):
    authority = Authority(tmp_path / "ca")
    with Broker(tmp_path / "broker", *tls_conf(authority)) as broker:
        link = links(broker.port, tls=TlsConfig(ca=str(authority.path)))
        wait_until(lambda: errors(caplog), "an error")
        assert not link.connected
    assert "closed the connection before accepting the door" in errors(caplog)[0]


@pytest.fixture
def guarded(tmp_path):
    """A broker that knows the user door with the password right."""
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "door", "right"], check=True, timeout=30)
    with Broker(tmp_path / "broker", f"password_file {passwords}") as running:
        yield running


def test_a_password_lets_the_door_in_and_is_never_logged(tmp_path, guarded, links, caplog):
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "password"
    secret.write_text("right\n")
    link = connected(links(guarded.port, username="door", password_file=str(secret)))
    link.close()
    assert "right" not in caplog.text
    assert "right" not in repr(link)


def test_a_wrong_password_is_told_once(tmp_path, guarded, links, caplog):
    caplog.set_level(logging.DEBUG)
    secret = tmp_path / "password"
    secret.write_text("wrong")
    link = links(guarded.port, username="door", password_file=str(secret))
    wait_until(lambda: guarded.log.count("CONNACK") >= 3, "several attempts")
    assert not link.connected
    assert len(errors(caplog)) == 1
    assert "it refused: Not authorized" in errors(caplog)[0]
    assert "wrong" not in caplog.text


def test_a_topic_the_broker_forbids_is_told_and_the_event_is_kept(tmp_path, links, caplog):
    rules = tmp_path / "acl"
    rules.write_text(f"topic write {TOPICS.status}\n")
    rules.chmod(0o600)
    with Broker(tmp_path / "broker", f"acl_file {rules}", "allow_anonymous true") as broker:
        link = connected(links(broker.port))
        post(link, event("forbidden"))
        wait_until(lambda: any("refused a message" in e for e in errors(caplog)), "the refusal is told")
        link.close(0.2)
    assert "1 events wait for the next start" in caplog.text


class PickyBroker(LyingBroker):
    """Acknowledges every message, and refuses those that have `poison` in them."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.heard: list[bytes] = []

    def _greet(self, connection: socket.socket) -> None:
        self._read(connection)
        connection.sendall(CONNACK)

    def _answer(self, connection: socket.socket) -> None:
        while True:
            first, body = self._read(connection)
            if first & 0xF0 != 0x30:
                continue
            end = 2 + int.from_bytes(body[:2], "big")
            if body[:end].endswith(b"/event"):
                self.heard.append(body[end:])
            refused = b"poison" in body
            connection.sendall(packet(0x40, body[end : end + 2] + (b"\x83\0" if refused else b"")))


def test_an_event_that_the_broker_always_refuses_stops_no_other(links, caplog):
    with PickyBroker() as broker:
        link = connected(links(broker.port))
        for detail in ("before", "poison", "after"):
            post(link, event(detail))
        wait_until(lambda: link._ledger.cursor == 3, "the third is delivered")
        post(link, event("later"))
        wait_until(lambda: link._ledger.cursor == 4, "the fourth is delivered")
        link.close()
    refusals = sum(b"poison" in payload for payload in broker.heard)
    assert 3 <= refusals == broker.connections <= 4  # the third may come after the first refusal
    assert any("event 2 is not sent any more" in line for line in errors(caplog))


def test_a_broker_that_hangs_does_not_hold_up_the_stop_and_finds_the_door_offline(broker, listener, links):
    link = connected(links(broker.port))
    wait_until(lambda: statuses(listener) == ["online"], "online")
    broker.send(signal.SIGSTOP)
    try:
        post(link, event("never acknowledged"))
        link.close(0.3)
    finally:
        broker.send(signal.SIGCONT)
    wait_until(lambda: "offline" in statuses(listener), "the will")
    assert link._outbox.unsent == 1


def test_the_heart_beats_in_the_status(broker, listener, links):
    connected(links(broker.port, heartbeat_s=0.02))
    wait_until(lambda: len(statuses(listener)) >= 5, "five beats")
    beats = [wire.decode_status(payload).heartbeat_at for payload in listener.on("/status")]
    assert beats == sorted(beats)
    assert len(set(beats)) > 1


def pem(folder: Path) -> dict[str, str]:
    """Files as they are found in the field."""
    authority = Authority(folder)
    certificate, key = authority.issue("front")
    locked = folder / "locked.key"
    command = ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    junk = folder / "junk.pem"
    junk.write_bytes(os.urandom(100))
    empty, torn = folder / "empty.pem", folder / "torn.pem"
    empty.touch()
    text = authority.path.read_text()
    torn.write_text(text + text[: len(text) // 2] + "\n-----END CERTIFICATE-----\n")
    return {
        "ca": str(authority.path),
        "cert": str(certificate),
        "key": str(key),
        "other": str(authority.issue("other")[1]),
        "locked": str(locked),
        "junk": str(junk),
        "empty": str(empty),
        "torn": str(torn),
        "none": str(folder / "none.pem"),
    }


@pytest.mark.parametrize(
    ("ca", "cert", "key", "message"),
    [
        ("none", "", "", "mqtt.tls.ca: .*none.pem: No such file"),
        ("junk", "", "", "mqtt.tls.ca: .*junk.pem: expected certificates in PEM, got: "),
        ("empty", "", "", "mqtt.tls.ca: .*empty.pem: expected certificates in PEM, got an empty text"),
        ("torn", "", "", "mqtt.tls.ca: .*torn.pem: expected certificates in PEM, got: "),
        ("ca", "none", "key", "mqtt.tls.cert: .*none.pem.* No such file"),
        ("ca", "junk", "key", "mqtt.tls.cert: .*junk.pem"),
        ("ca", "cert", "other", "mqtt.tls.key: .*KEY_VALUES_MISMATCH|mqtt.tls.key: .*key values mismatch"),
        ("ca", "cert", "locked", "mqtt.tls.key: .*unencrypted"),
    ],
)
def test_a_bad_certificate_file_is_a_bad_configuration(tmp_path, ca, cert, key, message):
    files = {"": "", **pem(tmp_path)}
    tls = TlsConfig(ca=files[ca], cert=files[cert], key=files[key])
    with pytest.raises(ConfigError, match=message) as caught:
        broker_login(MqttConfig(host="localhost", tls=tls)).tls_context()
    assert "\n" not in str(caught.value)


def test_a_ca_file_has_one_authority_or_several_and_comments_in_any_letters(tmp_path):
    names = [Authority(tmp_path / name).path for name in ("one", "two")]
    text = b"".join(b"# \xe4 \xc3\xa4\n" + name.read_bytes() for name in names)
    (tmp_path / "both.pem").write_bytes(text)
    tls = TlsConfig(ca=str(tmp_path / "both.pem"))
    context = broker_login(MqttConfig(host="localhost", tls=tls)).tls_context()
    assert context.cert_store_stats()["x509_ca"] == 2  # those, and none of the system's


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "empty"), (b"\n", "empty"), (b"\xff\xfe", "UTF-8")],
)
def test_a_bad_password_file_is_a_bad_configuration(tmp_path, content, message):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    settings = MqttConfig(host="localhost", username="door", password_file=str(path))
    with pytest.raises(ConfigError, match=rf"mqtt.password_file: .*password: .*{message}"):
        broker_login(settings)


def test_a_door_without_a_broker_says_so_once_and_takes_everything(caplog):
    caplog.set_level(logging.INFO)
    link = NullLink()
    link.start()
    link.wake()
    link.set_state(LOCKED)
    link.set_health(HEALTHY)
    link.close()
    assert caplog.messages == ["no broker is configured or usable: events stay in the ledger"]


def test_the_link_without_a_broker_is_a_full_sibling():
    def public(thing: type) -> set[str]:
        return {name for name in dir(thing) if not name.startswith("_")}

    assert public(NullLink) == public(MqttLink)
