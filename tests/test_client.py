"""What one connection may take of the door's memory, whatever the broker does or leaves undone."""

from __future__ import annotations

import pytest

from edge.config import MqttConfig
from edge.errors import PayloadError
from edge.link.client import BoundedClient


@pytest.fixture
def client() -> BoundedClient:
    return BoundedClient("door", MqttConfig(host="127.0.0.1"), None, None, 1000)


def test_what_a_broker_never_acknowledges_is_not_kept_without_end(client):
    """It holds one signed order back until it has expired, and replays it: each refusal is answered."""
    for _ in range(3000):
        client.publish("doord/hq/door/front/reply", b"x" * 600, qos=1)
    assert len(client._out_messages) == 1000


def test_a_broker_that_sends_and_does_not_read_is_cut_off(client):
    client._out_packet.extend([{}] * 1001)
    with pytest.raises(PayloadError, match="expected it to read what is sent, got 1001 packets"):
        client._send_puback(1)
