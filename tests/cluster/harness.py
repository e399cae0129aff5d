"""Real nodes on loopback for the cluster suite: start, kill, pause, talk RESP, load with a ledger of what was
acknowledged. Standard library only. Waiting is always for a condition with a deadline."""
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HOLDFASTD = os.environ.get("HOLDFASTD", "build/holdfastd")
# The operators' tool is built beside the server.
HOLDFAST = os.path.join(os.path.dirname(os.path.abspath(HOLDFASTD)), "holdfast")
# Nothing of the caller's settings may change what the programs do.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST")}
# Sanitized builds on a small machine are slow; deadlines are for hangs, not for speed.
PATIENCE = float(os.environ.get("HF_TEST_PATIENCE", "30"))


class ReplyError(Exception):
    """An error reply of the server."""


class Skip(Exception):
    """Raised by a test that cannot run here, with the reason."""


class Conn:
    """A blocking RESP2/RESP3 connection."""

    def __init__(self, port, timeout=PATIENCE, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def close(self):
        for closing in (self.file.close, self.sock.close):
            try:
                closing()
            except OSError:
                pass

    @staticmethod
    def encode(*args):
        out = [b"*%d\r\n" % len(args)]
        for a in args:
            a = a if isinstance(a, bytes) else str(a).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(a), a))
        return b"".join(out)

    def send(self, *args):
        self.sock.sendall(self.encode(*args))

    def raw(self, data):
        self.sock.sendall(data)

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("connection closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return ReplyError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind in b"$=":
            n = int(rest)
            if n < 0:
                return None
            data = self.file.read(n + 2)
            if len(data) != n + 2:
                raise ConnectionError("connection closed")
            return data[:-2]
        if kind in b"*~>":
            n = int(rest)
            return None if n < 0 else [self.read() for _ in range(n)]
        if kind == b"%":
            return {self.read(): self.read() for _ in range(int(rest))}
        if kind == b"_":
            return None
        if kind == b",":
            return float(rest)
        if kind == b"#":
            return rest == b"t"
        raise ValueError(f"unknown reply {line!r}")

    def call(self, *args):
        self.send(*args)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply


def free_ports(n, base=[random.randrange(11000, 21000)]):
    """n consecutive ports, free now together with their +10000 and +1000 companions. All below those that the kernel
    gives to outgoing connections (32768 on), so that they stay free while a node is down."""
    while True:
        base[0] = 11000 + (base[0] - 11000 + 17) % 10000
        candidates = [base[0] + i + shift for i in range(n) for shift in (0, 10000, 1000)]
        sockets = []
        try:
            for port in candidates:
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sockets.append(s)
                s.bind(("127.0.0.1", port))
            return base[0]
        except OSError:
            continue
        finally:
            for s in sockets:
                s.close()


def wait_for(what, condition, patience=PATIENCE):
    """Poll until condition() is truthy; its value is returned. Fails loudly, naming what was waited for."""
    end = time.monotonic() + patience
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
        except (OSError, ConnectionError, ReplyError, ValueError) as e:
            last = e
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:.0f} s for: {what} (last problem: {last})")


class Remote:
    """A server that runs somewhere."""

    def __init__(self, port, host="127.0.0.1"):
        self.host, self.port, self.http_port = host, port, port + 1000

    def conn(self, timeout=PATIENCE):
        return Conn(self.port, timeout, self.host)

    def call(self, *args):
        c = self.conn()
        try:
            return c.call(*args)
        finally:
            c.close()

    def info(self, section="raft"):
        text = self.call("INFO", section).decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def member_rows(self):
        """HF.MEMBER LIST as this node knows it: [{field: value}]."""
        rows = []
        for row in self.call("HF.MEMBER", "LIST"):
            pairs = list(row.items()) if isinstance(row, dict) else list(zip(row[::2], row[1::2]))
            rows.append({k.decode(): v.decode() if isinstance(v, bytes) else v for k, v in pairs})
        return rows

    def members(self):
        """By name: one that is being replaced by another of its name is hidden by it."""
        return {row["name"]: row for row in self.member_rows()}

    def is_ready(self):
        return self.http("/readyz")[0] == 200

    def wait_ready(self, patience=PATIENCE):
        wait_for(f"the node on port {self.port} to be ready", self.is_ready, patience)
        return self

    def http(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.http_port}{path}", timeout=PATIENCE) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()


class Node(Remote):
    """One server of ours. `binary`, `extra` (arguments) and `env` may be changed between two starts. A node with `join`
    is started with --join and --name instead of an id and the list of members; one that is_alone with neither."""

    def __init__(self, cluster, number, name=None, join=None, extra=()):
        super().__init__(cluster.base + number - 1)
        self.cluster, self.number, self.name, self.join = cluster, number, name or str(number), join
        self.peer_port = self.port + 10000
        self.dir = os.path.join(cluster.dir, f"node{number}")
        self.log = os.path.join(cluster.dir, f"node{number}.log")
        self.binary, self.extra, self.env = cluster.binary or HOLDFASTD, list(extra), {}
        self.is_alone = False
        self.proc = None

    def command(self, *extra):
        who = ["--id", str(self.number), "--peers", self.cluster.peers]
        if self.join is not None:
            who = ["--name", self.name, "--join", self.join]
        elif self.is_alone:
            who = ["--id", str(self.number)]
        return [self.binary, *who, "--listen", f"127.0.0.1:{self.port}",
                "--peer-listen", f"127.0.0.1:{self.peer_port}", "--http-listen", f"127.0.0.1:{self.http_port}",
                "--dir", self.dir, *self.cluster.extra, *self.extra, *extra]

    def start(self, *extra, env=None):
        """env: for this process only, on top of self.env."""
        assert self.proc is None or self.proc.poll() is not None
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(self.command(*extra), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                         env={**CLEAN, **self.env, **(env or {})})
        return self

    def run(self, *extra, patience=PATIENCE):
        """Start and wait for the end: (exit code, what it said)."""
        p = subprocess.run(self.command(*extra), capture_output=True, text=True, timeout=patience,
                           stdin=subprocess.DEVNULL, env={**CLEAN, **self.env})
        return p.returncode, p.stdout + p.stderr

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def kill(self):
        self.proc.kill()
        self.proc.wait()

    def stop(self):
        """SIGTERM; the exit code."""
        self.proc.terminate()
        return self.proc.wait(PATIENCE)

    def wait_end(self, patience=PATIENCE):
        """The exit code of a node that ends by itself; negative: the signal."""
        return self.proc.wait(patience)

    def pause(self):
        self.proc.send_signal(signal.SIGSTOP)

    def resume(self):
        self.proc.send_signal(signal.SIGCONT)

    def rss(self):
        """Bytes of memory in use."""
        with open(f"/proc/{self.proc.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS:"))

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def log_size(self):
        return os.path.getsize(self.log)

    def log_since(self, size):
        with open(self.log, "rb") as f:
            f.seek(size)
            return f.read().decode("utf-8", "replace")


def tool(*args, patience=PATIENCE * 4, env=None):
    """The program holdfast: (exit code, output, errors)."""
    p = subprocess.run([HOLDFAST, *map(str, args)], capture_output=True, text=True, timeout=patience,
                       stdin=subprocess.DEVNULL, env={**CLEAN, **(env or {})})
    return p.returncode, p.stdout, p.stderr


def at(node):
    return ("--server", f"127.0.0.1:{node.port}")


class Cluster:
    """n members of a list, and room for more nodes that join. binary: another server than $HOLDFASTD."""

    def __init__(self, n=3, extra=(), dir=None, room=0, binary=None):
        self.n, self.extra, self.binary = n, list(extra), binary
        self.base = free_ports(n + room)
        self.room = room
        self.owns_dir = dir is None
        self.dir = dir or tempfile.mkdtemp(prefix="holdfast-test-")
        self.peers = ",".join(f"{i}=127.0.0.1:{self.base + 10000 + i - 1}" for i in range(1, n + 1))
        self.nodes = [Node(self, i) for i in range(1, n + 1)]
        self.former = []  # nodes that are no members any more
        self.expects_fatal = False

    def __enter__(self):
        for node in self.nodes:
            node.start()
        if self.nodes:
            self.leader()
        return self

    def __exit__(self, kind, value, trace):
        everyone = self.nodes + self.former
        for node in everyone:
            if node.alive():
                node.resume()
                node.kill()
        complaints = [f"node {n.number}: {line}" for n in everyone if os.path.exists(n.log)
                      for line in n.log_text().splitlines()
                      if "Sanitizer" in line or "runtime error:" in line or " FATAL " in line]
        if kind is not None:
            for node in everyone:
                if os.path.exists(node.log):
                    print(f"--- log of node {node.number}, last lines", file=sys.stderr)
                    print("\n".join(node.log_text().splitlines()[-25:]), file=sys.stderr)
        elif self.owns_dir:
            shutil.rmtree(self.dir, ignore_errors=True)
        if kind is None and complaints and not self.expects_fatal:
            raise AssertionError("a node complained: " + complaints[0])

    def node(self, number):
        return self.nodes[number - 1]

    def up(self):
        return [n for n in self.nodes if n.alive()]

    def add(self, name, extra=(), through=None, start=True):
        """A node that joins by the members' peer addresses; not waited for."""
        number = 1 + max((n.number for n in self.nodes + self.former), default=0)
        assert number <= self.n + self.room, "make more room"
        join = ",".join(f"127.0.0.1:{n.peer_port}" for n in (through or self.up()))
        node = Node(self, number, name, join, extra)
        self.nodes.append(node)
        return node.start() if start else node

    def forget(self, node):
        """It is no member any more."""
        self.nodes.remove(node)
        self.former.append(node)

    def leader(self, among=None):
        """The node that leads and answers a linearizable read."""
        def find():
            for n in among or self.up():
                try:
                    if n.info()["raft_state"] == "leader":
                        n.call("GET", "no-such-key")
                        return n
                except (OSError, ReplyError):
                    continue
            return None
        return wait_for("a leader", find)

    def followers(self):
        leader = self.leader()
        return [n for n in self.up() if n is not leader]

    def same_digest(self, nodes=None):
        """All nodes reach the same applied index with the same digest."""
        same_digest(nodes or self.nodes)


def same_digest(nodes):
    def compare():
        infos = [n.info() for n in nodes]
        if len({i["raft_applied_index"] for i in infos}) != 1:
            return False
        digests = {i["raft_digest"] for i in infos}
        assert len(digests) == 1, f"digests differ at index {infos[0]['raft_applied_index']}: {digests}"
        return True
    wait_for("equal applied indexes on all nodes", compare)


class Load:
    """Writers that set keys of their own to rising values, each through some node, and remember what was answered.
    After verify(): for every key the stored value is the last acknowledged one or a later one of unknown outcome."""

    def __init__(self, cluster, writers=8):
        self.cluster = cluster
        self.stopping = threading.Event()
        self.acked, self.attempted = {}, {}
        self.count = self.unknown = self.refused = 0
        self.longest_gap, self.last_ack = 0.0, time.monotonic()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(writers)]

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def run(self, writer):
        rng = random.Random(writer)
        conn, value = None, 0
        while not self.stopping.is_set():
            key = f"load:{writer}:{rng.randrange(50)}"
            value += 1
            try:
                if conn is None:
                    conn = Conn(rng.choice(self.cluster.nodes).port, timeout=10)
            except OSError:
                time.sleep(0.01)
                continue
            with self.lock:
                self.attempted[key] = value
            try:
                conn.call("SET", key, value)
            except ReplyError as e:
                with self.lock:
                    if str(e).startswith("UNKNOWN"):
                        self.unknown += 1
                    else:
                        self.refused += 1
                        # Definite: it may not appear. The next attempt has another value anyway.
                        self.attempted[key] = self.acked.get(key, 0)
                        self.never = getattr(self, "never", set())
                        self.never.add((key, value))
                continue
            except (OSError, ConnectionError, ValueError):
                self.unknown += 1
                conn.close()
                conn = None
                continue
            now = time.monotonic()
            with self.lock:
                self.acked[key] = value
                self.count += 1
                self.longest_gap = max(self.longest_gap, now - self.last_ack)
                self.last_ack = now
        if conn:
            conn.close()

    def wait_acks(self, n):
        target = self.count + n
        wait_for(f"{n} more acknowledged writes", lambda: self.count >= target, PATIENCE * 2)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(PATIENCE)
            assert not t.is_alive(), "a writer hangs"
        return self

    def verify(self):
        conn = self.cluster.leader().conn()
        assert self.count > 0
        never = getattr(self, "never", set())
        for key, acked in self.acked.items():
            stored = conn.call("GET", key)
            assert stored is not None, f"{key}: {acked} was acknowledged and is gone"
            stored = int(stored)
            assert acked <= stored <= max(self.attempted[key], acked), \
                f"{key}: acknowledged {acked}, stored {stored}, last attempt {self.attempted[key]}"
            assert (key, stored) not in never, f"{key}: {stored} was refused, yet it is there"
        conn.close()


def run_tests(tests):
    """Each test is a function named test_...; prints one line each and the closing count."""
    chosen = [a for a in sys.argv[1:] if not a.startswith("--")]
    passed = failed = 0
    for test in tests:
        if chosen and not any(c in test.__name__ for c in chosen):
            continue
        began = time.monotonic()
        try:
            test()
            passed += 1
            print(f"ok   {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Skip as e:
            print(f"skip {test.__name__}: {e}", flush=True)
        except Exception as e:  # noqa: BLE001 - a test may fail in any way
            import traceback
            traceback.print_exc()
            failed += 1
            print(f"FAIL {test.__name__}: {e}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
