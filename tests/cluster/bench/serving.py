"""One ModelService on real nodes: from apply to its first token, from a load step to a new pod.

The chart, the images and the load are those of the cluster tests. Knows kubectl and HTTP.
"""

from collections.abc import Callable
from cluster.bench.report import Serving
from cluster.harness.cluster import Cluster


def measure(cluster: Cluster, rounds: int, tell: Callable[[str], None]) -> list[Serving]:
    return []
