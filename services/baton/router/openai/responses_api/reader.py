"""Reads an answer, as it comes, into the items of a response: what the assistant thinks, what it
says and the calls it makes.

Sans I/O. A whole response and a streamed one are read by the same reader, so that they are the same
in the end. Knows no events and no bodies.
"""

from collections.abc import Iterator, Sequence

from baton.engine.params import FinishReason
from baton.router.openai.answer import call_reader, read_events
from baton.router.openai.generate import Piece
from baton.router.openai.logprobs import chat_entries
from baton.router.openai.plan import Plan
from baton.router.openai.responses import Head
from baton.router.openai.responses_api.items import (
    Call,
    CallGrew,
    Change,
    Closed,
    Entries,
    Item,
    Opened,
    Reasoning,
    Speech,
    Spoke,
    Status,
    Thought,
)
from baton.router.openai.tools.text import Argued, Called, Event, Said
from baton.router.text import TextModel


class ItemReader:
    """Reads the one choice of a plan. The last item is open until the answer ends."""

    def __init__(self, plan: Plan, head: Head, model: TextModel) -> None:
        self.items: list[Item] = []
        self.cut = False  # by its limit, once it has ended
        self._calls = call_reader(plan.calling, head.id, 0)
        self._thinks = plan.thinking is not None
        self._id = head.id.partition("_")[2]
        self._tokenizer = model.tokenizer if plan.logprobs is not None else None
        self._untold: Entries = []  # of tokens that may yet turn out to be a call's

    def read(self, piece: Piece) -> Iterator[Change]:
        """One change at a time: whoever looks at an item before going on sees it as it was then."""
        if piece.thought_tokens:
            self._untold = []  # those of thoughts never are
        if self._tokenizer is not None:
            said = piece.samples[piece.thought_tokens :]
            self._untold += chat_entries(said, self._tokenizer)
        if piece.thought:
            yield from self._think(piece.thought)
        for event in self._events(piece):
            match event:
                case Said(text):
                    yield from self._say(text)
                case Called(_, call_id, name):
                    self._untold = []
                    call = Call(self._new_id("fc"), len(self.items), call_id, name)
                    yield from self._open(call)
                case Argued(_, text):
                    self._untold = []
                    yield self._argue(text)
        if piece.finish is not None:
            yield from self._end(piece.finish)

    def break_off(self) -> None:
        """No piece will come, and none was the last."""
        if self.items and self.items[-1].status == "in_progress":
            self.items[-1].status = "incomplete"

    def _events(self, piece: Piece) -> Sequence[Event]:
        """Where no tools are, a token without text is told as in chat, by an empty text; only not
        where thoughts may yet come."""
        if self._calls is not None:
            return read_events(self._calls, piece.text, piece.finish)
        speaking = not self._thinks or (self.items and isinstance(self.items[-1], Speech))
        held = self._untold or (piece.samples and piece.finish is None)
        return [Said(piece.text)] if piece.text or (speaking and held) else ()

    def _think(self, text: str) -> Iterator[Change]:
        if not self.items:
            yield from self._open(Reasoning(self._new_id("rs"), 0))
        reasoning = self.items[-1]
        assert isinstance(reasoning, Reasoning)
        reasoning.texts.append(text)
        yield Thought(reasoning, text)

    def _say(self, text: str) -> Iterator[Change]:
        if not self.items or not isinstance(self.items[-1], Speech):
            yield from self._open(Speech(self._new_id("msg"), len(self.items)))
        speech = self.items[-1]
        assert isinstance(speech, Speech)
        logprobs, self._untold = self._untold, []
        speech.texts.append(text)
        speech.logprobs += logprobs
        yield Spoke(speech, text, logprobs)

    def _argue(self, text: str) -> Change:
        call = self.items[-1]
        assert isinstance(call, Call)
        call.texts.append(text)
        return CallGrew(call, text)

    def _open(self, item: Item) -> Iterator[Change]:
        if self.items:
            yield self._close("completed")
        self.items.append(item)
        yield Opened(item)

    def _close(self, status: Status) -> Change:
        self.items[-1].status = status
        return Closed(self.items[-1])

    def _end(self, finish: FinishReason) -> Iterator[Change]:
        """A response has an item, be it an empty message; so has one that ends by itself behind its
        thoughts."""
        self.cut = finish is FinishReason.LENGTH
        silent = not self.items or (not self.cut and isinstance(self.items[-1], Reasoning))
        if silent or (self._untold and isinstance(self.items[-1], Speech)):
            yield from self._say("")
        whole = not self.cut
        if self._calls is not None and isinstance(self.items[-1], Call):
            whole = self._calls.ends_with_call
        yield self._close("completed" if whole else "incomplete")

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{self._id}_{len(self.items)}"
