"""Who may ask, and for how much: tenants and the hashes of their keys, as a file tells them. Pure.

A key itself is never here, in a file or in a message: only its SHA-256 is known. Keys are 256
random bits, so their plain hash is as hard to turn back as one that is made slow on purpose, and a
look-up need not take constant time: nobody who measures it can choose a hash bit by bit.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any

import msgspec

from baton.common.errors import ConfigError

TENANTS_MAX = 1_000
"""Each tenant has series of its own in the metrics, about twenty."""

KEYS_MAX = 16
"""Per tenant: two while one follows the other, for a handful of applications."""

WEIGHT_MAX = 100
SALT_BYTES = 16  # as of a client's own salt
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HASH = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    weight: int = 1  # of the prompt tokens, against the other tenants'
    requests_max: int | None = None  # in flight in one router

    def salt(self, client_salt: bytes) -> bytes:
        """What keeps this tenant's prefix cache apart, with a salt of the client's mixed in: no
        salt that a client can send leads into the cache of another tenant."""
        told = self.name.encode() + b"\0" + client_salt  # a name has no NUL
        return blake2b(told, digest_size=SALT_BYTES, person=b"baton-tenant").digest()


class Register:
    """Tenants by the hashes of their keys."""

    def __init__(self, tenants: Mapping[bytes, Tenant]) -> None:
        self._tenants = tenants

    def tenant_of(self, key: bytes) -> Tenant | None:
        return self._tenants.get(sha256(key).digest())


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    keys_sha256: list[str]
    weight: int = 1
    requests_max: int | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tenants: list[msgspec.Raw]  # each read on its own, to tell of all that are wrong


def read_register(content: bytes) -> Register:
    """Raises ConfigError with every problem; none repeats what should be a hash and may be a
    key."""
    entries = _typed(content, _File, "the file").tenants
    if len(entries) > TENANTS_MAX:
        raise ConfigError([f"{len(entries)} tenants, at most {TENANTS_MAX} may be"])
    problems: list[str] = []
    tenants: dict[bytes, Tenant] = {}
    names: set[str] = set()
    for index, raw in enumerate(entries):
        try:
            entry = _typed(raw, _Entry, f"tenants[{index}]")
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        found = [*_problems(entry), *_shared(entry, names, tenants)]
        problems.extend(f"tenants[{index}]: {problem}" for problem in found)
        if not found:
            names.add(entry.name)
            tenant = Tenant(entry.name, entry.weight, entry.requests_max)
            tenants.update(dict.fromkeys(_hashes(entry.keys_sha256), tenant))
    if problems:
        raise ConfigError(problems)
    return Register(tenants)


def _typed(content: bytes | msgspec.Raw, kind: type[Any], place: str) -> Any:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        if "unknown field" in str(error):  # whose name we do not know to be no key
            fields = ", ".join(kind.__struct_fields__)
            raise ConfigError([f"{place} has a field besides {fields}"]) from None
        raise ConfigError([f"{place}: {error}"]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ConfigError([f"{place} is no JSON"]) from None


def _problems(entry: _Entry) -> Iterator[str]:
    """Of one entry by itself."""
    if not _NAME.fullmatch(entry.name):
        yield "the name must have 1 to 63 of a-z, 0-9 and, inside, -"
    if len(entry.keys_sha256) > KEYS_MAX:
        yield f"{len(entry.keys_sha256)} keys, at most {KEYS_MAX} may be"
    for index, text in enumerate(entry.keys_sha256[:KEYS_MAX]):
        if not _HASH.fullmatch(text):
            yield f"keys_sha256[{index}] must have 64 hexadecimal digits: a key's hash, not the key"
    if not 1 <= entry.weight <= WEIGHT_MAX:
        yield f"weight must be from 1 to {WEIGHT_MAX}, not {entry.weight}"
    if entry.requests_max is not None and entry.requests_max < 1:
        yield f"requests_max must be at least 1, not {entry.requests_max}"


def _shared(entry: _Entry, names: set[str], tenants: Mapping[bytes, Tenant]) -> Iterator[str]:
    """What an entry has in common with one before it."""
    if entry.name in names:
        yield f"there is a tenant {entry.name} already"
    for hashed in _hashes(entry.keys_sha256):
        if hashed in tenants:
            yield f"a key of it is one of {tenants[hashed].name}"


def _hashes(texts: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts if _HASH.fullmatch(text)]
