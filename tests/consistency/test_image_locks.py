"""The images' locked requirements are those that tests run with, and those the project asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("router", "worker", "operator")
LOCKS = (*ROLES, "build")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """Name -> version of requirements/LOCK.txt."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    found = {canonicalize_name(match["name"]): match["version"] for match in PIN.finditer(text)}
    assert found
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_an_image_has_the_versions_that_were_tested(lock: str) -> None:
    tested = pins("dev")
    strangers = {"uv"} if lock == "build" else set()  # uv installs; nothing of ours imports it
    different = {
        name: (version, tested.get(name))
        for name, version in pins(lock).items()
        if name not in strangers and tested.get(name) != version
    }
    assert different == {}, "run `make lock`"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_all_that_the_project_asks_for(role: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"][role]]
    locked = pins(role)
    missing = [
        text
        for text in wanted
        if (need := Requirement(text)).specifier.contains(
            locked.get(canonicalize_name(need.name), "0")
        )
        is False
    ]
    assert missing == [], "run `make lock`"


def test_torch_is_in_the_worker_alone() -> None:
    assert [role for role in ROLES if "torch" in pins(role)] == ["worker"]
    assert [role for role in ROLES if any(name.startswith("nvidia-") for name in pins(role))] == [
        "worker"
    ]


def test_images_are_made_with_the_uv_that_locks() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [version] = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert pins("build")["uv"] == version


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    unhashed = [
        block.splitlines()[0] for block in blocks if block and "--hash=sha256:" not in block
    ]
    assert unhashed == []
