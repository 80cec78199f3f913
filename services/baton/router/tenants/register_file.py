"""The register of tenants as a file that may change under us: rotated by hand, or a mounted Secret.

Looked at when somebody asks, and not by a task of its own. A new version that is broken is told to
the log once, and the one before it stays. Knows files; knows no HTTP.
"""

from pathlib import Path

from baton.common.clock import Clock
from baton.common.errors import ConfigError
from baton.common.logs import get_log
from baton.router.tenants.register import Register, read_register

LOOK_INTERVAL_S = 1.0
"""One stat a second at most; kubelet takes up to a minute to change a file anyway."""

FILE_BYTES_MAX = 4 * 1024 * 1024
"""A thousand tenants with all their keys have 1.2 MB; reading that keeps the event loop for
some 20 ms, once for each new version."""

_Version = tuple[int, int, int]  # inode, ctime in ns, size

_log = get_log(__name__)


class RegisterFile:
    """Raises ConfigError when made from a file that is not as it should be."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._looked_s = clock.monotonic_s()
        self._version = self._seen()
        self._register = self._read()

    def current(self) -> Register:
        """The last good one."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s >= LOOK_INTERVAL_S:
            self._looked_s = now_s
            self._look()
        return self._register

    def _look(self) -> None:
        version = self._seen()
        if version == self._version:
            return
        self._version = version  # good or not: each is read, and told of, once
        try:
            self._register = self._read()
        except ConfigError as error:
            _log.error("new API keys are not taken; the old ones stay", problem=error.message)
        else:
            _log.info("new API keys")

    def _seen(self) -> _Version | None:
        """Before it is read, so that what is written meanwhile is another version. Through symbolic
        links: kubelet swaps them, and another inode is reached."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return (stat.st_ino, stat.st_ctime_ns, stat.st_size)

    def _read(self) -> Register:
        try:
            with self._path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigError([f"--api-keys-file: {error.strerror}: {self._path}"]) from error
        if len(content) > FILE_BYTES_MAX:
            raise ConfigError([f"--api-keys-file: more than {FILE_BYTES_MAX} bytes"])
        try:
            return read_register(content)
        except ConfigError as error:
            problems = [f"--api-keys-file: {problem}" for problem in error.problems]
            raise ConfigError(problems) from None
