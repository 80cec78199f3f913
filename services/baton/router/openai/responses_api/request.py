"""The body of a Responses request as typed values, in OpenAI's flat forms.

Types only, as in `schemas`, and by the same rule: a field that would change the answer and is not
honoured is refused. Those that chat has and this API has not are honoured as in chat. What concerns
stored responses alone, or summaries of thoughts, are no fields here: unknown, and so accepted.
"""

from typing import Any, ClassVar

import msgspec

from baton.router.openai.schemas import CHATS_ALONE, Generation

LOGPROBS = "message.output_text.logprobs"
"""What `include` names for logprobs. All else it may name, no answer here has."""


class FlatTool(msgspec.Struct, omit_defaults=True):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FlatName(msgspec.Struct, omit_defaults=True):
    type: str
    name: str | None = None


class FlatChoice(msgspec.Struct, omit_defaults=True):
    """One function, or `allowed_tools`."""

    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[FlatName] | None = None


class TextFormat(msgspec.Struct, omit_defaults=True):
    type: str
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct):
    format: TextFormat | None = None


class Effort(msgspec.Struct):
    effort: str | None = None


class ResponsesRequest(Generation, kw_only=True):
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    text: TextConfig | None = None
    tools: list[FlatTool] | None = None
    tool_choice: str | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    metadata: dict[str, str] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning: Effort | None = None
    # Known but not honoured.
    background: Any = None
    conversation: Any = None
    moderation: Any = None
    previous_response_id: Any = None
    prompt: Any = None
    truncation: Any = None

    own_neutral: ClassVar[dict[str, tuple[object, ...]]] = {
        **CHATS_ALONE,
        "background": (False,),
        "conversation": (),
        "moderation": (),
        "previous_response_id": (),
        "prompt": (),
        "truncation": ("disabled",),
        # Chat's, of which this API has its own.
        "n": (1,),
        "best_of": (1,),
        "max_tokens": (),
        "response_format": (),
    }

    @property
    def effort(self) -> str | None:
        """How much is to be thought, as far as the model can be told."""
        return None if self.reasoning is None else self.reasoning.effort
