"""The images that others start from: Debian with Python 3.11, once bare and once with a compiler.

A stand-in for the official Python images where no registry of images can be reached. Knows Debian
packages; knows nothing of Baton.
"""

import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cluster.images.commands import BUILDAH, image_exists, run

SUITE = "bookworm"
APT_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
# What of the machine that builds would be left: where it gets packages, its name, its resolver.
TRACES = (
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/hostname",
    "etc/resolv.conf",
    "var/log/dpkg.log",
    "var/log/apt",
)
UNREAD = ("man", "doc", "info", "locale")  # under /usr/share; copyrights stay
_COMMON = ("python3", "python-is-python3", "ca-certificates", "libstdc++6")


@dataclass(frozen=True, slots=True)
class DebianImage:
    """A Debian of its essential packages and these."""

    name: str
    packages: tuple[str, ...]

    @property
    def reference(self) -> str:
        """Changes with whatever it is made of, but for Debian's own updates."""
        recipe = repr((SUITE, self.packages, TRACES, UNREAD))
        return f"localhost/{self.name}:{sha256(recipe.encode()).hexdigest()[:12]}"


RUNTIME = DebianImage("baton-base", _COMMON)
BUILD = DebianImage("baton-build", (*_COMMON, "python3-venv", "g++"))


def ensure(image: DebianImage) -> str:
    """The image's name in buildah's store, made first if need be. Raises ImagesUnavailable."""
    if not image_exists(image.reference):
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "root.tar"
            run(bootstrap_command(image, tree, sources=debian_sources(APT_SOURCES)))
            recipe = Path(folder) / "Containerfile"
            recipe.write_text(f"FROM scratch\nADD {tree.name} /\n", encoding="utf-8")
            build = [*BUILDAH, "bud", "--quiet", "--isolation", "chroot", "--tag", image.reference]
            run([*build, folder])
    return image.reference


def debian_sources(candidates: tuple[Path, ...]) -> list[str]:
    """This machine's own package sources if they are of our suite; else mmdebstrap's default."""
    return [
        str(path)
        for path in candidates
        if path.is_file() and SUITE in path.read_text(encoding="utf-8")
    ]


def bootstrap_command(image: DebianImage, tree: Path, *, sources: list[str]) -> list[str]:
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD]
    traces = " ".join(f'"$1/{path}"' for path in TRACES)
    return [
        *("mmdebstrap", "--quiet", "--variant=essential"),
        f"--include={','.join(image.packages)}",
        *excluded,
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--customize-hook=rm -rf {traces}",
        *(SUITE, str(tree)),
        *sources,
    ]
