"""How each server and the client are called, and what they are installed from."""

from pathlib import Path

import pytest
from baton.engine.quant.quantization import Quantization
from baton_loadtest.peers import baton_stack, vllm_cpu
from baton_loadtest.peers.client import Load, LoadCommand
from baton_loadtest.peers.command import baton_entrants, remaining
from baton_loadtest.peers.environments import PythonEnvironment
from baton_loadtest.peers.llama_cpp import SLOTS, LlamaCpp
from baton_loadtest.peers.process import Command

ENVIRONMENT = PythonEnvironment(Path("env"), uv=None)

METADATA = """\
Metadata-Version: 2.4
Name: vllm-cpu
Requires-Dist: regex
Requires-Dist: numba==0.65.0
Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"
Requires-Dist: torchvision; platform_machine != "riscv64"
Requires-Dist: Triton
Requires-Dist: intel-openmp==2024.2.1; platform_machine == "x86_64"
Requires-Dist: pandas; extra == "bench"

Requires-Dist: this line belongs to the description
"""


def option(command: Command, name: str) -> str:
    """The value after an option that is given exactly once."""
    assert command.argv.count(name) == 1
    return command.argv[command.argv.index(name) + 1]


def test_vllm_gets_its_wishes_but_those_of_torch_and_of_extras() -> None:
    assert vllm_cpu.requirements(METADATA) == (
        "regex",
        "numba==0.65.0",
        'intel-openmp==2024.2.1; platform_machine == "x86_64"',
    )


def test_vllm_finds_itself_under_its_own_name(tmp_path: Path) -> None:
    environment = PythonEnvironment(tmp_path, uv=None)
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    installed = packages / f"vllm_cpu-{vllm_cpu.VERSION}.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(METADATA)
    for _ in range(2):  # an interrupted step is done again
        vllm_cpu.name_it_vllm(environment)
    alias = packages / f"vllm-{vllm_cpu.VERSION}.dist-info" / "METADATA"
    assert alias.read_text() == METADATA.replace("Name: vllm-cpu", "Name: vllm")
    assert (installed / "METADATA").read_text() == METADATA


def test_vllm_serves_bfloat16_on_loopback_bound_to_the_given_cores() -> None:
    served = vllm_cpu.contestant(ENVIRONMENT, Path("weights"), "m", (0, 2))
    command = served.serve(81)
    assert (option(command, "--host"), option(command, "--port")) == ("127.0.0.1", "81")
    assert option(command, "--dtype") == "bfloat16"
    assert option(command, "--served-model-name") == "m"
    assert command.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0,2"
    assert command.environment["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("installed", [True, False])
def test_vllm_runs_on_intels_threads_where_they_are_installed(
    tmp_path: Path, installed: bool
) -> None:
    library = tmp_path / "lib" / "libiomp5.so"
    library.parent.mkdir()
    if installed:
        library.touch()
    said = vllm_cpu.server_environment(PythonEnvironment(tmp_path, uv=None), (0, 1))
    assert said.get("LD_PRELOAD") == (str(library) if installed else None)


def test_llama_cpp_serves_all_clients_at_once_from_one_cache() -> None:
    llama = LlamaCpp(Path("llama"), cpu="some CPU")
    served = llama.contestant(Path("m.gguf"), "Q4_0", "m", threads=2)
    command = served.serve(81)
    assert served.name == "llama.cpp Q4_0"
    assert (option(command, "--host"), option(command, "--port")) == ("127.0.0.1", "81")
    assert option(command, "-np") == str(SLOTS) == "32"
    assert "-kvu" in command.argv
    assert (option(command, "-t"), option(command, "-tb")) == ("2", "2")


def test_llama_cpp_of_another_cpu_is_another_build() -> None:
    builds = {LlamaCpp(Path("llama"), cpu).build for cpu in ("one", "other")}
    assert len(builds) == 2


@pytest.mark.parametrize(
    ("prefill", "name"), [(0, "Baton aggregated int8"), (1, "Baton 1P + 1D int8")]
)
def test_baton_passes_further_options_on_and_waits_for_its_workers(prefill: int, name: str) -> None:
    served = baton_stack.contestant(
        prefill,
        model="file://m",
        model_name="m",
        quantization=Quantization.INT8,
        options=("--threads", "2"),
    )
    command = served.serve(81)
    assert (served.name, served.ours) == (name, True)
    assert served.workers == {"prefill": prefill, "decode": 1}
    assert option(command, "--prefill") == str(prefill)
    assert option(command, "--quantization") == "int8"
    assert command.argv[-2:] == ("--threads", "2")


def test_client_orders_the_same_of_everybody() -> None:
    client = LoadCommand(ENVIRONMENT, Path("tokenizer"))
    load = Load(concurrency=8, prompts=24, seed=1008)
    command = client.command("http://127.0.0.1:81", "m", load, Path("out/result.json"))
    assert command.argv[:5] == (
        "env/bin/python",
        "-m",
        "vllm.entrypoints.cli.main",
        "bench",
        "serve",
    )
    assert option(command, "--base-url") == "http://127.0.0.1:81"
    assert (option(command, "--random-input-len"), option(command, "--random-output-len")) == (
        "256",
        "128",
    )
    assert (option(command, "--max-concurrency"), option(command, "--num-prompts")) == ("8", "24")
    assert option(command, "--seed") == "1008"
    assert option(command, "--temperature") == "0"
    assert "--ignore-eos" in command.argv
    assert (option(command, "--result-dir"), option(command, "--result-filename")) == (
        "out",
        "result.json",
    )


def test_environments_come_from_uv_where_there_is_one_else_from_pip() -> None:
    with_uv = PythonEnvironment(Path("env"), uv=Path("bin/uv"))
    assert with_uv.create().argv[:2] == ("bin/uv", "venv")
    assert with_uv.install("a==1").argv == (
        *("bin/uv", "pip", "install", "--python", "env/bin/python", "a==1"),
    )
    assert ENVIRONMENT.create().argv[1:] == ("-m", "venv", "--clear", "env")
    assert ENVIRONMENT.install("a==1", dependencies=False).argv == (
        *("env/bin/python", "-m", "pip", "install", "--no-input", "--no-deps", "a==1"),
    )


def test_every_command_has_a_limit() -> None:
    commands = (
        ENVIRONMENT.create(),
        ENVIRONMENT.install("a"),
        vllm_cpu.contestant(ENVIRONMENT, Path("w"), "m", (0,)).serve(81),
        LlamaCpp(Path("llama"), "cpu").contestant(Path("g"), "q", "m", 1).serve(81),
    )
    assert all(0 < command.limit_s <= 7_200 for command in commands)


def test_contestants_are_left_out_by_how_their_names_begin() -> None:
    entered = baton_entrants("m", Quantization.INT8, ())
    assert remaining(entered, ()) == entered
    assert remaining(entered, ("vllm",)) == entered
    [left] = remaining(entered, ("BATON agg", "vllm"))
    assert left.contestant.name == "Baton 1P + 1D int8"
