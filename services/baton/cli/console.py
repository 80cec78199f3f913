"""What a person at the terminal sees of a running stack: events, and the children's output made
short.

Children log JSON lines; a person wants warnings and errors in words, and everything that is no log
line (a traceback, a crash of the interpreter). Knows the fields of `baton.common.logs`, nothing
else.
"""

import json
from typing import TextIO

QUIET_LEVELS = ("debug", "info")
FRAME_FIELDS = ("time", "level", "process", "log", "message", "traceback")


class TerminalReport:
    """Writes supervisor events and children's output to `stream` (stderr in `baton serve`)."""

    def __init__(self, stream: TextIO, *, verbose: bool) -> None:
        self._stream = stream
        self._verbose = verbose

    def event(self, text: str) -> None:
        print(f"baton: {text}", file=self._stream, flush=True)

    def output(self, child: str, line: str) -> None:
        text = line if self._verbose else readable(line)
        if text is not None:
            print(f"[{child}] {text}", file=self._stream, flush=True)


def readable(line: str) -> str | None:
    """A log line in words; None for one below warning; any other line as it is."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict) or "message" not in record:
        return line
    level = str(record.get("level", ""))
    if level in QUIET_LEVELS:
        return None
    fields = [f"{name}={value}" for name, value in record.items() if name not in FRAME_FIELDS]
    text = " ".join([f"{level}:", str(record["message"]), *fields])
    return "\n".join([text, *([str(record["traceback"])] if "traceback" in record else [])])
