"""Makes each server ready to be served: installed, built, its weights in its own form.

A peer that cannot be had is left out with the reason; without vLLM there is no client, and nothing
can be compared. Knows which steps belong to whom, not what they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baton.common.errors import BatonError
from baton.model.fetch import LocalModel

from baton_loadtest.peers import vllm_cpu
from baton_loadtest.peers.contestant import Contestant
from baton_loadtest.peers.environments import PythonEnvironment
from baton_loadtest.peers.llama_cpp import LlamaCpp
from baton_loadtest.peers.steps import Step, Workbench
from baton_loadtest.peers.weights import QUANT, exported, quantized


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Where everything of the peers lies."""

    path: Path
    uv: Path | None
    cpu: str

    @property
    def vllm_environment(self) -> PythonEnvironment:
        return PythonEnvironment(self.path / "vllm_cpu" / "environment", self.uv)

    @property
    def build_tools(self) -> PythonEnvironment:
        return PythonEnvironment(self.path / "build_tools", self.uv)

    @property
    def llama_cpp(self) -> LlamaCpp:
        return LlamaCpp(self.path / "llama_cpp", self.cpu)

    @property
    def tokenizer(self) -> Path:
        """The weights as vLLM reads them, tokenizer included."""
        return self.path / "weights" / "bf16"

    @property
    def quantized(self) -> Path:
        return self.path / "weights" / f"{QUANT}.gguf"


@dataclass(frozen=True, slots=True)
class Prepared:
    contestant: Contestant
    problem: str | None  # why it cannot be served


def prepare_client(bench: Workbench, folder: WorkFolder, model: LocalModel) -> None:
    """vLLM and its weights. Raises Unavailable."""
    environment = folder.vllm_environment
    steps = (*vllm_cpu.steps(environment), exported(model, folder.tokenizer, environment))
    bench.carry_out(steps)


def prepare_peers(
    bench: Workbench,
    folder: WorkFolder,
    model: LocalModel,
    model_name: str,
    cores: Sequence[int],
) -> tuple[Prepared, ...]:
    """After `prepare_client`."""
    llama = folder.llama_cpp
    given = model.path.stem.rpartition(".")[2]  # SmolLM2-135M-Instruct.Q4_1 -> Q4_1
    build = llama.steps(folder.build_tools)
    quantize = (*build, quantized(model, folder.quantized, llama))
    serve = (folder.quantized, QUANT), (model.path, given)
    small, original = (
        llama.contestant(gguf, quant, model_name, threads=len(cores)) for gguf, quant in serve
    )
    vllm = vllm_cpu.contestant(folder.vllm_environment, folder.tokenizer, model_name, cores)
    return (
        Prepared(vllm, None),
        Prepared(small, _problem(bench, quantize)),
        Prepared(original, _problem(bench, build)),
    )


def _problem(bench: Workbench, steps: Sequence[Step]) -> str | None:
    try:
        bench.carry_out(steps)
    except BatonError as error:
        return error.message
    return None
