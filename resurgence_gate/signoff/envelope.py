"""DSSE, the envelope of a signed statement: sign(PAE(type, body)), so that the type is signed with the body.

    PAE(type, body) = "DSSEv1" SP len(type) SP type SP len(body) SP body        (lengths in bytes, decimal)

Read strictly: one reading of every byte. Of two base64 texts for the same bytes only the canonical one is taken, and
exactly one signature: a second one would be a claim that nobody has checked.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from resurgence_gate.errors import AttestationRefused
from resurgence_gate.signoff.strict_json import parse_object

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A statement as it was signed, and its signature."""

    payload: bytes
    key_id: str  # a hint, not signed; "" if it names no key
    signature: bytes


def pae(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding of an in-toto statement."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def to_json(envelope: Envelope) -> str:
    """The envelope as the text of a file."""
    signature = {"keyid": envelope.key_id, "sig": _encode(envelope.signature)}
    body = {
        "payloadType": PAYLOAD_TYPE,
        "payload": _encode(envelope.payload),
        "signatures": [signature],
    }
    return json.dumps(body, indent=2) + "\n"


def from_json(content: bytes, *, where: str) -> Envelope:
    """Read what `to_json` wrote. Raises AttestationRefused."""
    return envelope_of(parse_object(content, where=where), where=where)


def envelope_of(body: dict[str, Any], *, where: str) -> Envelope:
    """The envelope that a JSON object is. Raises AttestationRefused."""
    if strange := sorted(body.keys() ^ {"payloadType", "payload", "signatures"}):
        raise AttestationRefused(
            f"{where}: is not a DSSE envelope: {strange[0]!r} is {_there(body, strange[0])}"
        )
    if body["payloadType"] != PAYLOAD_TYPE:
        raise AttestationRefused(
            f"{where}: its payloadType is {body['payloadType']!r}; a statement is {PAYLOAD_TYPE!r}"
        )
    match body["signatures"]:
        case [{**signature}]:
            pass
        case list() as signatures:
            raise AttestationRefused(
                f"{where}: has {len(signatures)} signatures; exactly one is checked, so exactly one may be there"
            )
        case _:
            raise AttestationRefused(f"{where}: its signatures are no list")
    key_id = signature.get("keyid", "")
    if not isinstance(key_id, str) or signature.keys() - {"keyid", "sig"}:
        raise AttestationRefused(f"{where}: its signature holds more than a keyid and a sig")
    return Envelope(
        payload=_decode(body["payload"], "payload", where),
        key_id=key_id,
        signature=_decode(signature.get("sig"), "signature", where),
    )


def _there(body: dict[str, Any], key: str) -> str:
    return "no key of one" if key in body else "missing"


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decode(text: object, what: str, where: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        content = b""
    if not content or _encode(content) != text:
        raise AttestationRefused(f"{where}: its {what} is not base64 in its one canonical form")
    return content
