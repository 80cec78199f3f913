"""When the certificates of a service are made and replaced, and which CAs are trusted. Pure.

Every pod of a service shares one leaf, signed by the service's own CA, and trusts a bundle. Pods
see new files minutes apart, so at every moment any two of them must accept each other: a new CA is
trusted for an hour before it signs, and an old one stays trusted until it ends, long after its last
leaf. Knows times and fingerprints; knows no keys, no encodings and no Secrets.
"""

from dataclasses import dataclass
from enum import Enum

DAY_S = 86_400.0
LEAF_LIFETIME_S = 30 * DAY_S
AUTHORITY_LIFETIME_S = 365 * DAY_S
RENEW_SHARE = 2 / 3
"""Of its life after which a certificate is replaced: what is left outlasts any outage of ours."""

BACKDATE_S = 300.0
"""A certificate begins so long before it is made: nodes' clocks differ."""

TRUST_SPREAD_S = 3_600.0
"""From the Secret to the files of every pod kubelet takes a minute or two; a node that was asleep
takes longer."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate."""

    fingerprint: str
    begins_s: float  # Unix time, as all times here
    ends_s: float


@dataclass(frozen=True, slots=True)
class Leaf:
    """The certificate that pods show each other, with a key that fits it."""

    issuer: str | None  # fingerprint; None: none of the CAs we have
    name: str
    begins_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """What the Secrets of a service hold now."""

    signing: Authority | None = None
    following: Authority | None = None  # trusted already; signs next
    former: tuple[Authority, ...] = ()  # they signed once; their keys are gone
    leaf: Leaf | None = None
    trusted: frozenset[str] = frozenset()  # fingerprints in the bundle that pods have


class AuthorityStep(Enum):
    KEEP = "keep"
    FOUND = "found"  # a new CA that signs at once: there is none that could
    FOLLOW = "follow"  # a new CA that is trusted from now and signs later
    PROMOTE = "promote"  # the following CA signs; the signing one becomes a former one


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `former` are those to trust on, before the step adds one."""

    step: AuthorityStep
    issue_leaf: bool
    former: tuple[Authority, ...]
    rewrite_bundle: bool

    @property
    def changes_authority(self) -> bool:
        return self.step is not AuthorityStep.KEEP

    @property
    def changes_leaf(self) -> bool:
        return self.issue_leaf or self.rewrite_bundle


def decide(held: Held, name: str, now_s: float) -> Plan:
    """What the certificates of the service called `name` (a DNS name) need now."""
    step = _authority_step(held, now_s)
    former = tuple(one for one in held.former if one.ends_s > now_s)
    kept = [one for one in (held.signing, held.following, *former) if one and one.ends_s > now_s]
    grows = step in (AuthorityStep.FOUND, AuthorityStep.FOLLOW)
    return Plan(
        step,
        step in (AuthorityStep.FOUND, AuthorityStep.PROMOTE) or _leaf_due(held, name, now_s),
        former,
        grows or held.trusted != {one.fingerprint for one in kept},
    )


def renews_at_s(certificate: Authority | Leaf) -> float:
    return certificate.begins_s + RENEW_SHARE * (certificate.ends_s - certificate.begins_s)


def _authority_step(held: Held, now_s: float) -> AuthorityStep:
    following = held.following
    if following is not None and following.ends_s <= now_s:
        following = None
    if held.signing is None or held.signing.ends_s <= now_s:
        return AuthorityStep.PROMOTE if following is not None else AuthorityStep.FOUND
    if following is not None:
        made_s = following.begins_s + BACKDATE_S
        spread = now_s - made_s >= TRUST_SPREAD_S
        return AuthorityStep.PROMOTE if spread else AuthorityStep.KEEP
    if now_s >= renews_at_s(held.signing):
        return AuthorityStep.FOLLOW
    return AuthorityStep.KEEP


def _leaf_due(held: Held, name: str, now_s: float) -> bool:
    leaf, signing = held.leaf, held.signing
    return (
        leaf is None
        or signing is None
        or leaf.issuer != signing.fingerprint
        or leaf.name != name
        or now_s >= renews_at_s(leaf)
    )
