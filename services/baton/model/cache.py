"""The record a resolved model leaves in the cache, and the lock under which it is made.

A record holds each file's size, modification time and sha256: while size and time stand, a start
trusts them and hashes nothing; else the hash decides. Knows files; knows no indexes, no formats.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from baton.common.errors import ModelSourceError
from baton.model.progress import Report

LOCK_WAIT_S = 3_600.0  # as long as the longest pull another process may be in (PULL_LIMIT_S)
LOCK_POLL_S = 0.2  # flock has no wait with a limit
HASH_CHUNK_BYTES = 1 << 22
RECORD_FILES_MAX = 8_192  # twice the shards a model may have
RECORD_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class FileRecord:
    name: str  # relative to the model's directory
    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What is known of a resolved model. `directory` is absolute, or relative to the cache."""

    directory: str
    model_name: str | None  # the model's file in the directory; None: the directory is the model
    files: tuple[FileRecord, ...]
    revision: str  # hex sha256, the identity of the weights

    def path(self, cache_dir: Path) -> Path:
        directory = cache_dir / self.directory
        return directory / self.model_name if self.model_name is not None else directory

    def untouched(self, cache_dir: Path) -> bool:
        """Whether every file still has its size and modification time."""
        return all(
            _stamp(cache_dir / self.directory / file.name) == (file.size_bytes, file.mtime_ns)
            for file in self.files
        )


def load_record(path: Path) -> ModelRecord | None:
    """The record, or None where there is none or it cannot be understood (it is then made anew)."""
    try:
        if path.stat().st_size > RECORD_BYTES_MAX:
            return None
        said = json.loads(path.read_bytes())
        files = tuple(
            FileRecord(str(f["name"]), int(f["size_bytes"]), int(f["mtime_ns"]), str(f["sha256"]))
            for f in said["files"]
        )
        name = said["model_name"]
        return ModelRecord(
            str(said["directory"]),
            None if name is None else str(name),
            files,
            str(said["revision"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def save_record(path: Path, record: ModelRecord) -> None:
    """Write the record so that a reader sees the old one or the new one, nothing between."""
    said = {
        "directory": record.directory,
        "model_name": record.model_name,
        "revision": record.revision,
        "files": [
            {
                "name": file.name,
                "size_bytes": file.size_bytes,
                "mtime_ns": file.mtime_ns,
                "sha256": file.sha256,
            }
            for file in record.files
        ],
    }
    temporary = path.with_suffix(".tmp")  # one writer at a time: the lock is held
    temporary.write_text(json.dumps(said, indent=1))
    os.replace(temporary, path)


def hash_files(directory: Path, names: Sequence[str], report: Report) -> tuple[FileRecord, ...]:
    """Hash files of a directory, in the order given. Raises OSError."""
    if len(names) > RECORD_FILES_MAX:
        raise ModelSourceError(f"the model has {len(names)} files (at most {RECORD_FILES_MAX})")
    total = sum((directory / name).stat().st_size for name in names)
    done, records = 0, []
    for name in names:
        # stamped before reading: a write in between makes the record stale, not wrong
        stamp = (directory / name).stat()
        digest = hashlib.sha256()
        with (directory / name).open("rb") as file:
            while chunk := file.read(HASH_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                report(done, total)
        records.append(FileRecord(name, stamp.st_size, stamp.st_mtime_ns, digest.hexdigest()))
    return tuple(records)


@contextmanager
def locked(
    path: Path, report: Callable[[], None], sleep: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold an exclusive file lock. Calls `report` once if it must wait; raises ModelSourceError
    after LOCK_WAIT_S. The lock file stays: removing it would race with the next holder."""
    with path.open("a") as file:
        for attempt in range(int(LOCK_WAIT_S / LOCK_POLL_S)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 0:
                    report()
                sleep(LOCK_POLL_S)
        else:
            raise ModelSourceError(
                f"another process has been pulling the same model for {LOCK_WAIT_S:.0f} s"
            )
        yield  # closing the file releases the lock


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
