"""Builds the kernels with the machine's compiler, once per source, compiler and processor level.

Knows compilers, files and processor flags; knows nothing of what the kernels compute. As a program
(`python -m baton.engine.kernels.build`) it builds every level into the package, for images.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from baton.common.errors import BatonError

SOURCE_DIR = Path(__file__).parent / "source"
PREBUILT_DIR = Path(__file__).parent / "prebuilt"
CPU_FACTS = Path("/proc/cpuinfo")
COMPILERS = ("c++", "g++", "clang++")
# Floats are multiplied and added exactly as written, so that every compiler finds the same bits.
FLAGS = ("-O3", "-std=c++20", "-fPIC", "-shared", "-pthread", "-ffp-contract=off")
# About 10 s on a busy core; a compiler that takes longer than this hangs.
COMPILE_LIMIT_S = 180.0
MESSAGE_CHARS_MAX = 500


class KernelsUnavailable(BatonError):
    """This machine cannot run, or cannot build, the kernels: torch does their work instead."""


@dataclass(frozen=True, slots=True)
class CpuLevel:
    """A set of instructions that a build may use."""

    name: str
    needs: frozenset[str]  # as /proc/cpuinfo calls them
    flags: tuple[str, ...]  # as compilers call them


_AVX2 = frozenset({"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"}
X86_NAMES = ("x86_64", "AMD64")  # what systems call the processors that the levels are of
_AVX512_FLAGS = ("-march=x86-64-v4", "-mavx512vnni")
# Best first. AVX-512 without VNNI has no 8-bit products that would be worth a level of its own.
LEVELS = (
    CpuLevel(
        "avx512-amx",
        _AVX512 | {"avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"},
        (*_AVX512_FLAGS, "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"),
    ),
    CpuLevel("avx512-vnni-bf16", _AVX512 | {"avx512_bf16"}, (*_AVX512_FLAGS, "-mavx512bf16")),
    CpuLevel("avx512-vnni", _AVX512, _AVX512_FLAGS),
    CpuLevel("avx2", _AVX2, ("-march=x86-64-v3",)),
)


def cpu_flags(facts: Path = CPU_FACTS) -> frozenset[str]:
    """What the processor can do; empty where the system does not say."""
    if not facts.exists():
        return frozenset()
    for line in facts.read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def cpu_level(flags: frozenset[str]) -> CpuLevel:
    """The best level these flags allow. Raises KernelsUnavailable."""
    for level in LEVELS:
        if level.needs <= flags:
            return level
    raise KernelsUnavailable("the processor has no AVX2")


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "baton" / "kernels"


def library_path(cache_dir: Path, environ: Mapping[str, str]) -> Path:
    """The library for this processor: prebuilt, built before, or built now.

    Raises KernelsUnavailable.
    """
    level = cpu_level(cpu_flags())
    prebuilt = PREBUILT_DIR / library_name(level, "")
    if prebuilt.exists():
        return prebuilt
    compiler = find_compiler(environ)
    path = cache_dir / library_name(level, compiler_version(compiler))
    if not path.exists():
        compile_library(compiler, level, path)
    return path


def library_name(level: CpuLevel, version: str) -> str:
    """Changes with the sources, the flags and the compiler's version."""
    digest = sha256(repr((FLAGS, level.flags, version)).encode())
    for source in sorted(SOURCE_DIR.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return f"libbaton-{level.name}-{digest.hexdigest()[:16]}.so"


def find_compiler(environ: Mapping[str, str]) -> str:
    """The C++ compiler's path. Raises KernelsUnavailable."""
    for name in (environ["CXX"],) if environ.get("CXX") else COMPILERS:
        found = shutil.which(name, path=environ.get("PATH"))
        if found is not None:
            return found
    raise KernelsUnavailable("there is no C++ compiler")


def compiler_version(compiler: str) -> str:
    return _run([compiler, "--version"])


def compile_library(compiler: str, level: CpuLevel, path: Path) -> None:
    """Writes the library at `path` in one move: two processes may race. Raises
    KernelsUnavailable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            made = Path(scratch) / path.name
            source = SOURCE_DIR / "exports.cpp"
            _run([compiler, *FLAGS, *level.flags, str(source), "-o", str(made)])
            os.replace(made, path)
    except OSError as error:
        raise KernelsUnavailable(f"the kernels cannot be written: {error.strerror}") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailable(f"the C++ compiler does not run: {error!s:.200}") from error
    if done.returncode != 0:
        raise KernelsUnavailable(
            f"the C++ compiler refuses the kernels: {done.stderr[:MESSAGE_CHARS_MAX]}"
        )
    return done.stdout


def prebuild(levels: Sequence[CpuLevel], folder: Path, environ: Mapping[str, str]) -> list[Path]:
    """One library per level in `folder`, and none of older sources. Raises KernelsUnavailable."""
    compiler = find_compiler(environ)
    paths = [folder / library_name(level, "") for level in levels]
    for level, path in zip(levels, paths, strict=True):
        if not path.exists():
            compile_library(compiler, level, path)
    for stale in set(folder.glob("*.so")) - set(paths):
        stale.unlink()
    return paths


def main() -> None:
    """Every level into the package; images then need no compiler."""
    if platform.machine() not in X86_NAMES:
        print("no kernels for this processor: torch computes", file=sys.stderr)
        return
    for path in prebuild(LEVELS, PREBUILT_DIR, os.environ):
        print(path.name, file=sys.stderr)


if __name__ == "__main__":
    main()
