"""Small container images as OCI archives, written in Python. Knows no registry and no containerd.

The same files give the same bytes, so that an image that did not change has the same digest.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = Any  # an archive's index: an object, or in a docker archive a list

NOBODY = "65532:65532"  # not root: the restricted pod standard wants that
NAME_NOTES = (
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
)  # first that is there
INDEX_FILES = ("index.json", "manifest.json")  # OCI layout; docker-archive


@dataclass(frozen=True, slots=True)
class Program:
    """A file with its mode, or a link to `link`."""

    content: bytes = b""
    mode: int = 0o755
    link: str = ""


def write(path: Path, name: str, files: Mapping[str, Program], entrypoint: list[str]) -> None:
    """An image `name` of one layer that holds `files` (path below / -> file)."""
    layer = _layer(files)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": NOBODY, "Entrypoint": entrypoint, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [layer, json.dumps(config).encode()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("config.v1+json", blobs[1]),
        "layers": [_descriptor("layer.v1.tar", layer)],
    }
    blobs.append(json.dumps(manifest).encode())
    named = {"annotations": {"org.opencontainers.image.ref.name": name}}
    index = {
        "schemaVersion": 2,
        "manifests": [_descriptor("manifest.v1+json", blobs[2]) | named],
    }
    entries = {f"blobs/sha256/{_digest(blob)[7:]}": Program(blob, 0o644) for blob in blobs}
    entries["index.json"] = Program(json.dumps(index).encode(), 0o644)
    entries["oci-layout"] = Program(b'{"imageLayoutVersion": "1.0.0"}', 0o644)
    path.write_bytes(_layer(entries))


def identity(path: Path) -> tuple[list[str], str]:
    """Names in an OCI or docker archive, and a digest that changes when an image does."""
    with tarfile.open(path) as archive:
        for file in INDEX_FILES:
            try:
                member = archive.extractfile(file)
            except KeyError:
                continue
            if member is not None:
                text = member.read()
                return _names(json.loads(text)), _digest(text)
    raise ValueError(f"{path}: neither an OCI archive nor a docker archive")


def _names(index: Json) -> list[str]:
    if isinstance(index, list):  # docker-archive
        return [tag for image in index for tag in image["RepoTags"] or []]
    notes = index["manifests"][0].get("annotations", {})
    return [notes[key] for key in NAME_NOTES if key in notes][:1]


def _layer(files: Mapping[str, Program]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.mode = file.mode
            if file.link:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
            else:
                entry.size = len(file.content)
            archive.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    media_type = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
