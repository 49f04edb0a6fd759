"""A tenth of the cameras' campaign: each fault once, by the whole daemon; its figures are in the README."""

import pytest
from camera_campaign import FAULTS, campaign

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", FAULTS)
def test_a_door_gets_over_each_fault_of_a_network_camera(kind, tmp_path):
    faults = FAULTS[kind]
    figures = campaign(kind, len(faults), tmp_path)  # a fault that is not got over ends it
    assert set(figures.recovery_s) == {fault.__name__ for fault in faults}
    assert figures.growth_kib() < 16 * 1024
    log = (tmp_path / kind / "stderr").read_text()
    assert "Traceback" not in log
    assert "the door's thread has not turned" not in log
