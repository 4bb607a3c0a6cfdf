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
    has_redis: bool
    has_database: bool
    public_url: str
    predict_pool: str
    job_pool: str

    @classmethod
    def read(cls) -> Config:
        """Read the environment.

        Raises:
            ImproperlyConfigured: A value is not understood; the text names it.
        """
        host = env.text("MERCATO_HOST", "127.0.0.1")
        port = env.integer("MERCATO_PORT", 8000, low=1, high=65535)
        shown = f"[{host}]" if ":" in host else host
        return cls(
            data=Path(env.text("MERCATO_DATA", str(BASE_DIR / "var"))).expanduser().resolve(),
            host=host,
            port=port,
            has_redis=bool(env.text("REDIS_URL")),
            has_database=bool(env.text("DATABASE_URL")),
            public_url=env.text("MERCATO_PUBLIC_URL", f"http://{shown}:{port}").rstrip("/"),
            predict_pool=env.text("MERCATO_PREDICT_POOL", "cpu"),
            job_pool=env.text("MERCATO_JOB_POOL", "cpu"),
        )

    @property
    def address(self) -> str:
        """Where this machine reaches the site."""
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{local}]:{self.port}" if ":" in local else f"http://{local}:{self.port}"

    @property
    def lock(self) -> Path:
        """The lock file of the data folder."""
        return self.data / "lock"

    @property
    def socket(self) -> Path:
        """The socket of the Valkey that the supervisor starts."""
        return env.valkey_socket(self.data)
