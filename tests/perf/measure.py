#!/usr/bin/env python3
"""Measure a three-node cluster on this machine, beside unreplicated Redis and (where installed) etcd in the same run.

  tests/perf/measure.py [--build DIR] [ROW ...]     rows: rates failover footprint catchup soak (default: all but soak)
  tests/perf/measure.py --json FILE ...             also append every figure as a JSON line

All nodes and the load share the machine, on loopback. Values vary (redis-benchmark's own -d repeats one byte, which
flatters any store that skips equal writes). Needs redis-tools and, for the comparison, redis-server and etcd."""
import argparse
import csv
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))

VALUE = "v" * 88 + "__rand_int__"
ROWS = {}
RESULTS = []
OPTIONS = None


def row(f):
    ROWS[f.__name__] = f
    return f


def note(name, **figures):
    RESULTS.append({"row": name, **figures})
    print(f"{name:34s} " + "  ".join(f"{k} {v}" for k, v in figures.items()), flush=True)
    if OPTIONS.json:
        with open(OPTIONS.json, "a") as f:
            f.write(json.dumps(RESULTS[-1]) + "\n")


def benchmark(port, clients, pipeline, seconds, *command):
    """redis-benchmark for about so many seconds: (requests a second, p50 ms, p99 ms)."""
    n = 20000 * pipeline if pipeline > 1 else 5000 if clients == 1 else 20000
    rate = None
    for _ in range(2):     # a short run sizes the long one and warms everything up
        out = subprocess.run(["redis-benchmark", "-p", str(port), "-c", str(clients), "-P", str(pipeline), "-n", str(n),
                              "-r", "100000", "--csv", *command], capture_output=True, text=True, check=True).stdout
        cells = list(csv.reader(io.StringIO(out)))[-1]
        rate, p50, p99 = float(cells[1]), float(cells[4]), float(cells[6])
        n = max(int(rate * seconds), 1000)
    return rate, p50, p99


class Redis:
    """One unreplicated Redis that syncs every write: what a single machine can do."""

    def __init__(self, port):
        self.port, self.dir = port, tempfile.mkdtemp(prefix="holdfast-perf-redis-")
        self.proc = subprocess.Popen(["redis-server", "--port", str(port), "--dir", self.dir, "--appendonly", "yes",
                                      "--appendfsync", "always", "--save", ""], stdout=subprocess.DEVNULL)
        time.sleep(1)

    def close(self):
        self.proc.kill()
        self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def leader_cluster(**kw):
    from harness import Cluster
    return Cluster(3, **kw)


RATES = [("SET 256 clients", 256, 1, ("SET", "key:__rand_int__", VALUE)),
         ("SET 50 clients pipeline 16", 50, 16, ("SET", "key:__rand_int__", VALUE)),
         ("GET 256 clients", 256, 1, ("GET", "key:__rand_int__")),
         ("GET 50 clients pipeline 16", 50, 16, ("GET", "key:__rand_int__")),
         ("SET 1 client", 1, 1, ("SET", "key:__rand_int__", VALUE)),
         ("GET 1 client", 1, 1, ("GET", "key:__rand_int__"))]


@row
def rates():
    """Throughput and latency at the leader, alternating with Redis."""
    redis = Redis(22999) if shutil.which("redis-server") else None
    with leader_cluster() as c:
        port = c.leader().port
        for name, clients, pipeline, command in RATES:
            ours, theirs = [], []
            for _ in range(OPTIONS.runs):
                ours.append(benchmark(port, clients, pipeline, OPTIONS.seconds, *command))
                if redis:
                    theirs.append(benchmark(redis.port, clients, pipeline, OPTIONS.seconds, *command))
            best = statistics.median(r[0] for r in ours)
            figures = {"per_s": int(best), "p50_ms": statistics.median(r[1] for r in ours),
                       "p99_ms": statistics.median(r[2] for r in ours)}
            if redis:
                other = statistics.median(r[0] for r in theirs)
                figures["redis_per_s"] = int(other)
                figures["ratio"] = round(best / other, 2)
            note(name, **figures)
        c.same_digest()
    if redis:
        redis.close()


@row
def failover():
    """kill -9 of the leader until a survivor acknowledges a write."""
    from harness import Conn, ReplyError, wait_for
    times = []
    with leader_cluster() as c:
        for trial in range(OPTIONS.trials):
            leader = c.leader()
            wait_for("links", lambda: all(n.info()["raft_leader_id"] == str(leader.number) for n in c.nodes))
            survivor = next(n for n in c.nodes if n is not leader)
            conn = survivor.conn()
            conn.call("SET", "f", trial)
            time.sleep(random.random() * 0.3)   # somewhere between two heartbeats
            began = time.monotonic()
            leader.kill()
            while True:
                try:
                    conn.call("SET", "f", trial)
                    break
                except ReplyError:
                    pass
            times.append(time.monotonic() - began)
            conn.close()
            leader.start()
        c.same_digest()
    note("failover", median_s=round(statistics.median(times), 3), worst_s=round(max(times), 3), trials=len(times))


def fill(port, n, first=0):
    from harness import Conn
    conn = Conn(port)
    rng = random.Random(1)
    keys = list(range(first, first + n))
    rng.shuffle(keys)
    for at in range(0, n, 500):
        batch = keys[at:at + 500]
        conn.raw(b"".join(Conn.encode("SET", f"key:{k:012d}", f"{rng.getrandbits(400):0100x}") for k in batch))
        for _ in batch:
            assert conn.read() == "OK"
    conn.close()


def rss_mb(node):
    with open(f"/proc/{node.proc.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


def disk_mb(node):
    return int(subprocess.run(["du", "-sk", node.dir], capture_output=True, text=True).stdout.split()[0]) / 1024


@row
def footprint():
    """Memory and disk with 1 M keys of 16 B and values of 100 B; time to the first answer after a start."""
    from harness import wait_for
    with leader_cluster() as c:
        note("idle", rss_mb=[round(rss_mb(n)) for n in c.nodes])
        began = time.monotonic()
        fill(c.leader().port, OPTIONS.keys)
        note("fill", keys=OPTIONS.keys, seconds=round(time.monotonic() - began, 1))
        time.sleep(5)
        c.same_digest()
        note("footprint", rss_mb=[round(rss_mb(n)) for n in c.nodes], disk_mb=[round(disk_mb(n)) for n in c.nodes])
        for how in ("clean", "kill -9"):
            for n in c.nodes:
                n.kill() if how == "kill -9" else n.stop()
            began = time.monotonic()
            for n in c.nodes:
                n.start()
            wait_for("an answer", lambda: c.nodes[0].call("GET", "key:000000000001"))
            note(f"start after {how}", first_answer_s=round(time.monotonic() - began, 2))
            fill(c.leader().port, 20000)
            if how == "clean":
                continue
        c.same_digest()


@row
def soak():
    """SET/GET/DEL over the keys; memory in minute 3 against the end."""
    with leader_cluster() as c:
        port = c.leader().port
        began, early = time.monotonic(), None
        fill(port, OPTIONS.keys)
        while time.monotonic() - began < OPTIONS.minutes * 60:
            key = "key:__rand_int__"
            for command in (("SET", key, VALUE), ("GET", key), ("DEL", key)):
                subprocess.run(["redis-benchmark", "-p", str(port), "-c", "50", "-P", "8", "-n", "200000", "-r",
                                str(OPTIONS.keys), "-q", *command], capture_output=True, check=True)
            now = [round(rss_mb(n), 1) for n in c.nodes]
            note("soak", minute=round((time.monotonic() - began) / 60, 1), rss_mb=now,
                 disk_mb=[round(disk_mb(n)) for n in c.nodes])
            if early is None and time.monotonic() - began >= 180:
                early = now
        if early:
            note("soak growth", percent=[round((b / a - 1) * 100, 1) for a, b in zip(early, now)])
        c.same_digest()


def fill_bytes(port, total, size):
    """About `total` bytes of state in values of `size` bytes."""
    from harness import Conn
    conn = Conn(port)
    rng = random.Random(2)
    for at in range(0, total // size, 64):
        conn.raw(b"".join(Conn.encode("SET", f"big:{k:012d}", rng.randbytes(size)) for k in range(at, at + 64)))
        for _ in range(64):
            assert conn.read() == "OK"
    conn.close()


def copy_seconds(path):
    """cp FILE X && sync -d X, beside it."""
    began = time.monotonic()
    subprocess.run(f"cp '{path}' '{path}.cp' && sync -d '{path}.cp'", shell=True, check=True)
    took = time.monotonic() - began
    os.unlink(f"{path}.cp")
    return took


@row
def catchup():
    """An empty node joins a cluster whose journal no longer holds the beginning: its time against a plain copy of the
    file, the leader's writes meanwhile against before, memory of both."""
    from harness import wait_for
    with leader_cluster(extra=["--journal-max-bytes", "64mb"], room=OPTIONS.runs) as c:
        fill_bytes(c.leader().port, OPTIONS.megabytes << 20, 2048)
        for run in range(OPTIONS.runs):
            leader = c.leader()
            state = next(os.path.join(leader.dir, f) for f in os.listdir(leader.dir) if f.endswith(".db"))
            command = ("SET", "key:__rand_int__", VALUE)
            before = benchmark(leader.port, 50, 1, 3, *command)[0]
            plain = [copy_seconds(state) for _ in range(3)]
            began, leader_rss = time.monotonic(), rss_mb(leader)
            node = c.add(f"late{run}")
            node_rss, rates_seen, most = None, [], leader_rss
            while leader.members().get(f"late{run}", {}).get("role") != "voter":
                out = subprocess.run(["redis-benchmark", "-p", str(leader.port), "-c", "50", "-n",
                                      str(max(int(before / 4), 100)), "-r", "100000", "--csv", *command],
                                     capture_output=True, text=True, check=True).stdout
                rates_seen.append(float(list(csv.reader(io.StringIO(out)))[-1][1]))
                node_rss, most = max(node_rss or 0, rss_mb(node)), max(most, rss_mb(leader))
            whole = time.monotonic() - began
            log = node.log_text()
            assert "the copy of the state is installed" in log, "it caught up by the log"
            note("catch-up", state_mb=round(os.path.getsize(state) / 2**20), seconds=round(whole, 1),
                 cp_seconds=[round(s, 1) for s in plain], times_cp=round(whole / statistics.median(plain), 1),
                 writes_percent=round(100 * statistics.mean(rates_seen) / before),
                 leader_rss_grew_mb=round(most - leader_rss), node_rss_mb=round(node_rss or 0))
            c.same_digest()
            leader.call("HF.MEMBER", "REMOVE", f"late{run}")
            wait_for("its end", lambda: not node.alive())
            c.forget(node)


def main():
    global OPTIONS
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rows", nargs="*", help="what to measure")
    p.add_argument("--build", default="build", help="release build folder")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--trials", type=int, default=20)
    p.add_argument("--keys", type=int, default=1000000)
    p.add_argument("--megabytes", type=int, default=1024, help="state of catchup")
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--json")
    OPTIONS = p.parse_args()
    os.environ["HOLDFASTD"] = os.path.join(OPTIONS.build, "holdfastd")
    for name in OPTIONS.rows or [r for r in ROWS if r != "soak"]:
        ROWS[name]()


if __name__ == "__main__":
    main()
