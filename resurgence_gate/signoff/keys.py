"""Keys of people and machines: Ed25519, or EC P-256 with SHA-256, as PEM files.

The key that a verifier holds says which algorithm is used; nothing in a bundle can choose another one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import assert_never

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from resurgence_gate.errors import UsageError
from resurgence_gate.signoff.strict_json import read_bytes

PASSPHRASE = "RESURGENCE_GATE_KEY_PASSPHRASE"  # the environment variable
_ACCEPTED = "accepted are Ed25519 and EC P-256"

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey


def read_private_key(file: Path) -> PrivateKey:
    """The key in a PEM file; its passphrase comes from the environment. Raises UsageError."""
    pem = read_bytes(file, kind="key")
    passphrase = os.environ.get(PASSPHRASE, "").encode() or None
    if b"ENCRYPTED" not in pem:
        passphrase = None  # one that is set for another key does no harm
    try:
        key = load_pem_private_key(pem, password=passphrase)
    except TypeError:
        raise UsageError(f"{file}: is encrypted; give its passphrase in {PASSPHRASE}") from None
    except (ValueError, UnsupportedAlgorithm):
        why = f", or {PASSPHRASE} is wrong" if passphrase else ""
        raise UsageError(f"{file}: is not a private key in PEM{why}; {_ACCEPTED}") from None
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise UsageError(f"{file}: a key of another kind ({_kind(key)}); {_ACCEPTED}")


def read_public_key(file: Path) -> PublicKey:
    """The public key in a PEM file. Raises UsageError, also for a private one: a verifier must not hold it."""
    pem = read_bytes(file, kind="key")
    if b"PRIVATE KEY" in pem:
        raise UsageError(
            f"{file}: is a private key; verify with the public one (openssl pkey -in {file} -pubout)"
        )
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{file}: is not a public key in PEM; {_ACCEPTED}") from None
    if isinstance(key, Ed25519PublicKey) or (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise UsageError(f"{file}: a key of another kind ({_kind(key)}); {_ACCEPTED}")


def sign(key: PrivateKey, message: bytes) -> bytes:
    """The signature of `message`: 64 bytes of Ed25519, or ECDSA in DER."""
    match key:
        case Ed25519PrivateKey():
            return key.sign(message)
        case EllipticCurvePrivateKey():
            return key.sign(message, ECDSA(hashes.SHA256()))
        case _:
            assert_never(key)


def is_signed(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the owner of `key` signed `message`."""
    try:
        match key:
            case Ed25519PublicKey():
                key.verify(signature, message)
            case EllipticCurvePublicKey():
                key.verify(signature, message, ECDSA(hashes.SHA256()))
            case _:
                assert_never(key)
    except InvalidSignature:
        return False
    return True


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key (DER, SubjectPublicKeyInfo): its name, short enough to be compared over the phone."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _kind(key: object) -> str:
    curve = getattr(getattr(key, "curve", None), "name", "")
    return curve or type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey").strip("_")
