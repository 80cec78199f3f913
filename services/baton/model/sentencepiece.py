"""The spelling and the merges of SentencePiece BPE vocabularies (Llama's).

Knows pieces and scores; knows no file format.
"""

import re
from collections.abc import Mapping

SPACE = "\u2581"  # how pieces spell a space
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def piece_bytes(piece: str) -> bytes:
    """The bytes a piece adds to a text: a byte piece its byte, others their text."""
    match = _BYTE.fullmatch(piece)
    return bytes([int(match[1], 16)]) if match else piece.replace(SPACE, " ").encode()


def merges_by_score(ids: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, best score first.

    SentencePiece joins the neighbours with the best-scored result; a merge table in this order does
    the same. `ids` holds the pieces that may be parts, `scores` those that may be results.
    """
    found = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                found.append((-score, len(left), left, right))
    found.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in found]
