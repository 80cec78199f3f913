"""nginx in front of a Service, set up as an ingress controller would from an Ingress.

Knows nginx, and those annotations of ingress-nginx that our chart writes; knows no Baton.
"""

import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster.harness.commands import until
from cluster.harness.errors import HarnessError
from support.stack import free_port

READY_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0

ANNOTATIONS = "nginx.ingress.kubernetes.io/"
DIRECTIVES = {
    "proxy-buffering": "proxy_buffering {};",
    "proxy-read-timeout": "proxy_read_timeout {}s;",
    "proxy-send-timeout": "proxy_send_timeout {}s;",
    "proxy-body-size": "client_max_body_size {};",
}
CONTROLLERS_OWN = ("proxy_http_version 1.1;", 'proxy_set_header Connection "";')
"""Left to itself, nginx speaks HTTP/1.0 to its upstream, and a connection ends with each answer."""

CONFIGURATION = """
daemon off;
master_process off;
error_log {folder}/error.log info;
pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream service {{ server {upstream}; keepalive 32; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://service;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      {directives}
    }}
  }}
}}
"""


def directives_of(annotations: Mapping[str, str]) -> list[str]:
    """Raises KeyError for an annotation of nginx' that the table does not know."""
    asked = [
        DIRECTIVES[name.removeprefix(ANNOTATIONS)].format(value)
        for name, value in annotations.items()
        if name.startswith(ANNOTATIONS)
    ]
    return [*CONTROLLERS_OWN, *asked]


@contextmanager
def running_nginx(
    program: Path, folder: Path, upstream: str, directives: Sequence[str]
) -> Iterator[str]:
    """The URL at which nginx passes everything on to `upstream` (HOST:PORT). Gone afterwards."""
    port = free_port()
    said = CONFIGURATION.format(
        folder=folder,
        upstream=upstream,
        address=f"127.0.0.1:{port}",
        directives="\n      ".join(directives),
    )
    (folder / "nginx.conf").write_text(said, encoding="utf-8")
    command = [str(program), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with (folder / "stderr.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
    try:
        until(lambda: _answers(process, folder, port), limit_s=READY_LIMIT_S, what="nginx listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT_S)


def _answers(process: "subprocess.Popen[bytes]", folder: Path, port: int) -> bool:
    if process.poll() is not None:
        raise HarnessError(f"nginx ended: {(folder / 'stderr.log').read_text()}")
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
