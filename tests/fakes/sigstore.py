"""A sigstore of one's own on 127.0.0.1: Fulcio, Rekor and the token service of a CI, with real keys and signatures.

What sigstore-python asks of it is answered with what it then verifies: a chain of certificates, the receipt of a
certificate log, and an entry with its proof in a transparency log. Nothing of the library is replaced.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/org/repo/.github/workflows/gate.yml@refs/heads/main"
_SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_START = "2020-01-01T00:00:00Z"


@dataclass
class FakeSigstore:
    """`fails` has the paths that are answered with a status; `requests` are the paths, in order.

    `late` are the seconds by which the clock of the log is ahead.
    """

    identity: str = WORKFLOW
    issuer: str = ISSUER
    fails: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    late: int = 0
    endpoint: str = ""

    def __post_init__(self) -> None:
        self.ca_key, self.log_key, self.ct_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = _authority("root", root_key, "root", root_key)
        self.ca = _authority("intermediate", self.ca_key, "root", root_key)

    def trusted_root(self) -> dict[str, Any]:
        """Its keys and certificates, as a verifier has them."""
        chain = [{"rawBytes": _b64(c.public_bytes(Encoding.DER))} for c in (self.ca, self.root)]
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_log(self.endpoint or "http://127.0.0.1:9", self.log_key)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "fake", "commonName": "fake"},
                    "uri": self.endpoint,
                    "certChain": {"certificates": chain},
                    "validFor": {"start": _START},
                }
            ],
            "ctlogs": [_log(self.endpoint, self.ct_key)],
            "timestampAuthorities": [],
        }

    def trust_config(self) -> dict[str, Any]:
        """What a signer has: these, and where everything is."""
        service = {
            "url": self.endpoint,
            "majorApiVersion": 1,
            "validFor": {"start": _START},
            "operator": "fake",
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [service],
                "oidcUrls": [service],
                "rekorTlogUrls": [service],
                "tsaUrls": [],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaConfig": {"selector": "ANY"},
            },
        }

    def token(self) -> str:
        """An identity token, which nobody but Fulcio verifies."""
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "repo:org/repo", "aud": "sigstore", "iat": now, "exp": now + 600}
        parts = ({"alg": "none", "typ": "JWT"}, claims)
        encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
        return ".".join((*encoded, "c2lnbmF0dXJl"))

    def certificate(self, key: Any) -> x509.Certificate:
        """For ten minutes, with the receipt of the certificate log in it."""
        serial, now = x509.random_serial_number(), datetime.now(UTC).replace(microsecond=0)

        def made(scts: bytes) -> x509.Certificate:
            name = (
                x509.RFC822Name(self.identity)
                if "@" in self.identity and "://" not in self.identity
                else x509.UniformResourceIdentifier(self.identity)
            )
            return (
                x509.CertificateBuilder()
                .subject_name(x509.Name([]))
                .issuer_name(self.ca.subject)
                .public_key(key)
                .serial_number(serial)
                .not_valid_before(now - timedelta(seconds=5))
                .not_valid_after(now + timedelta(minutes=10))
                .add_extension(_usage(digital_signature=True), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()),
                    critical=False,
                )
                .add_extension(x509.SubjectAlternativeName([name]), critical=True)
                .add_extension(x509.UnrecognizedExtension(_ISSUER, self.issuer.encode()), critical=False)
                .add_extension(x509.UnrecognizedExtension(_SCTS, scts), critical=False)
                .sign(self.ca_key, hashes.SHA256())
            )

        return made(self._receipt(made(b"\x04\x00").tbs_precertificate_bytes, now))

    def _receipt(self, tbs: bytes, now: datetime) -> bytes:
        """A list of one signed certificate timestamp (RFC 6962, 3.2 and 3.3), as an octet string."""
        when = int(now.timestamp() * 1000)
        entry = _key_id(self.ca_key) + len(tbs).to_bytes(3, "big") + tbs
        signed = _sign(self.ct_key, struct.pack("!BBQH", 0, 0, when, 1) + entry + b"\0\0")
        sct = struct.pack("!B32sQHBBH", 0, _key_id(self.ct_key), when, 0, 4, 3, len(signed)) + signed
        scts = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
        return bytes([0x04, len(scts)]) + scts if len(scts) < 128 else bytes([0x04, 0x81, len(scts)]) + scts

    def entry(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """An entry of the log, the second of two leaves."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        body = json.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": _sha256(content["envelope"].encode()),
                    "payloadHash": _sha256(payload),
                    "signatures": [
                        {"signature": s["sig"], "verifier": content["verifiers"][0]}
                        for s in envelope["signatures"]
                    ],
                },
            },
            separators=(",", ":"),
        ).encode()
        first = hashlib.sha256(b"\0first").digest()
        leaf = hashlib.sha256(b"\0" + body).digest()
        root = hashlib.sha256(b"\1" + first + leaf).digest()
        receipt = {
            "body": _b64(body),
            "integratedTime": int(time.time()) + self.late,
            "logID": _key_id(self.log_key).hex(),
            "logIndex": 1,
        }
        promise = json.dumps(receipt, separators=(",", ":"), sort_keys=True).encode()
        note = f"fake - 1\n2\n{_b64(root)}\n"
        signed = _b64(_key_id(self.log_key)[:4] + _sign(self.log_key, note.encode()))
        verification = {
            "signedEntryTimestamp": _b64(_sign(self.log_key, promise)),
            "inclusionProof": {
                "checkpoint": f"{note}\n— fake {signed}\n",
                "hashes": [first.hex()],
                "logIndex": 1,
                "rootHash": root.hex(),
                "treeSize": 2,
            },
        }
        return {hashlib.sha256(body).hexdigest(): {**receipt, "verification": verification}}

    @contextmanager
    def serve(self) -> Iterator[FakeSigstore]:
        """Answer at `endpoint` until the end of the block."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def in_a_job(fake: FakeSigstore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job of GitHub Actions that may ask for an identity token."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{fake.endpoint}/token?x=1")


class _Handler(BaseHTTPRequestHandler):
    fake: FakeSigstore

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        self.fake.requests.append(path)
        if path in self.fake.fails:
            return self._send(self.fake.fails[path], {"message": "no"})
        match path:
            case "/token":
                return self._send(200, {"value": self.fake.token()})
            case "/api/v2/signingCert":
                if self.headers["Authorization"].count(".") != 2:
                    return self._send(401, {"message": "no token"})
                pem = base64.b64decode(json.loads(body)["certificateSigningRequest"])
                leaf = self.fake.certificate(x509.load_pem_x509_csr(pem).public_key())
                chain = [c.public_bytes(Encoding.PEM).decode() for c in (leaf, self.fake.ca, self.fake.root)]
                return self._send(200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})
            case "/api/v1/log/entries":
                return self._send(201, self.fake.entry(json.loads(body)))
        return self._send(404, {"message": path})

    def _send(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _authority(name: str, key: Any, issuer: str, issuer_key: Any) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(**meant: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: meant.get(name, False) for name in names})


def _log(url: str, key: Any) -> dict[str, Any]:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _b64(public),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": _START},
        },
        "logId": {"keyId": _b64(_key_id(key))},
    }


def _key_id(key: Any) -> bytes:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).digest()


def _sign(key: Any, message: bytes) -> bytes:
    return bytes(key.sign(message, ec.ECDSA(hashes.SHA256())))


def _sha256(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
