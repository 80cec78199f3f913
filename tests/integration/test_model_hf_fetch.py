"""hf:// models arrive through the Hub's own client, from a Hub of this test's own on loopback."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from baton.common.errors import ModelSourceError
from baton.model.fetch import LocalModel, Resolver
from baton.model.hf_fetch import HfFetch
from baton.model.pip_fetch import PipFetch
from baton.model.progress import QuietProgress
from support.heard_progress import HeardProgress

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{ }",
    "model.safetensors": b"weights" * 1_000,
    "quantized/m.gguf": b"GGUF" * 1_000,
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"raise SystemExit",
}


class Hub(ThreadingHTTPServer):
    """One repository org/repo, with the few endpoints a download takes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = dict(FILES)
        self.downloads: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/models/org/repo/revision/"):
            siblings = [{"rfilename": name} for name in self.server.files]
            self._send(json.dumps({"id": "org/repo", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith("/api/models/org/repo/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": self._tag(content)}
                for name, content in self.server.files.items()
            ]
            self._send(json.dumps(tree).encode())
        elif path.startswith(f"/org/repo/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/org/repo/resolve/{COMMIT}/")
            if body:
                self.server.downloads.append(name)
            self._send(self.server.files[name], body=body)
        else:
            self._send(b"{}", status=404, code="RepoNotFound")

    def _send(
        self, content: bytes, *, status: int = 200, body: bool = True, code: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{self._tag(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if body:
            self.wfile.write(content)

    @staticmethod
    def _tag(content: bytes) -> str:
        return hashlib.sha1(content).hexdigest()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def pull(
    reference: str, cache_dir: Path, endpoint: str, progress: HeardProgress | None = None
) -> LocalModel:
    return Resolver(
        cache_dir, progress or QuietProgress(), pip=PipFetch(), hf=HfFetch(endpoint)
    ).resolve(reference)


def test_a_safetensors_model_comes_without_pickles_and_code(tmp_path: Path, hub: Hub) -> None:
    model = pull("hf://org/repo", tmp_path, hub.url)
    assert sorted(path.name for path in model.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (model.path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert set(hub.downloads) == {"config.json", "model.safetensors", "tokenizer.json"}


def test_one_gguf_file_comes_alone(tmp_path: Path, hub: Hub) -> None:
    model = pull("hf://org/repo@main#quantized/m.gguf", tmp_path, hub.url)
    assert model.path.read_bytes() == FILES["quantized/m.gguf"]
    assert model.revision == hashlib.sha256(FILES["quantized/m.gguf"]).hexdigest()
    assert hub.downloads == ["quantized/m.gguf"]


def test_progress_is_told_in_bytes(tmp_path: Path, hub: Hub) -> None:
    progress = HeardProgress()
    pull("hf://org/repo#quantized/m.gguf", tmp_path, hub.url, progress)
    assert progress.by_task["org/repo: download"][-1] == (4_000, 4_000)


def test_a_pulled_model_needs_no_hub(tmp_path: Path, hub: Hub) -> None:
    model = pull("hf://org/repo", tmp_path, hub.url)
    assert pull("hf://org/repo", tmp_path, "http://127.0.0.1:9") == model


def test_a_broken_file_is_fetched_again(tmp_path: Path, hub: Hub) -> None:
    model = pull("hf://org/repo", tmp_path, hub.url)
    weights = model.path / "model.safetensors"
    weights.resolve().write_bytes(b"short")
    assert pull("hf://org/repo", tmp_path, hub.url) == model
    assert weights.read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("hf://org/missing", "no such repository"),
        ("hf://org/repo#other.gguf", r"has no other\.gguf"),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    tmp_path: Path, hub: Hub, reference: str, says: str
) -> None:
    with pytest.raises(ModelSourceError, match=says):
        pull(reference, tmp_path, hub.url)


def test_a_repository_of_gguf_files_asks_for_one(tmp_path: Path, hub: Hub) -> None:
    del hub.files["config.json"]
    with pytest.raises(ModelSourceError, match=r"no config\.json \(name a GGUF file"):
        pull("hf://org/repo", tmp_path, hub.url)


def test_an_unreachable_hub_is_said_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"offline.*HF_ENDPOINT.*file://PATH"):
        pull("hf://org/repo", tmp_path, "http://127.0.0.1:9")
