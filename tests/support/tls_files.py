"""Certificates as the operator makes them, written as a Secret is mounted: replaced as one."""

import datetime
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from baton.rpc.identity_files import TlsFiles
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "smollm2.default.baton"
DAY = datetime.timedelta(days=1)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True, slots=True)
class Leaf:
    certificate: bytes
    key: bytes


class Authority:
    """A CA that signs leaves for both ends of a connection."""

    def __init__(self, common_name: str = "baton test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._subject)
            .issuer_name(self._subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(self, name: str = NAME, *, expired: bool = False) -> Leaf:
        key = ec.generate_private_key(ec.SECP256R1())
        end = datetime.datetime.now(datetime.UTC) + (-DAY if expired else DAY)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "baton")]))
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 2 * DAY)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Leaf(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


class MountedSecret:
    """A directory like kubelet's: files are links through `..data`, which is swapped at once."""

    def __init__(self, directory: Path) -> None:
        self._versions = itertools.count()
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for file in ("ca.crt", "tls.crt", "tls.key"):
            (directory / file).symlink_to(Path("..data") / file)

    def write(self, ca: bytes, leaf: Leaf) -> None:
        version = self._directory / f"..{next(self._versions)}"
        version.mkdir()
        (version / "ca.crt").write_bytes(ca)
        (version / "tls.crt").write_bytes(leaf.certificate)
        (version / "tls.key").write_bytes(leaf.key)
        link = self._directory / "..data_tmp"
        link.symlink_to(version.name)
        os.replace(link, self._directory / "..data")

    def files(self, name: str = NAME) -> TlsFiles:
        return TlsFiles(self._directory, name)


def secret(directory: Path, authority: Authority, *, name: str = NAME) -> MountedSecret:
    """A mounted Secret with a fresh leaf of `authority`."""
    mounted = MountedSecret(directory)
    mounted.write(authority.pem, authority.leaf(name))
    return mounted
