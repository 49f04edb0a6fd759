"""One turn of the bridge after another, without a broker: what it hears, orders and shows."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta

import pytest
from admin_site import ROOT_PASSPHRASE, made_site
from signing import NOW, an_attestation, attested, in_s, new_signer

from edge.admin import lock_entity
from edge.admin.bridge import Bridge
from edge.admin.bridge_files import BridgeFolder, write_bridge_files
from edge.admin.command import Answer
from edge.admin.conversation import Heard
from edge.admin.folder import ROOT_KEYS
from edge.admin.keystore import Keystore
from edge.admin.model import Door
from edge.errors import AdminError
from edge.link.discovery import BIRTH_TOPIC


class Talk:
    """What a conversation offers the bridge; its history is all that it was told to keep."""

    def __init__(self) -> None:
        self.waiting = iter(())
        self.heard = 0
        self.kept: dict[str, list[bytes]] = {}

    def subscribe(self, topics: str) -> None:
        pass

    def hear(self, until: float) -> Heard | None:
        found = next(self.waiting, None)
        self.heard += found is not None
        return found

    def keep(self, messages) -> None:
        for topic, payload in messages:
            self.kept.setdefault(topic, []).append(payload)


class Scene:
    """A bridge of two doors, both heard of now."""

    def __init__(self) -> None:
        self.now = NOW
        self.signers = {name: new_signer() for name in ("front", "back")}
        self.ordered: list[tuple[str, list[str]]] = []
        self.order_takes_s = 0.0
        self.talk = Talk()
        self.bridge = Bridge("hq", self.doors, self.order, lambda: self.now)
        self.bridge.begin(self.talk)
        self.now += timedelta(seconds=1)
        self.turn(*(self.report(name) for name in self.signers))

    def doors(self) -> dict[str, Door]:
        return {name: Door(name, "", b"", described(signer), 0) for name, signer in self.signers.items()}

    def order(self, do, doors) -> list[Answer]:
        self.ordered.append((do, sorted(doors)))
        self.now += timedelta(seconds=self.order_takes_s)
        return [Answer(door, "done") for door in doors]

    def report(self, door: str, **changes: object) -> Heard:
        said = an_attestation(door=door, at=in_s((self.now - NOW).total_seconds()), **changes)
        return Heard(f"doord/hq/door/{door}/attestation", attested(said, self.signers[door]))

    def press(self, do: str, door: str) -> Heard:
        return Heard(
            lock_entity.set_topic("hq", door), json.dumps({"do": do, "at": self.now.isoformat()}).encode()
        )

    def turn(self, *messages: Heard) -> None:
        self.talk.waiting = iter(messages)
        self.bridge.turn(self.talk, 0.0)

    def shown(self, door: str) -> dict:
        return json.loads(self.talk.kept[lock_entity.state_topic("hq", door)][-1])


def described(signer) -> dict[str, object]:
    return {**signer.public_key.to_dict(), "keyid": signer.public_key.keyid}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_is_pressed_is_ordered(scene):
    scene.turn(scene.press("unlock", "front"))
    assert scene.ordered == [("unlock", ["front"])]


def test_a_door_is_not_opened_for_who_left_while_another_did_not_answer(scene):
    scene.order_takes_s = 15.0
    scene.turn(scene.press("unlock", "front"), scene.press("lock", "back"))
    assert scene.ordered == [("lock", ["back"])]
    assert scene.shown("front")["last"]["detail"] == "expected one of the last 10 s, got one of 15 s ago"


@pytest.mark.parametrize(
    "junk", [Heard("doord/hq/bridge/front/set", b"junk"), Heard(BIRTH_TOPIC, b"on"), Heard("x/set", b"{}")]
)
def test_who_sends_without_end_holds_up_no_order(scene, junk):
    press = scene.press("unlock", "front")
    scene.talk.waiting = itertools.chain([press], itertools.repeat(junk))
    scene.talk.heard = 0
    scene.bridge.turn(scene.talk, 0.0)
    assert scene.ordered == [("unlock", ["front"])]
    assert scene.talk.heard == 1000


def test_a_door_that_was_added_is_a_lock_at_once_and_one_that_was_retired_is_none(scene):
    scene.signers["side"] = new_signer()
    scene.turn()
    scene.turn(scene.report("side"), scene.press("unlock", "side"))
    assert lock_entity.config_topic("side") in scene.talk.kept
    del scene.signers["front"]
    scene.turn(scene.press("unlock", "front"))
    assert scene.ordered == [("unlock", ["side"])]


def test_a_door_that_came_back_with_a_new_key_is_believed_though_it_counts_from_1(scene):
    scene.turn(scene.report("front", epoch="900-" + "0" * 16))
    scene.signers["front"] = new_signer()
    scene.turn()
    assert scene.shown("front")["available"] == "offline"  # what the old key said is not of this door
    scene.turn(scene.report("front", epoch="1-" + "0" * 16, seq=1))
    assert scene.shown("front")["available"] == "online"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    with made_site(tmp_path / "admin") as site:
        root = Keystore.open(site.folder / ROOT_KEYS, ROOT_PASSPHRASE)
        write_bridge_files(site, tmp_path / "bridge", NOW, [root])
    (tmp_path / "bridge" / "order.key").chmod(mode)
    with pytest.raises(AdminError, match="expected mode 0600, got 06"):
        BridgeFolder(tmp_path / "bridge")
