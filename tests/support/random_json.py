"""Schemas of every kind that matters, and outputs drawn at random under a constraint.

Nothing but the constraint decides what is drawn: whatever it lets through, it is to blame for.
"""

import json
import random
from collections.abc import Mapping

import jsonschema
import numpy as np
from baton.engine.constraint import Constraint
from baton.model.tokens import Tokenizer

SCHEMAS: dict[str, dict[str, object]] = {
    "person": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "either": {
        "anyOf": [{"const": {"x": [1, None]}}, {"type": "string", "pattern": "^[a-f]{2,4}$"}]
    },
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"value": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}},
                "required": ["value"],
                "additionalProperties": False,
            }
        },
    },
}


def allowed_ids(constraint: Constraint, output: list[int]) -> list[int]:
    """What may follow; an output the grammar does not have fails the test."""
    allowed = constraint.allowed(output)
    assert allowed is not None
    bits = np.unpackbits(np.frombuffer(allowed, np.uint8), bitorder="little")
    return [int(token_id) for token_id in np.flatnonzero(bits)]


def random_output(
    constraint: Constraint, eos_token_ids: tuple[int, ...], rng: random.Random, tokens_max: int
) -> list[int]:
    """Tokens up to one that ends; where the end is allowed it is as likely as going on."""
    output: list[int] = []
    while len(output) < tokens_max:
        found = allowed_ids(constraint, output)
        ends = [token_id for token_id in found if token_id in eos_token_ids]
        if ends and (len(ends) == len(found) or rng.random() < 0.5):
            return output
        output.append(rng.choice([i for i in found if i not in eos_token_ids]))
    return output


def require_valid(text: str, schema: Mapping[str, object]) -> None:
    jsonschema.validate(json.loads(text), schema)


def text_of(tokenizer: Tokenizer, output: list[int]) -> str:
    return b"".join(tokenizer.token_bytes(token_id) for token_id in output).decode()
