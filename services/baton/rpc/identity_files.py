"""Who this process is on the wire: ca.crt, tls.crt and tls.key in a directory that may change.

Files are read anew when they change, and taken only when a handshake of this process with itself
succeeds: both ends would accept the chain, the dates and the name. What does not is told to the log
and the last good identity stays. Knows files and the standard library's TLS; knows no gRPC.
"""

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from baton.common.clock import Clock, SystemClock
from baton.common.errors import ConfigError
from baton.common.logs import get_log

LOOK_INTERVAL_S = 1.0
"""Files are looked at (three stats) at most this often, and only when somebody connects: kubelet
takes up to a minute to change them, and both old and new stay valid for long after."""

FILE_BYTES_MAX = 1024 * 1024
"""A bundle of CAs is some 2 KiB each; more than this is not ours."""

READS_MAX = 3
"""A replacement under way makes a read void; nobody replaces files three times in a millisecond."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the PEM files are, and the name every peer's certificate must carry (a DNS SAN)."""

    dir: Path
    name: str

    @property
    def ca(self) -> Path:
        """One CA, or two while one replaces the other."""
        return self.dir / "ca.crt"

    @property
    def certificate(self) -> Path:
        return self.dir / "tls.crt"

    @property
    def key(self) -> Path:
        return self.dir / "tls.key"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the files held at one moment, PEM, found to fit together."""

    ca: bytes
    certificate: bytes
    key: bytes
    expires_unix_s: float


def tls_files(tls_dir: Path | None, tls_name: str | None) -> TlsFiles | None:
    """From two settings; None where neither is given. Raises ConfigError for one alone."""
    if tls_dir is None and tls_name is None:
        return None
    if tls_dir is None or not tls_name:
        raise ConfigError(["--tls-dir and --tls-name go together: the files, and the name in them"])
    return TlsFiles(tls_dir, tls_name)


def read_identity(files: TlsFiles) -> Identity:
    """Read and prove the three files. Raises ConfigError that says which one is wrong, and how."""
    for _ in range(READS_MAX):
        before = _signature(files)
        ca, certificate, key = (_read(path) for path in (files.ca, files.certificate, files.key))
        try:
            expires_unix_s = _prove(files)
        except ConfigError:
            if _signature(files) == before:
                raise
        else:
            if _signature(files) == before:
                return Identity(ca, certificate, key, expires_unix_s)
    raise ConfigError([f"the files in {files.dir} change faster than they can be read"])


class IdentitySource:
    """The identity of now. Any thread may ask. Raises ConfigError when made from unfit files."""

    def __init__(self, files: TlsFiles, *, clock: Clock | None = None) -> None:
        self._files = files
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._signature = _signature(files)
        self._identity = read_identity(files)
        self._looked_s = self._clock.monotonic_s()
        self._log = get_log(__name__)

    @property
    def name(self) -> str:
        return self._files.name

    def current(self) -> Identity:
        """The last good identity; the same object until the files change for another good one."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s - self._looked_s >= LOOK_INTERVAL_S:
                self._looked_s = now_s
                self._look()
            return self._identity

    def _look(self) -> None:
        try:
            signature = _signature(self._files)
            if signature == self._signature:
                return
            self._identity = read_identity(self._files)
            self._signature = signature
        except ConfigError as error:
            self._log.warning("new TLS files are unfit; the old ones stay", problem=error.message)
            return
        self._log.info("new TLS files", expires_unix_s=self._identity.expires_unix_s)


def _signature(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """Differs when a file was replaced or written. Raises ConfigError that names missing files."""
    stats, problems = [], []
    for path in (files.ca, files.certificate, files.key):
        try:
            stat = path.stat()
        except OSError as error:
            problems.append(f"cannot read {path.name} in {files.dir}: {error.strerror}")
        else:
            stats.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    if problems:
        raise ConfigError(problems)
    return tuple(stats)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"cannot read {path.name}: {error.strerror}"]) from error
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError([f"{path.name} has more than {FILE_BYTES_MAX} bytes"])
    return content


def _prove(files: TlsFiles) -> float:
    """Shake hands with ourselves as server and as client; the leaf's end, in Unix seconds."""
    server = _context(files, ssl.PROTOCOL_TLS_SERVER)
    client = _context(files, ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = ssl.CERT_REQUIRED
    client.check_hostname = True
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=files.name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        _shake_hands(*ends)
    except ssl.SSLCertVerificationError as error:
        raise ConfigError([f"tls.crt in {files.dir}: {error.verify_message}"]) from error
    except ssl.SSLError as error:
        raise ConfigError([f"tls.crt in {files.dir}: {error.reason or error}"]) from error
    peer = ends[0].getpeercert()
    assert peer is not None, "a verified peer has a certificate"
    return float(ssl.cert_time_to_seconds(str(peer["notAfter"])))


def _context(files: TlsFiles, protocol: "ssl._SSLMethod") -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # what gRPC speaks
    try:
        context.load_verify_locations(cafile=files.ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError([f"ca.crt in {files.dir} is no PEM certificate: {error}"]) from error
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            [f"tls.crt and tls.key in {files.dir} are no PEM pair: {error}"]
        ) from error
    return context


def _shake_hands(client: ssl.SSLObject, server: ssl.SSLObject) -> None:
    """Both ends in turn, in memory, until both are content. Raises ssl.SSLError."""
    waiting = [client, server]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
