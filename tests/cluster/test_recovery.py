#!/usr/bin/env python3
"""Data directories and what can become of them, on real processes: wiped, damaged, another's; backup and restore; lost
quorum; and death at every step of what replaces state, members or directories.
Run: HOLDFASTD=build/holdfastd tests/cluster/test_recovery.py [part of a test's name ...]
The crash points need a build with -Dcrash_points=true."""
import glob
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

from harness import CLEAN, HOLDFAST, Cluster, Node, ReplyError, Skip, at, run_tests, tool, wait_for
from load import Load, Moments
from test_operate import (SMALL, cut_journals, done, fill, finish, generation, one_database, role, wait_caught_up,
                          wait_level, wait_role)


def flip(path, where=0.5, n=16):
    """Damage in the middle of a file."""
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        f.seek(int(size * where))
        old = f.read(n)
        f.seek(int(size * where))
        f.write(bytes(b ^ 0x5a for b in old))


def contents(top):
    """What is in the files of a directory that a process has left."""
    found = {}
    for at_, _, names in os.walk(top):
        for name in names:
            with open(os.path.join(at_, name), "rb") as f:
                found[os.path.relpath(os.path.join(at_, name), top)] = hash(f.read())
    found.pop("lock", None)
    return found


def peers(nodes):
    return ",".join(f"127.0.0.1:{n.peer_port}" for n in nodes)


def repair(node, *more):
    code, out, err = tool("repair", "--dir", node.dir, "--from-peers", "--yes", *more)
    assert code == 0, (code, out, err)
    return out + err


def wait_back(c, node, ids):
    """A repaired node is a voter under its name, with an id that was none of these, and the old one is gone."""
    def is_back():
        rows = [r for r in c.leader().member_rows() if r["name"] == node.name]
        return rows[0] if len(rows) == 1 and rows[0]["role"] == "voter" and rows[0]["id"] > max(ids) else None
    row = wait_for(f"{node.name} to be a voter again, with a new id", is_back)
    node.wait_ready()
    return row


def refuses_to_start(node, *texts):
    code, said = node.run()
    assert code > 0, f"it ran, or died of signal {-code}: {said[-1000:]}"
    for text in texts:
        assert text in said, f"'{text}' is not said: {said[-1500:]}"
    return said


# ---- directories that do not fit ----------------------------------------------------------------------------

def test_wrong_directories_are_refused():
    with Cluster(3) as c, Cluster(1) as other:
        one, two, stranger = c.nodes[0], c.nodes[1], other.nodes[0]
        load = Load(c.nodes, rate=200).start()
        load.wait(50)
        # Another node's.
        one.kill()
        two.kill()
        load.stop()
        one.dir, two.dir = two.dir, one.dir
        before = contents(one.dir)
        refuses_to_start(one, "belongs to node 2", "--dir")
        assert contents(one.dir) == before
        one.dir, two.dir = two.dir, one.dir
        # Another cluster's: with a word that names it, and without.
        stranger.kill()
        one.dir, stranger.dir = stranger.dir, one.dir
        before = contents(one.dir)
        one.extra = ["--cluster-id", "ours"]
        refuses_to_start(one, "belongs to another cluster")
        assert contents(one.dir) == before
        one.extra = []
        one.start()  # node 1 of another cluster: its own data say who belongs to it, so it meets nobody here
        two.start()
        third = c.nodes[2]
        c.leader(among=[two, third])
        assert len(third.members()) == 3 and not third.members()["1"]["connected"]
        assert two.call("SET", "who", "ours") == "OK"
        one.kill()
        one.dir, stranger.dir = stranger.dir, one.dir
        one.start().wait_ready()
        stranger.start().wait_ready()
        assert one.call("GET", "who") == b"ours" and stranger.call("GET", "who") is None
        load.ledger.verify(*c.nodes)
        c.same_digest()
        # In use.
        code, said = one.run("--http-listen", "")
        assert code > 0 and "another process" in said, said


def newest(pattern):
    return max(glob.glob(pattern), key=os.path.getmtime)


def damage_segment(node):
    """In the middle of what was written, far from a torn tail."""
    def used_of(path):
        with open(path, "rb") as f:
            return len(f.read().rstrip(b"\0"))
    path = max(glob.glob(os.path.join(node.dir, "journal", "*.seg")), key=used_of)
    with open(path, "r+b") as f:
        data = f.read()
        used = len(data.rstrip(b"\0"))
        assert used > 20000, (path, used)
        f.seek(used // 3)
        f.write(bytes(b ^ 0x5a for b in data[used // 3:used // 3 + 64]))
    return path


def damage_state(node):
    path = newest(os.path.join(node.dir, "state-*.db"))
    with open(path, "r+b") as f:
        f.write(os.urandom(4096))
    return path


def damage_vote(node):
    """Term and vote are gone: it might vote twice."""
    path = os.path.join(node.dir, "journal", "vote")
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        f.write(os.urandom(size))
    return path


def damage_current(node):
    path = os.path.join(node.dir, "CURRENT")
    flip(path)
    return path


def damage_identity(node):
    path = os.path.join(node.dir, "identity")
    flip(path)
    return path


def test_damaged_and_wiped_nodes_are_repaired_from_their_peers():
    with Cluster(3, extra=SMALL) as c, Load(c.nodes, rate=200) as load:
        fill(c.leader(), 20, 100000)
        wait_level(c)
        for damage in (damage_segment, damage_state, damage_vote, damage_current, damage_identity, None):
            node = c.followers()[0]
            name = node.name
            old = c.leader().members()[name]["id"]
            everything = {m["id"] for m in c.leader().member_rows()}
            load.wait(50)
            node.stop()
            load.wait(50)
            if damage:
                path = damage(node)
                said = refuses_to_start(node, os.path.basename(path), f"holdfast repair --dir {node.dir} --from-peers")
                assert "FATAL" not in said
            else:
                # Empty, with the command line as ever: it neither votes nor forms a cluster of its own.
                shutil.rmtree(node.dir)
                node.start()
                wait_for("the empty node to say what to do", lambda: "repair" in node.http("/readyz")[1])
                assert node.http("/readyz")[0] == 503
                assert c.leader().members()[name]["id"] == old
                node.kill()
            rest = [n for n in c.nodes if n is not node]
            if damage in (damage_identity, None):
                # Who it was is not to be read there any more.
                repair(node, "--name", name, "--join", peers(rest))
            else:
                repair(node)
            node.start()
            row = wait_back(c, node, everything)
            assert len(c.leader().member_rows()) == 3
            load.wait(50)
            with load.held():
                c.same_digest()
            print(f"     {damage.__name__ if damage else 'wiped'}: {name} is {row['id']} now, was {old}")
        finish(c, load)
        # Restarted as ever.
        for n in c.nodes:
            n.kill()
        for n in c.nodes:
            n.start()
        c.leader()
        load.ledger.verify(*c.nodes)
        c.same_digest()


# ---- backup and restore -------------------------------------------------------------------------------------

def backup(node, path, *more):
    """What the tool tells of it."""
    code, out, err = tool("backup", *at(node), "--out", path, "--json", *more)
    assert code == 0, (code, out, err)
    return json.loads(out.strip().splitlines()[-1])


def restore(path, directory, node, *more):
    return tool("restore", path, "--dir", directory, "--peer-address", f"127.0.0.1:{node.peer_port}", *more)


def test_backup_is_restored_into_a_new_cluster():
    with Cluster(3, extra=SMALL) as c, Cluster(0, room=3) as fresh, Load(c.nodes, rate=400, keys=60) as load:
        moments, stop = Moments(), threading.Event()

        def sample():
            while not stop.is_set():
                moments.sample(c.leader())
                stop.wait(0.05)
        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        fill(c.leader(), 300, 20000)
        load.wait(200)
        path = os.path.join(c.dir, "backup.hf")
        follower = c.followers()[0]
        # By itself it is taken from a follower; from a named node when asked.
        told = backup(c.leader(), path)
        assert told["node"] in [f"127.0.0.1:{n.port}" for n in c.followers()], told
        load.wait(200)
        second = os.path.join(c.dir, "second.hf")
        told = backup(follower, second, "--node", f"127.0.0.1:{follower.port}")
        load.wait(300)
        stop.set()
        sampler.join()
        ledger = finish(c, load)
        index = told["index"]
        moment = moments.before(index)
        assert moment is not None, (index, moments.indexes[:3])

        code, out, err = tool("backup", "verify", second)
        assert code == 0 and str(index) in out, (out, err)
        code, out, err = tool("backup", *at(follower), "--out", second)
        assert code == 1 and "exists" in err, (code, out, err)
        # Inside is a plain database.
        plain = os.path.join(c.dir, "plain.db")
        with open(plain, "wb") as f:
            subprocess.run(["zstd", "-dc", second], check=True, stdout=f) if shutil.which("zstd") else None
        if os.path.getsize(plain):
            db = sqlite3.connect(plain)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            db.close()
        # Every damage is noticed.
        bad = os.path.join(c.dir, "bad.hf")
        for where in (0.002, 0.3, 0.6, 0.95):
            shutil.copy(second, bad)
            flip(bad, where, 1)
            code, out, err = tool("backup", "verify", bad)
            assert code == 1 and bad in err, (where, code, out, err)
        with open(second, "rb") as f:
            data = f.read()
        for size in (0, 100, len(data) // 2, len(data) - 1):
            with open(bad, "wb") as f:
                f.write(data[:size])
            assert tool("backup", "verify", bad)[0] == 1, size
        with open(bad, "wb") as f:
            f.write(data)
        flip(bad, 0.5, 1)

        # A cluster of its own grows out of it.
        first = Node(fresh, 1)
        first.is_alone = True
        code, out, err = restore(bad, first.dir, first)
        assert code == 1, (code, out, err)
        assert not os.path.exists(first.dir) or refuses_to_start(first)
        shutil.rmtree(first.dir, ignore_errors=True)
        code, out, err = restore(second, first.dir, first)
        assert code == 0, (code, out, err)
        code, out, err = restore(second, first.dir, first)
        assert code == 1 and "not empty" in err, (code, out, err)
        fresh.nodes.append(first)
        first.start().wait_ready()
        assert first.info()["raft_cluster_id"] != c.nodes[0].info()["raft_cluster_id"]
        ledger.verify_past(first, moment)
        assert first.call("GET", "fill:299").startswith(b"299:")
        with Load([first], rate=200) as more:
            more.wait(100)
            for name in ("second", "third"):
                node = fresh.add(name)
                wait_role(fresh, name, "voter")
                node.wait_ready()
            more.wait(100)
            finish(fresh, more)
        for node in fresh.nodes:
            ledger.verify_past(node, moment)


# ---- lost quorum --------------------------------------------------------------------------------------------

def test_lost_quorum_is_recovered_from_a_survivor():
    with Cluster(3, extra=SMALL, room=1) as c:
        wait_level(c)
        load = Load(c.nodes, rate=400).start()
        load.wait(500)
        ledger = load.stop()
        c.same_digest()
        survivor, back, lost = c.nodes
        for n in c.nodes:
            n.kill()
        # Two of three are gone; one of these will come back later.
        shutil.rmtree(lost.dir)
        survivor.start()
        wait_for("NOLEADER", lambda: "leader" in survivor.http("/readyz")[1])
        # Not while it runs.
        code, out, err = tool("recover", "--dir", survivor.dir, "--yes")
        assert code == 1 and "run" in err, (code, out, err)
        survivor.kill()
        before = contents(survivor.dir)
        code, out, err = tool("recover", "--dir", survivor.dir, "--dry-run")
        assert code == 0, (code, out, err)
        assert contents(survivor.dir) == before, "a dry run changed something"
        assert "gives up" in err and "Nothing was changed" in err, err
        code, out, err = tool("recover", "--dir", survivor.dir)
        assert code != 0 and contents(survivor.dir) == before, "it must be confirmed"
        code, out, err = tool("recover", "--dir", survivor.dir, "--yes")
        assert code == 0, (code, out, err)
        survivor.start().wait_ready()
        ledger.verify(survivor)
        assert list(survivor.members()) == [survivor.name]
        with Load([survivor], rate=200) as more:
            more.wait(100)
            # Those of the old incarnation are no members of this one, and cannot elect anyone by themselves.
            back.start()
            wait_for("the other to be refused",
                     lambda: "incarnation" in back.log_text() or "incarnation" in survivor.log_text())
            assert not back.is_ready()
            assert list(survivor.members()) == [survivor.name]
            more.wait(100)
            back.kill()
            # They come back as new members.
            repair(back, "--join", peers([survivor]))
            back.start()
            wait_back(c, back, {1, 2, 3})
            c.forget(lost)
            n4 = c.add("n4", through=[survivor])
            wait_role(c, "n4", "voter")
            more.wait(100)
            finish(c, more)
        ledger.verify(*c.nodes)


# ---- death at every step ------------------------------------------------------------------------------------

def has_crash_points():
    with Cluster(1) as c:
        n = c.nodes[0]
        n.kill()
        n.extra = ["--snapshot-journal-bytes", "64kb", "--journal-segment-bytes", "64kb", "--journal-retain-bytes",
                   "64kb"]
        n.start(env={"HOLDFAST_CRASH_AT": "compact-marker-saved"})
        c.leader()
        for i in range(40):
            try:
                fill(n, 8, 20000)
            except (OSError, ConnectionError):
                return True
            if not n.alive():
                return True
    return False


def need_crash_points():
    known = need_crash_points.__dict__
    if "found" not in known:
        known["found"] = has_crash_points()
    if not known["found"]:
        raise Skip("this build has no crash points (-Dcrash_points=true)")


def dies(node, point):
    code = node.wait_end(90)
    assert code == -signal.SIGKILL, f"at {point} it ended with {code}"


INSTALL_POINTS = ["install-before-rename", "install-after-rename", "install-current-pending", "install-journal-reset",
                  "install-current-final", "install-swapped", "install-old-deleted"]


def test_death_while_a_state_is_installed():
    need_crash_points()
    with Cluster(3, extra=SMALL) as c, Load(c.nodes, rate=200) as load:
        load.wait(100)
        for point in INSTALL_POINTS:
            node = c.followers()[0]
            before = generation(node)
            node.kill()
            cut_journals(c)
            node.start(env={"HOLDFAST_CRASH_AT": point})
            dies(node, point)
            node.start().wait_ready()
            wait_for(f"the new state after death at {point}", lambda: generation(node) > before)
            one_database(node)
            load.wait(30)
            with load.held():
                c.same_digest()
        finish(c, load)


def test_death_while_the_journal_is_cut():
    need_crash_points()
    with Cluster(3, extra=SMALL) as c, Load(c.nodes, rate=200) as load:
        load.wait(50)
        for point in ("compact-marker-saved", "compact-journal-cut", "compact-journal-cut:2"):
            for node in (c.followers()[0], c.leader()):
                node.kill()
                node.start(env={"HOLDFAST_CRASH_AT": point})
                end = time.monotonic() + 90
                while node.alive():
                    assert time.monotonic() < end, f"{point} is not reached"
                    try:
                        fill(c.leader(among=[n for n in c.up() if n is not node]), 20, 20000)
                    except (OSError, ReplyError, ConnectionError, AssertionError):
                        pass
                dies(node, point)
                node.start().wait_ready()
                load.wait(30)
        finish(c, load)


def test_death_while_a_suffix_is_cut():
    """A leader that was cut off has entries that others replaced; it dies while it cuts them off."""
    need_crash_points()
    with Cluster(3) as c, Load(c.nodes, rate=100) as load:
        load.wait(50)
        old = c.leader()
        others = [n for n in c.nodes if n is not old]
        conn = old.conn()
        with load.held():
            c.same_digest()
            last = int(old.info()["raft_last_index"])
            for n in others:
                n.kill()
            # Into its journal, and to nobody else.
            for i in range(20):
                conn.send("SET", f"never:{i}", "x" * 1000)
            wait_for("an entry of its own", lambda: int(old.info()["raft_last_index"]) > last)
            old.kill()
        for n in others:
            n.start()
        c.leader(among=others)
        load.wait(50)
        old.start(env={"HOLDFAST_CRASH_AT": "truncate-suffix-sealed"})
        dies(old, "truncate-suffix-sealed")
        old.start().wait_ready()
        load.wait(50)
        finish(c, load)


def test_death_while_members_change():
    need_crash_points()
    with Cluster(3, extra=SMALL, room=6) as c, Load(c.nodes, rate=200) as load:
        load.wait(50)
        everyone = list(c.nodes)
        for point, change in (("member-submitted", "PROMOTE"), ("member-committed", "DEMOTE"),
                              ("member-committed", "PROMOTE"), ("member-submitted", "DEMOTE")):
            if "extra" not in c.leader().members():
                extra = c.add("extra", extra=["--join-as-learner", "yes"])
                wait_role(c, "extra", "learner")
                extra.wait_ready()
                wait_caught_up(c, "extra")
            for n in everyone:
                n.stop()
                n.start(env={"HOLDFAST_CRASH_AT": point}).wait_ready()
            leader = c.leader()
            if leader not in everyone:
                done(leader, "HF.TRANSFER", everyone[0].name)
                leader = everyone[0]
            conn = leader.conn()
            conn.send("HF.MEMBER", change, "extra")
            dies(leader, point)
            conn.close()
            wanted = "voter" if change == "PROMOTE" else "learner"
            survivors = [n for n in c.nodes if n is not leader]
            for n in everyone:  # no other shall die at a repetition
                if n is not leader:
                    n.stop()
                    n.start()
            leader.start().wait_ready()
            done(c.leader(), "HF.MEMBER", change, "extra")  # done already, or not at all
            assert role(c, "extra") == wanted and survivors
            load.wait(30)
            with load.held():
                c.same_digest()
        # A node that joins.
        for i, point in enumerate(("join-told", "identity-saved")):
            node = c.add(f"new{i}", start=False)
            node.start(env={"HOLDFAST_CRASH_AT": point})
            dies(node, point)
            node.start()
            wait_role(c, node.name, "voter")
            node.wait_ready()
            load.wait(30)
        assert len(c.leader().members()) == 6
        finish(c, load)


def with_crash(*args, point):
    p = subprocess.run([HOLDFAST, *map(str, args)], capture_output=True, text=True, timeout=120,
                       stdin=subprocess.DEVNULL, env={**CLEAN, "HOLDFAST_CRASH_AT": point})
    assert p.returncode == -signal.SIGKILL, f"at {point} it ended with {p.returncode}: {p.stdout}{p.stderr}"


def points(prefix):
    """The crash points of this name in the sources."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found = []
    for path in glob.glob(os.path.join(top, "src", "*", "*.c")):
        with open(path, encoding="utf-8") as f:
            for part in f.read().split('hf_crash_point("')[1:]:
                name = part.split('"', 1)[0]
                if name.startswith(prefix):
                    found.append(name)
    return sorted(set(found))


def test_death_while_directories_are_repaired_and_recovered():
    need_crash_points()
    with Cluster(3, extra=SMALL) as c:
        load = Load(c.nodes, rate=300).start()
        load.wait(200)
        ledger = load.stop()
        wait_level(c)
        node = c.followers()[0]
        rest = [n for n in c.nodes if n is not node]
        node.stop()
        rejoin = points("offline-rejoin")
        assert rejoin
        for point in rejoin:
            with_crash("repair", "--dir", node.dir, "--from-peers", "--yes", point=point)
            # Nothing starts half-way; the same command ends it.
            refuses_to_start(node, "repair")
        repair(node)
        node.start()
        wait_back(c, node, {1, 2, 3})
        ledger.verify(*c.nodes)
        c.same_digest()
        survivor = rest[0]
        for n in c.nodes:
            n.kill()
        recover = points("offline-recover")
        assert recover
        for point in recover:
            with_crash("recover", "--dir", survivor.dir, "--yes", point=point)
            refuses_to_start(survivor, "recover")
        code, out, err = tool("recover", "--dir", survivor.dir, "--yes")
        assert code == 0, (out, err)
        survivor.start().wait_ready()
        ledger.verify(survivor)


def test_death_while_a_backup_is_restored():
    need_crash_points()
    with Cluster(1) as c, Cluster(0, room=1) as fresh:
        load = Load(c.nodes, rate=300).start()
        load.wait(200)
        ledger = load.stop()
        path = os.path.join(c.dir, "backup.hf")
        moment = time.monotonic()
        n = c.nodes[0]
        wait_for("the state to be in the database",
                 lambda: n.info()["raft_durable_index"] == n.info()["raft_applied_index"])
        backup(n, path)
        first = Node(fresh, 1)
        first.is_alone = True
        create = points("offline-create") + points("restore")
        assert create
        for point in create:
            p = subprocess.run([HOLDFAST, "restore", path, "--dir", first.dir, "--peer-address",
                                f"127.0.0.1:{first.peer_port}"], capture_output=True, text=True, timeout=120,
                               stdin=subprocess.DEVNULL, env={**CLEAN, "HOLDFAST_CRASH_AT": point})
            assert p.returncode == -signal.SIGKILL, f"at {point} it ended with {p.returncode}: {p.stdout}{p.stderr}"
            if os.path.exists(os.path.join(first.dir, "identity")):
                refuses_to_start(first, "restore")
            # The same command ends it, wherever the last one stopped.
            code, out, err = restore(path, first.dir, first)
            assert code == 0, (point, code, out, err)
            assert os.listdir(os.path.dirname(first.dir)) == [os.path.basename(first.dir)], "something was left behind"
            if point != create[-1]:
                shutil.rmtree(first.dir)
        fresh.nodes.append(first)
        first.start().wait_ready()
        ledger.verify_past(first, moment)


if __name__ == "__main__":
    run_tests([v for k, v in sorted(globals().items()) if k.startswith("test_")])
