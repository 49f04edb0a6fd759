"""The topics of a door. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge.errors import PayloadError
from edge.values import ID


@dataclass(frozen=True, slots=True)
class Topics:
    """The door's topics. Raises PayloadError when an id could be a wildcard or a level."""

    site: str
    door: str

    def __post_init__(self) -> None:
        for name in (self.site, self.door):
            if not re.match(ID, name):
                raise PayloadError(f"topic: expected 1 to 32 of a-z, 0-9 and -, got {name!r}")

    @property
    def base(self) -> str:
        """`doord/<site>/door/<door>`."""
        return f"doord/{self.site}/door/{self.door}"

    @property
    def status(self) -> str:
        """Retained Status."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """Retained State."""
        return f"{self.base}/state"

    @property
    def attestation(self) -> str:
        """Retained; signed by a joined door (`orders.Attestation`)."""
        return f"{self.base}/attestation"

    @property
    def event(self) -> str:
        """One Event each."""
        return f"{self.base}/event"

    @property
    def ack(self) -> str:
        """The collector's signed acks (`orders.Ack`), never retained."""
        return f"{self.base}/event/ack"

    @property
    def command(self) -> str:
        """Signed commands to the door, never retained."""
        return f"{self.base}/command"

    @property
    def reply(self) -> str:
        """The door's signed replies to them, never retained."""
        return f"{self.base}/reply"

    @property
    def fence(self) -> str:
        """The door's own echo: behind all that the broker sent before it."""
        return f"{self.base}/fence"

    @property
    def gallery(self) -> str:
        """The root of the site's signed tree; retained below it."""
        return f"doord/{self.site}/gallery"
