"""From a change of status to an Event object of Kubernetes. Pure; knows no API server."""

from datetime import datetime

from baton_operator.api import GROUP, KIND, VERSION
from baton_operator.leadership import micro_time
from baton_operator.manifest import Manifest
from baton_operator.names import FIELD_MANAGER, Owner
from baton_operator.status import Event

NOTE_CHARS_MAX = 1_024  # the API's own limit
COUNT_MAX = 8
"""Of one status: all conditions turning at once, and a change of both roles' replicas."""


def event_manifest(
    owner: Owner, event: Event, *, instance: str, now: datetime, number: int
) -> Manifest:
    """`instance` is the pod that reports; `number` tells the Events of one moment apart."""
    moment_us = int(now.timestamp() * 1_000_000)
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{owner.name}.{moment_us:x}{number:x}",
            "namespace": owner.namespace,
        },
        "eventTime": micro_time(now),
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "action": "Reconcile",
        "note": event.message[:NOTE_CHARS_MAX],
        "reportingController": FIELD_MANAGER,
        "reportingInstance": instance,
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
    }
