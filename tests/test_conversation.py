"""A talk with a broker that does not play fair ends in time."""

from __future__ import annotations

import socket
import threading

import pytest
from lying_broker import LyingBroker, publication

from edge.admin import conversation
from edge.admin.conversation import Conversation
from edge.config import MqttConfig
from edge.errors import LinkError


def test_a_broker_that_talks_without_end_and_acknowledges_nothing_is_given_up(monkeypatch):
    over = threading.Event()

    def chatter(connection: socket.socket) -> None:
        for _ in range(500):  # 5 s at the most, then the connection is cut, which is another error
            if over.wait(0.01):
                return
            connection.sendall(publication(b"doord/hq/noise", b"x", 0))
        raise ConnectionError

    monkeypatch.setattr(conversation, "_ANSWER_S", 0.5)
    with LyingBroker(chatter) as broker, Conversation(MqttConfig("127.0.0.1", broker.port), "hq") as talk:
        talk.subscribe("doord/hq/#")
        with pytest.raises(LinkError, match=r"no answer to PUBLISH in 0\.5 s"):
            talk.keep([("doord/hq/gallery/x", b"x")])
        over.set()
