"""The committed gRPC code is what `make proto` makes of the protos, byte for byte."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "proto"
GENERATED = "baton/rpc/v1"
GENERATE_LIMIT_S = 60


def generate(into: Path) -> None:
    """The command of `make proto`, with another place for the result."""
    programs = Path(sys.executable).parent
    plugins = [
        f"--plugin={name}={programs / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *outputs, *plugins, *sources],
        check=True,
        timeout=GENERATE_LIMIT_S,
    )


def differences(committed: Path, made: Path) -> list[str]:
    """Generated files that differ, are missing or have no proto any more."""

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.glob("*_pb2*.py*")}

    old, new = contents(committed), contents(made)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    generate(tmp_path)
    assert (tmp_path / GENERATED / "worker_pb2.py").exists()
    assert differences(ROOT / "services" / GENERATED, tmp_path / GENERATED) == []


def test_drift_is_noticed(tmp_path: Path) -> None:
    committed, made = tmp_path / "committed", tmp_path / "made"
    for folder in (committed, made):
        folder.mkdir()
        (folder / "same_pb2.py").write_text("same")
    assert differences(committed, made) == []
    (committed / "changed_pb2.pyi").write_text("old")
    (made / "changed_pb2.pyi").write_text("new")
    (committed / "orphan_pb2_grpc.py").write_text("")
    (made / "missing_pb2.py").write_text("")
    assert differences(committed, made) == [
        "changed_pb2.pyi",
        "missing_pb2.py",
        "orphan_pb2_grpc.py",
    ]
