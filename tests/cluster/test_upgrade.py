#!/usr/bin/env python3
"""From the first release to this one and back, on real processes under load. The old server is built from the
repository's history.
Run: HOLDFASTD=build/holdfastd tests/cluster/test_upgrade.py [part of a test's name ...]"""
import atexit
import os
import shutil
import subprocess
import tempfile
import time

from harness import HOLDFASTD, Cluster, ReplyError, Skip, run_tests, wait_for
from load import INCR, SET, Load

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FIRST_RELEASE = "675e5cabe0c956003f9245476c8d7dffc6a922dc"
NEW_LEVEL = 2

built = []


def old_server():
    """The first release's holdfastd."""
    if built:
        return built[0]
    git = ["git", "-C", TOP]
    try:
        found = subprocess.run([*git, "cat-file", "-e", FIRST_RELEASE + "^{commit}"], capture_output=True).returncode
    except FileNotFoundError:
        raise Skip("git is not installed, so the first release cannot be built") from None
    if found != 0:
        raise Skip("the history of this repository does not reach back to the first release "
                   "(a shallow clone: git fetch --unshallow)")
    at = tempfile.mkdtemp(prefix="holdfast-first-release-")
    atexit.register(shutil.rmtree, at, True)
    began = time.monotonic()
    archive = subprocess.run([*git, "archive", FIRST_RELEASE], check=True, capture_output=True).stdout
    subprocess.run(["tar", "x", "-C", at], input=archive, check=True)
    # The folder has another name each time: ccache shall not mind.
    env = {**os.environ, "CCACHE_NOHASHDIR": "1", "CCACHE_BASEDIR": at}
    if "CC" not in env and shutil.which("ccache"):
        env["CC"] = "ccache gcc"
    for command in (["meson", "setup", "build", "--buildtype=debugoptimized", "-Dtests=false"],
                    ["ninja", "-C", "build", "holdfastd"]):
        p = subprocess.run(command, cwd=at, env=env, capture_output=True, text=True)
        assert p.returncode == 0, f"the first release does not build: {p.stdout[-2000:]}{p.stderr[-2000:]}"
    built.append(os.path.join(at, "build", "holdfastd"))
    print(f"     built the first release in {time.monotonic() - began:.0f} s")
    return built[0]


def level(node):
    """The cluster's feature level as this node knows it; a server of the first release knows only its own."""
    return int(node.info("members").get("feature_level", 1))


def is_new(node):
    return node.binary == HOLDFASTD


def works_through_all(c, word):
    """Every node takes writes, and every node reads them at once."""
    for writer in c.nodes:
        key = f"{word}:{writer.number}"
        assert writer.call("SET", key, word) == "OK"
        assert writer.call("INCR", f"{key}:count") == 1
        for reader in c.nodes:
            assert reader.call("GET", key) == word.encode(), (key, reader.number)


def change_release(c, node, binary, load):
    """Stop the node cleanly, start it with the other release, under load. Clients on the other nodes see no failure:
    the times to look at are returned."""
    begin = time.monotonic()
    assert node.stop() == 0
    node.binary = binary
    node.start().wait_ready()
    end = time.monotonic()
    load.wait(150)  # what was under way then is answered before anything else happens
    return begin, end, [n.port for n in c.nodes if n is not node]


def nobody_else_failed(ledger, changes):
    for begin, end, ports in changes:
        failed = ledger.failures(begin=begin, end=end, nodes=ports)
        assert not failed, f"{len(failed)} commands through nodes that stayed failed: {ledger.describe(failed)}; " \
                           f"{[e for e in ledger.errors if begin <= e[0] <= end][:5]}"


def lead_by(c, wanted):
    """Kill leaders until one of the wanted kind leads; the cluster is whole then."""
    for _ in range(20):
        leader = c.leader()
        if wanted(leader):
            return leader
        leader.kill()
        c.leader()
        leader.start().wait_ready()
    raise AssertionError("no node of the wanted release came to lead")


def test_rolling_upgrade_and_no_way_back_after_it():
    with Cluster(3, binary=old_server()) as c, Load(c.nodes, rate=400, clients=24, failover=False) as load:
        load.wait(200)
        works_through_all(c, "old")
        changes = []
        for done, node in enumerate(c.nodes, 1):
            changes.append(change_release(c, node, HOLDFASTD, load))
            works_through_all(c, f"mixed{done}")
            if done == len(c.nodes):
                break
            # Failover between releases, in both directions.
            lead_by(c, is_new)
            works_through_all(c, f"new leads{done}")
            lead_by(c, lambda n: not is_new(n))
            works_through_all(c, f"old leads{done}")
            load.wait(100)
            assert [level(n) for n in c.nodes] == [1, 1, 1], "the level rose while an old node was a member"
        wait_for("the new level on all nodes", lambda: [level(n) for n in c.nodes] == [NEW_LEVEL] * 3)
        load.wait(100)
        ledger = load.stop()
        ledger.verify(*c.nodes)
        c.same_digest()
        nobody_else_failed(ledger, changes)
        print(f"     {ledger.summary()}")

        # The old release can not read this any more, says so, and touches nothing.
        node = c.followers()[0]
        assert node.stop() == 0
        node.binary = old_server()
        before = fingerprint(node.dir)
        try:
            code, said = node.run(patience=10)
        except subprocess.TimeoutExpired:
            raise AssertionError("the old release runs on a state that is beyond it") from None
        assert code > 0, f"the old release ended with {code}: {said}"
        assert "newer release" in said, said
        assert fingerprint(node.dir) == before, "the old release changed the data directory"
        node.binary = HOLDFASTD
        node.start().wait_ready()
        ledger.verify(*c.nodes)
        c.same_digest()


def fingerprint(top):
    """What is in the files that hold data."""
    found = {}
    for at, _, names in os.walk(top):
        for name in names:
            if name in ("lock", "ballast") or name.endswith("-shm"):
                continue
            with open(os.path.join(at, name), "rb") as f:
                found[os.path.relpath(os.path.join(at, name), top)] = hash(f.read())
    return found


def test_back_to_the_old_release_before_the_level_rose():
    with Cluster(3, binary=old_server()) as c, Load(c.nodes, rate=300, clients=24, failover=False) as load:
        load.wait(200)
        changes = [change_release(c, node, HOLDFASTD, load) for node in c.nodes[:2]]
        lead_by(c, is_new)
        works_through_all(c, "new leads")
        # Operators' requests that need the new level are refused while it is not reached, and nothing is written.
        try:
            c.nodes[0].call("CONFIG", "SET", "no-leader-timeout", "4000")
        except ReplyError:
            pass
        load.wait(200)
        changes += [change_release(c, node, old_server(), load) for node in c.nodes[:2]]
        works_through_all(c, "old again")
        lead_by(c, lambda n: n in c.nodes[:2])
        load.wait(100)
        for node in c.nodes:
            node.kill()
        for node in c.nodes:
            node.start()
        ledger = load.stop()
        c.leader()
        ledger.verify(*c.nodes)
        c.same_digest()
        nobody_else_failed(ledger, changes)


def test_old_node_that_never_comes_back_is_replaced():
    """It cannot say that it knows the new level, and must not keep the others from it."""
    with Cluster(3, binary=old_server(), room=1) as c, Load(c.nodes, rate=200, clients=24) as load:
        load.wait(100)
        for node in c.nodes[:2]:
            change_release(c, node, HOLDFASTD, load)
        gone = c.nodes[2]
        gone.kill()
        rest = c.nodes[:2]
        c.leader(among=rest)
        load.set_nodes(rest)
        load.wait(50)
        assert [level(n) for n in rest] == [1, 1]
        # Noticed as gone after a moment; until then the request is refused.
        wait_for("the dead node to be removed", lambda: rest[0].call("HF.MEMBER", "REMOVE", gone.name))
        c.forget(gone)
        wait_for("the new level", lambda: [level(n) for n in rest] == [NEW_LEVEL] * 2)
        c.binary = HOLDFASTD
        fresh = c.add("fresh")
        wait_for("the new node to vote", lambda: c.leader().members().get("fresh", {}).get("role") == "voter")
        fresh.wait_ready()
        load.wait(50)
        ledger = load.stop()
        ledger.verify(*c.nodes)
        c.same_digest()


def test_whole_cluster_changes_at_once():
    """All nodes are stopped and started with the new release: what the old one wrote is all there."""
    with Cluster(3, binary=old_server()) as c:
        load = Load(c.nodes, rate=1000, clients=24).start()
        load.wait(1000)
        for node in c.nodes[:2]:
            node.kill()  # a crash: the journal is replayed by the new release
        c.nodes[2].stop()
        ledger = load.stop()
        assert ledger.latency(kinds=(SET, INCR))["n"] > 0
        for node in c.nodes:
            node.binary = HOLDFASTD
            node.start()
        c.leader()
        ledger.verify(*c.nodes)
        wait_for("the new level on all nodes", lambda: [level(n) for n in c.nodes] == [NEW_LEVEL] * 3)
        ledger.verify(*c.nodes)
        c.same_digest()


if __name__ == "__main__":
    run_tests([v for k, v in sorted(globals().items()) if k.startswith("test_")])
