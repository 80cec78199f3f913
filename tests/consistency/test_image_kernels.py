"""Prebuilt kernels: a pod needs no compiler, and what was built from older sources is not used."""

import os
from pathlib import Path

import pytest
from baton.engine.kernels import build
from baton.engine.kernels.build import (
    LEVELS,
    KernelsUnavailable,
    cpu_flags,
    cpu_level,
    find_compiler,
    library_path,
    prebuild,
)
from baton.engine.kernels.library import KernelLibrary

NO_COMPILER = {"PATH": ""}


@pytest.fixture
def prebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "prebuilt"
    monkeypatch.setattr(build, "PREBUILT_DIR", folder)
    return folder


def fake_compiler(folder: Path) -> dict[str, str]:
    """An environment whose compiler writes its flags where the library should be."""
    script = folder / "c++"
    script.write_text(
        '#!/bin/sh\nflags="$*"\nwhile [ "$1" != -o ]; do shift; done\necho "$flags" > "$2"\n'
    )
    script.chmod(0o755)
    return {"CXX": str(script)}


def test_every_level_is_built_and_older_builds_go(tmp_path: Path, prebuilt: Path) -> None:
    prebuilt.mkdir()
    (prebuilt / "libbaton-avx512-0123.so").write_text("of older sources")
    paths = prebuild(LEVELS, prebuilt, fake_compiler(tmp_path))
    assert sorted(prebuilt.iterdir()) == sorted(paths)
    for level, path in zip(LEVELS, paths, strict=True):
        assert f"libbaton-{level.name}-" in path.name
        assert set(level.flags) <= set(path.read_text().split())


def test_the_kernels_run_where_there_is_no_compiler(tmp_path: Path, prebuilt: Path) -> None:
    try:
        level = cpu_level(cpu_flags())
        find_compiler(os.environ)
    except KernelsUnavailable as error:
        pytest.skip(error.message)
    with pytest.raises(KernelsUnavailable, match="no C\\+\\+ compiler"):
        library_path(tmp_path / "cache", NO_COMPILER)
    [made] = prebuild([level], prebuilt, os.environ)
    found = library_path(tmp_path / "cache", NO_COMPILER)
    assert found == made
    KernelLibrary(found)  # it loads, and has every function
    assert not (tmp_path / "cache").exists()
