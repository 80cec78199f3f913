"""A model's shape out of its files: GGUF metadata or config.json become one ModelConfig.

Knows both spellings of the supported families; knows no tensors' values but rope_freqs, no tokens.
"""

from baton.common.errors import ModelFileError
from baton.model.card_gguf import config_from_gguf
from baton.model.card_json import config_from_json
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel
from baton.model.gguf import GgufFile
from baton.model.safetensors_index import read_json_object

CONFIG_NAME = "config.json"
CONFIG_BYTES_MAX = 16 << 20  # real ones have a few kilobytes
LAYERS_MAX = 4_096  # published models have at most some 130


def read_config(model: LocalModel) -> ModelConfig:
    """The shape of a resolved model. Raises ModelFileError, naming what is supported."""
    if model.path.is_dir():
        name = CONFIG_NAME
        config = config_from_json(name, read_json_object(model.path / name, CONFIG_BYTES_MAX))
    else:
        name = model.path.name
        with GgufFile.open(model.path) as file:
            config = config_from_gguf(file)
    problem = _problem(config)
    if problem is not None:
        raise ModelFileError(f"{name}: {problem}")
    return config


def _problem(config: ModelConfig) -> str | None:
    """What makes the shape impossible to build, or None."""
    if config.layers > LAYERS_MAX:
        return f"{config.layers} layers (at most {LAYERS_MAX})"
    if config.heads % config.kv_heads:
        return f"{config.heads} attention heads cannot share {config.kv_heads} key-value heads"
    if config.experts_per_token > config.experts:
        return f"{config.experts_per_token} experts for each token, of {config.experts}"
    if config.head_size % 2:
        return f"rotary embedding needs an even head size, not {config.head_size}"
    if config.rope_divisors is not None and len(config.rope_divisors) != config.head_size // 2:
        return f"{len(config.rope_divisors)} rope_freqs for a head size of {config.head_size}"
    return None
