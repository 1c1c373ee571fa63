"""Every setting, read once from the environment into one typed object."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from environs import Env, EnvValidationError
from marshmallow import ValidationError
from marshmallow.validate import ContainsOnly, OneOf, Range, Regexp

from runwait import aliases
from runwait.auth.keys import ApiKeys
from runwait.storage import urls
from runwait.webhooks.signatures import signing_key

# Those of the checkout, if this is one; an installed package brings no examples.
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "langgraph.json"

TTLStrategy = Literal["delete", "keep_latest"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LogFormat = Literal["auto", "json", "text"]
TlsVerify = Literal["required", "none"]
# What proxies say of the client's request, each in a header X-Forwarded-...
FORWARDED = ("for", "proto", "host", "prefix")


class SettingsError(Exception):
    """A setting has a value that cannot be used; the text names it in one line."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The service's settings. Durations are seconds, sizes bytes.

    The README's table says what each is for; the environment variable has the field's name in
    capitals. What a value must be is said beside its type, as marshmallow's validators have it.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Range(1, 65535)] = 8000
    web_concurrency: Annotated[int, Range(1, 256)] = 2
    api_keys: Annotated[str | None, _taken_by(ApiKeys)] = field(default=None, repr=False)
    isolate_keys: bool = False
    rate_limit: Annotated[str | None, _rate_limit] = None
    redis_url: Annotated[str | None, _redis_url] = None
    redis_cluster: bool = False
    redis_wait_replicas: Annotated[int, Range(0, 100)] = 0
    redis_tls_verify: TlsVerify | None = None
    redis_tls_ca_file: Path | None = None
    redis_prefix: Annotated[str, _PREFIX] = "runwait"
    redis_max_connections: Annotated[int, Range(2, 1000)] = 4
    langgraph_config: Path = EXAMPLES
    data_dir: Path = Path("data")
    heartbeat_seconds: Annotated[float, _POSITIVE] = 5.0
    run_concurrency: Annotated[int, _COUNT] = 5000
    waiters_max: Annotated[int, _COUNT] = 5000
    run_timeout_seconds: Annotated[float | None, _POSITIVE] = None
    run_lease_seconds: Annotated[float, Range(1, 3600)] = 15.0
    run_max_attempts: Annotated[int, Range(1, 1000)] = 3
    shutdown_grace_seconds: Annotated[float, Range(0, 3600)] = 20.0
    result_ttl_seconds: Annotated[float, Range(0, 31_536_000)] = 300.0
    stream_events_max: Annotated[int, Range(1, 10_000_000)] = 10_000
    thread_ttl_seconds: Annotated[float | None, _POSITIVE] = None
    thread_ttl_strategy: TTLStrategy = "delete"
    idempotency_ttl_seconds: Annotated[float, Range(1, 31_536_000)] = 86_400.0
    langgraph_aes_key: Annotated[str | None, _aes_key] = field(default=None, repr=False)
    state_modules: list[str] | None = None
    claim_runs: bool = True
    cron_enabled: bool = True
    max_request_bytes: Annotated[int, Range(1, 1 << 30)] = 16 * 1024 * 1024
    max_value_bytes: Annotated[int, Range(1 << 10, 1 << 28)] = 64 * 1024 * 1024
    request_timeout_seconds: Annotated[float, Range(1, 3600)] = 30.0
    mount_prefix: Annotated[str | None, _mount_prefix] = None
    cors_allow_origins: Annotated[list[str] | None, _origins] = None
    forwarded_hops: Annotated[int, Range(0, 10)] = 0
    forwarded_headers: Annotated[list[str], _FORWARDED] = field(
        default_factory=lambda: [*FORWARDED]
    )
    webhook_base_url: str | None = None
    webhook_allowed_hosts: str | None = None
    webhook_require_https: bool = False
    webhook_secret: Annotated[str | None, _taken_by(signing_key)] = field(default=None, repr=False)
    mcp_allowed_origins: Annotated[list[str] | None, _origins] = None
    public_url: Annotated[str | None, _public_url] = None
    workbench: bool = True
    log_level: LogLevel = "INFO"
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
        hints = get_type_hints(cls, include_extras=True)
        read = {each.name: _read(env, each, hints[each.name]) for each in fields(cls)}
        if "PORT" in os.environ and "HOST" not in os.environ:
            # A platform that says which port to serve on means that others reach it.
            read["host"] = _EVERYWHERE
        if "LANGGRAPH_CONFIG" not in os.environ:
            read["langgraph_config"] = _default_langgraph_config()
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
_FORWARDED = ContainsOnly(FORWARDED, error=f"Must be of: {', '.join(FORWARDED)}.")


def _read(env: Env, setting: Field[Any], hint: Any) -> Any:
    """The value of a setting, by its type; what is wrong with it is said by `env.seal`."""
    hint, *checks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kind = next(each for each in kinds if each is not type(None))
    if get_origin(kind) is Literal:
        kind, checks = str, [OneOf(get_args(kind))]
    made = setting.default_factory
    default: Any = setting.default if made is MISSING else made()
    if kind == list[str]:
        return env.list(setting.name.upper(), default, subcast=str.strip, validate=checks)
    reader = env.path if kind is Path else getattr(env, kind.__name__)
    return reader(setting.name.upper(), default, validate=checks)


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


def _taken_by(reader: Callable[[str], object]) -> Callable[[str], None]:
    """Whether a text is one that its reader takes, which raises ValueError if not."""

    def check(value: str) -> None:
        try:
            reader(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None

    return check


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
