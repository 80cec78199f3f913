"""The two Secrets of a service's mTLS identity: read, decide, write. Pods mount only the leaf's.

The CA's Secret is written before the leaf's: what stops in between is finished by the next pass,
because the decision follows from what the Secrets hold. Knows no certificate's inside.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509

from baton_operator.certificates import AuthorityStep, Held, Plan, decide
from baton_operator.diff import owned
from baton_operator.issuing import (
    Pair,
    authority_of,
    fingerprint_of,
    leaf_of,
    make_authority,
    make_leaf,
    pem_of,
    read_certificates,
    read_pair,
)
from baton_operator.kinds import Kind
from baton_operator.kube import Kube
from baton_operator.manifest import Manifest, mapping_at
from baton_operator.names import Owner

SecretData = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Material:
    """What the Secrets hold, with the keys."""

    signing: Pair | None = None
    following: Pair | None = None
    former: tuple[x509.Certificate, ...] = ()
    leaf: Pair | None = None
    bundle: tuple[x509.Certificate, ...] = ()

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        ours = [pair.certificate for pair in (self.signing, self.following) if pair is not None]
        return (*ours, *self.former)

    @property
    def held(self) -> Held:
        return Held(
            None if self.signing is None else authority_of(self.signing.certificate),
            None if self.following is None else authority_of(self.following.certificate),
            tuple(map(authority_of, self.former)),
            None if self.leaf is None else leaf_of(self.leaf, self.authorities),
            frozenset(map(fingerprint_of, self.bundle)),
        )


async def ensure_identity(kube: Kube, owner: Owner, now_s: float) -> tuple[str, ...]:
    """Make and renew the Secrets of a service; the names of those that belong to somebody else."""
    found = {
        name: await kube.read(Kind.SECRET, owner.namespace, name)
        for name in (owner.ca_secret, owner.tls_secret)
    }
    taken = [name for name, one in found.items() if one is not None and not owned(owner, one)]
    if taken:
        return tuple(f"Secret {name}" for name in taken)
    material = read_material(_data(found[owner.ca_secret]), _data(found[owner.tls_secret]))
    plan = decide(material.held, owner.tls_name, now_s)
    made = carried_out(plan, material, owner.tls_name, now_s)
    if plan.changes_authority:
        data = authority_data(made)
        await kube.apply(_secret(owner, owner.ca_secret, "Opaque", data))
    if plan.changes_leaf:
        await kube.apply(_secret(owner, owner.tls_secret, "kubernetes.io/tls", leaf_data(made)))
    return ()


def read_material(authority: SecretData, leaf: SecretData) -> Material:
    """From the data of the two Secrets."""
    return Material(
        read_pair(authority.get("ca.crt", b""), authority.get("ca.key", b"")),
        read_pair(authority.get("following.crt", b""), authority.get("following.key", b"")),
        tuple(read_certificates(authority.get("former.crt", b""))),
        read_pair(leaf.get("tls.crt", b""), leaf.get("tls.key", b"")),
        tuple(read_certificates(leaf.get("ca.crt", b""))),
    )


def carried_out(plan: Plan, material: Material, name: str, now_s: float) -> Material:
    """The material after `plan`; its bundle is what is to be trusted from now on."""
    kept = {one.fingerprint for one in plan.former}
    former = tuple(one for one in material.former if fingerprint_of(one) in kept)
    signing, following = material.signing, material.following
    match plan.step:
        case AuthorityStep.FOUND:
            signing, following = make_authority(name, now_s), None
        case AuthorityStep.FOLLOW:
            following = make_authority(name, now_s)
        case AuthorityStep.PROMOTE:
            retired = () if signing is None else (signing.certificate,)
            signing, following, former = following, None, (*former, *retired)
        case AuthorityStep.KEEP:
            pass
    assert signing is not None, "FOUND makes one where there is none"
    leaf = make_leaf(signing, name, now_s) if plan.issue_leaf else material.leaf
    after = Material(signing, following, former, leaf)
    return Material(signing, following, former, leaf, _living(after.authorities, now_s))


def authority_data(material: Material) -> dict[str, bytes]:
    signing, following = material.signing, material.following
    assert signing is not None
    data = {"ca.crt": signing.certificate_pem, "ca.key": signing.key_pem}
    if following is not None:
        data |= {"following.crt": following.certificate_pem, "following.key": following.key_pem}
    if material.former:
        data["former.crt"] = pem_of(material.former)
    return data


def leaf_data(material: Material) -> dict[str, bytes]:
    leaf = material.leaf
    assert leaf is not None
    return {
        "ca.crt": pem_of(material.bundle),
        "tls.crt": leaf.certificate_pem,
        "tls.key": leaf.key_pem,
    }


def _living(
    certificates: tuple[x509.Certificate, ...], now_s: float
) -> tuple[x509.Certificate, ...]:
    return tuple(one for one in certificates if authority_of(one).ends_s > now_s)


def _data(secret: Manifest | None) -> dict[str, bytes]:
    """What is not base64 reads as empty, and is made anew."""
    data = {}
    for name, text in mapping_at(secret, "data").items():
        try:
            data[name] = base64.b64decode(str(text), validate=True)
        except ValueError:
            continue
    return data


def _secret(owner: Owner, name: str, kind: str, data: SecretData) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": owner.named(name, owner.service_labels),
        "type": kind,
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
