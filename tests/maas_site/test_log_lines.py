from __future__ import annotations

import json
import logging
import sys

import pytest

from maas_site import log_lines
from maas_site.log_lines import JSONFormatter, PlainFormatter
from maas_site.supervisor.logs import LogFile

pytestmark = pytest.mark.once
HOSTILE = "a\r\nERROR forged \x1b[2J \u202e end é 模型"


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("inference.asgi", logging.WARNING, "f.py", 1, "%s", (message,), None)
    made.__dict__.update(fields)
    return made


@pytest.fixture(autouse=True)
def _request() -> None:
    log_lines.request_id.set("req_0123456789")


def test_a_line_names_the_request() -> None:
    assert (
        PlainFormatter()
        .format(record("hello"))
        .endswith(" WARNING inference.asgi [req_0123456789] hello")
    )
    line = json.loads(JSONFormatter().format(record("hello")))
    assert line["request_id"] == "req_0123456789"
    assert (line["level"], line["logger"], line["message"]) == (
        "WARNING",
        "inference.asgi",
        "hello",
    )
    assert line["time"].endswith("+00:00")


def test_outside_of_requests_there_is_no_id() -> None:
    log_lines.request_id.set("")

    assert PlainFormatter().format(record("hello")).endswith(" WARNING inference.asgi hello")
    assert "request_id" not in json.loads(JSONFormatter().format(record("hello")))


def test_a_hostile_message_stays_on_its_line_and_reaches_no_terminal() -> None:
    plain = PlainFormatter().format(record(HOSTILE))
    as_json = JSONFormatter().format(record(HOSTILE))

    for line in (plain, as_json):
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
        assert "\u202e" not in line
    assert plain.endswith(r"a\r\nERROR forged \x1b[2J \u202e end é 模型")
    assert json.loads(as_json)["message"] == HOSTILE


def test_a_traceback_is_part_of_its_object() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        failed = record("failed", exc_info=sys.exc_info())

    lines = JSONFormatter().format(failed).splitlines()
    assert len(lines) == 1
    assert "ValueError: broken" in json.loads(lines[0])["traceback"]
    assert "ValueError: broken" in PlainFormatter().format(failed).splitlines()[-1]


def test_a_file_of_json_lines_has_nothing_else_in_them(tmp_path: object) -> None:
    log = LogFile(tmp_path, "gateway")  # type: ignore[arg-type]  # pytest's path
    log.write(JSONFormatter().format(record("hello")))
    log.write("words")
    log.close()

    first, second = log.path.read_text().splitlines()
    assert json.loads(first)["message"] == "hello"
    assert second.endswith(" gateway: words")
