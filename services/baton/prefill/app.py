"""The prefill worker: the shared worker with the hand-off service. Wiring only."""

from collections.abc import Mapping, Sequence

from baton.prefill.service import PrefillService
from baton.worker import app
from baton.worker.watch import Role


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until asked to stop. Returns the exit code."""
    return app.main(Role.PREFILL, PrefillService, argv, environ)
