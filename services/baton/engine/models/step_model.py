"""Loads a decoder for the CPU: on our kernels, or on torch where there are none.

Torch is imported on its own path only: it takes seconds and hundreds of MiB.
"""

from baton.engine.kernels.library import KernelLibrary
from baton.engine.models.native import NativeDecoder
from baton.engine.models.packed import pack_model
from baton.engine.models.steps import StepModel
from baton.engine.quant.quantization import Quantization
from baton.engine.weights.parts import WeightSource
from baton.model.config import ModelConfig


def build_step_model(
    source: WeightSource,
    config: ModelConfig,
    quantization: Quantization,
    *,
    library: KernelLibrary | None,
    threads: int,
    niceness: int = 0,
) -> StepModel:
    """The decoder on the kernels of `library`, or on torch without one. Raises ModelFileError.

    `niceness`: how far steps that stand back do so. Torch's threads are the whole process's, and
    never do.
    """
    if library is not None:
        packed = pack_model(source, config, quantization, library, threads)
        return NativeDecoder(config, library, packed, threads, niceness)
    import torch

    from baton.engine.models.build import build_decoder

    torch.set_num_threads(threads)
    return build_decoder(source, config, quantization)
