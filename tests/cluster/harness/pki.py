"""The cluster's certificates and kubeconfigs: one CA, a leaf for each user. Runs nothing.

Keys live as long as the cluster does: a run makes them anew.
"""

import base64
import ipaddress
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=30)
BACKDATED = timedelta(hours=1)  # clocks of one machine agree; containers' may be a little behind


@dataclass(frozen=True, slots=True)
class Leaf:
    """PEM files of one key and its certificate."""

    certificate: Path
    key: Path


class Authority:
    """Signs for everything in the cluster. Files: ca.crt, ca.key, NAME.crt, NAME.key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "baton-test-ca")])
        signed = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        _write(folder / "ca.crt", _pem(signed.sign(self._key, hashes.SHA256())))
        _write(folder / "ca.key", _key_pem(self._key))

    def issue(self, name: str, user: str, *, group: str | None = None, sans: str = "") -> Leaf:
        """A leaf for client and server. `sans`: names and addresses with spaces between."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._builder(_subject(user, group), key.public_key()).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if sans:
            names = [_general_name(san) for san in sans.split()]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        leaf = Leaf(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        _write(leaf.certificate, _pem(builder.sign(self._key, hashes.SHA256())))
        _write(leaf.key, _key_pem(key))
        return leaf

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + LIFETIME)
        )


def write_service_account_keys(folder: Path) -> None:
    """sa.key signs the tokens of service accounts, sa.pub checks them."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(folder / "sa.key", _key_pem(key))
    _write(folder / "sa.pub", public)


def write_kubeconfig(path: Path, *, server: str, ca: Path, leaf: Leaf) -> None:
    """A kubeconfig that carries its certificates, so it can be copied alone."""
    user = {
        "client-certificate-data": _base64(leaf.certificate),
        "client-key-data": _base64(leaf.key),
    }
    cluster = {"server": server, "certificate-authority-data": _base64(ca)}
    context = {"cluster": "baton-test", "user": "user"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "baton-test", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "baton-test", "context": context}],
        "current-context": "baton-test",
    }
    _write(path, json.dumps(document, indent=1).encode())


def _subject(user: str, group: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group is not None:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,  # what Kubernetes reads service keys from
        serialization.NoEncryption(),
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
