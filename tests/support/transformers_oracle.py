"""What transformers says: greedy continuations and the log-probabilities behind them (float32)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from baton.model.fetch import LocalModel
from transformers import AutoModelForCausalLM


@dataclass(frozen=True)
class Continuation:
    tokens: list[int]
    logprobs: torch.Tensor  # [tokens, vocabulary]
    margin: float  # the smallest lead of a chosen token over the next best, in logits


class Oracle:
    """One model, computed without any cache: the whole sequence anew for every token."""

    def __init__(self, model: LocalModel) -> None:
        path = Path(model.path)
        if path.is_dir():
            self._model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        else:
            self._model = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32
            )
        self._model.eval()

    def logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """[tokens, vocabulary]"""
        with torch.inference_mode():
            output: torch.Tensor = self._model(torch.tensor([list(tokens)])).logits[0].float()
        return output

    def save(self, directory: Path) -> None:
        """What transformers found in a GGUF file, as it publishes models: it saves no model that
        still knows it came from such a file."""
        config = self._model.config
        del config.quantization_config
        plain = type(self._model)(config)
        plain.load_state_dict(self._model.state_dict())
        plain.save_pretrained(directory)

    def greedy(self, prompt: Sequence[int], count: int) -> Continuation:
        tokens: list[int] = []
        rows: list[torch.Tensor] = []
        margin = float("inf")
        for _ in range(count):
            logits = self.logits([*prompt, *tokens])[-1]
            best = torch.topk(logits, 2)
            margin = min(margin, float(best.values[0] - best.values[1]))
            tokens.append(int(best.indices[0]))
            rows.append(torch.log_softmax(logits, dim=-1))
        return Continuation(tokens, torch.stack(rows), margin)

    def following(self, prompt: Sequence[int], tokens: Sequence[int]) -> Continuation:
        """What is best at the place of each of `tokens` behind those before it, by one pass. Where
        it is these very tokens, they are what `greedy` says: by induction, each place has behind it
        what `greedy` would have there."""
        logits = self.logits([*prompt, *tokens[:-1]])[len(prompt) - 1 :]
        best = torch.topk(logits, 2)
        margin = float((best.values[:, 0] - best.values[:, 1]).min())
        return Continuation(best.indices[:, 0].tolist(), torch.log_softmax(logits, -1), margin)
