"""What the supervisor reads from the environment; the site reads the same names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maas_site import environment as env

BASE_DIR = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Config:
    """Where the site lives and what it listens on."""

    data: Path
    host: str
    port: int
    # Where this machine reaches the site.
    address: str
    has_redis: bool
    public_url: str
    # A name that the site answers to.
    host_name: str
    predict_pool: str
    predict_workers: int
    job_pool: str

    @classmethod
    def read(cls) -> Config:
        """Read the environment.

        Raises:
            ImproperlyConfigured: A value is not understood; the text names it.
        """
        host = env.text("MERCATO_HOST", "127.0.0.1")
        port = env.integer("MERCATO_PORT", 8000, low=1, high=65535)
        address = _address(host, port)
        return cls(
            data=Path(env.text("MERCATO_DATA", str(BASE_DIR / "var"))).expanduser().resolve(),
            host=host,
            port=port,
            address=address,
            has_redis=bool(env.text("REDIS_URL")),
            public_url=env.text("MERCATO_PUBLIC_URL", address).rstrip("/"),
            host_name=_first_name(env.text("MERCATO_ALLOWED_HOSTS")),
            predict_pool=env.text("MERCATO_PREDICT_POOL", "cpu"),
            predict_workers=env.integer("MERCATO_PREDICT_WORKERS", 1, low=1, high=64),
            job_pool=env.text("MERCATO_JOB_POOL", "cpu"),
        )

    @property
    def lock(self) -> Path:
        """The lock file of the data folder."""
        return self.data / "lock"

    @property
    def socket(self) -> Path:
        """The socket of the Valkey that the supervisor starts."""
        return env.valkey_socket(self.data)


def _address(host: str, port: int) -> str:
    # Who listens on every address is reached on the loopback one.
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"


def _first_name(allowed: str) -> str:
    names = [name for name in allowed.split(",") if name]
    if not names or names[0] == "*":
        return "localhost"
    return names[0].lstrip(".")
