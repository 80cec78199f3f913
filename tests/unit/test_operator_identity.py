"""Certificates that TLS accepts: of one service, renewed in time, through a change of the CA."""

import base64
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from baton_operator.certificates import AUTHORITY_LIFETIME_S, DAY_S, TRUST_SPREAD_S
from baton_operator.identity import ensure_identity
from baton_operator.kinds import Kind
from cryptography import x509
from support.fake_kube import FakeKube
from support.model_services import OWNER

NOW = 1_800_000_000.0


class Files:
    """The files of a pod, as kubelet writes them at some moment."""

    def __init__(self, folder: Path, kube: FakeKube) -> None:
        folder.mkdir()
        data = kube.of(Kind.SECRET)["smol-tls"]["data"]
        for name, content in data.items():
            (folder / name).write_bytes(base64.b64decode(content))
        self.folder = folder

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / "tls.crt").read_bytes())

    @property
    def trusted(self) -> int:
        """How many authorities."""
        return len(x509.load_pem_x509_certificates((self.folder / "ca.crt").read_bytes()))

    def context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        """Strict, and both ways."""
        context = ssl.create_default_context(purpose, cafile=str(self.folder / "ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """In memory. Raises ssl.SSLError where one does not accept the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert not ends, "the handshake did not end"


def accept_each_other(one: Files, other: Files, name: str = OWNER.tls_name) -> None:
    for client, server in ((one, other), (other, one)):
        shake_hands(
            client.context(ssl.Purpose.SERVER_AUTH),
            server.context(ssl.Purpose.CLIENT_AUTH),
            name,
        )


async def test_pods_accept_each_other_and_nobody_under_another_name(tmp_path: Path) -> None:
    kube = FakeKube()
    await ensure_identity(kube, OWNER, time.time())
    pod = Files(tmp_path / "pod", kube)
    accept_each_other(pod, pod)
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        accept_each_other(pod, pod, "other.models.baton")


async def test_another_services_pods_are_strangers(tmp_path: Path) -> None:
    mine, theirs = FakeKube(), FakeKube()
    await ensure_identity(mine, OWNER, time.time())
    await ensure_identity(theirs, OWNER, time.time())
    with pytest.raises(ssl.SSLError):
        accept_each_other(Files(tmp_path / "a", mine), Files(tmp_path / "b", theirs))


async def test_a_second_pass_writes_nothing() -> None:
    kube = FakeKube()
    await ensure_identity(kube, OWNER, NOW)
    kube.writes.clear()
    await ensure_identity(kube, OWNER, NOW + DAY_S)
    assert kube.writes == []


async def test_the_leaf_is_renewed_by_the_same_authority(tmp_path: Path) -> None:
    kube = FakeKube()
    await ensure_identity(kube, OWNER, NOW)
    before = Files(tmp_path / "before", kube)
    kube.writes.clear()
    await ensure_identity(kube, OWNER, NOW + 21 * DAY_S)
    after = Files(tmp_path / "after", kube)
    assert kube.writes == [("apply", "Secret", "smol-tls")]
    assert after.leaf.serial_number != before.leaf.serial_number
    assert (after.folder / "ca.crt").read_bytes() == (before.folder / "ca.crt").read_bytes()
    lifetime = after.leaf.not_valid_after_utc - after.leaf.not_valid_before_utc
    assert 29 < lifetime.days <= 30


async def test_through_a_change_of_the_authority_old_and_new_files_accept_each_other(
    tmp_path: Path,
) -> None:
    """OpenSSL looks at today's date, so the change is laid just before now."""
    kube, followed_s = FakeKube(), time.time() - 2 * TRUST_SPREAD_S
    began_s = followed_s - AUTHORITY_LIFETIME_S * 0.7
    await ensure_identity(kube, OWNER, began_s)
    steps = {
        "renewed": followed_s - 15 * DAY_S,
        "following": followed_s,
        "promoted": followed_s + TRUST_SPREAD_S + 60.0,
    }
    files = {}
    for name, moment_s in steps.items():
        await ensure_identity(kube, OWNER, moment_s)
        files[name] = Files(tmp_path / name, kube)
    assert [files[name].trusted for name in steps] == [1, 2, 2]
    assert files["promoted"].leaf.issuer != files["following"].leaf.issuer
    accept_each_other(files["renewed"], files["following"])
    accept_each_other(files["following"], files["promoted"])
    with pytest.raises(ssl.SSLError):  # which is why the new one is trusted before it signs
        accept_each_other(files["renewed"], files["promoted"])
    data = kube.of(Kind.SECRET)["smol-ca"]["data"]
    assert data.keys() == {"ca.crt", "ca.key", "former.crt"}  # the old key is gone


def lose_leaf(kube: FakeKube) -> None:
    del kube.objects[Kind.SECRET, OWNER.namespace, "smol-tls"]


@pytest.mark.parametrize(
    ("secret", "key"),
    [("smol-ca", "ca.key"), ("smol-ca", "ca.crt"), ("smol-tls", "tls.key"), ("smol-tls", "ca.crt")],
)
@pytest.mark.parametrize("content", ["", "bm90aGluZw==", "%%%"])
async def test_what_somebody_spoiled_is_made_whole(
    tmp_path: Path, secret: str, key: str, content: str
) -> None:
    kube = FakeKube()
    await ensure_identity(kube, OWNER, time.time())
    data: Any = kube.of(Kind.SECRET)[secret]["data"]
    data[key] = content
    await ensure_identity(kube, OWNER, time.time())
    pod = Files(tmp_path / "pod", kube)
    accept_each_other(pod, pod)


async def test_a_pass_that_stopped_between_the_secrets_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    kube = FakeKube()
    await ensure_identity(kube, OWNER, time.time())
    lose_leaf(kube)
    await ensure_identity(kube, OWNER, time.time())
    pod = Files(tmp_path / "pod", kube)
    accept_each_other(pod, pod)


async def test_a_secret_of_somebody_else_is_left_alone_and_told() -> None:
    kube = FakeKube()
    kube.put({"kind": "Secret", "metadata": {"name": "smol-ca", "namespace": OWNER.namespace}})
    assert await ensure_identity(kube, OWNER, NOW) == ("Secret smol-ca",)
    assert kube.writes == []
