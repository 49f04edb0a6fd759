"""Rights, cards, the time and the failures together, over their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes_access import FakeClock
from msgspec.structs import replace

from edge.access import Access, checked_rights
from edge.config import Config, ReadersConfig, parse_config
from edge.disk import FileKey
from edge.errors import ConfigError
from edge.identity.credentials import Cards, Credential, Evidence
from edge.identity.rights import Permitted
from edge.identity.rights_file import parse_rights
from edge.values import Deny, Reason

FACE, CARD, BOTH = Evidence.FACE, Evidence.CARD, Evidence.BOTH
RIGHTS = """
time_zone: UTC
schedules:
  office: [{days: [mon, tue, wed, thu, fri], from: "07:00", until: "19:00"}]
groups: {staff: {schedule: office}}
subjects: {ada: {groups: [staff]}, eve: {}}
free_access: [{schedule: office, doors: [back]}]
"""
NIGHT = "2026-06-01T23:00:00"
NO_PAD = "pad: {mode: off}\n"


class Door:
    """A door's files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rights = folder / "rights.yaml"
        self.clock = FakeClock()
        self.now = 0.0
        FileKey(folder / "gallery.key").create(folder / "gallery.db")

    def config(self, access: str = "{}", rights: bool = True, more: str = "") -> Config:
        return parse_config(
            f"site: hq\ndoor_id: front\ndoor: {{relay: {{line: 17}}}}\nstate_dir: {self.folder}\n"
            f"readers: {{wedge: {{device: /dev/null}}}}\naccess: {access}\n"
            f"rights_file: {self.rights if rights else '~'}\n{more}".replace("~", '""')
        )

    def access(self, access: str = "{}", rights: bool = True, more: str = "") -> Access:
        return Access(self.config(access, rights, more), self.clock, lambda: self.now)


@pytest.fixture
def door(tmp_path) -> Door:
    door = Door(tmp_path)
    door.rights.write_text(RIGHTS)
    return door


def test_without_a_rights_file_everybody_enrolled_may_enter_always(door):
    door.clock.trusted = False
    access = door.access(rights=False)
    assert access.permitted("anybody") == Permitted()
    assert (access.why_not(), access.problems) == ([], [])


def test_rights_are_asked_for_this_door_at_this_time(door):
    access = door.access()
    assert access.permitted("ada") == Permitted()
    assert access.permitted("bob") == Deny(Reason.UNAUTHORIZED)
    door.clock.now = FakeClock(NIGHT).now
    assert access.permitted("ada") == Deny(Reason.NOT_PERMITTED_AT_THIS_TIME)
    assert access.permitted("eve") == Permitted()


def test_before_the_time_is_trusted_limited_rights_wait_unless_the_configuration_says_otherwise(door):
    door.clock.trusted = False
    assert door.access().permitted("ada") == Deny(Reason.CLOCK_NOT_TRUSTED)
    assert door.access().permitted("eve") == Permitted()
    assert door.access("{when_clock_untrusted: judge}").permitted("ada") == Permitted()


@pytest.mark.parametrize("spoil", ["", "time_zone: Nowhere\n", "not yaml: [", None])
def test_at_the_first_start_a_bad_rights_file_lets_nobody_in_and_says_why(door, spoil, caplog):
    door.rights.unlink() if spoil is None else door.rights.write_text(spoil)
    access = door.access()
    assert access.permitted("eve") == Deny(Reason.OTHER)
    assert access.free_until() is None
    assert "rights.yaml" in access.why_not()[0]
    assert "nobody has rights" in access.why_not()[0]
    door.rights.write_text(RIGHTS)
    access.load()
    assert access.permitted("eve") == Permitted()
    assert (access.why_not(), access.problems) == ([], [])


def test_a_rights_file_that_goes_bad_keeps_the_old_rights_in_force_and_is_said_once(door, caplog):
    access = door.access()
    door.rights.write_text("subjects: {mallory: {}}\n")
    access.load()
    access.load()
    assert access.permitted("eve") == Permitted()
    assert access.permitted("mallory") == Deny(Reason.UNAUTHORIZED)
    assert access.why_not() == []
    assert "stay in force" in access.problems[0]
    assert sum("stay in force" in r.message for r in caplog.records) == 1


def test_free_access_is_told_for_this_door_only(door):
    assert door.access().free_until() is None
    door.rights.write_text(RIGHTS.replace("[back]", "[front]"))
    assert door.access().free_until() == FakeClock("2026-06-01T19:00:00").now


SCHEDULED = "{mode: card_and_face, by_schedule: [{schedule: office, mode: face}]}"


def test_what_opens_depends_on_the_hour(door):
    access = door.access(SCHEDULED)
    assert access.enough() == {FACE, BOTH}
    door.clock.now = FakeClock(NIGHT).now
    assert access.enough() == {BOTH}


def test_by_a_clock_that_is_not_trusted_only_that_opens_which_opens_at_every_hour(door):
    door.clock.trusted = False
    assert door.access(SCHEDULED).enough() == {BOTH}
    assert door.access("{mode: card_or_face, by_schedule: [{schedule: office, mode: face}]}").enough() == {
        FACE,
        BOTH,
    }
    judging = SCHEDULED.replace("{mode", "{when_clock_untrusted: judge, mode", 1)
    assert door.access(judging).enough() == {FACE, BOTH}


def test_an_access_schedule_that_the_rights_lack_is_refused(door):
    config = door.config("{by_schedule: [{schedule: lunch, mode: face}]}")
    with pytest.raises(
        ConfigError, match=r"schedules: expected 'lunch' for access.by_schedule\[0\], got office"
    ):
        checked_rights(config)


def test_cards_count_as_soon_as_they_are_given(door):
    access = door.access("{mode: card_and_face}")
    assert access.claimed("wedge:1") == Deny(Reason.UNAUTHORIZED)
    made = access.card_file.add("wedge:1", "kian", True, None)
    access.load_cards()
    assert access.claimed("wedge:1") == made


def test_cards_that_can_not_be_read_stay_as_they_were_and_at_the_start_are_none(door, caplog):
    access = door.access("{mode: card_and_face}")
    access.card_file.add("wedge:1", "kian", True, None)
    access.load_cards()
    (door.folder / "cards.sealed").write_bytes(b"damaged")
    access.load_cards()
    assert isinstance(access.claimed("wedge:1"), Credential)
    assert access.why_not() == []
    fresh = door.access("{mode: card_and_face}")
    assert fresh.claimed("wedge:1") == Deny(Reason.OTHER)
    assert "cards.sealed" in fresh.why_not()[0]
    assert door.access("{mode: face}").why_not() == []


def test_five_faces_that_were_not_the_cards_lock_the_identity_out_over_a_restart(door):
    access = door.access("{mode: card_and_face}", more=NO_PAD)
    made = access.card_file.add("wedge:1", "kian", True, None)
    access.load_cards()
    for _ in range(5):
        assert access.claimed("wedge:1") == made
        access.failed("kian")
    assert access.claimed("wedge:1") == Deny(Reason.THROTTLED)
    door.now = 10.0
    access.failed("ada")
    restarted = door.access("{mode: card_and_face}", more=NO_PAD)
    door.now += 19.9
    assert restarted.claimed("wedge:1") == Deny(Reason.THROTTLED)
    door.now += 0.1
    assert restarted.claimed("wedge:1") == made
    restarted.succeeded("kian")
    restarted.succeeded("nobody")
    assert door.access("{mode: card_and_face}", more=NO_PAD)._lockout.failed.keys() == {"ada"}


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b'{"kian": [0, 1]}', b'{"kian": [5, 1e99]}', b'{"Kian": [5, 1]}', b'{"\xff": [5, 1]}'],
)
def test_failures_that_can_not_be_read_are_forgotten_aloud(door, caplog, content):
    (door.folder / "failed.json").write_bytes(content)
    assert door.access()._lockout.failed == {}
    assert "failed attempts are forgotten" in caplog.text


def test_failures_that_can_not_be_written_count_all_the_same(door, caplog, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.access.write_atomically", full)
    access = door.access("{mode: card_and_face}", more=NO_PAD)
    for _ in range(5):
        access.failed("kian")
    assert access._lockout.blocked("kian", 0.0)
    assert "No space left" in caplog.text


@pytest.mark.parametrize(("pad", "allowed"), [("off", 5), ("monitor", 5), ("step-up", 10), ("enforce", 10)])
def test_ten_failures_are_allowed_where_faces_are_judged_to_be_alive(door, pad, allowed):
    access = door.access(more=f"pad: {{mode: {pad}}}\n")
    for _ in range(allowed - 1):
        access.failed("ada")
    assert not access.blocked("ada")
    access.failed("ada")
    assert access.blocked("ada")
    door.now = 29.9
    assert access.blocked("ada")
    door.now = 30.0
    assert not access.blocked("ada")


def test_faces_are_judged_by_schedule_and_by_the_strictest_while_the_time_is_not_trusted(door):
    by_day = "pad: {mode: enforce, by_schedule: [{schedule: office, mode: monitor}]}\n"
    access = door.access(more=by_day)
    assert access.pad_mode() == "monitor"
    door.clock.trusted = False
    assert access.pad_mode() == "enforce"
    door.clock.trusted, door.clock.now = True, FakeClock(NIGHT).now
    assert access.pad_mode() == "enforce"


def test_a_schedule_that_the_rights_do_not_have_is_named(door):
    more = "pad: {by_schedule: [{schedule: lunch, mode: off}]}\n"
    with pytest.raises(
        ConfigError, match=r"schedules: expected 'lunch' for pad.by_schedule\[0\], got office"
    ):
        checked_rights(door.config(more=more))


@pytest.mark.parametrize(
    ("reader", "mode", "holds"),
    [(True, "auto", "step-up"), (False, "auto", "enforce"), (True, "enforce", "enforce")],
)
def test_without_a_word_a_card_is_asked_for_where_there_is_a_reader(door, reader, mode, holds):
    config = door.config(rights=False, more=f"pad: {{mode: {mode}}}\n")
    if not reader:
        config = replace(config, readers=ReadersConfig())
    assert Access(config, door.clock).pad_mode() == holds


def test_the_time_is_kept_through_here(door):
    access = door.access()
    access.tend()
    access.tend(at_once=True)
    assert door.clock.kept == [False, True]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "access: {mode: card}\n",
            "access.mode: expected a reader in readers beside a mode with cards, got card",
        ),
        (
            "access: {by_schedule: [{schedule: office, mode: face}]}\n",
            "access.by_schedule: expected a rights_file, where the schedules stand, got none",
        ),
        (
            "readers: {wiegand: {data0: 5, data1: 5}}\n",
            "readers.wiegand.data1: expected a line that readers.wiegand.data0 has not taken, got 5",
        ),
        (
            "readers: {wiegand: {data0: 17, data1: 5}}\n",
            "readers.wiegand.data0: expected a line that door.relay.line has not taken, got 17",
        ),
        (
            "readers: {wiegand: {data0: 6, data1: D1}}\n",
            "readers.wiegand.data1: expected an offset such as 17, or name:LINE, got D1",
        ),
        ("readers: {wiegand: {data0: 6, data1: 5, bits: []}}\n", "readers.wiegand.bits: "),
        ("readers: {wiegand: {data0: 6, data1: 5, bits: [27]}}\n", "readers.wiegand.bits[0]: "),
        ("readers: {wedge: {device: event0}}\n", "readers.wedge.device: expected text matching"),
        ("access: {mode: cards}\n", "access.mode: "),
        ("pad: {mode: strict}\n", "pad.mode: "),
        (
            "pad: {mode: step-up}\n",
            "pad.mode: expected a reader in readers beside step-up, which asks for a card, got step-up",
        ),
        (
            "pad: {by_schedule: [{schedule: office, mode: off}]}\n",
            "pad.by_schedule: expected a rights_file, where the schedules stand, got none",
        ),
        ("pad: {live: 1, unsure: 2}\n", "pad.unsure: expected at most live (1.0), got 2.0"),
        ("pad: {frames: 10, every_ms: 300}\n", "pad.frames: expected pad.frames * every_ms < "),
        ("access: {claim_timeout_s: 0}\n", "access.claim_timeout_s: expected a value > 0"),
    ],
)
def test_a_contradiction_of_cards_and_readers_is_refused_with_its_path(text, says):
    with pytest.raises(ConfigError) as caught:
        parse_config(f"site: hq\ndoor_id: front\ndoor: {{relay: {{line: 17}}}}\n{text}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# A joined door's, from its site

EXPIRES = FakeClock("2026-06-02T00:00:00").now
LATE = FakeClock("2026-06-02T10:00:00").now
SITE = parse_rights(
    "time_zone: UTC\n"
    'schedules: {day: [{days: [mon, tue], from: "00:00", until: "24:00"}]}\n'
    "subjects: {ada: {}, eve: {until: 2026-12-31}}\n"
    "free_access: [{schedule: day}]\n"
)


def joined(door: Door, when_expired: str) -> Access:
    (door.folder / "site").mkdir()
    (door.folder / "site" / "bundle.sealed").write_bytes(b"")
    access = Access(door.config(more=f"sync: {{when_expired: {when_expired}}}"), door.clock, lambda: door.now)
    access.put_in_force(SITE, Cards(), EXPIRES)
    return access


@pytest.mark.parametrize("trusted", [True, False], ids=["", "by a clock that a power cut has unsettled"])
@pytest.mark.parametrize(("when_expired", "refused"), [("warn", []), ("deny", ["ada"])])
def test_a_site_not_heard_of_for_too_long_keeps_nobody_that_the_policy_refuses(
    door, when_expired, refused, trusted
):
    access = joined(door, when_expired)
    assert access.permitted("ada") == Permitted()
    door.clock.now, door.clock.trusted = LATE, trusted
    assert access.permitted("ada") == (Deny(Reason.GALLERY_EXPIRED) if refused else Permitted())
    assert [f"{problem:.30}" for problem in access.problems] == ["the site was not heard of in t"]


def test_who_has_a_last_day_is_refused_once_the_site_is_too_old_and_others_are_not(door):
    access = joined(door, "deny_limited")
    assert access.permitted("eve") == Permitted()
    door.clock.now = LATE
    assert access.permitted("eve") == Deny(Reason.GALLERY_EXPIRED)
    assert access.permitted("ada") == Permitted()


def test_where_nobody_enters_by_an_old_site_nothing_is_free_by_it_either(door):
    access = joined(door, "deny")
    assert access.free_until() is not None
    door.clock.now = LATE
    assert access.free_until() is None
