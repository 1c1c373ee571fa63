"""Redis on more than one server: a primary that Sentinels watch, and a cluster."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.ports import free_port
from tests.servers import PATIENCE, RedisServer, binary, eventually

# After so many ms a silent server counts as gone: long enough for one that is only slow.
GONE_MS = 2000


def is_up_to_date(server: RedisServer) -> bool:
    """Whether a replica has all that its primary has."""
    info = server.client.info("replication")
    return info["role"] == "slave" and info["master_link_status"] == "up"


class Watched:
    """A primary and a replica, and three Sentinels that watch them.

    Attributes:
        servers: the two.
        url: by which a service finds the primary.
    """

    def __init__(self, folder: Path, user: str = "") -> None:
        """Prepare them; `user` is what the URL says of who connects."""
        self._folder = folder
        self.servers = []
        for name in ("one", "other"):
            (folder / name).mkdir(parents=True)
            self.servers.append(RedisServer(folder / name, "valkey-server"))
        self.ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.url = f"redis+sentinel://{user}{hosts}/main/0"

    def start(self) -> None:
        """Start all, and wait until each knows the others."""
        one, other = self.servers
        for each in self.servers:
            each.start()
            each.client.config_set("appendonly", "no")
        other.client.replicaof("127.0.0.1", str(one.port))
        eventually(lambda: is_up_to_date(other))
        for port in self.ports:
            (self._folder / f"{port}.conf").write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
                f"sentinel monitor main 127.0.0.1 {one.port} 2\n"
                f"sentinel down-after-milliseconds main {GONE_MS}\n"
                "sentinel failover-timeout main 4000\n"
            )
            self._sentinels.append(
                subprocess.Popen(
                    [binary("valkey-server"), f"{port}.conf", "--sentinel"],
                    cwd=self._folder,
                    stdout=(self._folder / f"{port}.log").open("ab"),
                    stderr=subprocess.STDOUT,
                )
            )
        eventually(lambda: all(self._knows_all(port) for port in self.ports))

    def _knows_all(self, port: int) -> bool:
        try:
            state = redis.Redis(port=port).sentinel_master("main")
        except redis.RedisError:
            return False
        return (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)

    def primary(self) -> RedisServer:
        """The server that the Sentinels name, once it takes writes."""

        def found() -> RedisServer | None:
            _, port = redis.Redis(port=self.ports[0]).sentinel_get_master_addr_by_name("main")
            [server] = [each for each in self.servers if each.port == int(port)]
            return server if server.answers() and server.client.role()[0] == b"master" else None

        server: RedisServer = eventually(found)
        return server

    def stop(self) -> None:
        """End all."""
        for each in self._sentinels:
            each.kill()
            each.wait(PATIENCE)
        for server in self.servers:
            server.kill()


class Cluster:
    """Three primaries and their replicas.

    Attributes:
        servers: the six.
        url: of any one of them.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare them."""
        self.servers = []
        for number in range(6):
            (folder / str(number)).mkdir(parents=True)
            options = {"enabled": "yes", "port": free_port(), "node-timeout": GONE_MS}
            arguments = [t for name, value in options.items() for t in (f"--cluster-{name}", value)]
            arguments += ["--appendonly", "no", "--repl-diskless-sync-delay", "0"]
            self.servers.append(
                RedisServer(
                    folder / str(number), "valkey-server", [str(each) for each in arguments]
                )
            )
            self.servers[-1].bus = options["port"]
        self.url = self.servers[0].url

    def start(self, slots: int = 16384) -> None:
        """Start all and wait until they serve so many slots."""
        for each in self.servers:
            each.start()
        first = self.servers[0]
        for each in self.servers[1:]:
            each.client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, first.bus)
        ends = [0, 5461, 10923, slots]
        for server, (start, end) in zip(self.servers, itertools.pairwise(ends), strict=False):
            server.client.execute_command("CLUSTER ADDSLOTSRANGE", start, end - 1)
        eventually(lambda: all(len(each.client.cluster("NODES")) == 6 for each in self.servers))
        for primary, replica in zip(self.servers[:3], self.servers[3:], strict=True):
            known = primary.client.cluster("MYID").decode()
            eventually(lambda known=known, replica=replica: self._follows(replica, known))
        eventually(lambda: all(is_up_to_date(each) for each in self.servers[3:]))
        if slots == 16384:
            eventually(self.is_whole)

    @staticmethod
    def _follows(replica: RedisServer, primary: str) -> bool:
        try:
            return bool(replica.client.cluster("REPLICATE", primary))
        except redis.RedisError:
            return False  # it has yet to hear of it

    def is_whole(self) -> bool:
        """Whether all that run say that all slots are served, and agree by whom."""
        running = [each for each in self.servers if each.process is not None]
        states = [each.client.cluster("INFO")["cluster_state"] for each in running]
        return states == ["ok"] * len(running) and len({self._map(each) for each in running}) == 1

    @staticmethod
    def _map(server: RedisServer) -> str:
        ranges = server.client.execute_command("CLUSTER SLOTS")
        return str(sorted((each[0], each[1], each[2][1]) for each in ranges))

    def primary_of(self, key: str) -> RedisServer:
        """The server that has a key, by what those say that run."""
        slot = key_slot(key.encode())

        def found() -> RedisServer | None:
            for server in self.servers:
                if server.process is not None and self._has(server, slot):
                    return server
            return None

        server: RedisServer = eventually(found)
        return server

    @staticmethod
    def _has(server: RedisServer, slot: int) -> bool:
        nodes: dict[str, Any] = server.client.cluster("NODES")
        [mine] = [each for each in nodes.values() if "myself" in each["flags"]]
        return "master" in mine["flags"] and any(
            int(each[0]) <= slot <= int(each[-1]) for each in mine["slots"] if each[0].isdigit()
        )

    def stop(self) -> None:
        """End all."""
        for each in self.servers:
            each.kill()
