"""What a request asks for, as attributes of its span: OpenTelemetry's GenAI conventions.

Knows plans and the conventions' names; neither prompts nor outputs are told.
"""

from baton.common.tracing import Attributes
from baton.router.openai.plan import Plan
from baton.router.openai.responses import Head


def asked_attributes(plan: Plan, head: Head, operation: str) -> Attributes:
    """`operation`: `chat` or `text_completion`."""
    params = plan.choices[0].params  # choices differ in their seeds alone
    several = len(plan.choices) if len(plan.choices) > 1 else None
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "baton",
        "gen_ai.request.model": head.model,
        "gen_ai.request.stream": plan.stream,
        "gen_ai.request.choice.count": several,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.top_k": params.top_k or None,
        "gen_ai.response.id": head.id,
        "gen_ai.response.model": head.model,
        "gen_ai.usage.input_tokens": plan.prompt_tokens,
    }
