"""Opens the weights of a local model, whichever format it has."""

from collections.abc import Iterator
from contextlib import contextmanager

from baton.engine.weights.gguf_weights import GgufWeights
from baton.engine.weights.parts import WeightSource
from baton.engine.weights.safetensors_weights import SafetensorsWeights
from baton.model.config import ModelConfig
from baton.model.fetch import LocalModel
from baton.model.gguf import GgufFile
from baton.model.safetensors_index import SafetensorsFiles


@contextmanager
def open_weights(model: LocalModel, config: ModelConfig) -> Iterator[WeightSource]:
    """The model's weights while its files are open. Raises ModelFileError."""
    if model.path.is_dir():
        with SafetensorsFiles.open(model.path) as files:
            yield SafetensorsWeights(files, config)
    else:
        with GgufFile.open(model.path) as file:
            yield GgufWeights(file, config)
