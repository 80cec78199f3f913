"""`baton key`: every key is another one, and its hash is what the router's file wants."""

import json
import re

import pytest
from baton.cli.key import key
from baton.router.tenants.register import Tenant, read_register


def test_a_new_key_opens_what_the_printed_file_guards(capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    for _ in range(2):
        key()
        told = capsys.readouterr().out
        found = re.search(r"sk-baton-[-_A-Za-z0-9]{43}\b", told)
        assert found is not None
        made.append(found[0])
        register = read_register(json.dumps(json.loads(told.splitlines()[-1])).encode())
        assert register.tenant_of(found[0].encode()) == Tenant("team-a")
    assert made[0] != made[1]
