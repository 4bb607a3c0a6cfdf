"""Every setting of the site, read from the environment; docs/settings.md explains each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from csp.constants import NONCE, NONE, SELF
from whitenoise.compress import Compressor

from maas_site import environment as env
from maas_site.unfold_settings import UNFOLD as UNFOLD

BASE_DIR = Path(__file__).resolve().parent.parent

# Where things are ---------------------------------------------------------------------------
DATA = Path(env.text("MERCATO_DATA", str(BASE_DIR / "var"))).expanduser().resolve()
HOST = env.text("MERCATO_HOST", "127.0.0.1")
PORT = env.integer("MERCATO_PORT", 8000, low=1, high=65535)
IS_LOOPBACK = HOST in {"127.0.0.1", "::1", "localhost"}
_HOST_IN_URL = f"[{HOST}]" if ":" in HOST else HOST
PUBLIC_URL = env.text("MERCATO_PUBLIC_URL", f"http://{_HOST_IN_URL}:{PORT}").rstrip("/")
ARTIFACTS = DATA / "artifacts"
# Copies of artifacts that predict workers read; may be deleted at any time.
MODEL_FILES = DATA / "model-files"
MAIL = DATA / "mail"

# Security -----------------------------------------------------------------------------------
DEBUG = env.boolean("MERCATO_DEBUG", default=False)
SECRET_KEY = env.secret_key(DATA)
ALLOWED_HOSTS = [
    host
    for host in [
        *env.text("MERCATO_ALLOWED_HOSTS", f"{_HOST_IN_URL},localhost,127.0.0.1,[::1]").split(","),
        urlsplit(PUBLIC_URL).hostname,
    ]
    if host
]
# Behind a proxy with TLS the cookies are sent over TLS only.
IS_HTTPS = PUBLIC_URL.startswith("https://")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CSRF_FAILURE_VIEW = "maas_site.views.csrf_failed"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = IS_HTTPS
# Load balancers ask without TLS.
SECURE_REDIRECT_EXEMPT = ["^healthz$", "^readyz$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = IS_HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200
DATA_UPLOAD_MAX_NUMBER_FILES = 20
# On the disk of the data folder: a temporary folder may be memory.
FILE_UPLOAD_TEMP_DIR = env.folder(DATA / "uploads")
FILE_UPLOAD_PERMISSIONS = 0o600
STRIPE_PAGES = [
    f"https://{name}.stripe.com" for name in ("checkout", "billing", "connect", "invoice")
]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        # Forms that end at Stripe's pages, or at the address that Stripe sends people back to.
        "form-action": [SELF, PUBLIC_URL, *STRIPE_PAGES],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    },
    # The console and the API reference ship scripts that build styles and functions at run time.
    "EXCLUDE_URL_PREFIXES": ("/admin/", "/docs/api"),
}

# Applications -------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "django_htmx",
    "django_cotton.apps.SimpleAppConfig",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "maas_site",
    "training",
    "inference",
    "billing",
    "catalog",
    "accounts",
]
MIDDLEWARE = [
    "maas_site.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "maas_site.urls"
ASGI_APPLICATION = "maas_site.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "maas_site.context.site",
            ],
            "builtins": ["django_cotton.templatetags.cotton"],
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        "django_cotton.cotton_loader.Loader",
                        "django.template.loaders.filesystem.Loader",
                        "django.template.loaders.app_directories.Loader",
                    ],
                )
            ],
        },
    }
]
COTTON_DIR = "components"

# Database -----------------------------------------------------------------------------------
DATABASES: dict[str, Any] = {
    "default": dj_database_url.parse(
        env.text("DATABASE_URL") or f"sqlite:///{DATA / 'mercato.sqlite3'}",
        conn_max_age=None,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["ENGINE"] = "accounts.sqlite"
    DATABASES["default"]["OPTIONS"] = {
        # A transaction takes the write lock when it begins: a later upgrade would fail at once.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=ON;"
            "PRAGMA temp_store=MEMORY;"
        ),
    }
    DATABASES["default"]["TEST"] = {"NAME": str(DATA / "test.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis: broker, replies, events, cache ------------------------------------------------------
REDIS_URL = env.text("REDIS_URL") or f"unix://{env.valkey_socket(DATA)}"
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
}

# People -------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "CommonPasswordValidator")
] + [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    }
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/console"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_ADAPTER = "maas_site.signup.AccountAdapter"
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[Mercato] "
# allauth's own limits hold for all else: sign-in, wrong passwords, new passwords.
ALLAUTH_TRUSTED_PROXY_COUNT = env.integer("MERCATO_TRUSTED_PROXIES", 0, low=0, high=10)
ACCOUNT_RATE_LIMITS = {"signup": env.text("MERCATO_SIGNUP_RATE", "20/h/ip")}

# Mail ---------------------------------------------------------------------------------------
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_PORT = env.integer("EMAIL_PORT", 587, low=1, high=65535)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
# Seconds: a server that hangs must not stop the mail to others.
EMAIL_TIMEOUT = 10
EMAIL_USE_TLS = env.boolean("EMAIL_USE_TLS", default=True)
DEFAULT_FROM_EMAIL = env.text("MERCATO_MAIL_FROM", "mercato@localhost")
EMAIL_BACKEND = (
    "django.core.mail.backends.smtp.EmailBackend"
    if EMAIL_HOST
    else "django.core.mail.backends.filebased.EmailBackend"
)
EMAIL_FILE_PATH = str(MAIL)

# Language and time --------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"

# Static files -------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA / "static"
# Source maps are half of all bytes, and nobody downloads them but who debugs a library.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (*Compressor.SKIP_COMPRESS_EXTENSIONS, "map")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "maas_site.static.StaticFilesStorage"},
}

# API ----------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["inference.limits.reads.ReadThrottle"],
    "DEFAULT_PARSER_CLASSES": ["maas_site.api.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["maas_site.api.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "maas_site.api.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Mercato",
    "VERSION": "1",
    "DESCRIPTION": "Find a model, call it with a key, pay for exactly what you used.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"validatorUrl": None, "persistAuthorization": False},
    "PREPROCESSING_HOOKS": ["maas_site.openapi.only_public_paths"],
    "POSTPROCESSING_HOOKS": ["maas_site.openapi.add_hot_paths"],
}

# Celery -------------------------------------------------------------------------------------
PREDICT_POOL = env.text("MERCATO_PREDICT_POOL", "cpu")
JOB_POOL = env.text("MERCATO_JOB_POOL", "cpu")

# Money --------------------------------------------------------------------------------------
CURRENCY = "usd"
TRIAL_CREDIT_NANOS = env.nanos("MERCATO_TRIAL_CREDIT", "5.00")
TRIAL_CREDIT_DAYS = env.integer("MERCATO_TRIAL_CREDIT_DAYS", 0, low=0, high=3650)
TOP_UP_MIN_NANOS = env.nanos("MERCATO_TOP_UP_MIN", "5.00")
TOP_UP_MAX_NANOS = env.nanos("MERCATO_TOP_UP_MAX", "10000.00")
OWNER_REFUNDS = env.boolean("MERCATO_OWNER_REFUNDS", default=False)
MONTHLY_LIMIT_NANOS = env.nanos("MERCATO_MONTHLY_LIMIT", "100.00")
PUBLISHER_SHARE_BPS = env.integer("MERCATO_PUBLISHER_SHARE_BPS", 8000, low=0, high=10_000)
PRICE_APPROVAL = env.boolean("MERCATO_PRICE_APPROVAL", default=True)
PRICE_NOTICE_DAYS = env.integer("MERCATO_PRICE_NOTICE_DAYS", 14, low=0, high=365)
QUOTE_MINUTES = env.integer("MERCATO_QUOTE_MINUTES", 60, low=1, high=10_080)
EARNINGS_HOLD_DAYS = env.integer("MERCATO_EARNINGS_HOLD_DAYS", 30, low=0, high=365)
PAYOUT_MINIMUM_NANOS = env.nanos("MERCATO_PAYOUT_MINIMUM", "10.00")
PAYOUT_DAY = env.integer("MERCATO_PAYOUT_DAY", 1, low=1, high=28)
RECONCILE_DAYS = env.integer("MERCATO_RECONCILE_DAYS", 35, low=1, high=400)
TWO_PERSON_CORRECTIONS = env.boolean("MERCATO_TWO_PERSON_CORRECTIONS", default=False)

# Who invoices come from, and the beginning of their numbers.
SELLER_NAME = env.text("MERCATO_SELLER_NAME", "Mercato")
SELLER_ADDRESS = env.text("MERCATO_SELLER_ADDRESS", "")
SELLER_TAX_ID = env.text("MERCATO_SELLER_TAX_ID", "")
INVOICE_PREFIX = env.text("MERCATO_INVOICE_PREFIX", "INV")[:12]

# Stripe -------------------------------------------------------------------------------------
STRIPE_SECRET_KEY = env.stripe_key()
STRIPE_WEBHOOK_SECRETS = env.stripe_webhook_secrets(STRIPE_SECRET_KEY)
# Whether Stripe works out tax on top of what is bought.
STRIPE_TAX = env.boolean("STRIPE_TAX", default=False)
# Seconds to connect, and to wait for an answer.
STRIPE_TIMEOUT = (3.05, 15.0)
# Without a key a fake in this file stands for Stripe: no real money moves.
FAKE_STRIPE_FILE = DATA / "fake-stripe.sqlite3"
# Credit that the fake's pages sell is for nothing: not for everybody who finds the site.
PLAY_MONEY = env.boolean(
    "MERCATO_PLAY_MONEY",
    default=IS_LOOPBACK and urlsplit(PUBLIC_URL).hostname in {"127.0.0.1", "::1", "localhost"},
)

# Serving ------------------------------------------------------------------------------------
PREDICT_TIMEOUT_SECONDS = env.integer("MERCATO_PREDICT_TIMEOUT", 30, low=1, high=600)
LANE_MAX_ROWS = env.integer("MERCATO_LANE_MAX_ROWS", 256, low=1, high=65536)
LANE_MAX_WAITING = env.integer("MERCATO_LANE_MAX_WAITING", 2048, low=1, high=1_000_000)
MODEL_CACHE_BYTES = (
    env.integer("MERCATO_MODEL_CACHE_MB", 1024, low=16, high=1_048_576) * 1024 * 1024
)
MODEL_FILES_BYTES = (
    env.integer("MERCATO_MODEL_FILES_MB", 4096, low=16, high=16_777_216) * 1024 * 1024
)
MODEL_IDLE_SECONDS = 60 * env.integer("MERCATO_MODEL_IDLE_MINUTES", 60, low=0, high=100_000)
PRELOAD_MODELS = env.integer("MERCATO_PRELOAD_MODELS", 64, low=0, high=100_000)
WORKER_LABELS = env.labels("MERCATO_WORKER_LABELS")
WORKER_MAX_WAITING = env.integer("MERCATO_WORKER_MAX_WAITING", 256, low=1, high=1_000_000)
# Of one batch of asynchronous predictions: a synchronous one waits for no more than that.
ASYNC_MAX_ROWS = env.integer("MERCATO_ASYNC_MAX_ROWS", 64, low=1, high=65536)
# Per organization.
ASYNC_MAX_QUEUED = env.integer("MERCATO_ASYNC_MAX_QUEUED", 100_000, low=1, high=10_000_000)
ASYNC_QUEUE_HOURS = env.integer("MERCATO_ASYNC_QUEUE_HOURS", 24, low=1, high=720)
ASYNC_LEASE_SECONDS = env.integer("MERCATO_ASYNC_LEASE", 20, low=2, high=3600)
# In one gateway process: requests that Django works on at once, and open event streams.
PAGES_AT_ONCE = env.integer("MERCATO_PAGES_AT_ONCE", 8, low=1, high=1000)
MAX_STREAMS = env.integer("MERCATO_MAX_STREAMS", 1000, low=1, high=100_000)
# Set by benchmarks/scaling.py.
SLOW_ROW_MS = env.integer("MERCATO_SLOW_ROW_MS", 0, low=0, high=60_000)
PREDICTION_RETENTION_HOURS = env.integer("MERCATO_PREDICTION_RETENTION_HOURS", 24, low=1, high=8760)

# Limits -------------------------------------------------------------------------------------
# Of organizations for which an operator has set nothing else; 0: none.
ORGANIZATION_LIMITS = {
    "requests": env.integer("MERCATO_REQUESTS_PER_MINUTE", 0, low=0, high=1_000_000_000),
    "rows": env.integer("MERCATO_ROWS_PER_MINUTE", 0, low=0, high=1_000_000_000),
    "concurrency": env.integer("MERCATO_CONCURRENT_REQUESTS", 0, low=0, high=1_000_000_000),
}
# Of each key, for what is not metered.
READS_PER_MINUTE = env.integer("MERCATO_READS_PER_MINUTE", 6000, low=0, high=1_000_000_000)

# Batch files --------------------------------------------------------------------------------
BATCHES = DATA / "batches"
BATCH_MAX_BYTES = env.integer("MERCATO_BATCH_MAX_MB", 512, low=1, high=65536) * 1024 * 1024
BATCH_MAX_ROWS = env.integer("MERCATO_BATCH_MAX_ROWS", 100_000, low=1, high=10_000_000)
BATCH_MAX_LINE_BYTES = env.integer("MERCATO_BATCH_MAX_LINE_KB", 1024, low=1, high=16384) * 1024
BATCH_CHUNK_ROWS = env.integer("MERCATO_BATCH_CHUNK_ROWS", 256, low=1, high=4096)
BATCH_LEASE_SECONDS = env.integer("MERCATO_BATCH_LEASE", 60, low=3, high=3600)
BATCH_RETENTION_DAYS = env.integer("MERCATO_BATCH_RETENTION_DAYS", 7, low=1, high=3650)

# Webhooks out -------------------------------------------------------------------------------
PRIVATE_WEBHOOKS = env.boolean("MERCATO_PRIVATE_WEBHOOKS", default=False)

# Training -----------------------------------------------------------------------------------
TRAINING_RETENTION_DAYS = env.integer("MERCATO_TRAINING_RETENTION_DAYS", 30, low=1, high=3650)
JOB_LEASE_SECONDS = env.integer("MERCATO_JOB_LEASE", 45, low=3, high=3600)
JOB_MAX_ATTEMPTS = env.integer("MERCATO_JOB_MAX_ATTEMPTS", 3, low=1, high=20)
JOB_MAX_SECONDS = env.integer("MERCATO_JOB_MAX_SECONDS", 3600, low=10, high=604_800)

# Watching -----------------------------------------------------------------------------------
# Lets a Prometheus on another machine read /metrics.
METRICS_TOKEN = env.text("MERCATO_METRICS_TOKEN")
TRACE_HOURS = env.integer("MERCATO_TRACE_HOURS", 24, low=0, high=8760)

# Logs ---------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"()": "maas_site.log_lines.PlainFormatter"},
        "json": {"()": "maas_site.log_lines.JSONFormatter"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": env.one_of("MERCATO_LOG_FORMAT", "plain", {"plain", "json"}),
        }
    },
    "root": {"handlers": ["stderr"], "level": env.text("MERCATO_LOG_LEVEL", "INFO")},
    # A line per request, and one per answer.
    "loggers": {"stripe": {"level": "WARNING"}},
}
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# onnxruntime tells its makers of every session otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
