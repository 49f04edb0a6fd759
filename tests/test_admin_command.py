"""An admin orders, doors answer: over a real Mosquitto, with doors that may be restarted or forged."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from broker import PATIENCE_S, Authority, Broker, Listener, free_port, tls_conf, wait_until
from scripted_door import ScriptedDoor, resigned, utc_now
from signing import keys_of, new_signer

from edge.admin import command, conversation
from edge.admin.command import Answer, send
from edge.admin.conversation import Conversation
from edge.admin.model import Ordered, Site
from edge.admin.records import Records
from edge.config import MqttConfig, TlsConfig
from edge.errors import AdminError, LinkError
from edge.link.commands import Accepted, Refusal, Refused

DESK = new_signer()
KEYID = DESK.public_key.keyid


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.create(tmp_path / "admin" / "records.db", b"d" * 32) as made:
        made.put_site(Site("hq", "Europe/Berlin", "127.0.0.1", 1, "facenet", 512, b"s" * 32, b"c" * 32))
        yield made


@pytest.fixture
def talk(broker: Broker) -> Iterator[Conversation]:
    with Conversation(MqttConfig(host="127.0.0.1", port=broker.port), "hq") as talking:
        yield talking


@pytest.fixture
def doors(tmp_path: Path, broker: Broker, records: Records):
    """doors("front", ...): scripted doors that were added and have attested."""
    made: list[ScriptedDoor] = []

    def make(*names: str, attest: bool = True) -> list[ScriptedDoor]:
        before = len(made)
        for name in names:
            door = ScriptedDoor(tmp_path / name, broker.port, keys_of(DESK), name)
            records.put(name, door.record())
            made.append(door)
            if attest:
                door.attest()
        return made[before:]

    yield make
    for door in made:
        door.stop()


def ask(talk: Conversation, records: Records, *names: str, do="unlock", answer_s=10.0, **how) -> list[Answer]:
    now = how.pop("now_utc", utc_now)
    return send(talk, records, how.pop("signer", DESK), names, do, now, answer_s=answer_s, **how)


def outcomes(answers: list[Answer]) -> list[tuple[str, str, str]]:
    return [(answer.door, answer.outcome, answer.detail) for answer in answers]


def verdicts(door: ScriptedDoor) -> list[Refusal | None]:
    return [verdict.reason if isinstance(verdict, Refused) else None for verdict in door.history]


def test_each_door_obeys_and_its_answer_is_told(talk, records, doors):
    front, back = doors("front", "back")
    answers = ask(talk, records, "front", "back")
    assert outcomes(answers) == [("front", "done", "Accessed"), ("back", "done", "Accessed")]
    assert all(answer.took_ms is not None and answer.forged == 0 for answer in answers)
    assert verdicts(front) == verdicts(back) == [None]
    assert front.history == back.history  # the same order, by the same key
    assert front.history[0].keyid == KEYID


def test_a_door_that_is_not_named_hears_nothing(talk, records, doors):
    _, back = doors("front", "back")
    ask(talk, records, "front")
    assert back.history == []


def test_a_command_is_never_retained(talk, records, doors, broker):
    doors("front")
    ask(talk, records, "front")
    with Listener(broker.port) as late:
        wait_until(lambda: late.on("/attestation"), "what is retained")
        assert late.on("/command") == late.on("/reply") == []


def test_every_order_has_a_higher_counter_also_when_the_clock_is_set_back(talk, records, doors):
    (front,) = doors("front")
    front.now_utc = lambda: None  # so that it obeys whatever the admin's clock says
    clocks = [0, 3600, -3600, -3600]
    for ahead_s in clocks:
        at = utc_now() + timedelta(seconds=ahead_s)
        assert ask(talk, records, "front", do="lock", now_utc=lambda at=at: at)[0].outcome == "done"
    counters = [verdict.order.counter for verdict in front.history]
    assert counters == sorted(set(counters))
    assert records.get(Ordered, KEYID).counter == counters[-1]


def test_the_counter_is_stored_before_the_order_is_sent(talk, records, doors):
    (front,) = doors("front")
    stored = []
    front.obey = lambda accepted: bool(stored.append(accepted.order.counter)) or True
    original = records.put

    def put(id_: str, record: object) -> int:
        assert front.history == []
        return original(id_, record)

    records.put = put
    ask(talk, records, "front")
    assert stored == [records.get(Ordered, KEYID).counter]


def test_a_door_that_does_not_obey_says_so(talk, records, doors):
    (front,) = doors("front")
    front.obey = lambda accepted: False
    assert outcomes(ask(talk, records, "front")) == [("front", "refused", "not obeyed")]


def test_a_door_with_an_untrusted_clock_says_why_it_does_not_unlock(talk, records, doors):
    (front,) = doors("front")
    front.now_utc = lambda: None
    assert outcomes(ask(talk, records, "front")) == [("front", "refused", "ClockNotTrusted")]
    assert outcomes(ask(talk, records, "front", do="lockdown")) == [("front", "done", "Accessed")]


@pytest.mark.parametrize(
    ("off_s", "outcome"), [(-15, "done"), (9, "done"), (-25, "refused"), (15, "refused")]
)
def test_the_clocks_may_differ_by_some_seconds(talk, records, doors, off_s, outcome):
    (front,) = doors("front")
    frozen = utc_now()  # the door's
    front.now_utc = lambda: frozen
    admin = frozen + timedelta(seconds=off_s)
    assert ask(talk, records, "front", now_utc=lambda: admin)[0].outcome == outcome


def test_a_key_that_may_not_command_gets_no_answer(talk, records, doors):
    (front,) = doors("front")
    answers = ask(talk, records, "front", signer=new_signer(), answer_s=0.3)
    assert outcomes(answers) == [("front", "no answer", "")]
    assert verdicts(front) == [Refusal.NOT_SIGNED]


def test_a_door_that_is_away_gives_no_answer_and_the_others_theirs(talk, records, doors):
    front, _ = doors("front", "back")
    front.stop()
    answers = ask(talk, records, "front", "back", answer_s=0.5)
    assert [answer.outcome for answer in answers] == ["no answer", "done"]


def test_a_door_that_never_attested_is_sent_nothing(talk, records, doors):
    (front,) = doors("front", attest=False)
    doors("back")
    answers = ask(talk, records, "front", "back")
    assert [answer.outcome for answer in answers] == ["no report", "done"]
    assert front.history == []


def test_a_door_whose_report_is_forged_is_sent_nothing(talk, records, doors):
    (front,) = doors("front", attest=False)
    front.attest(signer=new_signer())
    assert ask(talk, records, "front")[0].outcome == "no report"
    front.attest(door="back")  # signed by front, about another
    assert ask(talk, records, "front")[0].outcome == "no report"


def test_a_door_that_has_restarted_since_its_report_does_not_obey_and_says_so(talk, records, doors):
    (front,) = doors("front")
    front.restart(attest=False)
    assert outcomes(ask(talk, records, "front")) == [("front", "restarted", "AnotherEpoch")]
    front.attest()
    assert ask(talk, records, "front")[0].outcome == "done"


def test_an_order_recorded_by_the_broker_moves_no_door_again(talk, records, doors, broker):
    (front,) = doors("front")
    with Listener(broker.port) as spy:
        ask(talk, records, "front")
        wait_until(lambda: spy.on("/command"), "the order is recorded")
        (recorded,) = spy.on("/command")
    front.publish("doord/hq/door/front/command", recorded)
    wait_until(lambda: len(front.history) == 2, "the same order again")
    front.restart()
    front.publish("doord/hq/door/front/command", recorded)
    wait_until(lambda: len(front.history) == 3, "after a restart")
    front.publish("doord/hq/door/front/command", recorded, retain=True)
    wait_until(lambda: len(front.history) == 4, "as a retained one")
    assert verdicts(front) == [None, Refusal.REPEATED, Refusal.ANOTHER_EPOCH, Refusal.RETAINED]


def test_forged_answers_are_counted_and_the_genuine_one_counts(talk, records, doors):
    (front,) = doors("front")
    front.obey = lambda accepted: False
    eve, key = new_signer(), front.signer.public_key

    def garble(reply: bytes) -> list[bytes]:
        return [b"", b"\xff{", resigned(reply, eve, key, done=True), reply[:-9], reply]

    front.garble = garble
    (answer,) = ask(talk, records, "front")
    assert (answer.outcome, answer.forged) == ("refused", 4)


def test_the_answer_to_an_earlier_order_does_not_count(talk, records, doors):
    (front,) = doors("front")
    answers: list[bytes] = []
    front.garble = lambda reply: answers.append(reply) or []
    assert ask(talk, records, "front", answer_s=0.3)[0].outcome == "no answer"
    front.garble = lambda reply: answers
    front.obey = lambda accepted: False
    assert ask(talk, records, "front", answer_s=0.3) == [Answer("front", "no answer")]


def test_another_doors_answer_does_not_count(talk, records, doors):
    front, back = doors("front", "back")
    key = back.signer.public_key
    front.garble = lambda reply: [resigned(reply, back.signer, key, done=True)]
    back.garble = lambda reply: [resigned(reply, back.signer, key, door="front")]
    answers = ask(talk, records, "front", "back", answer_s=0.3)
    assert answers == [Answer("front", "no answer", forged=1), Answer("back", "no answer")]


def test_free_access_has_an_end_within_a_day(talk, records, doors):
    (front,) = doors("front")
    until = utc_now() + timedelta(hours=2)
    assert ask(talk, records, "front", do="free-access", until=until)[0].outcome == "done"
    for end in (timedelta(), timedelta(hours=-1), timedelta(hours=25)):
        with pytest.raises(AdminError, match="free-access: expected an end within 24 h from now"):
            ask(talk, records, "front", do="free-access", until=utc_now() + end)
    assert len(front.history) == 1


def test_unknown_and_retired_doors_are_refused_before_anything_is_sent(talk, records, doors):
    front, back = doors("front", "back")
    records.put("back", back.record(retired_at_utc="2026-11-20T00:00:00.000Z"))
    with pytest.raises(AdminError, match="door 'side': expected one of this site"):
        ask(talk, records, "front", "side")
    with pytest.raises(AdminError, match="door back: expected one in use, got one that was retired"):
        ask(talk, records, "front", "back")
    assert front.history == []
    assert records.get(Ordered, KEYID) is None


def test_many_doors_are_ordered_in_batches(talk, records, doors, monkeypatch):
    monkeypatch.setattr(command.orders, "MAX_DOORS", 2)
    made = doors("a", "b", "c", "d", "e")
    answers = ask(talk, records, "a", "b", "c", "d", "e")
    assert [answer.outcome for answer in answers] == ["done"] * 5
    orders = [door.history[0].order for door in made if isinstance(door.history[0], Accepted)]
    assert [len(order.doors) for order in orders] == [2, 2, 2, 2, 1]
    assert len({order.counter for order in orders}) == 3


def test_the_answers_are_lines_that_people_read():
    rows = [
        Answer("front", "done", "Accessed", 12.4),
        Answer("back-entrance", "refused", "ClockNotTrusted", 8.0, forged=2),
        Answer("side", "no answer"),
    ]
    assert command.table(rows) == [
        "front          done       12 ms, Accessed",
        "back-entrance  refused    8 ms, ClockNotTrusted, 2 forged answers",
        "side           no answer",
    ]
    assert command.table([]) == []


# the broker


def config(port: int) -> MqttConfig:
    return MqttConfig(host="127.0.0.1", port=port)


def test_a_broker_that_is_not_there_is_one_line():
    port = free_port()
    with pytest.raises(LinkError, match=rf"^broker 127.0.0.1:{port}: nothing listens there$"):
        Conversation(config(port), "hq").__enter__()


def test_a_broker_that_goes_away_is_noticed(records, doors, broker):
    (front,) = doors("front")
    front.obey = lambda accepted: broker.send(signal.SIGKILL) is None
    with Conversation(config(broker.port), "hq") as talk:
        with pytest.raises(LinkError, match="connection lost"):
            ask(talk, records, "front")
        with pytest.raises(LinkError, match="lost"):
            ask(talk, records, "front")


def test_a_broker_that_says_nothing_is_not_waited_for_for_ever(broker, monkeypatch):
    monkeypatch.setattr(conversation, "_ANSWER_S", 0.3)
    with Conversation(config(broker.port), "hq") as talk:
        broker.send(signal.SIGSTOP)
        try:
            with pytest.raises(LinkError, match=r"no answer to SUBSCRIBE in 0.3 s"):
                list(talk.kept("doord/hq/door/+/attestation"))
        finally:
            broker.send(signal.SIGCONT)


def test_access_rules_that_forbid_an_order_are_named(tmp_path, records):
    rules = tmp_path / "acl"
    rules.write_text("topic read doord/#\ntopic write doord/hq/admin/#\n")
    with (
        Broker(tmp_path / "strict", f"acl_file {rules}") as broker,
        Conversation(config(broker.port), "hq") as talk,
        pytest.raises(LinkError, match=r"it refused PUBLISH: Not authorized \(its access rules\?\)"),
    ):
        talk.say("doord/hq/door/front/command", b"x")


def test_an_admin_talks_over_tls_with_its_certificate(tmp_path):
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue("admin")
    with Broker(tmp_path / "tls", *tls_conf(authority)) as broker:
        tls = TlsConfig(ca=str(authority.path), cert=str(cert), key=str(key))
        with Conversation(MqttConfig(host="127.0.0.1", port=broker.port, tls=tls), "hq") as talk:
            talk.subscribe("doord/hq/door/+/reply")
            talk.say("doord/hq/door/front/reply", b"x")
            assert talk.hear(time.monotonic() + PATIENCE_S).payload == b"x"
        wait_until(lambda: "'admin'" in broker.log, "the broker knows who it is")
        other = Authority(tmp_path / "other")
        cert, key = other.issue("admin")
        tls = TlsConfig(ca=str(authority.path), cert=str(cert), key=str(key))
        with pytest.raises(LinkError):
            Conversation(MqttConfig(host="127.0.0.1", port=broker.port, tls=tls), "hq").__enter__()


def test_what_is_kept_is_read_whole_and_nothing_else(broker, talk):
    with Conversation(config(broker.port), "hq") as other:
        for number in range(300):
            other._client.publish(f"doord/hq/door/d{number}/attestation", b"x", qos=1, retain=True)
        talk.subscribe("doord/hq/door/+/reply")
        other.say("doord/hq/door/d0/reply", b"live")
        kept = [heard.topic for heard in talk.kept("doord/hq/door/+/attestation")]
    assert len(kept) == len(set(kept)) == 300
    assert {topic.rpartition("/")[2] for topic in kept} == {"attestation"}


def test_what_a_door_answers_forges_no_line_of_the_table():
    (line,) = command.table([command.Answer("front", "refused", "no\nback  done\x1b[1A")])
    assert line.isprintable()
