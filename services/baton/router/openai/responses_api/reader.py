"""Reads an answer, as it comes, into the items of a response: what the assistant says and the calls
it makes.

Sans I/O. A whole response and a streamed one are read by the same reader, so that they are the same
in the end. Knows no events and no bodies.
"""

from collections.abc import Iterator, Sequence

from baton.engine.params import FinishReason
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
    Speech,
    Spoke,
    Status,
)
from baton.router.openai.tools.text import Argued, Called, CallReader, Event, Said
from baton.router.text import TextModel


class ItemReader:
    """Reads the one choice of a plan. The last item is open until the answer ends."""

    def __init__(self, plan: Plan, head: Head, model: TextModel) -> None:
        self.items: list[Item] = []
        self.cut = False  # by its limit, once it has ended
        self._calls: CallReader | None = None
        if plan.calling is not None:
            self._calls = CallReader(plan.calling, answer_id=head.id, choice=0)
        self._id = head.id.partition("_")[2]
        self._tokenizer = model.tokenizer if plan.logprobs is not None else None
        self._untold: Entries = []  # of tokens that may yet turn out to be a call's

    def read(self, piece: Piece) -> Iterator[Change]:
        """One change at a time: whoever looks at an item before going on sees it as it was then."""
        if self._tokenizer is not None:
            self._untold += chat_entries(piece.samples, self._tokenizer)
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
        """Where no tools are, a token without text is told as in chat, by an empty text."""
        if self._calls is not None:
            events = self._calls.feed(piece.text)
            return events if piece.finish is None else [*events, *self._calls.finish()]
        held = piece.samples and piece.finish is None
        return [Said(piece.text)] if piece.text or held or self._untold else ()

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
        """A response has an item, be it an empty message."""
        self.cut = finish is FinishReason.LENGTH
        if not self.items or (self._untold and isinstance(self.items[-1], Speech)):
            yield from self._say("")
        whole = not self.cut
        if self._calls is not None and isinstance(self.items[-1], Call):
            whole = self._calls.ends_with_call
        yield self._close("completed" if whole else "incomplete")

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{self._id}_{len(self.items)}"
