"""Mosquitto's configuration for a site: TLS, certificates of the site's own authority, one rule per topic.

`deploy/mosquitto/` has them as they are written here, for a site named `hq`, and says how to install them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from edge.admin.folder import OpenSite
from edge.admin.handed import write_files
from edge.admin.model import Revoked
from edge.admin.pki import ADMIN_NAME, BRIDGE_NAME, COLLECTOR_NAME, HOME_NAME
from edge.link.discovery import BIRTH_TOPIC, config_topic

CONF = """\
# Mosquitto for doord, site {site}: `doord admin broker-files` writes it. MQTT over TLS, nothing else.
listener {port}
cafile {folder}/ca.pem
certfile {folder}/server.pem
keyfile {folder}/server.key
crlfile {folder}/crl.pem
tls_version tlsv1.2
require_certificate true
# a client's name is its certificate's common name: a door's id, or one that the rules name
use_identity_as_username true
allow_anonymous false
acl_file {folder}/acl
# waiting for the acknowledgement of a small packet takes 40 ms, of an update with hundreds seconds
set_tcp_nodelay true
# a target has at most 4 MiB
max_packet_size 6291456
# Kept over an orderly restart. Not autosave_interval 1: it writes the whole store, with all targets,
# every second. What a crash loses, `doord admin republish` brings back, and doors send events again.
persistence true
autosave_interval 1800
# what comes while the collector is away; doors that wait for its acknowledgement need none of it
max_queued_messages 20000
"""

ACL = """\
# doord, site {site}. %u is the door's id, from its certificate; every rule is for every door.
# Mosquitto grants forbidden subscriptions and delivers nothing; a forbidden message costs the connection.
user {admin}
topic readwrite doord/{site}/#
topic readwrite homeassistant/#

user {bridge}
topic read doord/{site}/door/+/attestation
topic read doord/{site}/door/+/reply
topic write doord/{site}/door/+/command
topic readwrite doord/{site}/bridge/#
topic readwrite doord/{site}/admin/fence/#
topic write homeassistant/lock/+/config
topic read homeassistant/status

user {home}
topic read doord/{site}/door/+/status
topic read doord/{site}/door/+/state
topic read doord/{site}/door/+/event
topic read doord/{site}/bridge/#
topic write doord/{site}/bridge/+/set
topic readwrite homeassistant/#

# a machine that only collects (`doord admin collector-files`)
user {collector}
topic read doord/{site}/door/+/event
topic read doord/{site}/door/+/attestation
topic write doord/{site}/door/+/event/ack

{rules}
"""

_WRITES = ("status", "state", "event", "reply", "attestation")
_READS = ("command", "event/ack")
_OWN = ("fence",)  # both: the door hears its own message, and so what came before it


def conf(site: str, port: int, folder: str) -> str:
    """`mosquitto.conf`; `folder` is where the files lie on the broker's machine."""
    return CONF.format(site=site, port=port, folder=folder)


def acl(site: str) -> str:
    """The access rules."""
    own = f"doord/{site}/door/%u"
    rules = [f"pattern read doord/{site}/gallery/#"]
    rules += [f"pattern write {own}/{last}" for last in _WRITES]
    rules += [f"pattern read {own}/{last}" for last in _READS]
    rules += [f"pattern readwrite {own}/{last}" for last in _OWN]
    rules += [f"pattern write {config_topic('%u')}", f"pattern read {BIRTH_TOPIC}"]
    names = {"admin": ADMIN_NAME, "bridge": BRIDGE_NAME, "home": HOME_NAME, "collector": COLLECTOR_NAME}
    return ACL.format(site=site, **names, rules="\n".join(rules))


def write_broker_files(
    site: OpenSite,
    folder: Path,
    now_utc: datetime,
    hosts: Sequence[str] = (),
    at: str = "/etc/mosquitto/doord",
) -> list[Path]:
    """Write everything the broker needs into `folder`; what was written.

    The broker's certificate is made once and kept, unless `hosts` are given; the list of revoked
    certificates is made every time.

    Args:
        site: opened.
        folder: made, mode 0700; `server.key` has mode 0600.
        now_utc: aware.
        hosts: names and addresses of the broker; empty: the site's `broker_host`.
        at: where the files will lie on the broker's machine.

    Raises:
        AdminError: the folder can't be written, or a host that is none.
    """
    settings, authority = site.records.site(), site.authority()
    revoked = {int(number): _time(one.at_utc) for number, one in site.records.all(Revoked).items()}
    files = {
        "mosquitto.conf": conf(settings.site, settings.broker_port, at),
        "acl": acl(settings.site),
        "ca.pem": authority.record.certificate,
        "crl.pem": authority.revocations(revoked, now_utc),
    }
    if hosts or not (folder / "server.key").exists():
        issued = authority.server(list(hosts) or [settings.broker_host], now_utc)
        files |= {"server.pem": issued.certificate, "server.key": issued.key}
    return write_files(folder, {name: text.encode() for name, text in files.items()}, 0o644)


def _time(at_utc: str) -> datetime:
    return datetime.fromisoformat(at_utc.replace("Z", "+00:00"))
