"""Whether a worker computes with our kernels or with torch alone, and why not.

Knows schemes and what a library offers; knows no models.
"""

import os
from enum import Enum
from functools import cache
from pathlib import Path

from baton.common.logs import get_log
from baton.engine.kernels.build import (
    PREBUILT_DIR,
    KernelsUnavailable,
    default_cache_dir,
    library_path,
)
from baton.engine.kernels.library import KernelLibrary
from baton.engine.kernels.structs import Scheme
from baton.engine.quant.quantization import Quantization

_log = get_log(__name__)

SCHEMES = {
    Quantization.NONE: Scheme.FLOAT32,
    Quantization.BF16: Scheme.BFLOAT16,
    Quantization.INT8: Scheme.INT8,
    Quantization.INT4: Scheme.INT4,
    Quantization.INT8_WEIGHT_ONLY: Scheme.INT8_WEIGHT,
    Quantization.INT4_WEIGHT_ONLY: Scheme.INT4_WEIGHT,
}


KERNELS_FOLDER = "kernels"
"""Of a cache directory."""


class Kernels(Enum):
    """Who computes the decoder."""

    AUTO = "auto"  # our kernels where the machine can build and run them
    TORCH = "torch"  # torch alone, everywhere


def choose_library(
    choice: Kernels,
    quantization: Quantization,
    cache_dir: Path | None = None,
    *,
    experts: int = 0,
) -> KernelLibrary | None:
    """The library to compute with; None: torch computes, and the log says why.

    A mixture of `experts` is computed by torch: the kernels know dense layers only.
    """
    if choice is Kernels.TORCH:
        return None
    try:
        if experts:
            raise KernelsUnavailable("there are none for a mixture of experts")
        if quantization not in SCHEMES:
            raise KernelsUnavailable(f"there are none for {quantization.value}")
        return open_library(cache_dir or default_cache_dir(os.environ))
    except KernelsUnavailable as error:
        _log.info("kernels are not used", reason=error.message)
        return None


@cache  # a library is loaded once per process, and never unloaded
def open_library(cache_dir: Path) -> KernelLibrary:
    """Builds it first if need be. Raises KernelsUnavailable."""
    path = library_path(cache_dir, os.environ)
    try:
        library = KernelLibrary(path)
    except OSError as error:
        raise KernelsUnavailable(f"the kernels cannot be loaded: {error!s:.200}") from error
    _log.info("kernels are loaded", library=path.name, prebuilt=path.parent == PREBUILT_DIR)
    return library
