"""The decode worker: the shared worker with the router-facing stream. Wiring only."""

from collections.abc import Mapping, Sequence

from baton.decode.service import DecodeService
from baton.worker import app
from baton.worker.watch import Role


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until asked to stop. Returns the exit code."""
    return app.main(Role.DECODE, DecodeService, argv, environ)
