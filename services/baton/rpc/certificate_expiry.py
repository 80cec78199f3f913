"""Shows when this process's certificate ends, as a metric.

Knows the metric and the files; knows no connection.
"""

from baton.common.metrics import Metrics
from baton.rpc.identity_files import IdentitySource, TlsFiles


def show_expiry(metrics: Metrics, tls: TlsFiles | None) -> None:
    """Of the certificate in use at the moment of asking. Raises ConfigError for unfit files."""
    if tls is None:
        return
    source = IdentitySource(tls)
    metrics.follow(
        "baton_tls_certificate_expiry_timestamp_seconds", lambda: source.current().expires_unix_s
    )
