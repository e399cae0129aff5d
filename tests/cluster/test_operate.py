#!/usr/bin/env python3
"""Operating a cluster, on real processes under load: members that lag, join, leave, move and are replaced; planned
changes of the leader; settings at run time. Every answered write is verified at the end, and the nodes are the same.
What is done to data directories is in test_recovery.py.
Run: HOLDFASTD=build/holdfastd tests/cluster/test_operate.py [--long] [part of a test's name ...]"""
import glob
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

from harness import (CLEAN, HOLDFASTD, Cluster, Remote, ReplyError, at, free_ports, run_tests, same_digest, tool,
                     wait_for)
from load import Load
from test_linear import Relays

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LONG = bool(os.environ.get("HOLDFAST_LONG")) or "--long" in sys.argv
# A journal that is soon cut beyond a member that is away.
SMALL = ["--journal-segment-bytes", "1mb", "--journal-retain-bytes", "1mb", "--snapshot-journal-bytes", "1mb",
         "--journal-max-bytes", "4mb"]
# AddressSanitizer keeps freed memory back, which is not the server's doing.
LEAN = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64:"
        "malloc_context_size=1", "MALLOC_ARENA_MAX": "2"}


# ---- what the tests share ----------------------------------------------------------------------------------

def finish(c, load, nodes=None):
    """The load ends well and everyone has the same."""
    ledger = load.stop()
    ledger.verify(*(nodes or c.nodes))
    c.same_digest(nodes)
    print(f"     {ledger.summary()}")
    return ledger


def fill(node, n, size, name="fill"):
    """n values of this size, each different."""
    conn = node.conn()
    blob = os.urandom(size)
    for begin in range(0, n, 32):
        for i in range(begin, min(n, begin + 32)):
            conn.send("SET", f"{name}:{i}", b"%d:" % i + blob)
        for i in range(begin, min(n, begin + 32)):
            reply = conn.read()
            assert reply == "OK", reply
    conn.close()
    return blob


def cut_journals(c, beyond=None):
    """Write until the journal of every node that is up begins after `beyond` (default: all there is now)."""
    leader = c.leader()
    beyond = int(leader.info()["raft_last_index"]) if beyond is None else beyond
    end = time.monotonic() + 120
    while not all(int(n.info()["raft_first_index"]) > beyond + 1 for n in c.up()):
        assert time.monotonic() < end, "the journals are not cut"
        fill(leader, 50, 20000, "cut")


def role(c, name):
    """voter, learner, or None when it is no member, as the leader knows it."""
    row = c.leader().members().get(name)
    return row and row["role"]


def wait_role(c, name, wanted):
    wait_for(f"{name} to be {wanted}", lambda: role(c, name) == wanted)


def wait_level(c):
    """All members run this release and the leader knows it: then members can be changed."""
    wait_for("the newest feature level", lambda: all(
        i["feature_level"] == i["feature_level_max"] for i in (n.info("members") for n in c.up())))


def wait_caught_up(c, name):
    def is_near():
        row = c.leader().members()[name]
        return row["connected"] and row["lag"] is not None and row["lag"] < 50
    wait_for(f"{name} to have caught up", is_near)


def refused(node, *words, why):
    """The request is refused for this reason (a pattern), and changes nothing."""
    before = sorted((m["id"], m["role"]) for m in node.members().values())
    try:
        answer = node.call(*words)
    except ReplyError as e:
        assert str(e).startswith("ERR "), f"{' '.join(words)} was refused as '{e}'"
        assert re.search(why, str(e)), f"{' '.join(words)} was refused because '{e}'"
    else:
        raise AssertionError(f"{' '.join(words)} was done: {answer}")
    after = sorted((m["id"], m["role"]) for m in node.members().values())
    assert before == after, f"a refused request changed the members: {before} {after}"


def done(node, *words):
    answer = node.call(*words)
    assert isinstance(answer, str) and answer.startswith("OK"), answer
    return answer


def ends_removed(c, node):
    """It stops by itself, cleanly, and does not start again as what it was."""
    code = node.wait_end()
    assert code == 0, f"a removed node ended with {code}"
    assert "removed" in node.log_text()
    c.forget(node)
    code, said = node.run()
    assert code > 0 and "removed" in said and "repair" in said, (code, said)


def copies(node):
    """Copies of the state on their way from or to this node."""
    return {k: dict(pair.split("=", 1) for pair in v.split(","))
            for k, v in node.info("copies").items() if re.fullmatch(r"copy\d+", k)}


def generation(node):
    """Number of the node's newest database."""
    return max(int(re.search(r"state-(\d+)\.db$", p).group(1))
               for p in glob.glob(os.path.join(node.dir, "state-*.db")))


def one_database(node):
    """The old state goes away when it was replaced, and so does the copy."""
    wait_for("a single database", lambda: len(glob.glob(os.path.join(node.dir, "*.db"))) == 1)


def unharmed(ledger, begin, end, nodes, what):
    """No command failed for clients of these nodes."""
    failed = ledger.failures(begin=begin, end=end, nodes=[n.port for n in nodes])
    assert not failed, f"{what}: {len(failed)} commands failed through nodes that stayed: {ledger.describe(failed)}; " \
                       f"{[e for e in ledger.errors if begin <= e[0] <= end + 5][:5]}"


# ---- members that lag ---------------------------------------------------------------------------------------

def test_member_that_is_far_behind_gets_the_state():
    """The journal stays short however long a member is away, and what is away longer gets a copy of everything."""
    with Cluster(3, extra=SMALL) as c, Load(c.nodes, rate=300) as load:
        load.wait(200)
        behind = c.followers()[0]
        behind.kill()
        cut_journals(c)
        fill(c.leader(), 200, 50000)
        for n in c.up():
            info = n.info("everything")
            size, limit = int(info["journal_bytes"]), int(info["journal_bytes_max"])
            assert size <= limit <= 16 << 20, f"node {n.number}: journal of {size}, it may have {limit}"
            assert int(info["journal_tail_bytes"]) <= 9 << 20
        before = generation(behind)
        behind.start().wait_ready()
        wait_for("the new database", lambda: generation(behind) > before)
        finish(c, load)
        # The copy, and what came after it, is what a restart finds, in good order or not.
        behind.kill()
        behind.start().wait_ready()
        assert behind.stop() == 0
        behind.start().wait_ready()
        one_database(behind)
        load.ledger.verify(behind)
        c.same_digest()


def test_state_travels_while_everything_breaks():
    """The copy is on its way slowly; its source stops for a while, dies, leads no more; its target dies. It always ends
    well, and nothing else suffers."""
    slow = ["--transfer-rate", "4mb"]
    with Cluster(3, extra=SMALL + slow) as c, Load(c.nodes, rate=200) as load:
        fill(c.leader(), 150, 100000)
        for trouble in ("pause", "kill source", "kill target", "transfer"):
            load.wait(50)
            behind = c.followers()[0]
            behind.kill()
            cut_journals(c)
            before = generation(behind)
            behind.start()

            def under_way():
                rows = copies(behind).values()
                return any(int(r["done_bytes"]) > 2 << 20 for r in rows)
            wait_for(f"some of the copy to be there ({trouble})", under_way)
            source = c.leader(among=[n for n in c.up() if n is not behind])
            other = next(n for n in c.nodes if n not in (source, behind))
            if trouble == "pause":
                source.pause()
                c.leader(among=[other, behind] if behind.is_ready() else [other])
                source.resume()
            elif trouble == "kill source":
                source.kill()
                source.start()
            elif trouble == "kill target":
                behind.kill()
                behind.start()
            else:
                done(source, "HF.TRANSFER", other.name)
            wait_for(f"the copy to be installed ({trouble})", lambda: behind.is_ready() and generation(behind) > before,
                     90)
            load.wait(50)
            with load.held():
                c.same_digest()
        finish(c, load)


def test_broken_stream_goes_on_where_it_stood():
    c = Cluster(3, extra=SMALL + ["--transfer-rate", "4mb"])
    relays = Relays(c)
    c.peers = relays.peers
    with c, Load(c.nodes, rate=100) as load:
        fill(c.leader(), 150, 100000)
        load.wait(50)
        behind = c.followers()[0]
        behind.kill()
        cut_journals(c)
        before = generation(behind)
        behind.start()
        wait_for("some of the copy to be there",
                 lambda: any(int(r["done_bytes"]) > 4 << 20 for r in copies(behind).values()))
        source = c.leader()
        said = source.log_size()
        relays.broken = {(source.number, behind.number), (behind.number, source.number)}
        wait_for("the streams to break", lambda: "transfer broken off" in source.log_since(said))
        relays.heal()
        wait_for("the copy to be installed", lambda: behind.is_ready() and generation(behind) > before)
        starts = [int(n) for n in re.findall(rf"snapshot: sending .*member={behind.number} .*from=(\d+)",
                                             source.log_since(said))]
        assert starts and max(starts) > 4 << 20, f"it began again at {starts}"
        load.wait(50)
        finish(c, load)


def transfer_of(megabytes):
    """A new node gets this much: (most memory either side took beyond what it had, seconds, bytes of the database)."""
    with Cluster(1, extra=["--min-free-disk", "0"], room=1) as c:
        leader = c.nodes[0]
        leader.kill()
        leader.env = LEAN
        leader.start()
        c.leader()
        fill(leader, megabytes * 10, 100000)
        target = c.add("n2", extra=["--join-as-learner", "yes"], start=False)
        target.env = LEAN
        wait_for("the state to be in the database",
                 lambda: leader.info()["raft_durable_index"] == leader.info()["raft_applied_index"])
        before = {leader: leader.rss()}
        peak = {leader: 0, target: 0}
        began = time.monotonic()
        target.start()
        # What it has when it has just started, before anything came.
        wait_for("the new node", lambda: target.call("PING"))
        before[target] = target.rss()
        while not (target.is_ready() and target.info()["raft_applied_index"] == leader.info()["raft_applied_index"]):
            for n in peak:
                peak[n] = max(peak[n], n.rss())
            assert time.monotonic() - began < 600, "the copy does not arrive"
            time.sleep(0.02)
        took = time.monotonic() - began
        c.same_digest()
        size = os.path.getsize(glob.glob(os.path.join(target.dir, "state-*.db"))[0])
        return {n.number: peak[n] - before[n] for n in peak}, took, size


def test_memory_stays_flat_while_the_state_travels():
    megabytes = 4096 if LONG else 200
    grown, took, size = transfer_of(megabytes)
    print(f"     {size >> 20} MB in {took:.1f} s; beyond what they had: leader {grown[1] >> 20} MB, "
          f"new node {grown[2] >> 20} MB")
    assert max(grown.values()) < 64 << 20, grown


# ---- members that come and go -------------------------------------------------------------------------------

def test_members_come_and_go():
    with Cluster(3, extra=SMALL, room=3) as c, Load(c.nodes, rate=300) as load:
        load.wait(200)
        cut_journals(c, 1)  # who joins now needs the state itself
        n4 = c.add("n4")
        wait_role(c, "n4", "voter")
        n4.wait_ready()
        assert n4.call("SET", "through", "n4") == "OK"
        load.set_nodes(c.nodes)
        load.wait(100)

        n5 = c.add("n5", extra=["--join-as-learner", "yes"])
        wait_role(c, "n5", "learner")
        n5.wait_ready()
        wait_caught_up(c, "n5")
        load.wait(100)
        assert role(c, "n5") == "learner", "it was to stay a learner"
        number = str(c.leader().members()["n5"]["id"])
        assert number not in c.leader().info()["raft_voters"].split(",")
        assert n5.call("GET", "through") == b"n4", "a learner serves clients"
        with load.held():
            c.same_digest()

        # Any node takes the request; names and ids are the same.
        done(n5, "HF.MEMBER", "PROMOTE", "n5")
        wait_role(c, "n5", "voter")
        code, out, err = tool("member", "demote", *at(c.nodes[0]), number)
        assert code == 0, (out, err)
        wait_role(c, "n5", "learner")
        done(c.nodes[1], "HF.MEMBER", "DEMOTE", "n5")  # once more is not an error
        done(n4, "HF.MEMBER", "PROMOTE", number)
        load.set_nodes(c.nodes)
        load.wait(100)

        # Restarted with the same command line they are what they were.
        for n in (n4, n5):
            assert n.stop() == 0
            n.start().wait_ready()
        assert [role(c, n.name) for n in c.nodes] == ["voter"] * 5

        # A voter and a learner that follow.
        done(c.leader(), "HF.MEMBER", "DEMOTE", n5.name) if c.leader() is not n5 else None
        for gone in [n5, next(n for n in c.followers() if n is not n5)]:
            load.set_nodes([n for n in c.nodes if n is not gone])
            load.wait(50)
            begin = time.monotonic()
            done(c.nodes[0] if c.nodes[0] is not gone else c.nodes[1], "HF.MEMBER", "REMOVE", gone.name)
            ends_removed(c, gone)
            load.wait(100)
            assert role(c, gone.name) is None
        # And the leader, asked by way of another: it hands over first.
        gone = c.leader()
        rest = [n for n in c.nodes if n is not gone]
        begin = time.monotonic()
        code, out, err = tool("member", "remove", *at(rest[0]), gone.name)
        assert code == 0, (out, err)
        end = time.monotonic()
        ends_removed(c, gone)
        load.wait(100)
        c.leader()
        assert len(c.nodes) == 2 and [role(c, n.name) for n in c.nodes] == ["voter"] * 2
        ledger = finish(c, load)
        unharmed(ledger, begin, end, rest, "removing the leader")


def test_unsafe_changes_are_refused():
    with Cluster(3, extra=SMALL, room=2) as c, Load(c.nodes, rate=200) as load:
        one = c.nodes[0]
        wait_level(c)
        refused(one, "HF.MEMBER", "REMOVE", "nobody", why="no member called nobody")
        refused(one, "HF.MEMBER", "PROMOTE", "nobody", why="no member")
        refused(one, "HF.MEMBER", "REPLACE", "1", "nobody", why="no other member called nobody")
        refused(one, "HF.MEMBER", "ADD", "n9", "nonsense", why="address")
        refused(one, "HF.MEMBER", "ADD", "7", "127.0.0.1:1", why="digits")
        refused(one, "HF.TRANSFER", "nobody", why="no member|not a connected voter")

        # A learner that lags is no voter.
        learner = c.add("late", extra=["--join-as-learner", "yes"])
        wait_role(c, "late", "learner")
        learner.wait_ready()
        learner.pause()
        fill(c.leader(), 120, 100000)
        refused(one, "HF.MEMBER", "PROMOTE", "late", why="late lags|late is not connected")
        learner.resume()
        wait_caught_up(c, "late")

        # A name is one node's.
        twin = c.add("late2", start=False)
        twin.name = "late"
        twin.start()
        wait_for("the second node of this name to be told", lambda: "already" in twin.log_text())
        assert len(c.leader().members()) == 4
        twin.kill()
        shutil.rmtree(twin.dir)
        c.nodes.remove(twin)

        # One change at a time: two followers are frozen, so the first cannot end.
        leader = c.leader()
        others = [n for n in c.nodes if n not in (leader, learner)]
        first, second = leader.conn(), leader.conn()
        for n in others:
            n.pause()
        first.send("HF.MEMBER", "REMOVE", "late")
        second.send("HF.MEMBER", "PROMOTE", "late")
        # Whichever was taken first; the leader may lose its place before its followers go on, then that one is unknown.
        wait_for("one of them to be refused", lambda: select.select([first.sock, second.sock], [], [], 0)[0])
        for n in others:
            n.resume()
        answers = [str(conn.read()) for conn in (first, second)]
        assert sum(a.startswith("ERR ") and "under way" in a for a in answers) == 1, answers
        assert sum(a.startswith(("OK", "UNKNOWN")) for a in answers) == 1, answers
        for conn in (first, second):
            conn.close()
        c.leader()
        wait_for("the end of the change", lambda: role(c, "late") is not None or not learner.alive())
        if role(c, "late") is not None:
            done(one, "HF.MEMBER", "REMOVE", "late")
        ends_removed(c, learner)

        # Two of three are needed.
        dead = c.followers()[0]
        dead.kill()
        alive = [n for n in c.nodes if n is not dead]
        load.set_nodes(alive)
        load.wait(50)
        for n in alive:
            refused(alive[0], "HF.MEMBER", "REMOVE", n.name, why="no quorum would remain")
            refused(alive[1], "HF.MEMBER", "DEMOTE", n.name, why="no quorum would remain")
        done(alive[0], "HF.MEMBER", "REMOVE", dead.name)
        c.forget(dead)
        done(alive[0], "HF.MEMBER", "REMOVE", c.leader().name)
        last = c.leader()
        ends_removed(c, next(n for n in c.nodes if n is not last))
        refused(last, "HF.MEMBER", "REMOVE", last.name, why="no voter would remain")
        refused(last, "HF.MEMBER", "DEMOTE", last.name, why="no voter would remain")
        load.set_nodes(c.nodes)
        load.wait(50)
        finish(c, load)


def test_dead_node_is_replaced():
    with Cluster(3, extra=SMALL, room=2) as c, Load(c.nodes, rate=200) as load:
        wait_level(c)
        load.wait(100)
        # In one command: the new node takes the dead one's place.
        dead = c.followers()[0]
        dead.kill()
        n4 = c.add("n4", extra=["--replaces", dead.name])
        wait_role(c, "n4", "voter")
        assert role(c, dead.name) is None
        c.forget(dead)
        n4.wait_ready()
        # It comes back as what it was: it is told, and stops without disturbing anyone.
        term = c.leader().info()["raft_term"]
        dead.start()
        assert dead.wait_end() == 0 and "removed" in dead.log_text()
        load.wait(100)
        assert c.leader().info()["raft_term"] == term, "a removed node disturbed the cluster"
        # Or with the tool, after the new one has joined.
        dead = next(n for n in c.followers() if n is not n4)
        dead.kill()
        n5 = c.add("n5", extra=["--join-as-learner", "yes"])
        wait_role(c, "n5", "learner")
        wait_caught_up(c, "n5")
        code, out, err = tool("member", "replace", *at(n4), dead.name, "n5")
        assert code == 0, (out, err)
        assert role(c, "n5") == "voter" and role(c, dead.name) is None
        c.forget(dead)
        load.set_nodes(c.nodes)
        load.wait(100)
        n5.wait_ready()
        finish(c, load)


def test_address_of_a_member_changes():
    with Cluster(3, room=2) as c, Load(c.nodes, rate=200) as load:
        wait_level(c)
        load.wait(50)
        for moving, port in ((c.followers()[0], c.base + 10003), (c.leader(), c.base + 10004)):
            assert moving.stop() == 0
            moving.peer_port = port
            moving.extra = ["--peer-advertise", f"127.0.0.1:{port}"]
            moving.start().wait_ready()
            rest = [n for n in c.nodes if n is not moving]
            wait_for("the new address everywhere", lambda: all(
                n.members()[moving.name]["address"] == f"127.0.0.1:{port}" for n in c.nodes))
            # The others reach it there: it is needed for a quorum, and it can lead.
            rest[0].kill()
            load.wait(50)
            rest[0].start().wait_ready()
            done(c.nodes[0], "HF.TRANSFER", moving.name)
            wait_for("the moved node to lead", lambda: c.leader() is moving)
            load.wait(50)
        finish(c, load)


# ---- planned changes of the leader --------------------------------------------------------------------------

def p99_added(ledger, baseline, begin, end, what, nodes=None):
    ports = None if nodes is None else [n.port for n in nodes]
    before, during = ledger.latency(begin=baseline[0], end=baseline[1]), ledger.latency(begin=begin, end=end,
                                                                                       nodes=ports)
    print(f"     {what}: p99 {during['p99']:.1f} ms, {before['p99']:.1f} ms without; longest {during['max']:.0f} ms, "
          f"{during['failed']} failed, no write for at most {ledger.longest_gap(begin, end) * 1e3:.0f} ms")
    return during["p99"] - before["p99"]


def test_planned_leader_changes_hurt_nobody():
    with Cluster(3) as c, Load(c.nodes, rate=400, clients=24, failover=False) as load:
        load.wait(200)
        calm = (time.monotonic(), time.monotonic() + 3)
        wait_for("a calm stretch", lambda: time.monotonic() > calm[1])

        begin = time.monotonic()
        for i in range(4):
            leader = c.leader()
            target = next(n for n in c.nodes if n is not leader)
            if i == 0:
                code, out, err = tool("transfer", *at(target), target.name)
                assert code == 0, (out, err)
            elif i == 1:
                done(target, "HF.TRANSFER")
            else:
                done(leader, "HF.TRANSFER", target.name)
            new = c.leader()
            assert new is not leader and (i == 1 or new is target)
            load.wait(200)
        done(c.nodes[0], "HF.TRANSFER", c.leader().name)  # leads already
        transfers = (begin, time.monotonic())
        load.wait(100)

        restarts = []
        for node in sorted(c.nodes, key=lambda n: n is c.leader()):
            begin = time.monotonic()
            assert node.stop() == 0
            node.start().wait_ready()
            wait_for("links", lambda: all(m["connected"] for m in c.leader().members().values()))
            end = time.monotonic()
            load.wait(150)
            restarts.append((begin, end, [n for n in c.nodes if n is not node]))
        ledger = finish(c, load)
        unharmed(ledger, *transfers, c.nodes, "transfers")
        added = [p99_added(ledger, calm, *transfers, "four transfers")]
        for begin, end, rest in restarts:
            unharmed(ledger, begin, end, rest, "a rolling restart")
            added.append(p99_added(ledger, calm, begin, end, "restart of a node", rest))
        assert max(added) < 100, f"p99 grew by {max(added):.0f} ms"


def test_rolling_restart_of_a_whole_cluster():
    """deploy/cluster does it, while clients are served; a node was added before."""
    place = tempfile.mkdtemp(prefix="holdfast-test-")
    base = free_ports(4)

    env = {**CLEAN, "HOLDFASTD": os.path.abspath(HOLDFASTD)}

    def command(*args):
        return [os.path.join(TOP, "deploy", "cluster"), "--base-port", str(base), "--dir", place, *args]

    def cluster(*args):
        p = subprocess.run(command(*args), capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                           env=env)
        assert p.returncode == 0, (args, p.stdout, p.stderr)
        return p.stdout

    cluster("up", "3")
    try:
        cluster("add")
        nodes = [Remote(base + i) for i in range(4)]
        with Load(nodes, rate=400, clients=24, failover=False) as load:
            began = time.monotonic()
            load.wait(500)
            calm = (began, time.monotonic())
            restarts, begin = [], time.monotonic()
            with subprocess.Popen(command("rolling-restart"), env=env, stdout=subprocess.PIPE, text=True) as p:
                for line in p.stdout:
                    number = re.match(r"node (\d+) restarted", line)
                    if number:
                        rest = [n for n in nodes if n is not nodes[int(number.group(1)) - 1]]
                        restarts.append((begin, time.monotonic(), rest))
                        begin = time.monotonic()
            assert p.returncode == 0 and len(restarts) == 4
            load.wait(200)
            ledger = load.stop()
        ledger.verify(*nodes)
        same_digest(nodes)
        for begin, end, rest in restarts:
            unharmed(ledger, begin, end, rest, "a rolling restart")
            added = p99_added(ledger, calm, begin, end, "restart of a node", rest)
            assert added < 100, f"p99 grew by {added:.0f} ms"
        cluster("down")
    finally:
        subprocess.run(command("wipe"), capture_output=True, timeout=300, check=False, env=env)
    shutil.rmtree(place, ignore_errors=True)


# ---- settings ------------------------------------------------------------------------------------------------

def config(node, name):
    reply = node.call("CONFIG", "GET", name)
    return reply[1].decode() if reply else None


def test_settings_at_run_time():
    with Cluster(3, extra=SMALL, room=1) as c, Load(c.nodes, rate=100) as load:
        load.wait(20)
        one, two, three = c.nodes
        wait_level(c)
        # Of this node alone, kept over a restart, also one that is not clean.
        assert one.call("CONFIG", "SET", "maxclients", "777", "loglevel", "debug") == "OK"
        assert config(one, "maxclients") == "777" and config(two, "maxclients") == "10000"
        one.kill()
        one.start().wait_ready()
        assert config(one, "maxclients") == "777" and config(one, "log-level") == "debug"
        # All or nothing.
        for words in (("maxclients", "500", "no-such-setting", "1"), ("maxclients", "500", "heartbeat", "never"),
                      ("maxclients", "500", "dir", "/elsewhere")):
            try:
                one.call("CONFIG", "SET", *words)
                raise AssertionError(f"{words} was taken")
            except ReplyError as e:
                assert str(e).startswith("ERR"), e
        assert config(one, "maxclients") == "777"

        # The cluster's: set by way of any node, the same everywhere, also after a restart and for who comes later.
        follower = c.followers()[0]
        assert follower.call("CONFIG", "SET", "heartbeat", "120", "election-timeout", "900") == "OK"
        wait_for("the setting on all nodes", lambda: [config(n, "heartbeat") for n in c.nodes] == ["120"] * 3)
        for n in c.nodes:
            n.kill()
        for n in c.nodes:
            n.start()
        c.leader()
        assert [config(n, "election-timeout") for n in c.nodes] == ["900"] * 3
        cut_journals(c)
        late = c.add("late")
        wait_role(c, "late", "voter")
        wait_for("the setting on the new node", lambda: config(late, "heartbeat") == "120")
        # Set again while a node is away.
        away = c.followers()[0]
        away.kill()
        assert c.leader().call("CONFIG", "SET", "heartbeat", "110") == "OK"
        away.start().wait_ready()
        wait_for("the setting on all nodes", lambda: [config(n, "heartbeat") for n in c.nodes] == ["110"] * 4)
        finish(c, load)


if __name__ == "__main__":
    run_tests([v for k, v in sorted(globals().items()) if k.startswith("test_")])
