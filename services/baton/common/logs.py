"""Logs: one JSON object per line on stderr, constant message, variable fields.

`get_log(__name__).info("request finished", request_id=..., tokens=...)`. Knows no destinations
beyond the stream it is configured with; the pure half never logs.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

FIELD_LENGTH_MAX = 2000
"""Longer field values are cut: a prompt must not flood the log."""

TRACEBACK_LENGTH_MAX = 8_000
"""Of a traceback the end is kept. It begins with what an error came from, which says most: with a
library's frames in it, some thousand characters before the end."""

CALL_LOGS = ("httpx",)
"""Libraries that tell of every call they make: a line each few seconds that says nothing of us."""


class Log:
    """A named log whose calls take fields as keywords."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: str, **fields: object) -> None:
        self._logger.debug(message, extra={"fields": fields})

    def info(self, message: str, **fields: object) -> None:
        self._logger.info(message, extra={"fields": fields})

    def warning(self, message: str, **fields: object) -> None:
        self._logger.warning(message, extra={"fields": fields})

    def error(self, message: str, *, error: BaseException | None = None, **fields: object) -> None:
        """With `error`, the traceback goes along."""
        self._logger.error(message, exc_info=error, extra={"fields": fields})


def get_log(name: str) -> Log:
    return Log(logging.getLogger(name))


def configure_logs(process: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (stderr by default) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CALL_LOGS:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "log": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", {})
        line.update({name: _bounded(value) for name, value in fields.items()})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)[-TRACEBACK_LENGTH_MAX:]
        return json.dumps(line, ensure_ascii=False, default=str)


def _bounded(value: object) -> object:
    if isinstance(value, str) and len(value) > FIELD_LENGTH_MAX:
        return value[:FIELD_LENGTH_MAX] + "…"
    return value
