"""Whoever is killed, no event that was acted upon is lost, none comes twice, and the chain holds.

A tenth of what `tests/event_campaign.py` does.
"""

from __future__ import annotations

import pytest
from event_campaign import FAULTS, campaign


@pytest.mark.slow
@pytest.mark.parametrize("away", [False, True])
def test_broker_collector_and_door_are_killed_and_nothing_is_lost(tmp_path, away):
    kills = {"broker": 1, "door": 1} if away else {"broker": 2, "collector": 2, "door": 2}
    found = campaign(tmp_path, 1000, kills, rate=300, away=away)
    assert {name: found[name] for name in FAULTS if found[name]} == {}
    assert found["rows"] >= 1000
