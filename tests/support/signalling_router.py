"""A router that does nothing but tell signals, on the metrics port of an address of its own."""

import contextlib
import http.server
import threading
from collections.abc import Iterator

from baton.common.signals import RouterSignals, encode_signals

from support.router_signals import quiet_traffic


class FakeRouter:
    """Answers /signals on the metrics port, on an address of its own."""

    def __init__(self) -> None:
        self.requests_waiting = 0

    def signals(self) -> bytes:
        traffic = quiet_traffic(requests_waiting=self.requests_waiting)
        made = RouterSignals(model_name="m", incarnation=1, traffic=traffic, workers=())
        return encode_signals(made)


@contextlib.contextmanager
def fake_router(address: str) -> Iterator[FakeRouter]:
    router = FakeRouter()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(router.signals())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((address, 9090), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield router
    server.shutdown()
    server.server_close()
    thread.join()
