"""`baton key`: a new API key and its hash, for the client and for the router's file.

The key is shown once and kept nowhere.
"""

import secrets
from hashlib import sha256

KEY_BYTES = 32
"""Random ones: 43 characters, which nobody guesses, however fast a hash is."""


def key() -> None:
    """Make an API key: what its client keeps, and what the router's file of tenants has of it."""
    print(words_about(f"sk-baton-{secrets.token_urlsafe(KEY_BYTES)}"))


def words_about(made: str) -> str:
    hashed = sha256(made.encode()).hexdigest()
    return f"""key     {made}
sha256  {hashed}

The key is for the client (OPENAI_API_KEY, or `baton chat --api-key`); it is shown only now.
The hash is for the router's file (`baton serve --api-keys-file keys.json`):

  {{"tenants": [{{"name": "team-a", "keys_sha256": ["{hashed}"]}}]}}"""
