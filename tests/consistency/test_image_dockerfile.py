"""The Dockerfile keeps what its images promise, and the local build copies what it copies."""

import json
import re
from pathlib import Path

import pytest
from cluster.images.inputs import COPIED, ROLES, UNCOPIED, copy_inputs, fingerprint

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "docker"
LABELS = ("title", "description", "licenses", "version", "revision")

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """(keyword, rest) of each instruction, continuation lines joined."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (keyword, rest)
        for keyword, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def stages() -> dict[str, list[Instruction]]:
    """Name -> its instructions, the first of which is FROM."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for keyword, rest in instructions():
        if keyword == "FROM":
            current = found.setdefault(rest.split(" AS ")[1], [])
        current.append((keyword, rest))
    return found


def told(stage: str, keyword: str) -> list[str]:
    return [rest for word, rest in stages()[stage] if word == keyword]


def test_bases_can_be_replaced_and_have_defaults() -> None:
    defaults = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    assert defaults["BASE_IMAGE"].startswith("python:3.11-slim")
    assert defaults["BUILD_IMAGE"].startswith("python:3.11")
    assert told("tools", "FROM") == ["${BUILD_IMAGE} AS tools"]
    assert told("runtime", "FROM") == ["${BASE_IMAGE} AS runtime"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_as_a_number_and_without_shell(role: str) -> None:
    assert told(role, "FROM") == [f"runtime AS {role}"]
    assert told(role, "USER") == ["65532:65532"]
    for command in [*told(role, "ENTRYPOINT"), *told(role, "CMD")]:
        assert all(isinstance(word, str) for word in json.loads(command))
    assert told("runtime", "STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize("role", ROLES)
def test_our_code_comes_after_the_dependencies(role: str) -> None:
    """So that a change of our code leaves the large layer alone."""
    steps = [(word, rest) for word, rest in stages()[role] if word in ("COPY", "RUN")]
    assert [word for word, _ in steps] == ["COPY", "RUN", "COPY"]
    lock, dependencies, code = (rest for _, rest in steps)
    assert lock.startswith(f"requirements/{role}.txt ")
    assert "--require-hashes" in dependencies
    assert code == "--from=code /code /opt/baton/code"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_labelled(role: str) -> None:
    [labels] = told(role, "LABEL")
    assert re.findall(r"org\.opencontainers\.image\.(\w+)=", labels) == list(LABELS)
    assert f'title="baton-{role}"' in labels


def test_nothing_names_a_registry() -> None:
    for file in FOLDER.iterdir():
        assert re.findall(r"https?://|index-url|find-links", file.read_text()) == []


def test_the_local_build_sends_what_docker_is_sent() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().split("\n")
    sent = sorted(line[1:] for line in lines if line.startswith("!"))
    assert sent == sorted([*COPIED, "requirements"])
    assert {line.split("/")[-1] for line in lines if line and line[0] not in "!#*"} | {
        line.removeprefix("**/") for line in lines if line.startswith("**/")
    } == set(UNCOPIED)


@pytest.mark.parametrize("role", ROLES)
def test_the_fingerprint_changes_with_what_is_copied_and_only_then(
    role: str, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        copy_inputs(ROOT, role, tmp_path / name)
    before = fingerprint(tmp_path / "first", "base")
    assert fingerprint(tmp_path / "second", "base") == before
    assert fingerprint(tmp_path / "second", "another base") != before
    (tmp_path / "second" / "requirements" / f"{role}.txt").write_text("")
    assert fingerprint(tmp_path / "second", "base") != before
