"""LiteLLM's proxy with a mock reply: what its routing costs without any model or database."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Write the configuration and become the proxy."""
    # JSON is YAML.
    config = Path(os.environ["FOLDER"]) / "litellm.yaml"
    reply = json.dumps({"label": "7"})
    mock = {"model": "openai/mock", "api_key": "none", "mock_response": reply}
    entry = {"model_name": "mock", "litellm_params": mock}
    settings = {"telemetry": False, "request_timeout": 60, "drop_params": True}
    config.write_text(json.dumps({"model_list": [entry], "litellm_settings": settings}))
    quiet = Path(os.environ["FOLDER"]) / "logging.json"
    quiet.write_text(json.dumps({"version": 1, "disable_existing_loggers": True}))
    program = Path(sys.executable).with_name("litellm")
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", os.environ["PORT"]]
    arguments += ["--num_workers", os.environ["WORKERS"], "--log_config", str(quiet)]
    # Importing it takes longer than its own patience with several workers.
    arguments += ["--timeout_worker_healthcheck", "60"]
    os.execv(program, [str(program), *arguments])  # noqa: S606  (a shell has no place here)


if __name__ == "__main__":
    main()
