"""Keyless signing with sigstore: who signs is known by their account or their CI workflow, and no key has to be kept.

    attest   identity token -> Fulcio: a certificate for ten minutes -> signature -> Rekor: an entry in a public log
    verify   certificate <- trusted root, entry <- trusted root, identity and issuer <- who verifies

All of it is sigstore-python's; here are its errors in words. Whatever it does not verify, for any reason, is refused.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgence_gate.errors import AttestationRefused, GateError, InfrastructureError, UsageError
from resurgence_gate.signoff.envelope import PAYLOAD_TYPE
from resurgence_gate.signoff.statement import Statement, from_bytes, to_bytes
from resurgence_gate.signoff.strict_json import parse_object, read_bytes
from resurgence_gate.visible import one_line

MISSING = "keyless signatures need sigstore-python: pip install 'resurgence-gate[sigstore]'"
_ISSUER = (
    "1.3.6.1.4.1.57264.1.1"  # the extension of Fulcio's certificates that names who vouches for the identity
)


@dataclass(frozen=True, kw_only=True)
class Who:
    """Who must have signed, as the certificate names them, and who vouches for that."""

    identity: (
        str  # ada@example.org, or https://github.com/org/repo/.github/workflows/gate.yml@refs/heads/main
    )
    issuer: str  # https://token.actions.githubusercontent.com

    def __post_init__(self) -> None:
        if not self.identity.strip() or not self.issuer.strip():
            raise UsageError(
                "--identity and --issuer say together who must have signed; neither may be empty"
            )


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A bundle, and whom its certificate names."""

    bundle: str
    identity: str
    issuer: str


def read_keyless(
    bundle: Path, who: Who, *, trusted_root: Path | None = None, offline: bool = False
) -> Statement:
    """The statement in `bundle`, if `who` signed it.

    `trusted_root` is a file with the keys of Fulcio and Rekor, and then nothing is asked of the network; without one
    they are sigstore's own, brought up to date unless `offline`. Raises UsageError, InfrastructureError (they cannot
    be had) and AttestationRefused (everything else).
    """
    library = Sigstore()
    content = read_bytes(bundle, kind="attestation")
    parse_object(content, where=str(bundle))  # one reading of every key
    payload = library.verified(content, who, library.verifier(trusted_root, offline), where=str(bundle))
    return from_bytes(payload, where=str(bundle))


class Sigstore:
    """sigstore-python, imported when it is needed. Raises UsageError without it."""

    def __init__(self) -> None:
        try:
            from sigstore import dsse, models, oidc, sign, verify
            from sigstore.verify import policy
        except ImportError as error:
            raise UsageError(f"{MISSING} ({one_line(str(error), longest=200)})") from error
        self._dsse, self._models, self._oidc, self._sign = dsse, models, oidc, sign
        self._verify, self._policy = verify, policy

    def sign(self, statement: Statement, config: Any) -> Signed:
        """Ask for an identity, a certificate and a log entry, and sign. Raises UsageError and InfrastructureError."""
        token = self._token(config)
        try:
            with self._sign.SigningContext.from_trust_config(config).signer(token) as signer:
                bundle = signer.sign_dsse(self._dsse.Statement(to_bytes(statement)))
            return Signed(bundle=bundle.to_json() + "\n", **_named(bundle.signing_certificate))
        except Exception as error:
            raise InfrastructureError(
                f"sigstore did not sign ({_told(error)}); nothing was written, try again later"
            ) from error

    def trust_config(self, file: Path | None) -> Any:
        """Where Fulcio and Rekor are and what their keys are: in `file`, or sigstore's own public ones."""
        if file is not None:
            content = read_bytes(file, kind="trust configuration")
            try:
                return self._models.ClientTrustConfig.from_json(content.decode())
            except Exception as error:
                raise UsageError(f"{file}: is no trust configuration of sigstore ({_told(error)})") from error
        try:
            return self._models.ClientTrustConfig.production()
        except Exception as error:
            raise InfrastructureError(
                f"the addresses and keys of sigstore cannot be had ({_told(error)}); check the network, try again"
            ) from error

    def verifier(self, trusted_root: Path | None, offline: bool) -> Any:
        """What verifies by the keys in `trusted_root`, or by sigstore's own."""
        if trusted_root is not None:
            read_bytes(trusted_root, kind="trusted root")
            try:
                root = self._models.TrustedRoot.from_file(str(trusted_root))
                return self._verify.Verifier(trusted_root=root)
            except Exception as error:
                raise UsageError(
                    f"{trusted_root}: is no trusted root of sigstore ({_told(error)})"
                ) from error
        try:
            return self._verify.Verifier.production(offline=offline)
        except Exception as error:
            raise InfrastructureError(
                f"the trusted root of sigstore cannot be had ({_told(error)}); check the network, or give the file "
                "with --trusted-root"
            ) from error

    def verified(self, content: bytes, who: Who, verifier: Any, *, where: str) -> bytes:
        """The payload that `who` signed. Raises AttestationRefused, whatever went wrong."""
        try:
            bundle = self._models.Bundle.from_json(content)
            asked = self._policy.Identity(identity=who.identity, issuer=who.issuer)
            kind, payload = verifier.verify_dsse(bundle, asked)
        except Exception as error:
            raise AttestationRefused(
                f"{where}: is not verified as signed by {one_line(who.identity)}, for whom {one_line(who.issuer)} "
                f"vouches: {_told(error)}"
            ) from error
        if kind != PAYLOAD_TYPE or not isinstance(payload, bytes):
            raise AttestationRefused(f"{where}: its payloadType is {kind!r}; a statement is {PAYLOAD_TYPE!r}")
        return payload

    def _token(self, config: Any) -> Any:
        """The identity that a CI job has, or that a person gives in a browser. It is a secret, and not shown."""
        try:
            ambient = self._oidc.detect_credential()
            if ambient is not None:
                return self._oidc.IdentityToken(ambient)
            if not sys.stdin.isatty():
                raise UsageError(
                    "no identity is at hand to sign with: let the CI job ask for one (GitHub: `permissions: id-token: "
                    "write`), or sign in a terminal, where a browser opens"
                )
            return self._oidc.Issuer(config.signing_config.get_oidc_url()).identity_token()
        except GateError:
            raise
        except Exception as error:
            raise UsageError(
                f"no identity could be had to sign with ({_told(error)}); in a CI job, let it ask for one (GitHub: "
                "`permissions: id-token: write`)"
            ) from error


def _named(certificate: Any) -> dict[str, str]:
    """Whom a certificate is for, and who vouches, as `verify` asks for them."""
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    issuer = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(_ISSUER)).value.value
    identity = next((str(name.value) for name in names), "")
    return {"identity": one_line(identity), "issuer": one_line(issuer.decode(errors="replace"))}


def _told(error: BaseException) -> str:
    """What the library said, on a line."""
    return one_line(str(error), longest=400) or type(error).__name__
