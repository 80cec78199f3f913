"""The image that carries SmolLM2, for `oci://` sources: one file, and a `cp` to copy it with.

Knows the model and busybox. The weights are those of all tests.
"""

import os
import shutil
from pathlib import Path

from cluster.harness import archives
from cluster.harness.archives import Program
from support.smollm2 import smollm2_model

NAME = "localhost/baton-weights:dev"
APPLETS = ("cp", "ls")


def write_weights(archive: Path) -> None:
    """Writes the image's OCI archive in one move. Raises ModelSourceError, OSError."""
    model = smollm2_model()
    busybox = Path(shutil.which("busybox") or "busybox")  # Debian's busybox-static
    files = {f"bin/{applet}": Program(link="busybox") for applet in APPLETS}
    files["bin/busybox"] = Program(busybox.read_bytes())
    files[f"model/{model.path.name}"] = Program(model.path.read_bytes(), mode=0o644)
    made = archive.with_suffix(".part")
    archives.write(made, NAME, files, ["/bin/ls", "/model"])
    os.replace(made, archive)
