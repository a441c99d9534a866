"""Who comes into a NATS server, for the tests: nkeys, credentials files, and certificates."""

from __future__ import annotations

import base64
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import nkeys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_KINDS: Final = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}


class Identity:
    """A pair of keys: ``seed`` is the secret, ``public`` the name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.seed: str = nkeys.encode_seed(secrets.token_bytes(32), _KINDS[kind]).decode()
        self.public: str = nkeys.from_seed(self.seed.encode()).public_key.decode()

    def token(self, issuer: Identity, claims: dict[str, Any]) -> str:
        """A JWT in which the issuer says this of it, as `nsc` makes them."""
        said = {
            "jti": secrets.token_hex(16),
            "iat": int(time.time()),
            "iss": issuer.public,
            "name": f"test {self.kind}",
            "sub": self.public,
            **claims.pop("top", {}),
            "nats": {**claims, "type": self.kind, "version": 2},
        }
        parts = [_encoded(json.dumps(part).encode()) for part in (_HEADER, said)]
        text = ".".join(parts)
        signature = nkeys.from_seed(issuer.seed.encode()).sign(text.encode())
        return f"{text}.{_encoded(signature)}"


_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_NO_LIMITS: Final = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Operator:
    """One who lets accounts in, and an account whose users may use JetStream."""

    def __init__(self) -> None:
        self._operator, self._system = Identity("operator"), Identity("account")
        self._account = Identity("account")
        store = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        limits = {**_NO_LIMITS, "wildcards": True}
        accounts = {
            self._system: {"limits": limits},
            self._account: {"limits": {**limits, **store}},
        }
        preloaded = "\n".join(
            f"  {account.public}: {account.token(self._operator, claims)}"
            for account, claims in accounts.items()
        )
        of_operator = {"system_account": self._system.public}
        self.configuration = (
            f"operator: {self._operator.token(self._operator, of_operator)}\n"
            f"system_account: {self._system.public}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preloaded}\n}}\n"
        )
        """For a server's file."""

    def credentials(self, file: Path, *, seconds: int | None = None) -> str:
        """Write a new user's credentials into a file; its seed. It may have a limited time."""
        user = Identity("user")
        claims: dict[str, Any] = {"subs": -1, "data": -1, "payload": -1}
        if seconds is not None:
            claims["top"] = {"exp": int(time.time()) + seconds}
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{user.token(self._account, claims)}\n"
            f"------END NATS USER JWT------\n\n"
            f"************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return user.seed


class Authority:
    """One that makes certificates, in files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        certificate = self._begun(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.file = self._written("authority", certificate)

    def certified(self, name: str) -> tuple[Path, Path]:
        """The files of a certificate for 127.0.0.1, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        host = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        certificate = self._begun(subject, key).add_extension(host, critical=False)
        file = self._folder / f"{name}.key"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return self._written(name, certificate), file

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
        )

    def _written(self, name: str, certificate: x509.CertificateBuilder) -> Path:
        file = self._folder / f"{name}.pem"
        signed = certificate.sign(self._key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return file
