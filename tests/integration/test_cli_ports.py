"""Ports on this machine's loopback: picking free ones, and refusing a taken one before any work."""

import socket
from collections.abc import Iterator

import pytest
from baton.cli.app import new_app
from baton.cli.ports import free_ports, require_free
from baton.common.errors import ConfigError
from typer.testing import CliRunner


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    for port in ports:
        require_free("127.0.0.1", port)


def test_a_taken_port_is_refused_with_a_way_out(taken_port: int) -> None:
    with pytest.raises(ConfigError, match=f"127.0.0.1:{taken_port}: the port is in use.*--port"):
        require_free("127.0.0.1", taken_port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        require_free("192.0.2.1", 8000)  # a documentation address: never ours


def test_serve_checks_the_port_before_it_pulls_the_model(taken_port: int) -> None:
    model = "file:///no/such/model.gguf"
    result = CliRunner().invoke(new_app(), ["serve", "--port", str(taken_port), "--model", model])
    assert isinstance(result.exception, ConfigError)
    assert "in use" in str(result.exception)


@pytest.mark.parametrize("flags", [["--decode", "0"], ["--prefill", "-1"], ["--port", "0"]])
def test_serve_refuses_impossible_shapes(flags: list[str]) -> None:
    assert CliRunner().invoke(new_app(), ["serve", *flags]).exit_code == 2
