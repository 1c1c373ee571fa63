"""Redis on more than one server: a primary that Sentinels watch, and a cluster."""

from __future__ import annotations

import contextlib
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
    """Whether a server is a replica that its primary's writes reach."""
    info = server.client.info("replication")
    return info["role"] == "slave" and info["master_link_status"] == "up"


def _slots(server: RedisServer) -> list[range]:
    nodes: dict[str, Any] = server.client.cluster("NODES")
    [mine] = [each for each in nodes.values() if "myself" in each["flags"]]
    if "master" not in mine["flags"]:
        return []
    return [range(int(e[0]), int(e[-1]) + 1) for e in mine["slots"] if e[0].isdigit()]


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

    def demote(self, server: RedisServer) -> None:
        """Make a server the replica of the other one, which the Sentinels name."""
        primary = self.primary()

        def is_demoted() -> bool:
            # It may cut its clients off, as it does to change.
            with contextlib.suppress(redis.RedisError):
                server.client.replicaof("127.0.0.1", str(primary.port))
                return is_up_to_date(server)
            return False

        eventually(is_demoted)

    def knows(self, replica: RedisServer) -> bool:
        """Whether all Sentinels would have this one take the primary's place."""
        return all(self._counts_on(port, replica) for port in self.ports)

    @staticmethod
    def _counts_on(port: int, replica: RedisServer) -> bool:
        known = redis.Redis(port=port).sentinel_slaves("main")
        [found] = [each for each in known if each["port"] == replica.port] or [None]
        return found is not None and not (found["is_sdown"] or found["is_disconnected"])

    def primary(self) -> RedisServer:
        """The server that the Sentinels name, once it takes writes."""

        def found() -> RedisServer | None:
            _, port = redis.Redis(port=self.ports[0]).sentinel_get_master_addr_by_name("main")
            [server] = [each for each in self.servers if each.port == int(port)]
            with contextlib.suppress(redis.RedisError):
                # It may be silent, and not every version of redis-py gives up by itself.
                asked = redis.Redis(port=server.port, socket_timeout=1)
                return server if asked.role()[0] == b"master" else None
            return None

        server: RedisServer = eventually(found)
        return server

    def kill(self) -> None:
        """End all."""
        for each in self._sentinels:
            each.kill()
            each.wait(PATIENCE)
        for server in self.servers:
            server.kill()


class ClusterNode(RedisServer):
    """A node of a cluster, alone until it has met others.

    Attributes:
        bus: its other port.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare it."""
        self.bus = free_port()
        options = {"--cluster-enabled": "yes", "--cluster-port": self.bus, "--appendonly": "no"}
        options |= {"--cluster-node-timeout": GONE_MS, "--repl-diskless-sync-delay": 0}
        arguments = [str(each) for pair in options.items() for each in pair]
        super().__init__(folder, "valkey-server", arguments)


class Cluster:
    """Three primaries and their replicas.

    Attributes:
        servers: the six.
        url: of any one of them.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare them."""
        self.servers: list[ClusterNode] = []
        for number in range(6):
            (folder / str(number)).mkdir(parents=True)
            self.servers.append(ClusterNode(folder / str(number)))
        self.url = self.servers[0].url

    def start(self) -> None:
        """Start all, and wait until they serve all slots."""
        for each in self.servers:
            each.start()
        first = self.servers[0]
        for each in self.servers[1:]:
            each.client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, first.bus)
        ends = [0, 5461, 10923, 16384]
        for server, (start, end) in zip(self.servers[:3], itertools.pairwise(ends), strict=True):
            server.client.execute_command("CLUSTER ADDSLOTSRANGE", start, end - 1)
        eventually(lambda: all(len(each.client.cluster("NODES")) == 6 for each in self.servers))
        for primary, replica in zip(self.servers[:3], self.servers[3:], strict=True):
            known = primary.client.cluster("MYID").decode()
            eventually(lambda known=known, replica=replica: self._follows(replica, known))
        eventually(lambda: all(is_up_to_date(each) for each in self.servers[3:]))
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

    def primary_of(self, key: str) -> ClusterNode:
        """The server that has a key, by what those say that run."""
        slot = key_slot(key.encode())

        def found() -> ClusterNode | None:
            for server in self.servers:
                if server.process is not None and any(slot in each for each in _slots(server)):
                    return server
            return None

        server: ClusterNode = eventually(found)
        return server

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """The server that has all that a primary has."""

        def found() -> ClusterNode | None:
            for server in self.servers:
                if server.process is None or not is_up_to_date(server):
                    continue
                if server.client.info("replication")["master_port"] == primary.port:
                    return server
            return None

        server: ClusterNode = eventually(found)
        return server

    @staticmethod
    def is_primary(server: RedisServer) -> bool:
        """Whether it has slots, by what it says itself."""
        return bool(_slots(server))

    def kill(self) -> None:
        """End all."""
        for each in self.servers:
            each.kill()
