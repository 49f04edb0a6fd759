"""TLS for a decoder whose own can't be relied on: verified here, handed on over loopback.

FFMPEG verifies a host's name only since version 8, and OpenCV's wheels carry an OpenSSL of their own that
no system update reaches; this is the interpreter's. Stand-alone, like all of the camera's child process.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading

_CHUNK_BYTES = 64 * 2**10


def trusting(ca_file: str) -> ssl.SSLContext:
    """Verifies chain and host name; `ca_file` empty: by the system's authorities. Raises OSError."""
    return ssl.create_default_context(cafile=ca_file or None)


def listen() -> socket.socket:
    """A listener on a free loopback port."""
    return socket.create_server(("127.0.0.1", 0), backlog=1)


def at(url: str, address: tuple[str, int]) -> str:
    """`url` as rtsp:// at another address, with its login and its path."""
    authority, slash, path = url.split("//", 1)[1].partition("/")
    login, sign, _ = authority.rpartition("@")
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"rtsp://{login}{sign}{host}:{address[1]}{slash}{path}"


def through(
    listener: socket.socket, context: ssl.SSLContext, address: tuple[str, int], host: str, timeout_s: float
) -> None:
    """Connect, verify that it is `host`, and hand on from now on.

    One visitor is let in, the first. Another process of this machine that came before the decoder
    would meet the camera without its password, as it could anyway.

    Raises:
        OSError: unreachable, or (ssl.SSLError) not who it should be.
    """
    far = socket.create_connection(address, timeout_s)
    try:
        secured = context.wrap_socket(far, server_hostname=host)
    except OSError:
        far.close()
        raise
    threading.Thread(target=_serve, args=(listener, secured, timeout_s), daemon=True).start()


def _serve(listener: socket.socket, far: ssl.SSLSocket, timeout_s: float) -> None:
    listener.settimeout(timeout_s)
    try:
        near, _ = listener.accept()
        listener.close()
        with near, far:
            _hand_on(near, far, timeout_s)
    except OSError:
        pass  # the decoder sees its connection end, and says so


def _hand_on(near: socket.socket, far: ssl.SSLSocket, timeout_s: float) -> None:
    while True:
        ready = [far] if far.pending() else select.select([near, far], [], [])[0]
        for side in ready:
            other = far if side is near else near
            side.settimeout(0)
            try:
                data = side.recv(_CHUNK_BYTES)
            except ssl.SSLWantReadError:  # what came was TLS's own: a session's ticket, half a record
                continue
            if not data:
                return
            other.settimeout(timeout_s)
            other.sendall(data)


def words(error: OSError) -> str:
    """Why there is no connection, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"expected a certificate that can be verified (camera.ca_file), got: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"expected TLS, got: {error.reason or 'something else'}"
    reason = "nothing in time" if isinstance(error, socket.timeout) else error.strerror or "no address"
    return f"expected a camera, got: {reason}"
