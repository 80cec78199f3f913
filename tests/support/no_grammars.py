"""For workers whose model has no vocabulary: every grammar is refused."""

from baton.common.errors import InvalidRequest
from baton.engine.constraint import Constraint


def refuse_grammar(grammar: str) -> Constraint:
    raise InvalidRequest(f"no grammar is known here, not even {grammar[:20]!r}")
