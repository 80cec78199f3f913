"""The grammars of a worker: nothing is loaded before the first one comes.

Few workers ever see one, and reading the vocabulary takes some tenths of a second and 60 MB. Knows
the model's files; knows neither requests nor the engine.
"""

from threading import Lock
from typing import TYPE_CHECKING

from baton.engine.constraint import Constraint
from baton.model.fetch import LocalModel

if TYPE_CHECKING:
    from baton.model.grammar import Grammars


class Constraints:
    """Calls block and may come from several threads."""

    def __init__(self, model: LocalModel, *, vocab_size: int) -> None:
        self._model, self._vocab_size = model, vocab_size
        self._grammars: Grammars | None = None
        self._lock = Lock()

    def of(self, grammar: str) -> Constraint:
        """What holds one output to `grammar`. Raises InvalidRequest, ModelFileError."""
        with self._lock:
            if self._grammars is None:
                self._grammars = self._load()
        return self._grammars.constraint(grammar)

    def _load(self) -> "Grammars":
        from baton.model.grammar import Grammars
        from baton.model.tokenizer import load_tokenizer

        return Grammars(load_tokenizer(self._model), vocab_size=self._vocab_size)
