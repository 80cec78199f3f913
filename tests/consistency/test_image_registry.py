"""The build of an image reaches the package registry as this machine does, and forgets how."""

from pathlib import Path

import pytest
from cluster.images import bases
from cluster.images.commands import missing_packages
from cluster.images.registry import SETTINGS_MOUNT, build_options, write_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "uv").mkdir()
    (tmp_path / "settings").mkdir()
    return tmp_path


def test_the_environment_travels_as_exports_and_the_rest_stays(home: Path) -> None:
    environ = {"PIP_INDEX_URL": "https://index.test/it's", "UV_INDEX": "x", "SECRET": "no"}
    lines = write_settings(home / "settings", environ, home).read_text().splitlines()
    assert "export PIP_INDEX_URL='https://index.test/it'\"'\"'s'" in lines
    assert "export UV_INDEX=x" in lines
    assert not any("SECRET" in line for line in lines)


def test_configuration_files_travel_too(home: Path) -> None:
    (home / ".config/pip/pip.conf").write_text("[global]\ntimeout = 7\n[install]\nuser = no\n")
    (home / "own.conf").write_text("[global]\ntimeout = 9\n")
    (home / ".config/uv/uv.toml").write_text('cache-keys = ["x"]\n')
    settings = home / "settings"
    exports = write_settings(settings, {"PIP_CONFIG_FILE": str(home / "own.conf")}, home)
    assert f"export UV_CONFIG_FILE={SETTINGS_MOUNT}/uv.toml" in exports.read_text()
    assert (settings / "uv.toml").read_text() == 'cache-keys = ["x"]\n'
    merged = (settings / "pip.conf").read_text()
    assert "timeout = 9" in merged  # what PIP_CONFIG_FILE says is stronger than the user's file
    assert "user = no" in merged


def test_settings_reach_the_build_only_as_mounts_and_a_secret(home: Path) -> None:
    environ = {"PIP_INDEX_URL": "https://index.test/simple"}
    secret = write_settings(home / "settings", environ, home)
    options = build_options(home / "settings", secret, home / "cache")
    assert options[:2] == ["--secret", f"id=registry,src={secret}"]
    assert not any("index.test" in option for option in options)
    assert secret.stat().st_mode & 0o077 == 0


def test_a_base_keeps_nothing_of_the_machine_that_made_it(tmp_path: Path) -> None:
    sources = tmp_path / "debian.sources"
    sources.write_text("Suites: bookworm\n")
    (tmp_path / "other.sources").write_text("Suites: trixie\n")
    found = bases.debian_sources((sources, tmp_path / "other.sources", tmp_path / "absent"))
    command = bases.bootstrap_command(bases.RUNTIME, tmp_path / "root.tar", sources=found)
    assert command[-2:] == [str(tmp_path / "root.tar"), str(sources)]
    [hook] = [word for word in command if word.startswith("--customize-hook=rm -rf ")]
    for trace in ("apt/sources.list", "apt/sources.list.d", "resolv.conf", "hostname"):
        assert f'"$1/etc/{trace}"' in hook


def test_the_two_bases_differ_in_the_compiler_alone() -> None:
    assert set(bases.BUILD.packages) - set(bases.RUNTIME.packages) == {"g++", "python3-venv"}
    assert set(bases.RUNTIME.packages) < set(bases.BUILD.packages)
    assert bases.RUNTIME.reference != bases.BUILD.reference


def test_missing_programs_are_named_as_packages_to_install(tmp_path: Path) -> None:
    assert missing_packages(str(tmp_path)) == ["buildah", "mmdebstrap", "busybox-static"]
