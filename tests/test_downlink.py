"""The door's second connection against a real Mosquitto, and against a broker that lies."""

from __future__ import annotations

import logging
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker import Authority, Broker, tls_conf, wait_until
from lying_broker import LyingBroker, packet, publication, remaining
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from repository import DoorFiles, Mirror, Repository, site_content

from edge.config import MqttConfig, TlsConfig
from edge.errors import GalleryError, LinkError, PayloadError
from edge.keys import broker_login
from edge.link import downlink as module
from edge.link import wire
from edge.link.broker import Login
from edge.link.downlink import MAX_COMMAND_BYTES, MAX_PACKET_BYTES, Downlink, Received
from edge.link.fetch import MAX_TARGET_BYTES

TOPICS = wire.Topics("hq", "front")
QUICK = (0.05, 0.1)
CONTENT = site_content("first")


class Heard:
    """What a downlink called back, in order."""

    def __init__(self) -> None:
        self.news = 0
        self.commands: list[Received] = []

    def on_news(self) -> None:
        self.news += 1


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def links(heard: Heard) -> Iterator[Callable[..., Downlink]]:
    """links(port, ...): a started downlink; closed at the end."""
    made: list[Downlink] = []

    def make(port: int, topics: wire.Topics = TOPICS, **config: object) -> Downlink:
        settings = MqttConfig(host="127.0.0.1", port=port, **config)
        link = Downlink(broker_login(settings), topics, heard.on_news, heard.commands.append, QUICK)
        made.append(link)
        link.start()
        return link

    yield make
    for link in made:
        link.close(1.0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", "set_tcp_nodelay true") as running:
        yield running


@pytest.fixture
def admin(broker: Broker) -> Iterator[Client]:
    client = Client(CallbackAPIVersion.VERSION2, "admin", protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    wait_until(client.is_connected, "the admin is connected")
    yield client
    client.disconnect()
    client.loop_stop()


def connected(link: Downlink) -> Downlink:
    wait_until(lambda: link.connected, "the link is connected")
    return link


def publish(admin: Client, topic: str, payload: bytes, retain: bool = True, **properties: bytes) -> None:
    with_properties = Properties(PacketTypes.PUBLISH)
    for name, value in properties.items():
        setattr(with_properties, name, value)
    sent = admin.publish(topic, payload, qos=1, retain=retain, properties=with_properties)
    sent.wait_for_publish(15)
    assert sent.is_published()


def publish_tree(admin: Client, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        publish(admin, f"{TOPICS.gallery}/{path}", data)


def test_what_is_there_comes_and_what_is_not_is_absent(broker, admin, links):
    publish_tree(admin, {"targets/people/a.0": b"zero", "metadata/timestamp.json": b"{}"})
    link = connected(links(broker.port))
    paths = ["targets/people/a.0", "targets/people/b.1", "metadata/timestamp.json", "metadata/2.root.json"]
    assert link.get(paths, 100) == {"targets/people/a.0": b"zero", "metadata/timestamp.json": b"{}"}
    assert link.get(["metadata/2.root.json"], 100) == {}


def test_a_whole_release_comes_over_the_broker(broker, links, tmp_path):
    site = Repository()
    site.publish(CONTENT)
    mirror = Mirror(site, broker.port)
    mirror.push()
    door = DoorFiles(tmp_path / "door", site.first_root, connected(links(broker.port)))
    assert door.update(list(CONTENT)) == CONTENT
    changed = {**CONTENT, "people/2": b"second"}
    site.publish(changed)
    mirror.push()
    assert door.update(list(CONTENT)) == changed
    mirror.close()


def test_a_broker_holds_back_its_answers_until_all_retained_messages_are_out(broker, admin, links):
    """The conformance that the fence rests on: a false "is not there" would hide a new root."""
    files = {f"targets/people/{i:03x}": random.Random(i).randbytes(2000) for i in range(320)}
    publish_tree(admin, files)
    link = connected(links(broker.port))
    over = threading.Event()

    def noise() -> None:
        while not over.is_set():
            admin.publish(f"{TOPICS.gallery}/targets/people/000", files["targets/people/000"], 1, True)
            admin.publish(TOPICS.fence, b"not the fence", 1, False)
            over.wait(0.002)

    making = threading.Thread(target=noise)
    making.start()
    try:
        for i in range(100):
            paths = random.Random(i).sample(sorted(files), 31)
            assert link.get([*paths, "metadata/9.root.json"], 2000) == {path: files[path] for path in paths}
    finally:
        over.set()
        making.join()


def test_a_file_longer_than_asked_for_is_refused(broker, admin, links):
    publish_tree(admin, {"metadata/timestamp.json": bytes(101)})
    link = connected(links(broker.port))
    with pytest.raises(PayloadError, match=r"timestamp.json: expected at most 100 bytes, got 101"):
        link.get(["metadata/timestamp.json"], 100)
    assert len(link.get(["metadata/timestamp.json"], 101)["metadata/timestamp.json"]) == 101


def test_the_longest_file_comes_and_a_longer_one_is_never_sent(broker, admin, links):
    longest, longer = bytes(MAX_TARGET_BYTES), bytes(MAX_PACKET_BYTES)
    publish_tree(admin, {"targets/a": longest, "targets/b": longer})
    link = connected(links(broker.port))
    assert link.get(["targets/a", "targets/b"], MAX_TARGET_BYTES) == {"targets/a": longest}
    assert link.connected


def test_a_link_that_is_not_connected_says_so(links):
    with pytest.raises(LinkError, match="not connected"):
        links(1).get(["metadata/timestamp.json"], 100)


def test_questions_do_not_wait_for_acknowledgements(broker, links):
    link = connected(links(broker.port))
    sock = link._session.client.socket()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# News and commands


def test_there_is_news_on_each_connect_and_with_each_live_timestamp(broker, admin, links, heard):
    publish_tree(admin, {"metadata/timestamp.json": b"1"})
    link = connected(links(broker.port))
    wait_until(lambda: heard.news == 1, "news on connect; the retained timestamp is none of it")
    link.get(["metadata/timestamp.json"], 100)
    link.get(["metadata/2.root.json"], 100)  # whatever the first left behind has reached the broker
    publish_tree(admin, {"metadata/timestamp.json": b"2"})
    wait_until(lambda: heard.news == 2, "news with the timestamp, also after it was asked for")
    publish_tree(admin, {"metadata/2.snapshot.json": b"no news"})
    assert link.get(["metadata/timestamp.json"], 100) == {"metadata/timestamp.json": b"2"}
    assert heard.news == 2
    broker.stop(signal.SIGKILL)
    wait_until(lambda: not link.connected, "the loss is seen")
    broker.start()
    wait_until(lambda: heard.news == 3, "news on reconnect")


def test_commands_come_with_their_correlation_and_show_whether_they_were_retained(
    broker, admin, links, heard
):
    publish(admin, TOPICS.command, b"left over", retain=True)
    connected(links(broker.port))
    publish(admin, TOPICS.command, b"live", retain=False, CorrelationData=b"7")
    publish(admin, TOPICS.command, b"retained", retain=True)
    wait_until(lambda: len(heard.commands) == 3, "three commands")
    assert heard.commands == [
        Received(b"left over", True, None),
        Received(b"live", False, b"7"),
        Received(b"retained", True, None),
    ]


def test_of_a_command_that_is_too_long_only_enough_to_refuse_it_is_kept(broker, admin, links, heard):
    connected(links(broker.port))
    publish(admin, TOPICS.command, bytes(3 * MAX_COMMAND_BYTES), retain=False)
    wait_until(lambda: heard.commands, "the command")
    assert len(heard.commands[0].payload) == MAX_COMMAND_BYTES + 1


def test_a_flood_of_commands_while_one_is_acted_on_is_counted_and_not_kept(broker, admin, heard):
    acting, done = threading.Event(), threading.Event()

    def act(_: Received) -> None:
        acting.set()
        done.wait(15)

    link = Downlink(Login(MqttConfig("127.0.0.1", broker.port)), TOPICS, heard.on_news, act, QUICK)
    link.start()
    connected(link)
    try:
        publish(admin, TOPICS.command, b"slow", retain=False)
        assert acting.wait(15)
        for _ in range(150):
            publish(admin, TOPICS.command, b"more", retain=False)
        wait_until(lambda: link.dropped == 50, "fifty are dropped")
    finally:
        done.set()
        link.close()


def test_a_reply_goes_out_once_with_its_correlation_and_is_not_retained(broker, admin, links):
    got: list[tuple[bytes, bytes, bool]] = []
    subscribed = threading.Event()
    admin.on_message = lambda c, u, m: got.append((m.payload, m.properties.CorrelationData, m.retain))
    admin.on_subscribe = lambda c, u, m, r, p: subscribed.set()
    admin.subscribe(TOPICS.reply, qos=1)
    assert subscribed.wait(15)
    link = connected(links(broker.port))
    link.reply(b"done", b"7")
    wait_until(lambda: got, "the reply")
    assert got == [(b"done", b"7", False)]


def test_a_reply_without_a_connection_is_dropped_and_said(links, caplog):
    links(1).reply(b"done", None)
    assert "a reply could not be sent" in caplog.text


def test_the_last_reply_before_an_orderly_end_is_sent(broker, admin, links):
    got: list[bytes] = []
    subscribed = threading.Event()
    admin.on_message = lambda c, u, m: got.append(m.payload)
    admin.on_subscribe = lambda c, u, m, r, p: subscribed.set()
    admin.subscribe(TOPICS.reply, qos=1)
    assert subscribed.wait(15)
    link = connected(links(broker.port))
    link.reply(b"restarting", None)
    link.close()
    wait_until(lambda: got == [b"restarting"], "the reply")
    assert not any(thread.name == "downlink" for thread in threading.enumerate())
    wait_until(lambda: "doord-hq-front-down disconnected." in broker.log, "goodbye")


# Losses


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_broker_that_ends_in_mid_question_is_no_answer_and_the_next_one_is(how, tmp_path, links):
    broker = Broker(tmp_path / "broker", "persistence true").start()
    site = Repository()
    site.publish(CONTENT)
    mirror = Mirror(site, broker.port)
    mirror.push()
    link = connected(links(broker.port))
    failed: list[Exception] = []

    def ask() -> None:
        try:
            link.get(["metadata/timestamp.json"], 20_000)
        except LinkError as error:
            failed.append(error)

    broker.send(signal.SIGSTOP)  # the question is sent and never answered
    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: link._session.question, "the question is asked")
    broker.send(signal.SIGCONT) if how is signal.SIGTERM else None
    broker.stop(how)
    asking.join(15)
    assert not asking.is_alive()
    if how is signal.SIGKILL:  # an orderly end may have answered before
        assert "connection lost" in str(failed[0])
    wait_until(lambda: not link.connected, "the loss is seen")
    broker.start()
    mirror.forget()
    connected(link)
    wait_until(mirror.connected, "the admin is back")
    mirror.push()
    assert link.get(["metadata/timestamp.json"], 20_000)
    mirror.close()
    broker.stop()


def test_an_update_ends_in_force_though_the_broker_is_killed_and_loses_everything_in_between(
    broker, links, tmp_path
):
    site = Repository()
    content = site_content("large", shards=128, size=50_000)
    site.publish(content)
    mirror = Mirror(site, broker.port)
    mirror.push()
    link = connected(links(broker.port))
    door = DoorFiles(tmp_path / "door", site.first_root, link)
    updated: list[dict[str, bytes]] = []

    def keep_trying() -> None:
        while not updated and not over.wait(0.01):
            try:
                updated.append(door.update(list(content)))
            except (LinkError, GalleryError):  # not connected, or not published again yet
                continue

    over = threading.Event()
    files = door.folder / "targets"
    trying = threading.Thread(target=keep_trying)
    trying.start()
    try:
        wait_until(lambda: len(list(files.glob("*"))) > 20, "the door is in the middle of it")
        broker.stop(signal.SIGKILL)
        had = len(list(files.glob("*")))
        broker.start()
        wait_until(mirror.connected, "the admin is back")
        mirror.forget()
        mirror.push()
        wait_until(lambda: updated, "the update is in force")
    finally:
        over.set()
        trying.join(15)
    assert updated == [content]
    assert had < len(content)  # else it had been over before the kill
    mirror.close()


def test_an_answer_to_an_earlier_question_is_none_to_the_next(broker, admin, links, monkeypatch):
    publish_tree(admin, {"targets/a": b"a"})
    link = connected(links(broker.port))
    monkeypatch.setattr(module, "_SILENCE_S", 0.05)
    broker.send(signal.SIGSTOP)
    with pytest.raises(LinkError, match=r"nothing for 0.05 s, 0 of 1 files came"):
        link.get(["targets/a"], 10)
    monkeypatch.undo()
    broker.send(signal.SIGCONT)
    assert link.get(["targets/b"], 10) == {}
    assert link.get(["targets/a"], 10) == {"targets/a": b"a"}


def test_a_link_whose_thread_died_is_started_again(broker, links, heard, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    link = connected(links(broker.port))
    monkeypatch.setattr(link, "_on_news", lambda: 1 / 0)
    broker.stop(signal.SIGKILL)
    broker.start()
    wait_until(lambda: not link._thread.is_alive(), "the thread died of the callback")
    assert not link.connected
    monkeypatch.undo()
    link.tend()
    connected(link)


def test_a_door_with_a_certificate_asks_over_tls(tmp_path, links, caplog):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("front")
    with Broker(tmp_path / "broker", *tls_conf(authority)) as broker:
        tls = TlsConfig(ca=str(authority.path), cert=str(certificate), key=str(key))
        link = connected(links(broker.port, tls=tls))
        assert link.get(["metadata/timestamp.json"], 100) == {}
        sock = link._session.client.socket()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_broker_that_refuses_the_fence_is_no_answer_and_says_where_to_look(tmp_path, links, caplog):
    acl = tmp_path / "acl"
    acl.write_text("topic read doord/#\n")
    with Broker(tmp_path / "broker", f"acl_file {acl}") as broker:
        link = connected(links(broker.port))
        with pytest.raises(LinkError, match=r"refused a fence or a reply: Not authorized|connection lost"):
            link.get(["metadata/timestamp.json"], 100)
        wait_until(lambda: "its access rules?" in caplog.text, "the log says where to look")


# A broker that lies


def endless(connection: socket.socket) -> None:
    """One packet of MQTT's greatest length, for as long as it is read."""
    connection.sendall(b"\x30" + remaining(268_435_455))
    while True:
        connection.sendall(bytes(1 << 20))


def kept_by_the_receiver(connection: socket.socket) -> None:
    """QoS 2 messages that are never released."""
    for mid in range(1, 200):
        connection.sendall(publication(TOPICS.command.encode(), bytes(100_000), qos=2, mid=mid))


def with_an_unreadable_topic(connection: socket.socket) -> None:
    connection.sendall(publication(b"\xff\xfe", b"", qos=0))


def cut_short(connection: socket.socket) -> None:
    connection.sendall(packet(0x30, b"\xff\xffshort"))


def with_unknown_properties(connection: socket.socket) -> None:
    topic = TOPICS.command.encode()
    connection.sendall(packet(0x30, len(topic).to_bytes(2, "big") + topic + b"\x05\xfe\xfe\xfe\xfe\xfe"))


def of_no_kind(connection: socket.socket) -> None:
    connection.sendall(packet(0xF7, random.Random(1).randbytes(100)))


def acknowledging_nothing(connection: socket.socket) -> None:
    connection.sendall(packet(0x90, b"\xff\xff"))


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (endless, "expected packets of at most 4259840 bytes, got one of 268435455"),
        (kept_by_the_receiver, "expected messages of QoS 0 or 1, got number 1 of QoS 2"),
        (with_an_unreadable_topic, "unreadable packet: UnicodeDecodeError"),
        (cut_short, ""),
        (with_unknown_properties, ""),
        (of_no_kind, ""),
        (acknowledging_nothing, ""),
    ],
)
def test_a_lying_brokers_packet_costs_the_connection_and_nothing_else(attack, said, links, caplog):
    with LyingBroker(attack) as liar:
        link = links(liar.port)
        wait_until(lambda: liar.connections >= 3, "the link came back after the attack, twice")
        assert link._thread.is_alive()
        link.close()
    assert said in caplog.text
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) < 10


def test_a_broker_that_never_answers_is_given_up(links, monkeypatch):
    monkeypatch.setattr(module, "_SILENCE_S", 0.1)
    with LyingBroker(lambda _: None) as liar:
        link = connected(links(liar.port))
        with pytest.raises(LinkError, match=r"nothing for 0.1 s, 0 of 2 files came"):
            link.get(["metadata/timestamp.json", "metadata/2.root.json"], 100)
        link.close()


def test_what_nobody_asked_for_is_not_kept(links, heard):
    def chatter(connection: socket.socket) -> None:
        for i in range(300):
            connection.sendall(
                publication(f"doord/hq/gallery/targets/{i}".encode(), bytes(1_000_000), 1, i + 1)
            )
        connection.sendall(publication(TOPICS.command.encode(), b"end", 0))

    with LyingBroker(chatter) as liar:
        link = links(liar.port)
        before_kb = resident_kb()
        wait_until(lambda: heard.commands, "all 300 MB have come")
        assert resident_kb() - before_kb < 50_000
        link.close()


def resident_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")
