"""The one set of weights, in the form that each server reads. Starts nothing.

All of them come from the GGUF that Baton serves: as bfloat16 in a Hugging Face folder, and in
llama.cpp's own four bits.
"""

from pathlib import Path

from baton.model.fetch import LocalModel

from baton_loadtest.peers import vllm_cpu
from baton_loadtest.peers.environments import PythonEnvironment
from baton_loadtest.peers.llama_cpp import LlamaCpp
from baton_loadtest.peers.process import Command
from baton_loadtest.peers.steps import Step, fingerprint

EXPORT_SCRIPT = Path(__file__).with_name("export_weights.py")
EXPORT_LIMIT_S = 900.0
"""Half a minute for 135M parameters; transformers dequantizes in Python."""

QUANTIZE_LIMIT_S = 600.0
QUANT = "Q4_0"
"""What llama.cpp is fastest with on CPUs."""


def exported(model: LocalModel, folder: Path, environment: PythonEnvironment) -> Step:
    """`folder` becomes a Hugging Face folder in bfloat16, with the tokenizer."""
    argv = (str(environment.python), str(EXPORT_SCRIPT), str(model.path), str(folder))
    return Step(
        "weights-bf16",
        fingerprint(model.revision, vllm_cpu.VERSION, EXPORT_SCRIPT.read_text()),
        folder / "model.safetensors",
        lambda run: run(Command(argv, EXPORT_LIMIT_S, vllm_cpu.quiet_environment())),
    )


def quantized(model: LocalModel, gguf: Path, llama: LlamaCpp) -> Step:
    """`gguf` becomes the model in QUANT."""
    gguf.parent.mkdir(parents=True, exist_ok=True)
    tool = str(llama.binary("llama-quantize"))
    argv = (tool, "--allow-requantize", str(model.path), str(gguf), QUANT)
    return Step(
        f"weights-{QUANT}",
        fingerprint(model.revision, QUANT),
        gguf,
        lambda run: run(Command(argv, QUANTIZE_LIMIT_S)),
    )
