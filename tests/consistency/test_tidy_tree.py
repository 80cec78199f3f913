"""The tidy rules, applied to every file that git tracks or would track."""

import subprocess
from pathlib import Path

import pytest
from support import tidy_rules as rules

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "services/baton/rpc/v1/"
PYTHON_ROOTS = ("services/", "loadtest/", "operator/", "tests/")


def tracked_files() -> list[str]:
    """Paths relative to the root: in the index, or new and not ignored; not deleted ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted(path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file())


@pytest.fixture(scope="module")
def files() -> list[str]:
    found = tracked_files()
    assert "pyproject.toml" in found
    return found


def test_python_files_keep_the_house_rules(files: list[str]) -> None:
    checked = [
        path
        for path in files
        if path.endswith(".py") and path.startswith(PYTHON_ROOTS) and GENERATED not in path
    ]
    assert len(checked) > 50
    problems = [
        problem
        for path in checked
        for problem in rules.python_problems(path, (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert problems == []


def test_no_text_names_a_path_of_one_machine(files: list[str]) -> None:
    problems = [
        problem
        for path in files
        for problem in rules.machine_paths(path, (ROOT / path).read_text(errors="replace"))
    ]
    assert problems == []


def test_locked_requirements_name_no_index(files: list[str]) -> None:
    locks = [path for path in files if path.startswith("requirements/")]
    assert locks
    problems = [
        problem
        for path in locks
        for problem in rules.registry_addresses(path, (ROOT / path).read_text())
    ]
    assert problems == []


def test_no_file_is_too_large_for_git(files: list[str]) -> None:
    problems = [
        problem
        for path in files
        for problem in rules.size_of_file_problems(path, (ROOT / path).stat().st_size)
    ]
    assert problems == []


def test_readme_shows_every_top_level_folder(files: list[str]) -> None:
    folders = {path.split("/", 1)[0] for path in files if "/" in path}
    assert {"services", "tests", "proto"} <= folders
    assert rules.unmentioned_folders((ROOT / "README.md").read_text(), folders) == []
