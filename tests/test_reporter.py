"""What a door says of itself: what became of its site stands in its state at once."""

from __future__ import annotations

from datetime import datetime, timezone

from edge.config import Config, DoorConfig, RelayConfig
from edge.link.wire import State
from edge.reporter import Reporter, Standalone


class NoFaces:
    """A door on which nothing is in force. Sibling of Faces."""

    pipeline = None
    model = None
    in_force = (None, None)

    def gallery(self) -> None:
        return None


class NoRecorder:
    """A recorder that has lost nothing. Sibling of Recorder."""

    lost, fault = 0, None


class FakeLink:
    """Port Link; `states` has every state that was published."""

    connected, dropped = True, 0

    def __init__(self) -> None:
        self.states: list[State] = []

    def set_health(self, health) -> None: ...

    def set_state(self, state: State) -> None:
        self.states.append(state)


class NoReloads:
    refusal, waiting = None, ()


def test_a_refusal_stands_in_the_state_as_soon_as_it_came_and_until_it_is_over():
    link, site = FakeLink(), Standalone()
    config = Config("hq", "front", DoorConfig(RelayConfig(17)))
    told = (lambda _now: [], site, None, NoReloads(), dict)
    reporter = Reporter(config, NoFaces(), link, NoRecorder(), *told)
    reporter.tell_health(0.0)
    assert link.states == []
    site.refusal = "site gallery: is signed, but not published"
    for now in (0.2, 0.4):
        reporter.tell_health(now)
    site.refusal = None
    reporter.tell_health(0.6)
    site.expires_utc = datetime(2026, 3, 8, tzinfo=timezone.utc)
    reporter.tell_health(0.8)
    assert [(state.gallery_refusal, state.gallery_expires_at) for state in link.states] == [
        ("site gallery: is signed, but not published", None),
        (None, None),
        (None, "2026-03-08T00:00:00.000Z"),
    ]
