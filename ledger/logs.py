"""What a process that runs on its own says: a line for each event, for people or, in JSON, for machines. No secrets."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO


@dataclass
class Log:
    """Lines on standard error.

    Attributes:
        as_json: One JSON document a line: ``time``, ``level``, ``event``, and the event's own fields.
        stream: Where they go.
    """

    as_json: bool = False
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _waiting: set[str] = field(default_factory=set, init=False)
    """What is waited for and was said since something happened."""

    def info(self, event: str, **fields: object) -> None:
        """Something was done."""
        self._waiting.clear()
        self._write("info", event, fields)

    def warn(self, event: str, **fields: object) -> None:
        """Something could not be done, and is tried again."""
        self._waiting.clear()
        self._write("warning", event, fields)

    def waiting(self, event: str, **fields: object) -> None:
        """What is waited for: said once, not at every look, until something happens."""
        self._once("info", event, fields)

    def stuck(self, event: str, **fields: object) -> None:
        """What is waited for and takes a person to change: a warning, said as often as `waiting`."""
        self._once("warning", event, fields)

    def _once(self, level: str, event: str, fields: dict[str, object]) -> None:
        if (said := f"{event}{fields}") not in self._waiting:
            self._waiting.add(said)
            self._write(level, event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        now = datetime.now(UTC)
        if self.as_json:
            document = {"time": now.isoformat(timespec="milliseconds"), "level": level, "event": event}
            line = json.dumps(document | fields, ensure_ascii=False, default=str)
        else:
            told = "  ".join(f"{name} {_shown(value)}" for name, value in fields.items())
            marked = f"{now:%H:%M:%S} {'! ' if level == 'warning' else ''}{event}"
            line = f"{marked}  {told}" if told else marked
        self.stream.write(line + "\n")
        self.stream.flush()


def _shown(value: object) -> str:
    text = str(value)
    return "".join(letter if letter.isprintable() else "�" for letter in text)
