"""What an image is made of: a copy of it, and one hash, so that equal inputs are not built twice.

Knows which files the Dockerfile copies; knows no image. `tests/consistency` holds it against the
Dockerfile and its ignore file.
"""

import shutil
from hashlib import sha256
from pathlib import Path

ROLES = ("router", "worker", "operator")
# As the ignore file beside the Dockerfile says it.
COPIED = (
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "deploy/docker",
    "loadtest/baton_loadtest",
    "operator/baton_operator",
    "services/baton",
)
UNCOPIED = ("__pycache__", "prebuilt")


def lock_files(role: str) -> tuple[str, str]:
    """The locked requirements that the image of a role is made with."""
    return ("requirements/build.txt", f"requirements/{role}.txt")


def copy_inputs(root: Path, role: str, context: Path) -> None:
    """Every file below `root` that can change the image of `role`, to the same place in the
    folder `context`.
    """
    for name in (*COPIED, *lock_files(role)):
        source, target = root / name, context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*UNCOPIED))
        else:
            shutil.copy2(source, target)


def fingerprint(context: Path, *others: str) -> str:
    """Hex sha256 over the names and contents of all files below `context`; `others` are strings
    that matter too.
    """
    digest = sha256(repr(others).encode())
    for file in sorted(path for path in context.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(context)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
