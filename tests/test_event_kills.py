"""Whoever is killed, no event that was acted upon is lost, none comes twice, and the chain holds.

A tenth of what `tests/event_campaign.py` does.
"""

from __future__ import annotations

import pytest
from event_campaign import FAULTS, campaign


@pytest.mark.slow
def test_broker_collector_and_door_are_killed_and_nothing_is_lost(tmp_path):
    found = campaign(tmp_path, 1000, {"broker": 1, "collector": 1, "door": 1}, rate=300)
    assert {name: found[name] for name in FAULTS} == dict.fromkeys(FAULTS[:-1], 0) | {"ledger_flaw": None}
    assert found["rows"] >= 1000
