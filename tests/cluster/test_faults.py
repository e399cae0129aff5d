#!/usr/bin/env python3
"""Cluster faults on real processes: nothing acknowledged is lost, nodes agree, service returns.
Run: HOLDFASTD=build/holdfastd tests/cluster/test_faults.py [part of a test's name ...]"""
import os
import time

from harness import Cluster, Conn, Load, ReplyError, run_tests, wait_for


def test_election_and_write_through_every_node():
    with Cluster(3) as c:
        leaders = [n for n in c.nodes if n.info()["raft_state"] == "leader"]
        assert len(leaders) == 1
        for n in c.nodes:
            assert n.call("SET", f"via{n.number}", f"value {n.number}") == "OK"
            for m in c.nodes:
                assert m.call("GET", f"via{n.number}") == f"value {n.number}".encode()
        c.same_digest()


def test_five_nodes_survive_two_kills():
    with Cluster(5) as c:
        load = Load(c).start()
        load.wait_acks(200)
        c.leader().kill()
        load.wait_acks(100)
        c.leader().kill()
        load.wait_acks(200)
        load.stop()
        for n in c.nodes:
            if not n.alive():
                n.start()
        load.verify()
        c.same_digest()


def test_kill_leader_under_load():
    with Cluster(3) as c:
        load = Load(c).start()
        load.wait_acks(300)
        for _ in range(3):
            leader = c.leader()
            leader.kill()
            load.wait_acks(200)
            leader.start()
            load.wait_acks(100)
        load.stop().verify()
        c.same_digest()


def test_kill_follower_under_load():
    with Cluster(3) as c:
        load = Load(c).start()
        load.wait_acks(300)
        for _ in range(3):
            follower = next(n for n in c.up() if n is not c.leader())
            follower.kill()
            load.wait_acks(300)
            follower.start()
            load.wait_acks(100)
        load.stop().verify()
        c.same_digest()


def test_kill_whole_cluster_and_restart():
    with Cluster(3) as c:
        load = Load(c).start()
        load.wait_acks(500)
        for n in c.nodes:
            n.kill()
        load.stop()
        for n in c.nodes:
            n.start()
        c.leader()
        load.verify()
        c.same_digest()


def test_restart_in_a_loop():
    with Cluster(3) as c:
        load = Load(c, writers=4).start()
        load.wait_acks(100)
        for i in range(9):
            n = c.nodes[i % 3]
            n.kill() if i % 2 else n.stop()
            n.start()
            load.wait_acks(50)
        load.stop().verify()
        c.same_digest()


def test_paused_leader_neither_blocks_nor_lies():
    with Cluster(3) as c:
        old = c.leader()
        old.call("SET", "k", "before")
        reader = old.conn()
        assert reader.call("GET", "k") == b"before"
        old.pause()
        others = [n for n in c.nodes if n is not old]
        reader.send("GET", "k")          # arrives at the paused process
        new = c.leader(among=others)
        assert new.call("SET", "k", "after") == "OK"
        old.resume()
        assert reader.read() == b"after", "a resumed leader served a stale read"
        reader.close()
        assert old.call("GET", "k") == b"after"
        c.same_digest()


def test_clean_stop_of_leader_hands_over():
    with Cluster(3) as c:
        load = Load(c, writers=4).start()
        load.wait_acks(200)
        leader = c.leader()
        elections = sum(int(n.http("/metrics")[1].split("\nholdfast_raft_elections_total ")[1].split("\n")[0])
                        for n in c.nodes if n is not leader)
        began = time.monotonic()
        assert leader.stop() == 0, "a clean stop must exit with 0"
        load.wait_acks(100)
        assert "handing leadership over" in leader.log_text()
        took = time.monotonic() - began
        print(f"     handed over and serving again after {took:.2f} s, {elections} elections before")
        leader.start()
        load.stop().verify()
        c.same_digest()


def test_no_leader_is_a_definite_error_and_minority_serves_nothing():
    with Cluster(3, extra=["--no-leader-timeout", "500"]) as c:
        c.nodes[0].call("SET", "k", "v")
        leader = c.leader()
        rest = [n for n in c.nodes if n is not leader]
        for n in rest:
            n.kill()

        def refused():
            try:
                leader.call("SET", "lost", "1")
            except ReplyError as e:
                return str(e).startswith("NOLEADER")
            return False
        wait_for("NOLEADER from a leader without followers", refused)
        try:
            leader.call("GET", "k")
            raise AssertionError("a minority answered a linearizable read")
        except ReplyError as e:
            assert str(e).startswith("NOLEADER"), e
        for n in rest:
            n.start()
        c.leader()
        assert c.nodes[0].call("GET", "k") == b"v"
        c.same_digest()


def test_pipelines_keep_their_order_on_any_node():
    with Cluster(3) as c:
        for n in c.nodes:
            conn = n.conn()
            for i in range(300):
                conn.send("SET", "p", i)
                conn.send("GET", "p")
                conn.send("INCR", f"count{n.number}")
            for i in range(300):
                assert conn.read() == "OK"
                assert conn.read() == str(i).encode(), "a read missed an earlier write of its own connection"
                assert conn.read() == i + 1
            conn.close()
        c.same_digest()


def test_expiry_is_the_same_on_every_node():
    with Cluster(3) as c:
        for i in range(50):
            c.nodes[i % 3].call("SET", f"e{i}", "x", "PX", 300 + 10 * i)
        wait_for("all keys to expire", lambda: c.nodes[0].call("DBSIZE") == 0)
        for n in c.nodes:
            assert n.call("EXISTS", "e1", "e49") == 0
        c.same_digest()


def test_large_values_travel_everywhere():
    with Cluster(3) as c:
        big = os.urandom(20 << 20)
        for n in c.nodes:
            assert n.call("SET", f"big{n.number}", big) == "OK"
            assert n.call("STRLEN", f"big{n.number}") == len(big)
        follower = next(n for n in c.nodes if n is not c.leader())
        follower.kill()
        follower.start()
        wait_for("the large value on the restarted node", lambda: follower.call("GET", "big1") == big)
        c.same_digest()


def test_single_node_restarts_with_everything():
    with Cluster(1) as c:
        n = c.nodes[0]
        load = Load(c, writers=4).start()
        load.wait_acks(300)
        n.kill()
        n.start()
        load.wait_acks(100)
        load.stop().verify()
        c.same_digest()


def test_journal_is_cut_and_a_restart_still_fits():
    small = ["--journal-segment-bytes", "1mb", "--journal-retain-bytes", "1mb", "--snapshot-journal-bytes", "1mb"]
    with Cluster(3, extra=small) as c:
        conn = c.leader().conn()
        value = "x" * 10000
        for i in range(2500):
            conn.send("SET", f"k{i % 100}", f"{i}{value}")
            if i % 50 == 49:
                for _ in range(50):
                    assert conn.read() == "OK"
        wait_for("marker snapshots on all nodes", lambda: all(int(n.info()["raft_first_index"]) > 1 for n in c.nodes))
        for n in c.nodes:
            n.kill()
        for n in c.nodes:
            n.start()
        c.leader()
        assert c.nodes[0].call("GET", "k99") == f"2499{value}".encode()
        c.same_digest()


if __name__ == "__main__":
    run_tests([v for k, v in sorted(globals().items()) if k.startswith("test_")])
