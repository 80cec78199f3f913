"""The scripts that the chart's hooks run, against HTTP servers that answer as the real ones do."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from support.chart_hooks import hook_script

crd_hook = hook_script("upgrade_crd")
check = hook_script("check_release")

NAME = "modelservices.serving.baton.dev"
CRD = {"metadata": {"name": NAME, "annotations": {"keep": "me"}}, "spec": {"versions": []}}

Answer = Callable[[str, str, bytes], tuple[int, str]]
"""Method, path, body to status, text."""


@contextmanager
def serving(answer: Answer, key: str | None = None) -> Iterator[int]:
    """A server on a port of its own; its API is for who has the `key`, where there is one."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = 401, '{"error": {"message": "Incorrect API key provided."}}'
            admitted = key is None or self.headers["Authorization"] == f"Bearer {key}"
            if admitted or not self.path.startswith("/v1/"):
                status, text = answer(self.command, self.path, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815 - http.server's names

        def log_message(self, *_: object, **__: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ApiServer:
    """One CRD, or none."""

    def __init__(self, crd: dict[str, Any] | None) -> None:
        self.crd = crd

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        prefix = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}"
        assert path.startswith(prefix)
        if self.crd is None:
            return 404, '{"kind": "Status", "code": 404}'
        if method == "PATCH":
            assert path == f"{prefix}?fieldManager=baton-chart&force=true"
            self.crd = json.loads(body)
        return 200, json.dumps(self.crd)


def upgraded(present: dict[str, Any] | None, version: str = "0.2.0") -> tuple[str, Any]:
    """What the hook says, and the CRD afterwards."""
    api = ApiServer(present)
    with serving(api.answer) as port:
        cluster = crd_hook.Cluster(f"http://127.0.0.1:{port}", "token", None)
        return crd_hook.upgrade(cluster, CRD, version), api.crd


def of_version(version: str) -> dict[str, Any]:
    marked = {crd_hook.VERSION_ANNOTATION: version}
    return {"metadata": {"name": NAME, "annotations": marked}, "spec": "older"}


@pytest.mark.parametrize("before", [of_version("0.1.0"), {"metadata": {"name": NAME}}])
def test_an_older_crd_becomes_the_charts(before: dict[str, Any]) -> None:
    said, crd = upgraded(before)
    assert crd["spec"] == CRD["spec"]
    assert crd["metadata"]["annotations"] == {"keep": "me", crd_hook.VERSION_ANNOTATION: "0.2.0"}
    assert "is now of chart 0.2.0" in said


def test_a_newer_crd_stays() -> None:
    said, crd = upgraded(of_version("0.10.0"))
    assert crd == of_version("0.10.0")
    assert "newer than 0.2.0: left as it is" in said


def test_an_absent_crd_is_no_error() -> None:
    """A GitOps tool may run hooks before it applies the CRD."""
    said, crd = upgraded(None)
    assert crd is None
    assert "nothing to upgrade" in said


@pytest.mark.parametrize(
    ("ours", "theirs", "older"),
    [
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "0.10.0", True),
        ("1.0.0-rc.1", "1.0.0", True),
        ("1.0.0", "1.0.0", False),
        ("1.0.0", "1.0.0-rc.1", False),
        ("1.0.0+build", "1.0.0", False),
        ("0.1.0", "", False),
        ("0.1.0", "scribble", False),
    ],
)
def test_versions_are_ordered(ours: str, theirs: str, older: bool) -> None:
    assert crd_hook.is_older(ours, theirs) is older


@pytest.mark.parametrize(
    ("host", "address"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
def test_the_api_server_is_where_the_pod_is_told(host: str, address: str) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    assert crd_hook.server_address(environ) == address


class ModelRelease:
    """Operator, router and workers in one server."""

    def __init__(self, **broken: Any) -> None:
        self.broken = broken  # path to what is answered instead
        self.refusals = broken.pop("refusals", 0)  # requests that come too early
        self.requests = 0

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        if path.strip("/") in self.broken:
            return 200, str(self.broken[path.strip("/")])
        match path:
            case "/ready":
                return 200, "ready"
            case "/metrics":
                return 200, (
                    'leader_election_master_status{name="x"} 1.0\n'
                    f'baton_router_requests_total{{status="200"}} {self.requests}\n'
                    f"baton_engine_steps_total {self.requests * 5}.0\n"
                )
            case "/v1/models":
                return 200, '{"data": [{"id": "m"}]}'
            case "/v1/chat/completions":
                return self._chat(json.loads(body))
        return 404, ""

    def _chat(self, body: dict[str, Any]) -> tuple[int, str]:
        if self.refusals > 0:
            self.refusals -= 1
            return 503, '{"error": {"message": "no decode worker"}}'
        assert body["model"] == "m"
        self.requests += 1
        if not body["stream"]:
            return 200, json.dumps({"choices": [{"message": {"content": "It is Paris."}}]})
        return 200, str(self.broken.get("stream", STREAM))


def event(choice: dict[str, Any]) -> str:
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


STREAM = (
    event({"delta": {"role": "assistant", "content": ""}})
    + event({"delta": {"content": "It is "}})
    + event({"delta": {"content": "Paris."}, "finish_reason": "stop"})
    + 'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n'
)


class Pauses:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def clock(self) -> float:
        return self.now_s

    def pause(self) -> None:
        self.now_s += 1.0


def checked(
    release: ModelRelease, *flags: str, asks_for: str | None = None, given: str = ""
) -> bool:
    """Whether the release passes `helm test`; the key it asks for, and the one that it is given."""
    with serving(release.answer, asks_for) as port:
        here = f"http://127.0.0.1:{port}"
        model = [
            f"--endpoint={here}",
            "--routers=127.0.0.1",
            "--decode=127.0.0.1",
            "--prefill=127.0.0.1",
        ]
        options = check.read_options(
            [f"--operator={here}", *model, f"--port={port}", "--prompt=Capital?", *flags]
        )
        time = Pauses()
        held: bool = check.run(check.Release(options, given), time.clock, time.pause)
        return held


def lines(capsys: pytest.CaptureFixture[str]) -> Sequence[str]:
    return capsys.readouterr().out.splitlines()


def test_a_release_that_works_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(ModelRelease(), "--expect=Paris")
    assert [line.split("(")[0].strip() for line in lines(capsys)] == [
        "ok      operator: ready, leads",
        "ok      models: m",
        "ok      chat completion: 'It is Paris.'",
        "ok      streamed completion: the same answer",
        "ok      router metrics: 1 pods, 2 requests",
        "ok      decode metrics: 1 pods, 10 steps",
        "ok      prefill metrics: 1 pods, 10 steps",
    ]


def test_a_model_that_is_still_loading_is_waited_for() -> None:
    assert checked(ModelRelease(refusals=20), "--wait-s=30")


def test_a_model_that_never_answers_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert not checked(ModelRelease(refusals=10_000), "--wait-s=30")
    last = lines(capsys)[-1]
    assert last.startswith("FAILED  chat completion, for 30 s: ")
    assert "answered 503" in last
    assert "no decode worker" in last


def test_a_model_that_asks_for_a_key_gets_it() -> None:
    assert checked(ModelRelease(), asks_for="sesame", given="sesame")
    assert checked(ModelRelease(), given="sesame")  # nobody looks at it


def test_without_the_key_it_says_at_once_where_to_put_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not checked(ModelRelease(), "--wait-s=30", asks_for="sesame")
    last = lines(capsys)[-1]
    assert last.startswith("FAILED  models, for 0 s: ")
    assert "the value tests.apiKeySecret" in last


def test_a_key_may_be_on_its_way_to_the_routers_and_is_never_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not checked(ModelRelease(), "--wait-s=30", asks_for="sesame", given="barley")
    last = lines(capsys)[-1]
    assert last.startswith("FAILED  models, for 30 s: ")
    assert "Incorrect API key" in last
    assert "barley" not in last


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"stream": STREAM.replace("data: [DONE]", "")}, "did not end with [DONE]"),
        ({"stream": STREAM.replace("finish_reason", "x")}, "says why the answer ended"),
        ({"stream": STREAM.replace("Paris", "Rome")}, "streamed 'It is Rome.', in one piece"),
        ({"v1/chat/completions": "<html>"}, "this is no chat completion"),
        ({"v1/models": '{"data": []}'}, "no model is listed"),
        (
            {"metrics": "leader_election_master_status 1\n"},
            "no pod has the metric baton_router_requests_total",
        ),
        ({"metrics": "x 1\n"}, "no pod has the metric leader_election_master_status"),
        (
            {"metrics": "leader_election_master_status 1\nbaton_router_requests_total 0\n"},
            "1 routers counted 0 requests",
        ),
    ],
)
def test_what_is_broken_is_said(
    broken: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not checked(ModelRelease(**broken))
    assert says in lines(capsys)[-1]


def test_an_unexpected_answer_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert not checked(ModelRelease(), "--expect=Rome")
    assert "does not contain 'Rome'" in lines(capsys)[-1]


def test_a_router_that_has_served_nobody_yet_tells_nothing_and_is_fine() -> None:
    assert check.total(["x 1\n", 'requests_total{a="b"} 2.0\n'], "requests_total") == 2


def test_without_a_model_the_operator_alone_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(ModelRelease().answer) as port:
        options = check.read_options([f"--operator=http://127.0.0.1:{port}"])
        time = Pauses()
        assert check.run(check.Release(options), time.clock, time.pause)
    assert len(lines(capsys)) == 1


def test_nobody_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    options = check.read_options(["--operator=http://127.0.0.1:9"])
    time = Pauses()
    assert not check.run(check.Release(options), time.clock, time.pause)
    assert "cannot be reached" in lines(capsys)[-1]
