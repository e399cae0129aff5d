#!/usr/bin/env python3
"""Third-party clients do real work through a failover: redis-cli, redis-benchmark, hiredis, ioredis, node-redis.
Needs redis-tools, node and (once) npm install in this folder. HIREDIS_TEST names the built hiredis program.
Run: HOLDFASTD=build/holdfastd tests/clients/test_clients.py [part of a test's name ...]"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
from harness import Cluster, PATIENCE, run_tests  # noqa: E402


def through_a_failover(command):
    """Run a client program; kill the leader when it says READY; it must end well by itself."""
    with Cluster(3) as c:
        p = subprocess.Popen(command + [str(n.port) for n in c.nodes], stdout=subprocess.PIPE, text=True, cwd=HERE)
        said = []
        for line in p.stdout:
            said.append(line)
            if line.strip() == "READY":
                killed = c.leader()
                killed.kill()
        assert p.wait(PATIENCE * 4) == 0, "".join(said)
        print("     " + said[-1].strip())
        killed.start()
        c.leader()
        c.same_digest()


def test_ioredis():
    through_a_failover(["node", "ioredis_test.js"])


def test_node_redis():
    through_a_failover(["node", "redis_test.js"])


def test_hiredis():
    through_a_failover([os.path.abspath(os.environ.get("HIREDIS_TEST", "build/tests/clients/hiredis_test"))])


def cli(port, *args, stdin=None):
    return subprocess.run(["redis-cli", "-p", str(port), *args], capture_output=True, text=True, input=stdin,
                          timeout=PATIENCE).stdout


def test_redis_cli():
    with Cluster(3) as c:
        port = c.nodes[1].port
        assert cli(port, "SET", "k", "v").strip() == "OK"
        assert cli(port, "GET", "k").strip() == "v"
        assert cli(port, "-3", "HELLO").startswith("server"), "RESP3"
        assert "redis_version" in cli(port, "INFO")
        assert cli(port, stdin="SET a 1\nINCR a\nGET a\n").split() == ["OK", "2", "2"]
        assert cli(port, "--scan", "--pattern", "k*").strip() == "k"
        lines = "".join(f"*3\r\n$3\r\nSET\r\n${len(str(i)) + 2}\r\np:{i}\r\n$1\r\nx\r\n" for i in range(5000))
        assert "errors: 0, replies: 5000" in cli(port, "--pipe", stdin=lines)
        c.leader().kill()
        survivor = next(n for n in c.up())
        c.leader()
        assert cli(survivor.port, "GET", "k").strip() == "v"
        assert cli(survivor.port, "EXISTS", "p:0", "p:4999").strip() == "2"


def test_redis_benchmark():
    with Cluster(3) as c:
        out = subprocess.run(["redis-benchmark", "-p", str(c.nodes[0].port), "-n", "20000", "-c", "50", "-P", "8", "-r",
                              "1000", "-t", "set,get,incr,mset,ping", "-q"], capture_output=True, text=True,
                             timeout=PATIENCE * 4)
        assert out.returncode == 0, out.stdout + out.stderr
        for name in ("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"):
            assert name in out.stdout, out.stdout
        c.same_digest()


if __name__ == "__main__":
    run_tests([v for k, v in sorted(globals().items()) if k.startswith("test_")])
