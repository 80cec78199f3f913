"""gRPC's threads: chosen before it is imported, unless somebody has chosen."""

import subprocess
import sys

from baton.rpc.polling import ON_THE_POLLER, VARIABLE, poll_on_one_thread


def test_what_somebody_has_set_stays() -> None:
    environ = {"PATH": "/bin"}
    poll_on_one_thread(environ)
    assert environ == {"PATH": "/bin", VARIABLE: ON_THE_POLLER}
    environ[VARIABLE] = "theirs"
    poll_on_one_thread(environ)
    assert environ[VARIABLE] == "theirs"


def test_it_comes_before_grpc() -> None:
    code = "import sys, baton.rpc.polling; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
