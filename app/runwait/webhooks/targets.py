"""Where webhooks may go.

A webhook's URL comes from a client, so it must not reach what only this machine or its network can
reach. The check has two halves: the URL as text, and the addresses its host stands for. A name may
stand for others a moment later, so whoever connects asks `address_allowed` again, for the address
that it connects to.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import urljoin

Address = IPv4Address | IPv6Address
Resolve = Callable[[str], Iterable[str]]
"""From a host name to its addresses as text; raises OSError or UnicodeError where it has none."""

RESOLVE_SECONDS = 2.0

# getaddrinfo cannot be stopped: what still waits for it after the time is up keeps a thread.
# Deliveries have lookups of their own: names that hang, as anyone may send, hold up none of them.
_lookups = threading.BoundedSemaphore(32)
# A host is looked up once for all who ask meanwhile, so that one that hangs keeps one thread.
_under_way: dict[tuple[threading.Semaphore, Resolve, str], Future[list[Address]]] = {}
_under_way_lock = threading.Lock()

# RFC 3986, section 2 and appendix B. Python's own parser is not asked: it drops tabs and newlines,
# takes backslashes and non-ASCII digits, and other parsers read these in other ways.
_URI_TEXT = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_URI = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(?:#.*)?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{0,5}))?")
_HOST_NAME = re.compile(r"(?=.{1,253}\.?\Z)(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")

# What the C library and browsers may read as an IPv4 address: a last label that is a number.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")

# From IANA's registries of special-purpose addresses, in whole blocks: the few public services in
# them are no webhooks. The standard library's `is_global` is not asked, since its answers differ
# between Python versions.
_NOT_PUBLIC_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers; Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's metadata and agents, a public address in name only
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; broadcast
    )
]
_PUBLIC_V6 = IPv6Network("2000::/3")  # all that is given out as global unicast
_NOT_PUBLIC_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")


class WebhookRefused(ValueError):
    """The target is not one to call. The text says what it must be, to follow "webhook: "."""


@dataclass(frozen=True)
class WebhookRules:
    """What the operator allows.

    Attributes:
        base_url: what relative references are resolved against; None refuses them.
        allowed_hosts: host names, `*.example.com` (any name below, not the name itself), addresses
            and CIDRs that the address rule does not hold for.
        require_https: whether plain http is refused.
        only_hosts: host names and `*.example.com`, one of which an absolute URL must name; none:
            any.
        only_ports: ports, one of which an absolute URL must have; none: any.
        longest: characters of a URL, at most; None: any number.
        off: whether runs go on without the webhooks that they are asked to call.
    """

    base_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    require_https: bool = False
    only_hosts: tuple[str, ...] = ()
    only_ports: frozenset[int] = frozenset()
    longest: int | None = None
    off: bool = False

    @classmethod
    def parse(
        cls, base_url: str | None, allowed_hosts: str | None, require_https: bool
    ) -> WebhookRules:
        """The rules from the settings; `allowed_hosts` is comma-separated.

        Raises ValueError with the name of the setting that cannot be used, and why.
        """
        entries = (entry.strip().lower() for entry in (allowed_hosts or "").split(","))
        rules = cls(None, tuple(filter(None, entries)), require_https)
        for entry in rules.allowed_hosts:
            if _network(entry) is None and not is_host_entry(entry):
                raise ValueError(
                    f"WEBHOOK_ALLOWED_HOSTS: {entry!r} is not a host name, a name that begins with"
                    " '*.', an address or a CIDR (without scheme, port and path)"
                )
        if not base_url:
            return rules
        try:
            target_of(base_url, rules)
        except WebhookRefused as error:
            raise ValueError(f"WEBHOOK_BASE_URL: {error}") from None
        return cls(base_url, rules.allowed_hosts, require_https)

    @cached_property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The allowed addresses and CIDRs."""
        return [network for network in map(_network, self.allowed_hosts) if network is not None]

    def allows_name(self, host: str) -> bool:
        """Whether the host name, in small letters, is one of those allowed."""
        return _is_among(host, self.allowed_hosts)


@dataclass(frozen=True)
class Target:
    """A webhook's URL, taken apart the one way that everybody here uses.

    Attributes:
        scheme: http or https.
        host: a name or an address in small letters, without brackets.
        port: the scheme's own if the URL has none.
        path: with the query, as a request line has it.
    """

    scheme: str
    host: str
    port: int
    path: str


def check_target(
    url: str,
    rules: WebhookRules,
    resolve: Resolve | None = None,
    seconds: float = RESOLVE_SECONDS,
) -> None:
    """Raise WebhookRefused unless a webhook may go to this URI reference.

    Takes at most `seconds`, for looking up the host's addresses. `resolve` is by default the
    system's.
    """
    addresses_of(target_of(url, rules), rules, resolve, seconds)


def target_of(url: str, rules: WebhookRules) -> Target:
    """The URL taken apart, a relative reference resolved; raises WebhookRefused if it is no target.

    The address rule is not part of this.
    """
    if rules.longest is not None and len(url) > rules.longest:
        raise WebhookRefused(f"must have at most {rules.longest} characters")
    scheme, authority, path = _split(url)
    # The operator says where these lead.
    relative = scheme is None and authority is None
    if scheme is None:
        if rules.base_url is None:
            raise WebhookRefused("must be an absolute http or https URL")
        if authority is None:
            url = urljoin(rules.base_url, url)
        else:
            url = f"{rules.base_url.partition(':')[0]}:{url}"
        scheme, authority, path = _split(url)
    if scheme not in ("http", "https"):
        raise WebhookRefused("must be an http or https URL")
    if rules.require_https and scheme != "https":
        raise WebhookRefused("must be an https URL")
    if not authority:
        raise WebhookRefused("must name a host")
    if "@" in authority:
        raise WebhookRefused("must not contain a user name or password")
    parts = _AUTHORITY.fullmatch(authority)
    port = int(parts[2] or (443 if scheme == "https" else 80)) if parts else 0
    if parts is None or not 1 <= port <= 65535:
        raise WebhookRefused("must have a valid host and a port, if any, from 1 to 65535")
    host = _host(parts[1].lower())
    if not relative and rules.only_hosts and not _is_among(host, rules.only_hosts):
        raise WebhookRefused("must name one of the hosts that webhooks may go to")
    if not relative and rules.only_ports and port not in rules.only_ports:
        raise WebhookRefused("must have one of the ports that webhooks may go to")
    return Target(scheme, host, port, path)


def addresses_of(
    target: Target,
    rules: WebhookRules,
    resolve: Resolve | None = None,
    seconds: float = RESOLVE_SECONDS,
    lookups: threading.Semaphore | None = None,
) -> list[Address]:
    """The addresses of the target's host, at least one, each of them allowed.

    A lookup takes one of `lookups`, by default of those that requests share. Raises WebhookRefused
    if an address is not allowed, or if none is known within `seconds`.
    """
    literal = _address(target.host)
    if literal:
        found = [literal]
    else:
        resolve = resolve or _system_resolve
        found = _resolved(target.host, resolve, seconds, lookups or _lookups)
    for address in found:
        if not address_allowed(address, rules, target.host):
            raise WebhookRefused("must point to a public address")
    return found


def address_allowed(address: Address, rules: WebhookRules, host: str) -> bool:
    """Whether a webhook to this host may connect to this address."""
    return (
        rules.allows_name(host)
        or any(_unmapped(address) in network for network in rules.networks)
        or is_public(address)
    )


def is_public(address: Address) -> bool:
    """Whether the address is one that anybody on the Internet can reach."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    address = _unmapped(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address in _NAT64:
        # Where IPv4 is behind NAT64, every IPv4 host has such an address.
        return is_public(IPv4Address(address.packed[-4:]))
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def _split(url: str) -> tuple[str | None, str | None, str]:
    """The scheme in small letters, the authority, and the path with the query."""
    parts = _URI.fullmatch(url) if _URI_TEXT.fullmatch(url) else None
    if parts is None:
        raise WebhookRefused("must be a URI: ASCII, anything special in it percent-encoded")
    scheme, authority, path, query = parts.groups()
    return scheme and scheme.lower(), authority, f"{path or '/'}{query or ''}"


def _host(text: str) -> str:
    if text.startswith("["):
        address = _address(text[1:-1])
        if not isinstance(address, IPv6Address):
            raise WebhookRefused("must have an IPv6 address between the brackets")
        return str(address)
    if not _HOST_NAME.fullmatch(text):
        raise WebhookRefused("must name a host by letters, digits, hyphens and dots")
    if _NUMERIC.fullmatch(text) and _address(text) is None:
        # 010.8.8.8 is 8.8.8.8 to some and 10.8.8.8 to others.
        raise WebhookRefused("must write an IPv4 address as four decimal numbers")
    return text


def is_host_entry(text: str) -> bool:
    """Whether this, in small letters, is a host name, or `*.` and one."""
    return _is_host_name(text.removeprefix("*."))


def _is_among(host: str, entries: Iterable[str]) -> bool:
    host = host.removesuffix(".")
    for entry in entries:
        name = entry.removesuffix(".")
        if host == name or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def _is_host_name(text: str) -> bool:
    return bool(_HOST_NAME.fullmatch(text)) and not _NUMERIC.fullmatch(text)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _resolved(
    host: str, resolve: Resolve, seconds: float, lookups: threading.Semaphore
) -> list[Address]:
    """The host's addresses, looked up on a thread of its own that may be left behind."""
    deadline = time.monotonic() + seconds
    with _under_way_lock:
        future = _under_way.get((lookups, resolve, host))
        if future is None:
            future = _under_way[lookups, resolve, host] = Future()
            is_mine = True
        else:
            is_mine = False
    if is_mine:
        _look_up(host, resolve, future, seconds, lookups)
    try:
        found = future.result(timeout=max(0, deadline - time.monotonic()))
    except (TimeoutError, OSError, ValueError):
        found = []
    if not found:
        raise WebhookRefused(f"must name a host whose address is found within {seconds:g} seconds")
    return found


def _look_up(
    host: str,
    resolve: Resolve,
    future: Future[list[Address]],
    seconds: float,
    lookups: threading.Semaphore,
) -> None:
    """Begin to look the host up, once one of few threads is free."""

    def end(error: Exception | None, found: list[Address]) -> None:
        with _under_way_lock:
            del _under_way[lookups, resolve, host]
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)

    def look_up() -> None:
        try:
            found = [ip_address(text) for text in resolve(host)]
        except Exception as error:
            end(error, [])
        else:
            end(None, found)
        finally:
            lookups.release()

    if not lookups.acquire(timeout=seconds):
        end(TimeoutError(), [])
        return
    try:
        # A daemon, so that a lookup that hangs does not keep the process from ending.
        threading.Thread(target=look_up, name="webhook-lookup", daemon=True).start()
    except RuntimeError:  # the machine gives no more threads
        lookups.release()
        end(TimeoutError(), [])


def _system_resolve(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))
