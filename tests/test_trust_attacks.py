"""Attacks on a site's signed tree, in memory and over a real broker.

After each of them what was in force can be read without a network, whole, and the next honest
release is taken.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from broker import Broker, wait_until
from repository import FRESH, NOW, TIMESTAMP, DoorFiles, Mirror, Repository, Unplugged, site_content
from tuf.api.metadata import MetaFile

from edge.config import MqttConfig
from edge.errors import GalleryError, GalleryExpired, GalleryRollback, GallerySignatureError
from edge.link import wire
from edge.link.broker import Login
from edge.link.downlink import Downlink
from edge.link.fetch import Fetch

CONTENT = site_content("first")
CHANGED = {**site_content("second"), "people/3": CONTENT["people/3"]}
NEXT = site_content("third")
NAMES = list(CONTENT)


class Scene:
    """A site, an attacker in between, and a door that has taken the first release."""

    def __init__(self, site: Repository, fetch: Fetch, push: Callable[[], None], folder: Path) -> None:
        self.site = site
        self.push = push
        self.folder = folder
        self.fetch = fetch
        self.site.publish(CONTENT)
        self.first = dict(site.served)
        self.door = self.new_door("door")
        self.take(CONTENT)

    def new_door(self, name: str) -> DoorFiles:
        return DoorFiles(self.folder / name, self.site.first_root, self.fetch)

    def take(self, content: dict[str, bytes]) -> None:
        self.push()
        assert self.door.update(NAMES) == content

    def refused(self, fault: type[GalleryError]) -> str:
        """The newest release is refused so; its words."""
        self.push()
        with pytest.raises(fault) as refusal:
            self.door.update(NAMES)
        assert type(refusal.value) is fault
        return str(refusal.value)

    def offline(self) -> dict[str, bytes]:
        """What is in force after a restart without a network."""
        return DoorFiles(self.door.folder, self.site.first_root, Unplugged()).content()

    def power_cut(self) -> None:
        """What python-tuf keeps is there, but empty: it was never synced."""
        for path in (self.door.folder / "metadata").rglob("*.json"):
            path.write_bytes(b"")
        self.door.restart()


@pytest.fixture(params=["in memory", "over a broker"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    site = Repository()
    if request.param == "in memory":
        yield Scene(site, site, lambda: None, tmp_path)
        return
    with Broker(tmp_path / "broker", "set_tcp_nodelay true") as broker:
        login = Login(MqttConfig(host="127.0.0.1", port=broker.port))
        link = Downlink(login, wire.Topics("hq", "front"), lambda: None, lambda _: None, (0.05, 0.1))
        link.start()
        mirror = Mirror(site, broker.port)
        wait_until(lambda: link.connected, "the link is connected")
        yield Scene(site, link, mirror.push, tmp_path)
        link.close()
        mirror.close()


# What an attacker at the broker does to a release that was signed. Each gets the site, which has
# just published CHANGED, and the tree of the first release.


def an_old_snapshot_under_the_new_name(site: Repository, first: dict[str, bytes]) -> None:
    site.served[site.newest("snapshot")] = first["metadata/1.snapshot.json"]


def old_people_under_the_new_name(site: Repository, first: dict[str, bytes]) -> None:
    site.served[site.newest("people")] = first["metadata/1.people.json"]


def old_rights_under_the_new_name(site: Repository, first: dict[str, bytes]) -> None:
    site.served[site.newest("rights")] = first["metadata/1.rights.json"]


def rights_in_the_place_of_people(site: Repository, first: dict[str, bytes]) -> None:
    site.served[site.newest("people")] = site.served[site.newest("rights")]


def a_shard_swapped_with_another(site: Repository, first: dict[str, bytes]) -> None:
    a, b = site.path("people/0"), site.path("people/1")
    site.served[a], site.served[b] = site.served[b], site.served[a]


def an_old_shard_under_the_new_name(site: Repository, first: dict[str, bytes]) -> None:
    site.served[site.path("people/0")] = CONTENT["people/0"]


def a_shard_cut_short(site: Repository, first: dict[str, bytes]) -> None:
    site.cut(site.path("people/0"), 100)


def a_shard_with_a_flipped_bit(site: Repository, first: dict[str, bytes]) -> None:
    site.flip(site.path("people/0"))


def a_shard_one_byte_too_long(site: Repository, first: dict[str, bytes]) -> None:
    site.served[site.path("people/0")] += b"."


def a_shard_of_three_megabytes(site: Repository, first: dict[str, bytes]) -> None:
    site.served[site.path("people/0")] = bytes(3_000_000)


def a_timestamp_of_three_megabytes(site: Repository, first: dict[str, bytes]) -> None:
    site.served[TIMESTAMP] = site.served[TIMESTAMP].ljust(3_000_000)


def a_root_of_three_megabytes(site: Repository, first: dict[str, bytes]) -> None:
    site.served["metadata/2.root.json"] = bytes(3_000_000)


def a_timestamp_cut_short(site: Repository, first: dict[str, bytes]) -> None:
    site.cut(TIMESTAMP, 100)


def a_timestamp_that_is_none(site: Repository, first: dict[str, bytes]) -> None:
    site.served[TIMESTAMP] = random.Random(1).randbytes(500)


def a_timestamp_nested_without_end(site: Repository, first: dict[str, bytes]) -> None:
    site.served[TIMESTAMP] = b"[" * 16_000


def a_timestamp_with_a_flipped_bit(site: Repository, first: dict[str, bytes]) -> None:
    site.flip(TIMESTAMP)


def a_snapshot_with_a_flipped_bit(site: Repository, first: dict[str, bytes]) -> None:
    site.flip(site.newest("snapshot"))


def people_with_a_flipped_bit(site: Repository, first: dict[str, bytes]) -> None:
    site.flip(site.newest("people"))


def a_timestamp_without_signatures(site: Repository, first: dict[str, bytes]) -> None:
    head = site.served[TIMESTAMP].partition(b'"signed"')
    site.served[TIMESTAMP] = b'{"signatures": [], ' + head[1] + head[2]


def a_timestamp_by_a_key_nobody_trusts(site: Repository, first: dict[str, bytes]) -> None:
    site.forge("timestamp", site.timestamp)


def a_future_version_by_a_key_nobody_trusts(site: Repository, first: dict[str, bytes]) -> None:
    future = deepcopy(site.timestamp)
    future.version = 2**31
    site.forge("timestamp", future)


def a_snapshot_by_a_key_nobody_trusts(site: Repository, first: dict[str, bytes]) -> None:
    site.forge("snapshot", site.snapshot)


def targets_by_the_publishers_key(site: Repository, first: dict[str, bytes]) -> None:
    site.forge("targets", site.targets, site.keys["publish"])


def people_by_the_publishers_key(site: Repository, first: dict[str, bytes]) -> None:
    site.forge("people", site.people, site.keys["publish"])


def people_by_the_rights_key(site: Repository, first: dict[str, bytes]) -> None:
    site.forge("people", site.people, site.keys["rights"])


def rights_by_the_people_key(site: Repository, first: dict[str, bytes]) -> None:
    site.forge("rights", site.rights, site.keys["people"])


def a_new_root_by_a_key_nobody_trusts(site: Repository, first: dict[str, bytes]) -> None:
    root = deepcopy(site.root)
    root.version = 2
    site.forge("root", root)


def a_new_root_by_the_publishers_key(site: Repository, first: dict[str, bytes]) -> None:
    root = deepcopy(site.root)
    root.version = 2
    site.forge("root", root, site.keys["publish"])


def another_sites_release(site: Repository, first: dict[str, bytes]) -> None:
    other = Repository()
    other.publish(CHANGED)
    other.publish(CHANGED)
    site.served = dict(other.served)


def another_sites_release_with_its_root_as_the_next(site: Repository, first: dict[str, bytes]) -> None:
    other = Repository()
    other.rotate("publish")
    other.publish(CHANGED)
    other.publish(CHANGED)
    site.served = dict(other.served)


ALTERED = [
    an_old_shard_under_the_new_name,
    rights_in_the_place_of_people,
    a_shard_swapped_with_another,
    a_shard_cut_short,
    a_shard_with_a_flipped_bit,
    a_shard_one_byte_too_long,
    a_shard_of_three_megabytes,
    a_timestamp_of_three_megabytes,
    a_root_of_three_megabytes,
    a_timestamp_cut_short,
    a_timestamp_that_is_none,
    a_timestamp_nested_without_end,
    a_timestamp_with_a_flipped_bit,
    a_snapshot_with_a_flipped_bit,
    people_with_a_flipped_bit,
    a_timestamp_without_signatures,
    a_timestamp_by_a_key_nobody_trusts,
    a_future_version_by_a_key_nobody_trusts,
    a_snapshot_by_a_key_nobody_trusts,
    targets_by_the_publishers_key,
    people_by_the_publishers_key,
    people_by_the_rights_key,
    rights_by_the_people_key,
    a_new_root_by_a_key_nobody_trusts,
    a_new_root_by_the_publishers_key,
    another_sites_release,
    another_sites_release_with_its_root_as_the_next,
]
OLD = [an_old_snapshot_under_the_new_name, old_people_under_the_new_name, old_rights_under_the_new_name]


def removed(path_of: Callable[[Repository], str]) -> Callable[[Repository, dict[str, bytes]], None]:
    return lambda site, first: site.served.pop(path_of(site)) and None


def test_the_table_has_every_attack_and_no_two_alike():
    assert len({*ALTERED, *OLD}) == len(ALTERED) + len(OLD)


def attack_and_heal(
    scene: Scene, attack: Callable[[Repository, dict[str, bytes]], None], fault: type[GalleryError]
) -> None:
    scene.site.publish(CHANGED)
    honest = dict(scene.site.served)
    attack(scene.site, scene.first)
    assert scene.site.served != honest  # else there was no attack
    said = scene.refused(fault)
    assert said.startswith("site gallery: ")
    assert "\n" not in said
    assert scene.offline() == CONTENT
    scene.site.served = honest
    scene.take(CHANGED)
    assert scene.offline() == CHANGED


@pytest.mark.parametrize("attack", ALTERED, ids=lambda attack: attack.__name__)
def test_what_was_altered_or_forged_is_refused(scene, attack):
    attack_and_heal(scene, attack, GallerySignatureError)


@pytest.mark.parametrize("attack", OLD, ids=lambda attack: attack.__name__)
def test_what_is_old_is_refused(scene, attack):
    attack_and_heal(scene, attack, GalleryRollback)


@pytest.mark.parametrize("what", ["timestamp", "snapshot", "people", "rights"])
def test_metadata_that_was_deleted_is_missed(scene, what):
    attack_and_heal(scene, removed(lambda site: site.newest(what)), GalleryError)


def test_a_shard_that_was_deleted_is_missed(scene):
    attack_and_heal(scene, removed(lambda site: site.path("people/0")), GalleryError)


def test_a_file_too_long_for_any_packet_is_refused_or_missed(scene):
    scene.site.publish(CHANGED)
    honest = dict(scene.site.served)
    scene.site.served[scene.site.path("people/0")] = bytes(6 * 1024 * 1024)
    scene.push()
    with pytest.raises(GalleryError, match=scene.site.path("people/0")):
        scene.door.update(NAMES)
    assert scene.offline() == CONTENT
    scene.site.served = honest
    scene.take(CHANGED)


# Replay, freeze, mixture


def test_an_old_timestamp_is_a_rollback(scene):
    scene.site.publish(CHANGED)
    scene.take(CHANGED)
    honest = dict(scene.site.served)
    scene.site.served = dict(scene.first)
    scene.refused(GalleryRollback)
    assert scene.offline() == CHANGED
    scene.site.served = honest
    scene.site.publish(NEXT)
    scene.take(NEXT)


def test_an_old_release_is_a_rollback_even_after_a_power_cut_that_emptied_what_the_library_keeps(scene):
    scene.site.publish(CHANGED)
    scene.take(CHANGED)
    honest = dict(scene.site.served)
    scene.site.served = dict(scene.first)
    scene.power_cut()
    said = scene.refused(GalleryRollback)
    assert "expected version 2 or newer, got 1" in said
    assert scene.offline() == CHANGED
    scene.site.served = honest
    scene.take(CHANGED)
    scene.site.publish(NEXT)
    scene.take(NEXT)


def test_an_attacker_who_holds_a_release_back_is_noticed_when_its_time_is_over(scene):
    scene.door.now = NOW + FRESH - timedelta(seconds=1)
    scene.take(CONTENT)  # frozen: what is signed later does not come
    scene.door.now = NOW + FRESH + timedelta(seconds=1)
    said = scene.refused(GalleryExpired)
    assert "expired" in said
    assert scene.offline() == CONTENT
    scene.site.now = scene.door.now
    scene.site.publish(CHANGED)
    scene.take(CHANGED)


def test_a_clock_set_back_does_not_revive_what_is_over(scene):
    scene.door.now = NOW + FRESH - timedelta(seconds=1)
    scene.site.publish(CHANGED)
    scene.take(CHANGED)
    scene.site.now = NOW - timedelta(days=3)
    scene.site.publish(NEXT)  # signed, newer, but over by the last good time
    scene.door.now = None
    scene.power_cut()
    scene.refused(GalleryExpired)
    assert scene.offline() == CHANGED
    scene.site.now = NOW + FRESH
    scene.site.publish(NEXT)
    scene.take(NEXT)


def test_files_of_two_releases_never_mix(scene):
    """The second release's metadata with one of its shards from the first, then the other way round."""
    scene.site.publish(CHANGED)
    second = dict(scene.site.served)
    for metadata, targets in ((second, scene.first), (scene.first, second)):
        scene.site.served = {
            **{path: data for path, data in targets.items() if path.startswith("targets/")},
            **{path: data for path, data in metadata.items() if path.startswith("metadata/")},
        }
        scene.push()
        try:
            got = scene.door.update(NAMES)
        except GalleryError:
            got = scene.offline()
        assert got == CONTENT
    scene.site.served = second
    scene.take(CHANGED)


# Stolen keys


def fast_forward(site: Repository, version: int = 2**31) -> None:
    """Who has stolen the publishing key signs what there is under a number far ahead."""
    snapshot, timestamp = deepcopy(site.snapshot), deepcopy(site.timestamp)
    snapshot.version = timestamp.version = version
    timestamp.snapshot_meta = MetaFile(version)
    site.forge("snapshot", snapshot, site.keys["publish"])
    site.forge("timestamp", timestamp, site.keys["publish"])


def test_a_fast_forward_by_a_stolen_key_locks_nobody_out_once_the_key_is_replaced(scene):
    fast_forward(scene.site)
    scene.take(CONTENT)
    assert scene.door.trust.in_force().version == 2**31
    scene.site.publish(CHANGED)
    scene.refused(GalleryRollback)
    scene.power_cut()
    scene.refused(GalleryRollback)  # and the record agrees with what the library keeps
    assert scene.offline() == CONTENT
    scene.site.rotate("publish")
    scene.site.publish(CHANGED)
    scene.take(CHANGED)
    assert scene.door.trust.in_force().version == scene.site.snapshot.version
    scene.power_cut()
    scene.take(CHANGED)


def test_after_a_key_was_replaced_the_old_key_and_the_old_root_come_back_in_vain(scene):
    stolen = scene.site.keys["publish"]
    scene.site.rotate("publish")
    scene.site.publish(CHANGED)
    scene.take(CHANGED)
    honest = dict(scene.site.served)
    scene.site.served = dict(scene.first)  # the tree of the first root, 2.root.json held back
    forged, snapshot = deepcopy(scene.site.timestamp), deepcopy(scene.site.snapshot)
    snapshot.version = forged.version = 2**31
    snapshot.meta = {name: MetaFile(1) for name in snapshot.meta}
    forged.snapshot_meta = MetaFile(2**31)
    scene.site.forge("snapshot", snapshot, stolen)
    scene.site.forge("timestamp", forged, stolen)
    scene.refused(GallerySignatureError)
    scene.power_cut()
    said = scene.refused(GalleryRollback)
    assert "expected root 2 or newer, got 1" in said
    assert scene.offline() == CHANGED
    scene.site.served = honest
    scene.take(CHANGED)


def test_a_stolen_publishing_key_brings_back_no_older_people_under_a_newer_number(scene):
    old_people = scene.site.people.version
    scene.site.publish(CHANGED)
    scene.take(CHANGED)
    honest = dict(scene.site.served)
    scene.site.served |= scene.first
    snapshot, timestamp = deepcopy(scene.site.snapshot), deepcopy(scene.site.timestamp)
    snapshot.version = timestamp.version = 9
    snapshot.meta["people.json"] = MetaFile(old_people)
    timestamp.snapshot_meta = MetaFile(9)
    scene.site.forge("snapshot", snapshot, scene.site.keys["publish"])
    scene.site.forge("timestamp", timestamp, scene.site.keys["publish"])
    scene.power_cut()
    said = scene.refused(GalleryRollback)
    assert "people.json: expected version 2 or newer, got 1" in said
    assert scene.offline() == CHANGED
    scene.site.served = honest
    scene.site.rotate("publish")
    scene.site.publish(NEXT)
    scene.take(NEXT)


def test_a_stolen_people_key_names_nobody_who_may_command(scene):
    forged = deepcopy(scene.site.people)
    forged.targets["commands/keys"] = forged.targets["rights/site"] = forged.targets["people/0"]
    scene.site.people = forged
    scene.site._sign_again("people")
    scene.site.publish(CHANGED)
    scene.push()
    release = scene.door.trust.refresh()
    assert release.target("commands/keys").sha256 in scene.site.path("commands/keys")
    assert release.target("rights/site").sha256 in scene.site.path("rights/site")


# Roots


def test_a_root_that_was_deleted_is_no_way_around_it(scene):
    scene.site.rotate("publish")
    scene.site.publish(CHANGED)
    honest = dict(scene.site.served)
    del scene.site.served["metadata/2.root.json"]
    scene.refused(GallerySignatureError)
    assert scene.offline() == CONTENT
    fresh = scene.new_door("fresh")
    with pytest.raises(GallerySignatureError):
        fresh.update(NAMES)
    assert fresh.content() == {}
    scene.site.served = honest
    scene.take(CHANGED)
    assert fresh.update(NAMES) == CHANGED


def test_a_root_that_leaves_one_out_is_refused(scene):
    scene.site.rotate("publish")
    scene.site.rotate("publish")
    scene.site.publish(CHANGED)
    honest = dict(scene.site.served)
    scene.site.served["metadata/2.root.json"] = honest["metadata/3.root.json"]
    scene.refused(GalleryRollback)
    assert scene.offline() == CONTENT
    scene.site.served = honest
    scene.take(CHANGED)


def test_a_door_needs_no_root_it_has_seen_from_the_broker_again(scene):
    scene.site.rotate("publish")
    scene.site.publish(CHANGED)
    scene.take(CHANGED)
    del scene.site.served["metadata/2.root.json"]
    scene.site.publish(NEXT)
    scene.take(NEXT)


def test_a_door_that_lost_everything_takes_the_newest_again(scene):
    """An SD card that was replaced: the state is gone, the trust root came with the join."""
    scene.site.publish(CHANGED)
    fresh = scene.new_door("fresh")
    scene.push()
    assert fresh.update(NAMES) == CHANGED


# Anything at all


def altered(honest: bytes, rng: random.Random) -> bytes:
    data = bytearray(honest)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        data[at : at + rng.choice((0, 1, 1, 8))] = rng.randbytes(rng.choice((0, 1, 1, 3)))
    return bytes(data)


@pytest.mark.slow
def test_whatever_metadata_is_altered_to_is_a_fault_of_the_gallery_and_nothing_else(tmp_path):
    site = Repository()
    site.publish(CONTENT)
    door = DoorFiles(tmp_path / "door", site.first_root, site)
    door.update(NAMES)
    site.rotate("publish")
    site.publish(CHANGED)
    honest = dict(site.served)
    paths = ["metadata/2.root.json", *map(site.newest, ("timestamp", "snapshot", "targets", "people"))]
    rng = random.Random(7)
    refused = 0
    for i in range(1500):
        shutil.rmtree(door.folder / "metadata")  # else only the first few would be asked for
        path = paths[i % len(paths)]
        site.served[path] = altered(honest[path], rng)
        try:
            door.trust.refresh()
        except GalleryError:
            refused += 1
        site.served = dict(honest)
    assert refused > 1300  # white space may change
    assert door.update(NAMES) == CHANGED
