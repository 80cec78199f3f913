"""Building the kernels: which level, which compiler, and what happens where there is none."""

import logging
import stat
from pathlib import Path

import pytest
from baton.engine.kernels import build
from baton.engine.kernels.build import (
    LEVELS,
    KernelsUnavailable,
    compile_library,
    cpu_flags,
    cpu_level,
    default_cache_dir,
    find_compiler,
    library_name,
)
from baton.engine.kernels.selection import Kernels, choose_library, open_library
from baton.engine.quant.quantization import Quantization

BEST, BF16, VNNI, NARROW = LEVELS


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_best_level_the_processor_has_is_taken(tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor\t: 0\nflags\t\t: fpu " + " ".join(VNNI.needs) + "\nbugs\t: a\n")
    assert cpu_level(cpu_flags(facts)) is VNNI
    assert cpu_level(BEST.needs) is BEST
    assert cpu_level(BEST.needs - {"amx_int8"}) is BF16
    assert cpu_level(NARROW.needs) is NARROW
    assert cpu_level(NARROW.needs | {"avx512f", "avx512bw"}) is NARROW


def test_a_processor_without_wide_vectors_has_no_kernels(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "none") == frozenset()
    with pytest.raises(KernelsUnavailable, match="AVX2"):
        cpu_level(frozenset({"avx", "sse4_2"}))


def test_the_name_changes_with_level_and_compiler() -> None:
    names = {library_name(level, version) for level in LEVELS for version in ("", "12", "13")}
    assert len(names) == 3 * len(LEVELS)
    assert library_name(BEST, "12") == library_name(BEST, "12")


def test_the_chosen_compiler_is_taken_and_no_other(tmp_path: Path) -> None:
    mine = script(tmp_path / "mine", "exit 0")
    other = script(tmp_path / "g++", "exit 0")
    assert find_compiler({"CXX": str(mine), "PATH": str(tmp_path)}) == str(mine)
    assert find_compiler({"PATH": str(tmp_path)}) == str(other)
    for environ in ({"PATH": str(tmp_path / "none")}, {"CXX": "absent", "PATH": str(tmp_path)}):
        with pytest.raises(KernelsUnavailable, match="no C\\+\\+ compiler"):
            find_compiler(environ)


def test_a_library_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    made = tmp_path / "cache" / "lib.so"
    writes = script(tmp_path / "writes", 'while [ "$1" != -o ]; do shift; done; echo ok > "$2"')
    compile_library(str(writes), BEST, made)
    assert made.read_text() == "ok\n"
    fails = script(tmp_path / "fails", 'while [ "$1" != -o ]; do shift; done; echo > "$2"; exit 1')
    with pytest.raises(KernelsUnavailable, match="refuses"):
        compile_library(str(fails), BEST, tmp_path / "cache" / "other.so")
    assert list((tmp_path / "cache").iterdir()) == [made]


def test_a_place_that_cannot_be_written_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelsUnavailable, match="cannot be written"):
        compile_library("c++", BEST, tmp_path / "file" / "lib.so")


def test_the_cache_lies_where_the_user_keeps_caches() -> None:
    assert default_cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/baton/kernels")
    assert default_cache_dir({}).parts[-3:] == (".cache", "baton", "kernels")


def test_torch_is_a_choice() -> None:
    assert choose_library(Kernels.TORCH, Quantization.INT8) is None


def test_a_library_that_does_not_load_leaves_the_work_to_torch_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.so"
    broken.write_text("not a library")
    monkeypatch.setattr("baton.engine.kernels.selection.library_path", lambda *_: broken)
    with caplog.at_level(logging.INFO):
        assert choose_library(Kernels.AUTO, Quantization.INT8, tmp_path) is None
    [record] = caplog.records
    assert record.message == "kernels are not used"
    open_library.cache_clear()


def test_sources_lie_in_the_package() -> None:
    package = Path(build.__file__).parent
    assert {path.suffix for path in (package / "source").iterdir()} == {".h", ".cpp"}
    longest = max(len(path.read_text().splitlines()) for path in (package / "source").iterdir())
    assert longest <= 350
