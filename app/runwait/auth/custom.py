"""The project's own auth: a `langgraph_sdk.Auth` that langgraph.json names under `auth.path`."""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from langgraph_sdk import Auth

from runwait.auth.errors import AuthBusy, AuthFailed, Refused
from runwait.auth.filters import Filters, filters_of
from runwait.auth.keys import ApiKeys
from runwait.auth.request import Request
from runwait.auth.user import User
from runwait.pool import Loop
from runwait.serialization import dumps, loads

log = logging.getLogger("runwait.auth")

# How long a handler that is async may take.
ANSWER_SECONDS = 10.0
# How many requests may be asking at once, and how long another one waits for its turn. Once one has
# waited in vain, none waits for a while: their threads answer those that need nobody's leave.
PLACES = 16
TURN_SECONDS = 1.0
CROWDED_SECONDS = 10.0

_USER = ("identity", "display_name", "is_authenticated", "permissions")


@dataclass(frozen=True)
class CacheOptions:
    """How long it is remembered who a request's headers are of.

    Attributes:
        headers: the names of those that tell, in lower case.
        seconds: how long.
        most: how many are remembered.
    """

    headers: Sequence[str]
    seconds: float
    most: int = 1000


class CustomAccess:
    """Asks the handlers of a `langgraph_sdk.Auth`: plain ones on the thread that asks, others on an
    event loop of their own, with a bound."""

    isolates = False

    def __init__(
        self,
        auth: Auth,
        keys: ApiKeys | None = None,
        cache: CacheOptions | None = None,
        *,
        guards_own_routes: bool = False,
    ) -> None:
        """Take its handlers.

        Args:
            auth: the project's.
            keys: who is let in where `auth` only says what they may do.
            cache: for how long it is remembered who calls; None: each request is asked.
            guards_own_routes: whether it is asked of the project's own routes too.

        Raises:
            ValueError: nothing says who is let in, or a handler wants what no request has.
        """
        self.guards_own_routes = guards_own_routes
        self._authenticate = auth._authenticate_handler
        self.asks_for_keys = self._authenticate is None
        self._handlers = {
            where: handlers[-1] for where, handlers in auth._handlers.items() if handlers
        }
        if auth._global_handlers:
            self._handlers["*", "*"] = auth._global_handlers[-1]
        self._keys = keys
        self._arguments: list[str] = []
        if self._authenticate is not None:
            self._arguments = _arguments_of(self._authenticate)
        elif keys is None:
            raise ValueError("it has no handler for authenticate, and there are no API_KEYS")
        self._remembered = _Remembered(cache) if cache else None
        self._loop = Loop("auth")
        self._places = threading.BoundedSemaphore(PLACES)
        self._crowded_until = 0.0
        self._warned = False

    def caller(self, request: Request) -> User:
        """Who calls, as authenticate says."""
        if self._authenticate is None:
            assert self._keys is not None
            return self._keys.caller(request)
        if self._remembered and (known := self._remembered.get(request)):
            return known
        given = {name: _ARGUMENT[name](request) for name in self._arguments}
        found = self._ask(self._authenticate, given, "authenticate", 401)
        if found is None:
            raise Refused(401, "Unauthorized")
        try:
            user = user_of(found)
        except BaseException as error:  # of its properties, which are the project's code too
            raise AuthFailed("auth.path: authenticate returned no user") from error
        if self._remembered:
            self._remembered.put(request, user)
        return user

    def authorize(
        self, user: User, resource: str, action: str, value: dict[str, Any]
    ) -> Filters | None:
        """What the most specific handler says."""
        for where in ((resource, action), (resource, "*"), ("*", action), ("*", "*")):
            if handler := self._handlers.get(where):
                break
        else:
            return None
        context = Auth.types.AuthContext(
            permissions=user.permissions,
            user=user,
            resource=resource,  # type: ignore[arg-type]
            action=action,  # type: ignore[arg-type]
        )
        what = f"{resource}.{action}"
        found = self._ask(handler, {"ctx": context, "value": value}, what, 403)
        if found is None or found is True:
            return None
        if found is False:
            raise Refused(403, "Forbidden")
        try:
            if not isinstance(found, Mapping):
                raise TypeError(f"it must be None, a boolean or a dict, not {type(found).__name__}")
            filters = filters_of(found)
        except (TypeError, ValueError) as error:
            raise AuthFailed(f"auth.path: the handler for {what} answered wrongly") from error
        if filters is not None and resource == "store":
            if not self._warned:
                log.warning(
                    "auth.path: a filter has no effect on the store: its handlers say what may be "
                    'reached by value["namespace"]'
                )
            self._warned = True
            return None
        return filters

    def _ask(
        self, handler: Callable[..., Any], given: Mapping[str, Any], what: str, refusal: int
    ) -> Any:
        """What a handler returns.

        Args:
            refusal: the status where it asserts what is not so.
        """
        with self._place():
            try:
                found = handler(**given)
                return self._awaited(found) if inspect.isawaitable(found) else found
            except (Refused, AuthBusy):
                raise
            except AssertionError as error:
                raise Refused(refusal, str(error) or _PHRASES[refusal]) from error
            except BaseException as error:  # a library's panic is no Exception either
                # Those of other frameworks are alike.
                status = getattr(error, "status_code", None)
                if isinstance(status, int) and hasattr(error, "detail") and 300 <= status <= 599:
                    headers = getattr(error, "headers", None)
                    raise Refused(status, _text(error.detail), headers) from error
                raise AuthFailed(f"auth.path: the handler for {what} raised") from error

    def _awaited(self, found: Awaitable[Any]) -> Any:
        """What an awaitable comes to; blocks until it does, but not for ever."""
        future = self._loop.submit(lambda: found)
        try:
            return future.result(ANSWER_SECONDS)
        except TimeoutError:
            if future.done():
                raise  # its own
            future.cancel()
            log.warning("auth.path: a handler did not answer within %.0f s", ANSWER_SECONDS)
            raise AuthBusy("authentication takes too long") from None

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        crowded = time.monotonic() < self._crowded_until
        if not self._places.acquire(timeout=0 if crowded else TURN_SECONDS):
            if not crowded:
                self._crowded_until = time.monotonic() + CROWDED_SECONDS
            raise AuthBusy("too many requests wait to be authenticated")
        try:
            yield
        finally:
            self._places.release()


class _Remembered:
    """Who was found out about for which headers, for a while."""

    def __init__(self, options: CacheOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[tuple[str, ...], ...], tuple[float, User]] = OrderedDict()

    def get(self, request: Request) -> User | None:
        """Who this is, if that is known."""
        with self._lock:
            until, user = self._known.get(self._key(request), (0.0, None))
        return user if time.monotonic() < until else None

    def put(self, request: Request, user: User) -> None:
        """From now on that is known."""
        with self._lock:
            self._known[self._key(request)] = time.monotonic() + self._options.seconds, user
            while len(self._known) > self._options.most:
                self._known.popitem(last=False)

    def _key(self, request: Request) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(request.headers.getlist(name)) for name in self._options.headers)


def user_of(found: Any) -> User:
    """The user that authenticate returned: a text, a dict, an object, or permissions and that.

    Raises:
        Exception: it is none of these.
    """
    permissions = None
    if isinstance(found, tuple) and len(found) == 2:
        permissions, found = found
    fields = _fields_of(found)
    if permissions is not None:
        fields["permissions"] = permissions
    given = fields.get("permissions") or []
    # Scopes come as one text, too.
    fields["permissions"] = given.split() if isinstance(given, str) else list(given)
    # As any process will find it in a run's record.
    return User(loads(dumps(fields)))


def _fields_of(found: Any) -> dict[str, Any]:
    if isinstance(found, str):
        return {"identity": found}
    if isinstance(found, Mapping):
        return dict(found)
    if callable(dump := getattr(found, "model_dump", None)):
        fields = dict(dump())
    elif is_dataclass(found) and not isinstance(found, type):
        fields = asdict(found)
    else:
        fields = {
            name: value
            for name, value in getattr(found, "__dict__", {}).items()
            if not name.startswith("_")
        }
    return fields | {name: getattr(found, name) for name in _USER if hasattr(found, name)}


def _arguments_of(handler: Callable[..., Any]) -> list[str]:
    """The names of what authenticate wants to be given."""
    parameters = inspect.signature(handler).parameters.values()
    named = [
        each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    for each in named:
        if each.name not in _ARGUMENT and each.default is each.empty:
            raise ValueError(
                f"authenticate wants {each.name!r}; it can be given: {', '.join(_ARGUMENT)}"
            )
    return [each.name for each in named if each.name in _ARGUMENT]


_ARGUMENT: dict[str, Callable[[Request], Any]] = {
    "request": lambda request: request,
    "path": lambda request: request.url.path,
    "method": lambda request: request.method,
    "path_params": lambda request: dict(request.path_params),
    "query_params": lambda request: dict(request.query_params),
    "headers": lambda request: dict(request.headers.raw),
    "authorization": lambda request: request.headers.get("authorization"),
}
_PHRASES = {401: "Unauthorized", 403: "Forbidden"}


def _text(detail: Any) -> str:
    return detail if isinstance(detail, str) else dumps(detail).decode()
