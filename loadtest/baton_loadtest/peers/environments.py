"""A Python environment of a peer's own, as commands: uv where the checkout has one, else pip.

Both are the registry's ordinary clients and read the machine's own configuration. Runs nothing.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from baton_loadtest.peers.process import Command

CREATE_LIMIT_S = 120.0
INSTALL_LIMIT_S = 3_600.0
"""Torch with the libraries it insists on is 3 GB; a slow line takes the better part of an hour."""

CHECKOUT_UV = Path(__file__).resolve().parents[3] / ".boot" / "bin" / "uv"


def checkout_uv() -> Path | None:
    return CHECKOUT_UV if CHECKOUT_UV.exists() else None


@dataclass(frozen=True, slots=True)
class PythonEnvironment:
    folder: Path
    uv: Path | None  # None: pip

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Once created."""
        [found] = (self.folder / "lib").glob("python3*/site-packages")
        return found

    def create(self) -> Command:
        """Empty, in place of any earlier one."""
        client: tuple[str, ...]
        if self.uv is not None:
            client = (str(self.uv), "venv", "--python", sys.executable)
        else:
            client = (sys.executable, "-m", "venv")
        return Command((*client, "--clear", str(self.folder)), CREATE_LIMIT_S)

    def install(self, *requirements: str, dependencies: bool = True) -> Command:
        """`requirements` as in a requirements file, markers included."""
        client: tuple[str, ...]
        if self.uv is not None:
            client = (str(self.uv), "pip", "install", "--python", str(self.python))
        else:
            client = (str(self.python), "-m", "pip", "install", "--no-input")
        alone = () if dependencies else ("--no-deps",)
        return Command((*client, *alone, *requirements), INSTALL_LIMIT_S)
