"""How the build reaches the package registry: as this machine does, and nobody else hears of it.

The settings of pip and uv travel into the build as a secret and a mounted folder; neither layers
nor history keep them. Knows settings by name, never by value.
"""

import shlex
from collections.abc import Iterable, Mapping
from configparser import RawConfigParser
from io import StringIO
from pathlib import Path

SETTINGS = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_PROXY"),
    *("PIP_DEFAULT_TIMEOUT", "PIP_RETRIES"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY"),
    *("UV_INSECURE_HOST", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES"),
)
# Folders of the build's root that every image has and none uses: mounts there leave no trace.
SETTINGS_MOUNT = "/media"
UV_CACHE_MOUNT = "/srv"
CERTIFICATES = Path("/etc/ssl/certs")
CERTIFICATE_BUNDLE = CERTIFICATES / "ca-certificates.crt"


def pip_files(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Where pip reads its configuration, the weakest first."""
    named = environ.get("PIP_CONFIG_FILE")
    files = [
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
    ]
    return [*files, *([Path(named)] if named else [])]


def uv_files(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Where uv reads its configuration, the strongest first."""
    named = environ.get("UV_CONFIG_FILE")
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml"
    return [*([Path(named)] if named else []), user, Path("/etc/uv/uv.toml")]


def merged_pip_configuration(files: Iterable[Path]) -> str:
    merged = RawConfigParser()
    merged.read(files)  # absent ones are skipped
    text = StringIO()
    merged.write(text)
    return text.getvalue()


def write_settings(folder: Path, environ: Mapping[str, str], home: Path) -> Path:
    """Fills `folder`, to be mounted at SETTINGS_MOUNT; returns the file for the build's secret."""
    exports = {name: environ[name] for name in SETTINGS if name in environ}
    (folder / "pip.conf").write_text(
        merged_pip_configuration(pip_files(environ, home)), encoding="utf-8"
    )
    exports["PIP_CONFIG_FILE"] = f"{SETTINGS_MOUNT}/pip.conf"
    for file in uv_files(environ, home):
        if file.is_file():
            (folder / "uv.toml").write_bytes(file.read_bytes())
            exports["UV_CONFIG_FILE"] = f"{SETTINGS_MOUNT}/uv.toml"
            break
    exports["UV_CACHE_DIR"] = UV_CACHE_MOUNT
    if CERTIFICATE_BUNDLE.is_file():
        exports["PIP_CERT"] = exports["SSL_CERT_FILE"] = str(CERTIFICATE_BUNDLE)
    secret = folder / "registry"
    secret.touch(mode=0o600)
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in sorted(exports.items()))
    secret.write_text("".join(lines), encoding="utf-8")
    return secret


def build_options(folder: Path, secret: Path, uv_cache: Path) -> list[str]:
    """What buildah is told: the secret, the mounts."""
    mounts = [f"{folder}:{SETTINGS_MOUNT}:ro", f"{uv_cache}:{UV_CACHE_MOUNT}"]
    if CERTIFICATES.is_dir():
        mounts.append(f"{CERTIFICATES}:{CERTIFICATES}:ro")
    volumes = [option for mount in mounts for option in ("--volume", mount)]
    return ["--secret", f"id=registry,src={secret}", *volumes]
