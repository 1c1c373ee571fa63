"""Every setting, read once from the environment into one typed object."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from environs import Env, EnvValidationError
from marshmallow import ValidationError
from marshmallow.validate import ContainsOnly, OneOf, Range, Regexp

from runwait import aliases
from runwait.auth.keys import ApiKeys, UnfitKeys
from runwait.storage import urls
from runwait.webhooks.signatures import signing_key

# Those of the checkout, if this is one; an installed package brings no examples.
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "langgraph.json"

TTLStrategy = Literal["delete", "keep_latest"]
LogFormat = Literal["auto", "json", "text"]
TlsVerify = Literal["required", "none"]
# What proxies say of the client's request, each in a header X-Forwarded-...
FORWARDED = ("for", "proto", "host", "prefix")


class SettingsError(Exception):
    """A setting has a value that cannot be used; the text names it in one line."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The service's settings. Durations are seconds, sizes bytes.

    The README's table says what each is for; the environment variable has the
    field's name in capitals.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    web_concurrency: int = 2
    api_keys: str | None = field(default=None, repr=False)
    isolate_keys: bool = False
    rate_limit: str | None = None
    redis_url: str | None = None
    redis_cluster: bool = False
    redis_wait_replicas: int = 0
    redis_tls_verify: TlsVerify | None = None
    redis_tls_ca_file: Path | None = None
    redis_prefix: str = "runwait"
    redis_max_connections: int = 4
    langgraph_config: Path = EXAMPLES
    data_dir: Path = Path("data")
    heartbeat_seconds: float = 5.0
    run_concurrency: int = 5000
    waiters_max: int = 5000
    run_timeout_seconds: float | None = None
    run_lease_seconds: float = 15.0
    run_max_attempts: int = 3
    shutdown_grace_seconds: float = 20.0
    result_ttl_seconds: float = 300.0
    stream_events_max: int = 10_000
    thread_ttl_seconds: float | None = None
    thread_ttl_strategy: TTLStrategy = "delete"
    idempotency_ttl_seconds: float = 86_400.0
    langgraph_aes_key: str | None = field(default=None, repr=False)
    state_modules: list[str] | None = None
    claim_runs: bool = True
    cron_enabled: bool = True
    max_request_bytes: int = 16 * 1024 * 1024
    max_value_bytes: int = 64 * 1024 * 1024
    request_timeout_seconds: float = 30.0
    mount_prefix: str | None = None
    cors_allow_origins: list[str] | None = None
    forwarded_hops: int = 0
    forwarded_headers: list[str] = field(default_factory=lambda: [*FORWARDED])
    webhook_base_url: str | None = None
    webhook_allowed_hosts: str | None = None
    webhook_require_https: bool = False
    webhook_secret: str | None = field(default=None, repr=False)
    mcp_allowed_origins: list[str] | None = None
    public_url: str | None = None
    workbench: bool = True
    log_level: str = "INFO"
    log_format: LogFormat = "auto"

    @property
    def embedded(self) -> bool:
        """Whether the gunicorn master runs the Redis server itself."""
        return self.redis_url is None

    @property
    def storage_url(self) -> str:
        """The URL of the Redis to use: the given one, else the embedded server's."""
        if self.redis_url is None:
            return urls.of_embedded(self.data_dir)
        url = urls.as_cluster(self.redis_url) if self.redis_cluster else self.redis_url
        if urls.is_tls(url):
            return urls.with_tls(url, self.redis_tls_verify, self.redis_tls_ca_file)
        return url

    def enter_project(self) -> None:
        """Make the project's folder the working folder, for what graphs open by a relative path."""
        if self.langgraph_config.parent.is_dir():
            os.chdir(self.langgraph_config.parent)

    @classmethod
    def from_env(cls) -> Settings:
        """Read the settings from the process's environment.

        Raises:
            SettingsError: one or more values cannot be used; the text names each.
        """
        # Files of variables often name them all, and leave empty what is not set.
        for each in fields(cls):
            if os.environ.get(each.name.upper()) == "":
                del os.environ[each.name.upper()]
        problems = aliases.adopt(os.environ)
        env = Env(eager=False)
        read: dict[str, Any] = {
            # A platform that says which port to serve on means that others reach it.
            "host": env.str("HOST", _EVERYWHERE if "PORT" in os.environ else cls.host),
            "port": env.int("PORT", cls.port, validate=Range(1, 65535)),
            "web_concurrency": env.int(
                "WEB_CONCURRENCY", cls.web_concurrency, validate=Range(1, 256)
            ),
            "api_keys": env.str("API_KEYS", None, validate=_api_keys),
            "isolate_keys": env.bool("ISOLATE_KEYS", cls.isolate_keys),
            "rate_limit": env.str("RATE_LIMIT", None, validate=_rate_limit),
            "redis_url": env.str("REDIS_URL", None, validate=_redis_url),
            "redis_cluster": env.bool("REDIS_CLUSTER", cls.redis_cluster),
            "redis_wait_replicas": env.int(
                "REDIS_WAIT_REPLICAS", cls.redis_wait_replicas, validate=Range(0, 100)
            ),
            "redis_tls_verify": env.str(
                "REDIS_TLS_VERIFY", None, validate=OneOf(["required", "none"])
            ),
            "redis_tls_ca_file": env.path("REDIS_TLS_CA_FILE", None),
            "redis_prefix": env.str("REDIS_PREFIX", cls.redis_prefix, validate=_PREFIX),
            "redis_max_connections": env.int(
                "REDIS_MAX_CONNECTIONS", cls.redis_max_connections, validate=Range(2, 1000)
            ),
            "langgraph_config": env.path("LANGGRAPH_CONFIG", None) or _default_langgraph_config(),
            "data_dir": env.path("DATA_DIR", cls.data_dir),
            "heartbeat_seconds": env.float(
                "HEARTBEAT_SECONDS", cls.heartbeat_seconds, validate=_POSITIVE
            ),
            "run_concurrency": env.int("RUN_CONCURRENCY", cls.run_concurrency, validate=_COUNT),
            "waiters_max": env.int("WAITERS_MAX", cls.waiters_max, validate=_COUNT),
            "run_timeout_seconds": env.float("RUN_TIMEOUT_SECONDS", None, validate=_POSITIVE),
            "run_lease_seconds": env.float(
                "RUN_LEASE_SECONDS", cls.run_lease_seconds, validate=Range(1, 3600)
            ),
            "run_max_attempts": env.int(
                "RUN_MAX_ATTEMPTS", cls.run_max_attempts, validate=Range(1, 1000)
            ),
            "shutdown_grace_seconds": env.float(
                "SHUTDOWN_GRACE_SECONDS", cls.shutdown_grace_seconds, validate=Range(0, 3600)
            ),
            "result_ttl_seconds": env.float(
                "RESULT_TTL_SECONDS", cls.result_ttl_seconds, validate=Range(0, 31_536_000)
            ),
            "stream_events_max": env.int(
                "STREAM_EVENTS_MAX", cls.stream_events_max, validate=Range(1, 10_000_000)
            ),
            "thread_ttl_seconds": env.float("THREAD_TTL_SECONDS", None, validate=_POSITIVE),
            "thread_ttl_strategy": env.str(
                "THREAD_TTL_STRATEGY",
                cls.thread_ttl_strategy,
                validate=OneOf(get_args(TTLStrategy)),
            ),
            "idempotency_ttl_seconds": env.float(
                "IDEMPOTENCY_TTL_SECONDS",
                cls.idempotency_ttl_seconds,
                validate=Range(1, 31_536_000),
            ),
            "claim_runs": env.bool("CLAIM_RUNS", cls.claim_runs),
            "cron_enabled": env.bool("CRON_ENABLED", cls.cron_enabled),
            "langgraph_aes_key": env.str("LANGGRAPH_AES_KEY", None, validate=_aes_key),
            "state_modules": env.list("STATE_MODULES", None, subcast=str.strip),
            "max_request_bytes": env.int(
                "MAX_REQUEST_BYTES", cls.max_request_bytes, validate=Range(1, 1 << 30)
            ),
            "max_value_bytes": env.int(
                "MAX_VALUE_BYTES", cls.max_value_bytes, validate=Range(1 << 10, 1 << 28)
            ),
            "request_timeout_seconds": env.float(
                "REQUEST_TIMEOUT_SECONDS", cls.request_timeout_seconds, validate=Range(1, 3600)
            ),
            "mount_prefix": env.str("MOUNT_PREFIX", None, validate=_mount_prefix),
            "cors_allow_origins": env.list(
                "CORS_ALLOW_ORIGINS", None, subcast=str.strip, validate=_origins
            ),
            "forwarded_hops": env.int("FORWARDED_HOPS", cls.forwarded_hops, validate=Range(0, 10)),
            "forwarded_headers": env.list(
                "FORWARDED_HEADERS",
                [*FORWARDED],
                subcast=str.strip,
                validate=ContainsOnly(FORWARDED, error=f"Must be of: {', '.join(FORWARDED)}."),
            ),
            "webhook_base_url": env.str("WEBHOOK_BASE_URL", None),
            "webhook_allowed_hosts": env.str("WEBHOOK_ALLOWED_HOSTS", None),
            "webhook_require_https": env.bool("WEBHOOK_REQUIRE_HTTPS", cls.webhook_require_https),
            "webhook_secret": env.str("WEBHOOK_SECRET", None, validate=_webhook_secret),
            "mcp_allowed_origins": env.list(
                "MCP_ALLOWED_ORIGINS", None, subcast=str.strip, validate=_origins
            ),
            "public_url": env.str("PUBLIC_URL", None, validate=_public_url),
            "workbench": env.bool("WORKBENCH", cls.workbench),
            "log_level": env.str("LOG_LEVEL", cls.log_level, validate=OneOf(_LOG_LEVELS)),
            "log_format": env.str(
                "LOG_FORMAT", cls.log_format, validate=OneOf(["auto", "json", "text"])
            ),
        }
        try:
            env.seal()
        except EnvValidationError as error:
            problems |= _by_given_name(error.error_messages)
        if read["isolate_keys"] and not read["api_keys"]:
            problems |= {"ISOLATE_KEYS": ["There are no API_KEYS to isolate."]}
        if problems:
            raise SettingsError(_one_line(problems))
        # Processes go elsewhere later (`enter_project`).
        for name in ("langgraph_config", "data_dir", "redis_tls_ca_file"):
            read[name] = read[name] and read[name].absolute()
        settings = cls(**read)
        settings._check_redis()
        return settings

    def _check_redis(self) -> None:
        """What is said of Redis must fit together."""
        for name in ("redis_cluster", "redis_wait_replicas"):
            if getattr(self, name) and self.redis_url is None:
                raise SettingsError(
                    f"{name.upper()}: the Valkey that there is without REDIS_URL is alone."
                )
        if self.redis_cluster:
            try:
                _ = self.storage_url
            except ValueError as error:
                raise SettingsError(f"REDIS_CLUSTER: {error}") from None
        tls = (self.redis_url or "").startswith("rediss")
        ca_file = self.redis_tls_ca_file
        if not tls and self.redis_tls_verify == "required":
            raise SettingsError("REDIS_TLS_VERIFY: only a rediss:// REDIS_URL has certificates.")
        if ca_file is not None and not tls:
            raise SettingsError("REDIS_TLS_CA_FILE: only a rediss:// REDIS_URL has certificates.")
        if ca_file is not None:
            try:
                ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                reason = error.strerror or "holds no certificate in PEM"
                raise SettingsError(f"REDIS_TLS_CA_FILE: {ca_file}: {reason}") from None


_EVERYWHERE = "0.0.0.0"  # nosec B104 # where it is asked for, and not by default
_COUNT = Range(1, 100_000)
_POSITIVE = Range(min=0, min_inclusive=False, error="Must be greater than 0.")
_PREFIX = Regexp(r"[A-Za-z0-9_.:-]{1,64}\Z", error="Must be 1 to 64 letters, digits or _.:-")
_PUBLIC_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,10}")
_LOG_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def _by_given_name(errors: Any) -> dict[str, list[str]]:
    assert isinstance(errors, dict)
    return {
        aliases.given_as(os.environ, name) if name in aliases.ALIASES else name: texts
        for name, texts in errors.items()
    }


def _one_line(errors: Mapping[str, Iterable[Any]]) -> str:
    return "; ".join(f"{name}: {' '.join(map(str, texts))}" for name, texts in errors.items())


def _redis_url(value: str) -> None:
    # Not at the start: most of what reads settings needs no Redis.
    from runwait.storage.connection import check_url

    if problem := check_url(value):
        raise ValidationError(problem)


def _mount_prefix(value: str) -> None:
    if problem := prefix_problem(value):
        raise ValidationError(f"{problem}.")


def _public_url(value: str) -> None:
    if not _PUBLIC_URL.fullmatch(value):
        raise ValidationError("Must be a URL such as https://agents.example.com.")


def is_origin(text: str) -> bool:
    """Whether a page's origin may be this, as browsers send it; `*` stands for all."""
    return text in ("*", "null") or re.fullmatch(r"[^/\s]+://[^/\s]+", text) is not None


def _origins(given: list[str]) -> None:
    for each in given:
        if not is_origin(each):
            raise ValidationError(f"Must be origins such as https://a.example, not {each!r}.")


def prefix_problem(value: str) -> str | None:
    """What keeps a path from being one below which all others can be."""
    if not _PATH.fullmatch(value) or {".", ".."} & {*value.split("/")}:
        return "must be a path such as /api: no slash at its end, and plain characters alone"
    return None


def _webhook_secret(value: str) -> None:
    try:
        signing_key(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _aes_key(value: str) -> None:
    if len(value.encode()) not in (16, 24, 32):
        raise ValidationError("Must be 16, 24 or 32 bytes long.")


def _default_langgraph_config() -> Path:
    own = Path("langgraph.json")
    return EXAMPLES if EXAMPLES.exists() and not own.exists() else own


def _rate_limit(value: str) -> None:
    try:
        # Not at the start: few limit anything.
        from limits import parse_many
    except ImportError:
        raise ValidationError("Takes one more package: pip install 'runwait[limits]'.") from None
    try:
        parse_many(value)
    except ValueError:
        raise ValidationError("Must be like 100/minute, or 10/second;1000/hour.") from None


def _api_keys(value: str) -> None:
    try:
        ApiKeys(value)
    except UnfitKeys as error:
        raise ValidationError(str(error)) from None
