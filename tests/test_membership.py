"""A joined door and its site: what is published comes in force, who may command is obeyed, others not.

Without a broker here: the tree comes from a folder, orders are handed over as they would arrive.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from broker import wait_until
from fakes_access import FakeClock
from published import Published, a_vector, joined_bundle_file
from repository import Repository
from securesystemslib.signer import CryptoSigner

from edge.config import Config, parse_config
from edge.errors import GalleryError
from edge.joined import join
from edge.link import dsse, orders, wire
from edge.link.orders import Order
from edge.membership import Membership
from edge.site import Content
from edge.ties import tied


@dataclass(frozen=True)
class Arrived:
    """A message on the command topic."""

    payload: bytes
    retained: bool = False
    correlation: bytes | None = b"question 1"


class FakeLink:
    """Where answers go, kept."""

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, bytes | None]] = []

    def reply(self, payload: bytes, correlation: bytes | None) -> None:
        self.replies.append((payload, correlation))

    def start(self) -> None: ...

    def tend(self) -> None: ...

    def close(self, timeout_s: float = 3.0) -> None: ...

    def get(self, paths, max_bytes):
        raise AssertionError("nothing is asked of the broker here")


class Member:
    """A membership and all that it told."""

    def __init__(self, published: Published, folder: Path) -> None:
        self.published = published
        self.folder = folder
        self.stick = folder / "stick"
        self.config = configured(folder)
        self.clock = FakeClock()
        self.clock.now = published.repository.now
        self.start()

    def start(self) -> None:
        """As after a restart."""
        self.applied: list[Content] = []
        self.told: list[tuple[str, str]] = []
        self.acted: list[str] = []
        self.link = FakeLink()
        self.ties = tied(self.config)
        self.member = Membership(
            self.ties,
            self.config,
            self.clock,
            ("facenet-int8", 512),
            self.applied.append,
            self.act,
            lambda kind, detail: self.told.append((kind, detail)),
        )
        self.member._link = self.link
        self.member.start()

    def act(self, order: Order) -> tuple[bool, str]:
        self.acted.append(order.do)
        return order.do != "unlock", "" if order.do != "unlock" else "the door did not follow: see its state"

    def sync(self, folder: Path | None = None) -> str:
        """One turn of the sync thread, over what is published now; what who asked for it is told."""
        self.published.repository.write(self.stick)
        answers: list[str] = []

        def ask() -> None:
            try:
                answers.append(self.member.sync_now(folder or self.stick))
            except GalleryError as error:
                answers.append(f"refused: {error}")

        asked = threading.Thread(target=ask, daemon=True)
        asked.start()
        wait_until(self.member._news.is_set, "the sync was asked for")
        self.member.sync_step()
        asked.join(10)
        return answers[0]

    def order(
        self, do: str = "lock", key: CryptoSigner | None = None, retained: bool = False, **changes
    ) -> None:
        """An order arrives and is judged."""
        at = self.clock.now.timestamp()
        order = Order(
            site="hq",
            doors={"front": self.ties.voice.epoch},
            counter=int(at * 1000),
            expires_at=wire.rfc3339(at + 20),
            do=do,
        )
        payload = orders.encode(replace_struct(order, **changes))
        signed = dsse.sign(payload, orders.COMMAND_TYPE, key or self.published.commander)
        self.clock.now += timedelta(milliseconds=1)
        self.member.take(Arrived(signed, retained))
        self.member.order_step()

    def replies(self) -> list[orders.Reply]:
        """What was answered, each verified with the door's key."""
        keys = {self.ties.voice.signer.public_key.keyid: self.ties.voice.signer.public_key}
        return [
            orders.decode_reply(dsse.opened(data, orders.REPLY_TYPE, keys, orders.MAX_REPORT_BYTES)[0])
            for data, _ in self.link.replies
        ]


def replace_struct(order: Order, **changes) -> Order:

    return msgspec.structs.replace(order, **changes)


def configured(folder: Path) -> Config:
    return parse_config(
        f"site: hq\ndoor_id: front\ndoor: {{relay: {{line: 17}}}}\nstate_dir: {folder}/state\n"
    )


@pytest.fixture
def member(tmp_path) -> Member:
    published = Published(Repository())
    published.enrol("ada", a_vector(1))
    published.publish()
    join(configured(tmp_path), joined_bundle_file(published.bundle(ca="ca"), tmp_path / "front.door"))
    return Member(published, tmp_path)


def kinds(member: Member) -> list[str]:
    return [kind for kind, _ in member.told]


def test_what_was_published_is_applied_and_told_with_who_signed(member):
    member.sync()
    assert [content.version for content in member.applied] == [1]
    signers = sorted(member.published.repository.keys[name].public_key.keyid for name in ("people", "rights"))
    assert member.told == [
        (
            "GalleryApplied",
            f"version 1, 1 people, 1 templates, signed by {', '.join(key[:8] for key in signers)}",
        )
    ]
    assert member.member.expires_utc == member.applied[0].expires_utc


def test_after_a_restart_what_was_in_force_is_applied_and_nothing_told(member):
    member.sync()
    member.start()
    assert [content.version for content in member.applied] == [1]
    assert member.told == []


def test_a_refusal_is_told_once_and_stands_in_the_state_until_it_is_over(member):
    member.sync()
    member.published.model = "facenet-float"
    member.published.publish()
    member.sync()
    member.sync()
    assert kinds(member) == ["GalleryApplied", "GalleryRefused"]
    assert "facenet-int8" in member.member.refusal
    assert [content.version for content in member.applied] == [1]
    member.published.model = "facenet-int8"
    member.published.publish()
    member.sync()
    assert kinds(member) == ["GalleryApplied", "GalleryRefused", "GalleryApplied"]
    assert member.member.refusal is None


def test_who_asks_for_a_sync_is_told_what_came_of_it(member):
    assert member.sync() == "version 1 is in force: 1 people, 1 templates"
    assert "refused: " in member.sync(member.folder / "nothing")
    assert member.member.refusal is None  # it could not be asked: nothing was refused


def test_before_anything_is_in_force_nobody_may_command(member):
    member.order("lock")
    assert member.acted == []
    assert kinds(member) == ["CommandRefused"]
    assert member.link.replies == []


def test_an_order_is_obeyed_answered_and_told_with_its_key(member):
    member.sync()
    member.order("lockdown")
    assert member.acted == ["lockdown"]
    reply = member.replies()[0]
    assert (reply.done, reply.door, reply.epoch) == (True, "front", member.ties.voice.epoch)
    assert member.link.replies[0][1] == b"question 1"
    kind, detail = member.told[-1]
    assert kind == "CommandObeyed"
    assert member.published.commander.public_key.keyid in detail


def test_what_the_door_does_not_follow_is_answered_so(member):
    member.sync()
    member.order("unlock")
    assert [(reply.done, reply.detail) for reply in member.replies()] == [
        (False, "the door did not follow: see its state")
    ]
    assert kinds(member)[-1] == "CommandRefused"


@pytest.mark.parametrize(
    "change",
    [
        {"retained": True},
        {"site": "other"},
        {"doors": {"back": "1-0123456789abcdef"}},
        {"doors": {"front": "1-0123456789abcdef"}},
        {"expires_at": "2020-01-01T00:00:00.000Z"},
        {"expires_at": "2099-01-01T00:00:00.000Z"},
        {"key": CryptoSigner.generate_ed25519()},
    ],
    ids=[
        "retained",
        "another site",
        "another door",
        "another run",
        "expired",
        "too far ahead",
        "another key",
    ],
)
def test_an_order_that_is_not_for_this_door_now_moves_nothing(member, change):
    member.sync()
    member.order("unlock", **change)
    assert member.acted == []
    assert kinds(member) == ["GalleryApplied", "CommandRefused"]


def test_an_order_of_before_the_restart_moves_nothing_after_it(member):
    member.sync()
    member.order("lock")
    before = member.ties.voice.epoch
    member.start()
    member.order("unlock", doors={"front": before})
    assert member.acted == []


def test_with_a_clock_that_is_not_trusted_only_what_locks_is_obeyed(member):
    member.sync()
    member.clock.trusted = False
    for do in ("unlock", "normal", "sync", "restart", "lock", "lockdown"):
        member.order(do)
    assert member.acted == ["lock", "lockdown"]


def test_once_the_site_was_not_heard_of_in_time_only_what_locks_is_obeyed(member):
    member.sync()
    member.clock.now = member.member.expires_utc
    for do in ("unlock", "normal", "restart", "lock", "lockdown"):
        member.order(do)
    assert member.acted == ["lock", "lockdown"]
    assert "SiteExpired" in member.told[1][1]
    member.published.repository.now = member.clock.now
    member.published.repository.freshen()
    member.sync()
    member.order("unlock")
    assert member.acted == ["lock", "lockdown", "unlock"]


def test_a_key_taken_from_the_list_commands_no_more(member):
    member.sync()
    old = member.published.commander
    member.published.commander = CryptoSigner.generate_ed25519()
    member.published.publish()
    member.sync()
    member.order("lock", key=old)
    assert member.acted == []
    member.order("lock")
    assert member.acted == ["lock"]


def test_a_flood_of_orders_does_not_fill_the_memory(member, caplog):
    for _ in range(500):
        member.member.take(Arrived(b"{}"))
    assert member.member._orders.qsize() <= 100
    assert "dropped" in caplog.text


def test_the_report_of_the_state_is_signed_by_the_door(member):
    state = wire.State("Locked", "locked", None, 1, None, "2026-03-01T12:00:00.000Z", None, "closed", [])
    data = member.ties.voice.attest(state, wire.ChainHead(seq=5, prev="a" * 64))
    key = member.ties.voice.signer.public_key
    payload, keyid = dsse.opened(data, orders.ATTESTATION_TYPE, {key.keyid: key}, orders.MAX_REPORT_BYTES)
    report = orders.decode_attestation(payload)
    assert (report.site, report.door, report.seq, report.state.gallery) == ("hq", "front", 5, 1)
    assert keyid == key.keyid


def test_what_could_not_be_applied_at_once_is_applied_by_the_next_sync(member, monkeypatch):
    apply = member.member._apply

    def broken(_content: Content) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(member.member, "_apply", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        member.sync()
    assert member.member.expires_utc is None  # nothing is in force, and nothing else is said
    monkeypatch.setattr(member.member, "_apply", apply)
    assert member.sync() == "version 1 is in force: 1 people, 1 templates"
    assert [content.version for content in member.applied] == [1]
    assert kinds(member) == ["GalleryApplied"]


def test_files_that_stay_behind_do_not_keep_who_was_removed_in_force(member):
    member.sync()
    (member.ties.joined.tree / "targets" / "lost+found").mkdir()
    member.published.remove("ada")
    member.published.publish()
    assert member.sync() == "version 2 is in force: 0 people, 0 templates"
    assert [content.version for content in member.applied] == [1, 2]


def test_a_sync_that_dies_of_a_defect_is_tried_again_soon_and_tells_who_waits(member, monkeypatch):
    now = [1000.0]
    member.member._monotonic = lambda: now[0]
    member.sync()
    syncs: list[Path | None] = []

    def update() -> bool:
        syncs.append(None)
        raise ZeroDivisionError

    monkeypatch.setattr(member.member._site, "update", update)
    answers: list[str] = []

    def ask() -> None:
        with pytest.raises(GalleryError) as refused:
            member.member.sync_now(member.stick)
        answers.append(str(refused.value))

    clients = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for client in clients:
        client.start()
    wait_until(lambda: member.member._asked.qsize() == 2, "two clients wait")
    for _ in clients:
        with pytest.raises(ZeroDivisionError):
            member.member.sync_step()
    for client in clients:
        client.join(10)
    assert answers == ["the sync failed: see the log"] * 2
    now[0] += 10  # far less than an hour
    with pytest.raises(ZeroDivisionError):
        member.member.sync_step()
    assert len(syncs) == 3


def test_a_broker_that_tells_of_news_without_end_does_not_keep_the_door_busy(member, monkeypatch):
    paused: list[float] = []
    monkeypatch.setattr(member.member._closing, "wait", paused.append)
    member.sync()
    member.sync()
    assert paused == [0.1, 0.1]


def test_a_flood_of_orders_is_one_line_of_the_log(member, caplog):
    for _ in range(500):
        member.member.take(Arrived(b"{}"))
    assert caplog.text.count("dropped") == 1


def test_a_refusal_is_one_line_however_long_what_came_is(member, monkeypatch):
    def update() -> bool:
        raise GalleryError("people/manifest: got\nCRITICAL the door is open\x1b[2J" + "x" * 100_000)

    monkeypatch.setattr(member.member._site, "update", update)
    member.sync()
    refusal = member.member.refusal
    assert (len(refusal), refusal.isprintable()) == (300, True)
