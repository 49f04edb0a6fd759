"""The second signer: at sites that have one, what is accepted counts only with his signature.

He keeps a key of his own in a file of his own, so that one admin alone can't wave a lookalike through.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key, Signature

from edge.admin.keystore import Keystore
from edge.admin.model import Accepted, SecondSigner
from edge.admin.records import Records
from edge.errors import AdminError

KEY_NAME = "accept"
PASSPHRASE = "DOORD_ADMIN_SECOND_PASSPHRASE_FILE"  # noqa: S105  # the name of a variable


def register(records: Records, name: str, keys: Keystore, now_utc: str) -> None:
    """From now on this signer's key counts, and what is accepted needs one of these."""
    public = keys.signer(KEY_NAME).public_key
    plain: dict[str, object] = {**public.to_dict(), "keyid": public.keyid}
    with records.transaction():
        records.put(name, SecondSigner(plain, now_utc))
        records.put_site(msgspec.structs.replace(records.site(), second_signer=True))


def forget(records: Records, name: str) -> None:
    """This signer's key counts no more; without any none is needed. Raises AdminError: not there."""
    with records.transaction():
        if not records.delete(SecondSigner, name):
            raise AdminError(f"second signer {name!r:.40}: is not there")
        if not records.revisions(SecondSigner):
            records.put_site(msgspec.structs.replace(records.site(), second_signer=False))


def statement(site: str, what: str, accepted: Accepted) -> bytes:
    """What is signed: which site, what (an acceptance's id), how far, by whom and when."""
    parts = ("doord accepted 1", site, what, repr(accepted.limit), accepted.by, accepted.at_utc)
    return msgspec.json.encode(parts)


def signed(records: Records, accepted: Mapping[str, Accepted], keys: Keystore) -> dict[str, Accepted]:
    """The same with the second signer's signature.

    Raises:
        AdminError: not a key that this site knows.
    """
    signer = keys.signer(KEY_NAME)
    if signer.public_key.keyid not in _keys(records):
        raise AdminError(f"{keys.path}: expected a second signer's key of this site, got another")
    site, found = records.site().site, {}
    for what, one in accepted.items():
        made = signer.sign(statement(site, what, one))
        found[what] = msgspec.structs.replace(one, keyid=made.keyid, signature=made.signature)
    return found


def in_force(records: Records) -> dict[str, Accepted]:
    """The acceptances that count; at a site with a second signer those that he signed."""
    accepted = records.all(Accepted)
    site = records.site()
    if not site.second_signer:
        return accepted
    keys = _keys(records)
    return {what: one for what, one in accepted.items() if _holds(keys, site.site, what, one)}


def _keys(records: Records) -> dict[str, Key]:
    found = {}
    for one in records.all(SecondSigner).values():
        plain = dict(one.public_key)
        keyid = str(plain.pop("keyid"))
        found[keyid] = Key.from_dict(keyid, plain)
    return found


def _holds(keys: Mapping[str, Key], site: str, what: str, accepted: Accepted) -> bool:
    key = keys.get(accepted.keyid)
    if key is None:
        return False
    try:
        key.verify_signature(Signature(accepted.keyid, accepted.signature), statement(site, what, accepted))
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True
