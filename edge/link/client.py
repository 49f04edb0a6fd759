"""paho's MQTT client as doord makes and ends it: no broker can fill its memory or stop its thread unseen."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.config import MqttConfig
from edge.errors import PayloadError
from edge.link import broker


class BoundedClient(Client):
    """One connection, MQTT 5. The one boundary where a broker's bytes enter.

    Args:
        client_id: for the broker.
        config: user name and times.
        tls: None: plain TCP.
        password: goes with config.username.
        max_packet_bytes: of what comes; the broker is asked to keep to it, and cut off if it does not.
        manual_ack: what comes is acknowledged by `ack`, when it is safe; else by itself.
    """

    def __init__(
        self,
        client_id: str,
        config: MqttConfig,
        tls: ssl.SSLContext | None,
        password: str | None,
        max_packet_bytes: int,
        manual_ack: bool = False,
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        self.on_fault: Callable[[PayloadError], None] | None = None  # in paho's thread, which then ends
        self._broker = config
        self._max_packet_bytes = max_packet_bytes
        self.connect_timeout = broker.CONNECT_S
        self.on_socket_open = _send_at_once
        if tls:
            self.tls_set_context(tls)
        if config.username:
            self.username_pw_set(config.username, password)

    def open(self, session_s: int = 0) -> None:
        """Connect and start paho's thread. Raises OSError; ValueError: a host name that is none.

        Args:
            session_s: how long the broker keeps the session after the connection; 0: each begins anew.
        """
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = self._max_packet_bytes
        properties.SessionExpiryInterval = session_s
        self.connect(
            self._broker.host,
            self._broker.port,
            self._broker.keepalive_s,
            clean_start=session_s == 0,
            properties=properties,
        )
        self.loop_start()

    def cut(self) -> None:
        """End the connection without a goodbye where it still is; paho's thread ends with it."""
        sock: Any = self.socket()
        if sock is not None:
            with contextlib.suppress(OSError):  # it is gone already
                # the plain socket's: ssl's own pulls its object away from under paho's thread
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        # these hold what holds the client: its sockets would stay open until a collection
        self.on_connect = self.on_disconnect = self.on_publish = None
        self.on_message = self.on_subscribe = self.on_fault = None

    # What paho calls; by its private names, which a test with a lying broker holds it to

    def loop_forever(self, *args: Any, **kwargs: Any) -> MQTTErrorCode:
        """What paho's thread runs; without this an unreadable packet would end it unnoticed."""
        try:
            return super().loop_forever(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # whatever a broker has sent, the door goes on
            fault = error if isinstance(error, PayloadError) else None
            if sock := self.socket():
                sock.close()  # paho does at the end of its thread, but not at such an end
            if self.on_fault:
                self.on_fault(fault or PayloadError(f"unreadable packet: {type(error).__name__}: {error}"))
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _sock_recv(self, bufsize: int) -> bytes:
        """`bufsize` is the rest of a packet, before any of it is read."""
        if bufsize > self._max_packet_bytes:
            expected = f"expected packets of at most {self._max_packet_bytes} bytes"
            raise PayloadError(f"{expected}, got one of {bufsize}")
        return super()._sock_recv(bufsize)

    def _send_pubrec(self, mid: int) -> MQTTErrorCode:
        """paho keeps messages of QoS 2 until the broker releases them; nothing here asks for any."""
        raise PayloadError(f"expected messages of QoS 0 or 1, got number {mid} of QoS 2")


def _send_at_once(_client: Client, _userdata: Any, sock: Any) -> None:
    """Else a message waits for the acknowledgement of the one before: 44 to 88 ms each (measured)."""
    with contextlib.suppress(OSError):  # broken already: the next read says so
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
