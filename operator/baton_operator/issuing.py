"""Certificates made and read: elliptic-curve keys, PEM, X.509. No decision, no Secret, no server.

What is malformed reads as absent: whoever holds it gets a new one.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from baton_operator.certificates import (
    AUTHORITY_LIFETIME_S,
    BACKDATE_S,
    LEAF_LIFETIME_S,
    Authority,
    Leaf,
)

CERTIFICATES_MAX = 16
"""In a bundle: two are usual; more than a few means that somebody else wrote it."""

COMMON_NAME_CHARS_MAX = 64  # X.509's own limit; nobody decides by this name


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return pem_of([self.certificate])

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def make_authority(name: str, now_s: float) -> Pair:
    """A new CA of the service called `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Two CAs of a service live side by side: their names must differ for chains to be built.
    subject = _subject(f"{serial:x}"[:12] + f" CA of {name}")
    usage = _usage(cert_sign=True)
    builder = (
        _builder(subject, subject, key, serial, now_s, now_s + AUTHORITY_LIFETIME_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_leaf(authority: Pair, name: str, now_s: float) -> Pair:
    """A certificate with the DNS name `name`, for both ends of a connection."""
    key = ec.generate_private_key(ec.SECP256R1())
    ends_s = min(now_s + LEAF_LIFETIME_S, ends_at_s(authority.certificate))
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(
            _subject(name),
            authority.certificate.subject,
            key,
            x509.random_serial_number(),
            now_s,
            ends_s,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(cert_sign=False), critical=True)
        .add_extension(both, critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(signer, critical=False)
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def read_pair(certificate_pem: bytes, key_pem: bytes) -> Pair | None:
    """None: one of them is malformed, or they do not belong together."""
    certificates = read_certificates(certificate_pem)
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError):
        return None
    if not certificates or not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    if certificates[0].public_key() != key.public_key():
        return None
    return Pair(certificates[0], key)


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Those of a bundle; none where it is malformed."""
    try:
        return x509.load_pem_x509_certificates(pem)[:CERTIFICATES_MAX]
    except ValueError:
        return []


def pem_of(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def authority_of(certificate: x509.Certificate) -> Authority:
    return Authority(
        fingerprint_of(certificate),
        certificate.not_valid_before_utc.timestamp(),
        ends_at_s(certificate),
    )


def leaf_of(leaf: Pair, authorities: Iterable[x509.Certificate]) -> Leaf:
    """The leaf, and which of `authorities` has signed it."""
    certificate = leaf.certificate
    issuers = (fingerprint_of(one) for one in authorities if _signed_by(certificate, one))
    return Leaf(
        next(issuers, None),
        next(iter(_dns_names(certificate)), ""),
        certificate.not_valid_before_utc.timestamp(),
        ends_at_s(certificate),
    )


def fingerprint_of(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def ends_at_s(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.DNSName)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    serial: int,
    now_s: float,
    ends_s: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(_moment(now_s - BACKDATE_S))
        .not_valid_after(_moment(ends_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not cert_sign,
        key_cert_sign=cert_sign,
        crl_sign=cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:COMMON_NAME_CHARS_MAX])])


def _moment(unix_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).replace(microsecond=0)
