"""TLS files as a Secret mounts them: what is accepted, what is refused with which words, and what a
replacement changes. No network: an identity proves itself in memory."""

from pathlib import Path

import pytest
from baton.common.errors import ConfigError
from baton.rpc.identity_files import (
    FILE_BYTES_MAX,
    LOOK_INTERVAL_S,
    IdentitySource,
    TlsFiles,
    read_identity,
    tls_files,
)
from support.hand_clock import HandClock
from support.tls_files import NAME, Authority, Leaf, MountedSecret, secret


def problem_of(files: TlsFiles) -> str:
    with pytest.raises(ConfigError) as caught:
        read_identity(files)
    return caught.value.message


def test_files_that_fit_together_are_an_identity(tmp_path: Path) -> None:
    authority = Authority()
    identity = read_identity(secret(tmp_path / "tls", authority).files())
    assert identity.ca == authority.pem
    assert identity.certificate.startswith(b"-----BEGIN CERTIFICATE-----")
    assert identity.expires_unix_s > 1e9


def test_a_bundle_of_two_authorities_is_accepted(tmp_path: Path) -> None:
    old, new = Authority("old"), Authority("new")
    mounted = MountedSecret(tmp_path / "tls")
    mounted.write(old.pem + new.pem, new.leaf())
    assert read_identity(mounted.files()).ca == old.pem + new.pem


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    message = problem_of(TlsFiles(tmp_path, NAME))
    assert all(name in message for name in ("ca.crt", "tls.crt", "tls.key"))


def test_another_name_an_expired_leaf_and_a_foreign_authority_are_told_apart(
    tmp_path: Path,
) -> None:
    authority, mounted = Authority(), MountedSecret(tmp_path / "tls")
    mounted.write(authority.pem, authority.leaf("other.default.baton"))
    assert f"not valid for '{NAME}'" in problem_of(mounted.files())
    mounted.write(authority.pem, authority.leaf(expired=True))
    assert "certificate has expired" in problem_of(mounted.files())
    mounted.write(Authority("somebody else").pem, authority.leaf())
    assert "tls.crt" in problem_of(mounted.files())


def test_a_key_of_another_certificate_and_junk_are_refused(tmp_path: Path) -> None:
    authority, mounted = Authority(), MountedSecret(tmp_path / "tls")
    leaf = authority.leaf()
    mounted.write(authority.pem, Leaf(leaf.certificate, authority.leaf().key))
    assert "tls.crt and tls.key" in problem_of(mounted.files())
    mounted.write(b"junk", leaf)
    assert "ca.crt" in problem_of(mounted.files())
    mounted.write(b"#" * (FILE_BYTES_MAX + 1), leaf)
    assert "more than" in problem_of(mounted.files())


def test_a_replacement_is_seen_after_the_look_interval_and_not_before(tmp_path: Path) -> None:
    authority, clock = Authority(), HandClock()
    mounted = secret(tmp_path / "tls", authority)
    source = IdentitySource(mounted.files(), clock=clock)
    first = source.current()
    mounted.write(authority.pem, authority.leaf())
    clock.now_s += LOOK_INTERVAL_S / 2
    assert source.current() is first
    clock.now_s += LOOK_INTERVAL_S / 2
    second = source.current()
    assert second.certificate != first.certificate
    clock.now_s += LOOK_INTERVAL_S
    assert source.current() is second, "the same object while nothing changes"


def test_unfit_replacements_leave_the_last_good_identity(tmp_path: Path) -> None:
    authority, clock = Authority(), HandClock()
    mounted = secret(tmp_path / "tls", authority)
    source = IdentitySource(mounted.files(), clock=clock)
    good = source.current()
    for ca, leaf in (
        (b"junk", authority.leaf()),
        (authority.pem, authority.leaf(expired=True)),
        (authority.pem, authority.leaf("other.default.baton")),
    ):
        mounted.write(ca, leaf)
        clock.now_s += LOOK_INTERVAL_S
        assert source.current() is good
    (tmp_path / "tls" / "tls.key").unlink()
    clock.now_s += LOOK_INTERVAL_S
    assert source.current() is good


def test_directory_and_name_go_together() -> None:
    assert tls_files(None, None) is None
    assert tls_files(Path("tls"), NAME) == TlsFiles(Path("tls"), NAME)
    for given in ((Path("tls"), None), (None, NAME), (Path("tls"), "")):
        with pytest.raises(ConfigError, match="--tls-name"):
            tls_files(*given)
