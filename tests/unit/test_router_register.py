"""Tenants and their keys: what a file may say, all that is wrong with it at once, and what a new
version changes."""

import logging
from pathlib import Path

import pytest
from baton.common.errors import ConfigError
from baton.router.tenants.register import KEYS_MAX, TENANTS_MAX, Tenant, read_register
from baton.router.tenants.register_file import FILE_BYTES_MAX, LOOK_INTERVAL_S, RegisterFile
from support.hand_clock import HandClock
from support.tenant_files import KEYS, entry, hashed, register_bytes, write_register


def problems_of(content: bytes) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read_register(content)
    return caught.value.problems


def test_a_key_leads_to_its_tenant_by_its_hash() -> None:
    register = read_register(
        register_bytes(
            entry("red"),
            entry("blue", "new key", "old key", weight=3, requests_max=20),
            {"name": "loud", "keys_sha256": [hashed("loud").upper()]},
            {"name": "nobody-any-more", "keys_sha256": []},
        )
    )
    assert register.tenant_of(KEYS["red"].encode()) == Tenant("red", 1, None)
    for key in (b"new key", b"old key"):
        assert register.tenant_of(key) == Tenant("blue", 3, 20)
    assert register.tenant_of(b"loud") == Tenant("loud")
    assert register.tenant_of(b"another") is None
    assert register.tenant_of(hashed(KEYS["red"]).encode()) is None, "a hash is no key"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "no JSON", id="empty"),
        pytest.param(b"\xff", "no JSON", id="not-utf8"),
        pytest.param(b"[" * 100_000, "", id="deep"),
        pytest.param(b"[]", "Expected `object`", id="list"),
        pytest.param(b"{}", "`tenants`", id="no-tenants"),
        pytest.param(b'{"tenants": [], "x": 1}', "a field besides tenants", id="more"),
        pytest.param(register_bytes(3), "tenants[0]: Expected `object`", id="number"),
        pytest.param(register_bytes({"name": "red"}), "`keys_sha256`", id="no-keys"),
        pytest.param(register_bytes(entry("red", quota=1)), "a field besides name", id="quota"),
        pytest.param(register_bytes(entry("red", weight=0)), "weight must be", id="weight"),
        pytest.param(register_bytes(entry("red", weight=101)), "not 101", id="heavy"),
        pytest.param(register_bytes(entry("red", weight=1.5)), "$.weight", id="half"),
        pytest.param(register_bytes(entry("red", requests_max=0)), "requests_max", id="none"),
        pytest.param(register_bytes(entry("red"), entry("red", "x")), "already", id="twice"),
        pytest.param(register_bytes(entry("red", "x"), entry("blue", "x")), "of red", id="shared"),
        pytest.param(
            register_bytes(*(entry(f"t{i}", f"{i}") for i in range(TENANTS_MAX + 1))),
            "1001 tenants, at most 1000",
            id="tenants",
        ),
        pytest.param(
            register_bytes(entry("red", *(f"{i}" for i in range(KEYS_MAX + 1)))),
            "17 keys, at most 16",
            id="keys",
        ),
    ],
)
def test_what_is_wrong_is_told(content: bytes, says: str) -> None:
    assert any(says in problem for problem in problems_of(content))


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "a\n", "é"])
def test_a_name_is_one_that_labels_and_objects_may_have(name: str) -> None:
    assert "the name must have" in problems_of(register_bytes(entry(name, "key")))[0]
    read_register(register_bytes(entry("a", "1"), entry("0-9", "2"), entry("a" * 63, "3")))


def test_all_problems_are_told_at_once_and_none_repeats_a_key() -> None:
    key = KEYS["red"]
    content = register_bytes(
        {"name": key.upper(), "keys_sha256": [key], "weight": 0},
        {"name": "blue", "keys_sha256": [], key: 1},
        entry("green", requests_max=0),
    )
    problems = problems_of(content)
    assert [problem.split(" ")[0].rstrip(":") for problem in problems] == [
        *("tenants[0]", "tenants[0]", "tenants[0]", "tenants[1]", "tenants[2]")
    ]
    assert key.lower() not in " ".join(problems).lower()


def test_salts_differ_by_tenant_and_by_what_the_client_adds() -> None:
    red, blue = Tenant("red"), Tenant("blue")
    salts = {
        *(red.salt(b""), red.salt(b"s" * 16), red.salt(b"t" * 16)),
        *(blue.salt(b""), blue.salt(b"s" * 16), Tenant("redd").salt(b"")),
        b"s" * 16,
    }
    assert len(salts) == 7
    assert {len(salt) for salt in salts} == {16}
    assert red.salt(b"s") == Tenant("red", weight=9).salt(b"s")


def test_a_new_version_is_seen_after_the_look_interval_and_not_before(tmp_path: Path) -> None:
    clock, path = HandClock(), tmp_path / "keys.json"
    file = RegisterFile(write_register(path, entry("red")), clock)
    first = file.current()
    write_register(path, entry("blue"))
    clock.now_s += LOOK_INTERVAL_S / 2
    assert file.current() is first
    clock.now_s += LOOK_INTERVAL_S / 2
    assert file.current().tenant_of(KEYS["red"].encode()) is None
    assert file.current().tenant_of(KEYS["blue"].encode()) == Tenant("blue")
    second = file.current()
    clock.now_s += LOOK_INTERVAL_S
    assert file.current() is second, "the same while nothing changes"


def test_a_version_is_seen_through_the_links_of_a_mounted_secret(tmp_path: Path) -> None:
    clock, data = HandClock(), tmp_path / "..data"
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        write_register(tmp_path / name / "keys.json", entry(name))
    data.symlink_to("red")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    file = RegisterFile(tmp_path / "keys.json", clock)
    (tmp_path / "..new").symlink_to("blue")
    (tmp_path / "..new").replace(data)
    clock.now_s += LOOK_INTERVAL_S
    assert file.current().tenant_of(KEYS["blue"].encode()) == Tenant("blue")


def test_broken_versions_leave_the_last_good_one_and_are_told_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = HandClock(), tmp_path / "keys.json"
    file = RegisterFile(write_register(path, entry("red")), clock)
    good = file.current()

    def looks(times: int) -> int:
        """How many of so many looks had something to tell."""
        caplog.clear()
        for _ in range(times):
            clock.now_s += LOOK_INTERVAL_S
            assert file.current() is good
        return sum(record.levelno == logging.ERROR for record in caplog.records)

    path.write_bytes(b'{"tenants": [')
    assert looks(3) == 1
    write_register(path, entry("red", weight=1_000))
    assert looks(3) == 1
    path.unlink()
    assert looks(3) == 1
    path.write_bytes(b" " * (FILE_BYTES_MAX + 1))
    assert looks(3) == 1
    write_register(path, entry("blue"))
    clock.now_s += LOOK_INTERVAL_S
    assert file.current().tenant_of(KEYS["blue"].encode()) == Tenant("blue")


def test_a_router_does_not_start_on_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--api-keys-file: No such file"):
        RegisterFile(tmp_path / "nothing", HandClock())
