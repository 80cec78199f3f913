"""Cluster DNS: CoreDNS as a process on the first node. Knows nothing of who asks."""

from cluster.harness.daemons import Daemon
from cluster.harness.layout import Layout

ANSWER_TTL_S = 2  # default 5: a test sees a change of a headless Service soon


def prepare(layout: Layout) -> None:
    """The Corefile. The kubeconfig's context has to be named."""
    (layout.run / "Corefile").write_text(f""".:53 {{
  bind {layout.nodes[0].address}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {layout.kubeconfig} baton-test
    ttl {ANSWER_TTL_S}
  }}
}}
""")


def coredns(layout: Layout) -> Daemon:
    argv = (str(layout.binaries / "coredns"), "-conf", f"{layout.run}/Corefile")
    return Daemon("coredns", (*layout.nodes[0].inside, *argv), layout.run)
