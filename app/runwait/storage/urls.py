"""What a URL says of where Redis is: one server, a primary that Sentinels name, or a cluster."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

SCHEMES = ("redis", "rediss", "unix")
"""Those of one server; all but the last with +sentinel and +cluster too."""

_PORTS = {"sentinel": 26379, "cluster": 6379}
# Bytes; the address of a Unix socket holds 104 on macOS, 108 on Linux.
_SOCKET_PATH_MAX = 100
_ESCAPE = "in the password, characters such as # ? / @ [ ] % are written as %23 and so on"


@dataclass(frozen=True)
class Address:
    """Where Redis is.

    Attributes:
        kind: what `hosts` are: none, as `server` says it all; Sentinels; nodes of a cluster.
        server: the URL, in redis-py's words, of the server or of any one of `hosts`.
        hosts: names or addresses, and ports.
        service: the name by which Sentinels know the primary.
    """

    kind: Literal["server", "sentinel", "cluster"]
    server: str
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""

    def at(self, host: str, port: int) -> str:
        """The URL of another host, with the same user and options."""
        parts = urlsplit(self.server)
        user, at, _ = parts.netloc.rpartition("@")
        host = f"[{host}]" if ":" in host else host
        return parts._replace(netloc=f"{user}{at}{host}:{port}").geturl()


def read(url: str) -> Address:
    """What a URL says.

    Raises:
        ValueError: it cannot be used; the text says why, without a word of what is in it.
    """
    several = re.fullmatch(r"(rediss?)\+(sentinel|cluster)://([^/?#]*)([^?#]*)(\?[^#]*)?", url)
    if several is None:
        _check_one(url)
        return Address("server", url)
    scheme, kind, place, path, options = several.groups(default="")
    user, at, hosts = place.rpartition("@")
    if "@" in path + options:
        raise ValueError(f"Has an @ or # where none can be: {_ESCAPE}.")
    found = tuple(_host(each, _PORTS[kind]) for each in hosts.split(","))
    named = re.fullmatch(r"/([^/]+)(?:/([0-9]*))?", path)
    if kind == "cluster" and path not in ("", "/", "/0"):
        raise ValueError("A cluster has database 0 alone.")
    if kind == "sentinel" and named is None:
        raise ValueError("The hosts must be followed by /name, as the Sentinels call it, and /db.")
    service, database = named.groups(default="") if named else ("", "")
    first = Address("server", f"{scheme}://{user}{at}-/{database}{options}").at(*found[0])
    return Address("sentinel" if kind == "sentinel" else "cluster", first, found, service)


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", port if parts.port is None else parts.port
    except ValueError:
        host = ""
    if not host:
        raise ValueError(f"Must name its hosts as host:port,host:port, or else: {_ESCAPE}.")
    return host, port


def _check_one(url: str) -> None:
    try:
        parts = urlsplit(url)
        local = parts.scheme == "unix"
        # A password that is not escaped ends up in any of them.
        misplaced = parts.fragment or "@" in parts.query or (not local and "@" in parts.path)
        _ = parts.port
    except ValueError:
        raise ValueError(f"Its port must be a number up to 65535, or else: {_ESCAPE}.") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(
            "Must be a redis://, rediss:// or unix:// URL, or one with +sentinel or +cluster."
        )
    if misplaced:
        raise ValueError(f"Has an @ or # where none can be: {_ESCAPE}.")
    if local and not parts.path:
        raise ValueError("Must name a socket.")
    if not local and not re.fullmatch(r"(/[0-9]*)?", parts.path):
        raise ValueError("What follows the host and the port must be the number of a database.")


def is_tls(url: str) -> bool:
    """Whether its connections are encrypted."""
    return url.startswith("rediss")


def as_cluster(url: str) -> str:
    """The URL of a cluster of which `url` names one node.

    Raises:
        ValueError: it names something else.
    """
    address = read(url)
    if address.kind == "sentinel" or url.startswith("unix:"):
        raise ValueError("only a redis:// or rediss:// URL can name a node of a cluster")
    found = url if address.kind == "cluster" else url.replace("://", "+cluster://", 1)
    read(found)
    return found


def with_tls(url: str, verify: Literal["required", "none"] | None, ca_file: Path | None) -> str:
    """A URL with what settings say of certificates, which comes before what it says itself."""
    options: dict[str, str] = {} if verify is None else {"ssl_cert_reqs": verify}
    if ca_file is not None:
        options["ssl_ca_certs"] = str(ca_file)
    if "ssl_check_hostname" not in url:
        # Versions of redis-py differ in what they do where nothing is said.
        options["ssl_check_hostname"] = str(verify != "none" and "ssl_cert_reqs=none" not in url)
    # The first of several values counts.
    front, _, own = url.partition("?")
    return f"{front}?{urlencode(options)}" + (f"&{own}" if own else "")


def embedded_socket(data_dir: Path) -> Path:
    """The socket of the embedded server that keeps its data in `data_dir`, running or not.

    The same for every process with the same user and TMPDIR, so workers need not be told.
    """
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"runwait-{os.getuid()}-{digest}", "valkey.sock")
    fits = len(os.fsencode(path)) <= _SOCKET_PATH_MAX
    return path if fits else Path("/tmp", *path.parts[-2:])  # nosec B108 # made for this user alone


def of_embedded(data_dir: Path) -> str:
    """The URL of that server."""
    return "unix://" + quote(str(embedded_socket(data_dir)))
