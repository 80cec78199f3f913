"""The house rules that a machine can check: text in, problems out. Knows no files and no git.

Each rule returns a list of problems, empty for tidy text. `tests/consistency` applies them to the
tree, and shows of each that it can fail.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import PurePosixPath

FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 70
FILE_BYTES_MAX = 40 * 1024 * 1024  # what common Git hosts take without complaint is about 50 MiB

VAGUE_CLASS = re.compile(r"(Manager|Helper|Utils?|Base)(?=[A-Z]|$)")
VAGUE_MODULES = {"util", "utils", "helper", "helpers", "base", "manager", "misc"}
LOOSE_END = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
# "docs/work/" is fine: only absolute paths name a machine.
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root)/|/tmp/brie[f]")
REGISTRY_ADDRESS = re.compile(r"https?://|^\s*-(i|f)\b|--(extra-)?index-url|--find-links")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_problems(path: str, source: str) -> list[str]:
    """Every rule for a Python file. `path` is relative to the repository."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"{path}:{error.lineno}: {error.msg}"]
    return [
        *opening_problems(path, tree),
        *size_problems(path, source, tree),
        *name_problems(path, tree),
        *loose_ends(path, source),
    ]


def opening_problems(path: str, tree: ast.Module) -> list[str]:
    """A module says what it is; an empty package marker has nothing to say."""
    if tree.body and not ast.get_docstring(tree):
        return [f"{path}: opens without a docstring"]
    return []


def size_problems(path: str, source: str, tree: ast.Module) -> list[str]:
    problems: list[str] = []
    lines = len(source.splitlines())
    if lines > FILE_LINES_MAX:
        problems.append(f"{path}: {lines} lines (at most {FILE_LINES_MAX})")
    for function in _functions(tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES_MAX:
            problems.append(
                f"{path}:{function.lineno}: {function.name} has {length} lines "
                f"(at most {FUNCTION_LINES_MAX})"
            )
    return problems


def name_problems(path: str, tree: ast.Module) -> list[str]:
    problems: list[str] = []
    module = PurePosixPath(path).stem
    if module in sys.stdlib_module_names and not module.startswith("__"):
        problems.append(f"{path}: named like a module of the standard library")
    if module in VAGUE_MODULES:
        problems.append(f"{path}: the name says nothing")
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    problems.extend(
        f"{path}:{found.lineno}: class {found.name}: {vague[0]} says nothing"
        for found in classes
        if (vague := VAGUE_CLASS.search(found.name))
    )
    return problems


def loose_ends(path: str, source: str) -> list[str]:
    """Comments that promise work without an issue, such as TODO(#12), that tracks it."""
    comments = (
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    )
    return [
        f"{path}:{comment.start[0]}: {found[0]} without an issue"
        for comment in comments
        if (found := LOOSE_END.search(comment.string))
    ]


def machine_paths(path: str, text: str) -> list[str]:
    """Paths that exist only where the text was written."""
    return [
        f"{path}:{number}: names the machine path {found[0]}"
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := MACHINE_PATH.search(line))
    ]


def registry_addresses(path: str, text: str) -> list[str]:
    """Locked requirements install from whatever index the machine has configured."""
    return [
        f"{path}:{number}: names a package index"
        for number, line in enumerate(text.splitlines(), start=1)
        if REGISTRY_ADDRESS.search(line)
    ]


def size_of_file_problems(path: str, size_bytes: int) -> list[str]:
    if size_bytes > FILE_BYTES_MAX:
        return [f"{path}: {size_bytes} bytes (at most {FILE_BYTES_MAX})"]
    return []


def unmentioned_folders(readme: str, folders: set[str]) -> list[str]:
    """Top-level folders that the README's file tree leaves out."""
    return [
        f"README.md: {name}/ is not in the file tree"
        for name in sorted(folders)
        if not re.search(rf"(?m)^{re.escape(name)}/", readme)
    ]


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))
