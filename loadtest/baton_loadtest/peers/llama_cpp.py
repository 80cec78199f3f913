"""llama.cpp: built for this CPU from the sources inside a Python package. Starts nothing.

Served with as many slots as there are clients and one KV cache for all: with its defaults it would
serve one client after the other, and the comparison would say nothing.
"""

import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from baton_loadtest.peers.contestant import LOOPBACK, Contestant
from baton_loadtest.peers.environments import INSTALL_LIMIT_S, PythonEnvironment
from baton_loadtest.peers.process import Command
from baton_loadtest.peers.steps import Run, Step, fingerprint

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
BUILD_TOOLS = ("cmake==4.1.2", "ninja==1.13.0")
"""Where the machine has none."""

TARGETS = ("llama-server", "llama-bench", "llama-quantize")
CMAKE_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
AMX = "amx_tile"
_NO_AMX = " ".join(f"-mno-{name}" for name in ("amx-tile", "amx-int8", "amx-bf16"))
NO_AMX_FLAGS = (f"-DCMAKE_C_FLAGS={_NO_AMX}", f"-DCMAKE_CXX_FLAGS={_NO_AMX}")
"""With matrix registers this version ends in its first step, on some machines
(https://github.com/ggml-org/llama.cpp/issues/20824, and ours): it computes by AVX-512 instead."""

CONFIGURE_LIMIT_S = 300.0
BUILD_LIMIT_S = 7_200.0
"""Six minutes on two free cores; an hour when others have them."""

READY_LIMIT_S = 120.0
SLOTS = 32
CONTEXT_TOKENS = 16_384
"""Of all slots together; 32 requests of 256 + 128 tokens take 12,288."""


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """`cpu`: model and features; a build for one CPU may not run on another."""

    folder: Path
    cpu: str

    @property
    def cmake_flags(self) -> tuple[str, ...]:
        return (*CMAKE_FLAGS, *(NO_AMX_FLAGS if AMX in self.cpu.split() else ()))

    @property
    def source(self) -> Path:
        return self.folder / f"source-{VERSION}"

    @property
    def build(self) -> Path:
        return self.folder / f"build-{fingerprint(VERSION, self.cpu)}"

    def binary(self, name: str) -> Path:
        return self.build / "bin" / name

    def steps(self, tools: PythonEnvironment) -> tuple[Step, ...]:
        """`tools`: where cmake and ninja go if the machine has none."""
        sources = self.source / "vendor" / "llama.cpp" / "CMakeLists.txt"
        stamp = fingerprint(VERSION, self.cpu, *self.cmake_flags, *TARGETS)
        return (
            Step("llama.cpp-source", VERSION, sources, self._fetch),
            Step(
                "llama.cpp-build",
                stamp,
                self.binary(TARGETS[0]),
                lambda run: self._build(run, tools),
            ),
        )

    def _fetch(self, run: Run) -> None:
        downloads = self.folder / "sdist"
        # not `:all:`: its build tools, which pip needs to read the name, may well be wheels
        options = ("--no-deps", "--no-binary", PACKAGE, "--dest", str(downloads))
        pip = (sys.executable, "-m", "pip", "download", "--no-input", *options)
        run(Command((*pip, f"{PACKAGE}=={VERSION}"), INSTALL_LIMIT_S))
        [archive] = downloads.glob(f"*-{VERSION}.tar.gz")
        unpack(archive, self.source)

    def _build(self, run: Run, tools: PythonEnvironment) -> None:
        bin_folder = provide_tools(run, tools)
        cmake, ninja = (_tool(name, bin_folder) for name in ("cmake", "ninja"))
        sources = str(self.source / "vendor" / "llama.cpp")
        make = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *self.cmake_flags)
        run(Command((cmake, *make, "-S", sources, "-B", str(self.build)), CONFIGURE_LIMIT_S))
        run(Command((ninja, "-C", str(self.build), *TARGETS), BUILD_LIMIT_S))

    def contestant(self, gguf: Path, quant: str, model_name: str, threads: int) -> Contestant:
        def serve(port: int) -> Command:
            argv = (
                *(str(self.binary("llama-server")), "-m", str(gguf), "--alias", model_name),
                *("--host", LOOPBACK, "--port", str(port), "--no-webui"),
                *("-np", str(SLOTS), "-kvu", "-c", str(CONTEXT_TOKENS), "-fa", "on"),
                *("-t", str(threads), "-tb", str(threads)),
            )
            return Command(argv, READY_LIMIT_S)

        return Contestant(f"llama.cpp {quant}", False, serve, model_name, "/health")


def provide_tools(run: Run, tools: PythonEnvironment) -> Path | None:
    """Installs cmake and ninja unless the machine has both; returns where."""
    if shutil.which("cmake") and shutil.which("ninja"):
        return None
    run(tools.create())
    run(tools.install(*BUILD_TOOLS))
    return tools.folder / "bin"


def _tool(name: str, folder: Path | None) -> str:
    return shutil.which(name, path=folder) or name


def unpack(archive: Path, folder: Path) -> None:
    """The archive's one top folder becomes `folder`, whole or not at all."""
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(draft, filter="data")
    [top] = draft.iterdir()
    shutil.rmtree(folder, ignore_errors=True)
    top.rename(folder)
    draft.rmdir()
