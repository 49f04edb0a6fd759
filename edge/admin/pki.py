"""The site's own certificate authority: broker, doors and admin know each other by its certificates. Pure.

Certificates are valid for long, since a door may hang for years where nobody renews anything; what is no
longer wanted is revoked. All follow RFC 5280 as Python 3.13 checks it (VERIFY_X509_STRICT).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import AdminError, GalleryError

ADMIN_NAME, BRIDGE_NAME, HOME_NAME, COLLECTOR_NAME = "admin", "bridge", "homeassistant", "collector"
TAKEN_NAMES = frozenset({ADMIN_NAME, BRIDGE_NAME, HOME_NAME, COLLECTOR_NAME})  # of certificates: no door's
_BROKER_NAME = "doord broker"  # not an id, so nobody's user name
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-)){0,10}")
_CA_DAYS, _LEAF_DAYS = 30 * 365, 20 * 365
_SERIAL_BITS = 62  # so that a record can hold the number
_BACKDATED = timedelta(days=1)  # a door's clock may be a little behind the admin's
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


class CaRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The authority, as `records` keeps it."""

    certificate: str  # PEM
    key: str  # PKCS 8, PEM


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: str  # PEM
    key: str  # PKCS 8, PEM
    serial: int


class Authority:
    """Signs certificates and the list of those that were revoked."""

    def __init__(self, record: CaRecord) -> None:
        """Raises GalleryError: not a certificate and its key."""
        try:
            self._certificate = x509.load_pem_x509_certificate(record.certificate.encode())
            key = serialization.load_pem_private_key(record.key.encode(), None)
        except (ValueError, TypeError) as error:
            raise GalleryError(f"certificate authority: expected PEM, got: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise GalleryError("certificate authority: expected a key of an elliptic curve, got another")
        self._key = key
        self.record = record

    @classmethod
    def create(cls, site: str, now_utc: datetime) -> Authority:
        """A new one; P-256, which every TLS library has."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"doord site {site}"
        builder = _builder(name, name, key, key, now_utc, _CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        certificate = builder.sign(key, hashes.SHA256())
        return cls(CaRecord(_pem(certificate), _key_pem(key)))

    def client(self, name: str, now_utc: datetime) -> Issued:
        """For a door, by its id, or for the admin: `name` becomes the user name at the broker."""
        return self._issue(name, _CLIENT, [], now_utc)

    def server(self, hosts: list[str], now_utc: datetime) -> Issued:
        """For the broker, under every name and address it is reached by.

        Raises:
            AdminError: none, or one that is no host name.
        """
        if not hosts:
            raise AdminError("broker: expected a host name or address, got none")
        return self._issue(_BROKER_NAME, _SERVER, [_host(host) for host in hosts], now_utc)

    def revocations(self, revoked: Mapping[int, datetime], now_utc: datetime) -> str:
        """The list of revoked certificates, PEM, from serial number -> when (UTC).

        It is valid as long as the authority: a broker that finds it outdated refuses everybody.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now_utc - _BACKDATED)
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(_issued_by(self._key), critical=False)
            .add_extension(x509.CRLNumber(int(now_utc.timestamp())), critical=False)
        )
        for serial, at_utc in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at_utc)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _issue(
        self, name: str, use: x509.ObjectIdentifier, hosts: list[x509.GeneralName], now_utc: datetime
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = _builder(name, str(issuer), key, self._key, now_utc, _LEAF_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(_pem(certificate), _key_pem(key), certificate.serial_number)


def _builder(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now_utc: datetime,
    days: int,
) -> x509.CertificateBuilder:
    """What all certificates have."""
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(secrets.randbits(_SERIAL_BITS) + 1)
        .not_valid_before(now_utc - _BACKDATED)
        .not_valid_after(now_utc + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issued_by(issuer_key), critical=False)
    )


def _issued_by(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode().lower()
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name):
        raise AdminError(f"broker: expected a host name or address, got {host!r:.80}")
    return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
