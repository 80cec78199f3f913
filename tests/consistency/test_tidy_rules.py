"""Each tidy rule finds what it is for, and leaves tidy text alone."""

import pytest
from support import tidy_rules as rules

TIDY = '''"""What it is."""


def works() -> None:
    """Short."""
'''


def long_function(lines: int) -> str:
    return '"""D."""\ndef long():\n' + "    x = 1\n" * (lines - 1)


def test_tidy_text_has_no_problems() -> None:
    assert rules.python_problems("services/baton/tidy.py", TIDY) == []
    assert rules.python_problems("services/baton/__init__.py", "") == []
    assert rules.python_problems("services/baton/__main__.py", TIDY) == []


@pytest.mark.parametrize(
    ("path", "source", "says"),
    [
        pytest.param("a/x.py", "x = (\n", "never closed", id="broken"),
        pytest.param("a/x.py", "import os\n", "without a docstring", id="no-docstring"),
        pytest.param("a/__init__.py", "x = 1\n", "without a docstring", id="package-with-code"),
        pytest.param("a/x.py", '"""D."""\n' + "x = 1\n" * 350, "351 lines", id="long-file"),
        pytest.param("a/x.py", long_function(71), "long has 71 lines", id="long-function"),
        pytest.param(
            "a/x.py",
            TIDY + "class A:\n    async def long(self):\n" + "        x = 1\n" * 70,
            "long has 71 lines",
            id="long-async-method",
        ),
        pytest.param("a/queue.py", TIDY, "standard library", id="stdlib-name"),
        pytest.param("a/utils.py", TIDY, "says nothing", id="vague-module"),
        pytest.param("a/x.py", TIDY + "class PoolManager: ...\n", "Manager", id="manager"),
        pytest.param("a/x.py", TIDY + "class BaseWorker: ...\n", "Base", id="base"),
        pytest.param("a/x.py", TIDY + "# TODO: later\n", "TODO without", id="todo"),
        pytest.param("a/x.py", TIDY + "x = 1  # FIXME soon\n", "FIXME without", id="fixme"),
    ],
)
def test_each_python_rule_can_fail(path: str, source: str, says: str) -> None:
    [problem] = rules.python_problems(path, source)
    assert says in problem
    assert problem.startswith(path)


@pytest.mark.parametrize(
    "addition",
    [
        "# TODO(#12): when the operator comes\n",
        'text = "TODO"\n',
        "class Basement: ...\n",
        "class Utilization: ...\n",
    ],
)
def test_look_alikes_pass(addition: str) -> None:
    assert rules.python_problems("a/x.py", TIDY + addition) == []


def test_sizes_at_the_limit_pass() -> None:
    assert rules.python_problems("a/x.py", long_function(70)) == []
    assert rules.python_problems("a/x.py", '"""D."""\n' + "x = 1\n" * 349) == []


# Joined here, so that this file itself names no such path.
@pytest.mark.parametrize("parts", [("", "work", "x"), ("", "root", ".cache"), ("", "tmp", "brief")])
def test_machine_paths_are_found_with_their_line(parts: tuple[str, ...]) -> None:
    [problem] = rules.machine_paths("README.md", f"fine\nsee '{'/'.join(parts)}'\n")
    assert problem.startswith("README.md:2:")


def test_relative_paths_are_fine() -> None:
    assert rules.machine_paths("README.md", "see /tmp/x, docs/work/ and ./root/\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://index.test/simple",
        "--extra-index-url x",
        "-i x",
        "--find-links wheels",
        "torch @ http://index.test/torch.whl",
    ],
)
def test_index_addresses_are_found(line: str) -> None:
    assert len(rules.registry_addresses("requirements/dev.txt", f"a==1\n{line}\n")) == 1


def test_pins_with_hashes_are_fine() -> None:
    pins = "a==1 \\\n    --hash=sha256:00ff\n    # via b\n"
    assert rules.registry_addresses("requirements/dev.txt", pins) == []


def test_a_large_file_is_found() -> None:
    assert rules.size_of_file_problems("model.gguf", rules.FILE_BYTES_MAX + 1)
    assert rules.size_of_file_problems("model.gguf", rules.FILE_BYTES_MAX) == []


def test_a_folder_missing_from_the_readme_is_found() -> None:
    readme = "see docs/adr/\n\n```\nservices/   the source\n```\n"
    [problem] = rules.unmentioned_folders(readme, {"services", "docs"})
    assert "docs/" in problem
