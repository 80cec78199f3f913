"""What cluster tests share: the cluster, a restricted namespace, and a postmortem of each failure.

`make test-cluster` runs pytest inside the first node's network, so pods and Services are reached
by their addresses. By hand: `make cluster-up`, then pytest under the `nsenter` line it prints.
"""

import os
import re
import time
from collections.abc import Generator, Iterator

import pytest
from cluster.harness import postmortem
from cluster.harness.cluster import Cluster, connect
from cluster.harness.errors import ClusterUnavailable
from cluster.harness.layout import REPOSITORY, TESTS_END_VARIABLE
from cluster.images.__main__ import archive_folder
from cluster.release import IMAGES, Release, model_service

FAILURES = REPOSITORY / ".cache" / "cluster-failures"
NAME_CHARS_MAX = 40  # of a namespace; Services' and Secrets' names have room beside it


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that is up; without one every test that asks for it is skipped, visibly."""
    try:
        return connect()
    except ClusterUnavailable as missing:
        pytest.skip(f"no cluster: {missing}")


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Release:
    """The chart installed and its ModelService ready; the last test file uninstalls it."""
    missing = [image for image in IMAGES if not (archive_folder() / f"{image}.tar").exists()]
    if missing and cluster.layout is not None:
        pytest.skip(f"no images (`make images` makes them): {', '.join(missing)}")
    installed = Release(cluster)
    installed.install()
    installed.apply(model_service())
    installed.await_whole()
    return installed


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own that enforces the restricted pod standard; removed after."""
    name = _as_name(request.node.name)
    cluster.remove_namespace(name)  # a killed run may have left it
    cluster.make_namespace(name)
    yield name
    cluster.remove_namespace(name)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Continuous integration has an end: what does not fit into it is skipped, visibly."""
    end_s = float(os.environ.get(TESTS_END_VARIABLE, "inf"))
    if time.time() > end_s:
        pytest.skip("out of time: the run was given a limit (--within-s)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Looks at the cluster while the failed test's objects are still there."""
    report = yield
    found = item.funcargs.get("cluster") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(found, Cluster):
        folder = FAILURES / _as_name(item.name)
        postmortem.write(found, folder)
        report.sections.append(("cluster", f"postmortem in {folder}"))
    return report


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:NAME_CHARS_MAX].strip("-")
