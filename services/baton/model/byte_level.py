"""The alphabet in which byte-level BPE vocabularies spell bytes as printable characters (GPT-2's).

Printable Latin-1 bytes stand for themselves, the others for the characters from U+0100 on.
"""

from functools import cache


@cache
def byte_of_character() -> dict[str, int]:
    """The byte each character of the alphabet spells: 256 entries."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {chr(byte): byte for byte in printable}
    return spelled | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def spelled_bytes(token: str) -> bytes:
    """The bytes a vocabulary entry spells; text outside the alphabet stands for itself."""
    alphabet = byte_of_character()
    try:
        return bytes([alphabet[character] for character in token])
    except KeyError:
        return token.encode("utf-8", "replace")
