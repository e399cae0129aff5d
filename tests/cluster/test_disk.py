#!/usr/bin/env python3
"""Disks that fill up, fail and hang, under real processes: nothing acknowledged is lost, the node says what is wrong
and stops or heals, the cluster goes on meanwhile. And what the disk is used for: the journal stays within its bound, a
restart does not read the state.
Run: HOLDFASTD=build/holdfastd tests/cluster/test_disk.py [part of a test's name ...]
HF_TEST_STATE_MIB=4096 makes the state of the restart test so large (default 64)."""
import ctypes
import os
import re
import shutil
import subprocess
import threading
import time

from harness import Cluster, Conn, HOLDFASTD, Load, Node, PATIENCE, ReplyError, run_tests, wait_for

SHIM = os.environ.get("HF_DISK_SHIM", os.path.join(os.path.dirname(os.path.abspath(HOLDFASTD)),
                                                   "tests/cluster/libdisk_shim.so"))
STATE_MIB = int(os.environ.get("HF_TEST_STATE_MIB", "64"))
EXIT_FAILED = 70
MIB = 1 << 20


class ShimNode(Node):
    """A node on a disk that does what rules() says (disk_shim.c has the rules)."""

    @property
    def control(self):
        return os.path.join(self.cluster.dir, f"node{self.number}.rules")

    @property
    def shim_log(self):
        return os.path.join(self.cluster.dir, f"node{self.number}.calls")

    def start(self, *extra):
        assert self.proc is None or self.proc.poll() is not None
        # Below the sanitizer's own calls, which is what it warns of.
        asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        env = {**os.environ, "LD_PRELOAD": SHIM, "HF_SHIM_CONTROL": self.control, "HF_SHIM_LOG": self.shim_log,
               "ASAN_OPTIONS": asan}
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(self.command(*extra), stdout=log, stderr=log,
                                         stdin=subprocess.DEVNULL, env=env)
        return self

    def rules(self, *lines):
        temporary = self.control + ".new"
        with open(temporary, "w", encoding="utf-8") as f:
            f.write("".join(line + "\n" for line in lines))
        os.rename(temporary, self.control)

    def calls(self):
        try:
            with open(self.shim_log, encoding="utf-8") as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def wait_exit(self, patience=PATIENCE):
        wait_for(f"the end of node {self.number}", lambda: not self.alive(), patience)
        return self.proc.returncode


class ShimCluster(Cluster):
    def __init__(self, n=3, extra=()):
        super().__init__(n, extra)
        self.nodes = [ShimNode(self, i) for i in range(1, n + 1)]


def follower_of(c):
    leader = c.leader()
    return next(n for n in c.up() if n is not leader)


def metric(node, name):
    return int(re.search(rf"^holdfast_{name} (-?\d+)$", node.http("/metrics")[1], re.M).group(1))


def stops_and_comes_back(c, load, node, rule, file, error):
    """The rule makes the node stop with a line that names the file and the error; the others go on; the call that
    failed is not tried again; after a restart the node is one of them."""
    said_before, calls_before = len(node.log_text()), len(node.calls())
    node.rules(rule)
    code = node.wait_exit()
    assert code == EXIT_FAILED, f"exit code {code}"
    said = node.log_text()[said_before:]
    lines = [line for line in said.splitlines() if "this node stops" in line]
    assert len(lines) == 1 and re.search(file, lines[0]) and error in lines[0], said[-2000:]
    calls = node.calls()[calls_before:]
    assert calls, "the rule met no call"
    assert not any(call.startswith("sync-again") for call in calls), f"a failed sync was tried again: {calls}"
    load.wait_acks(100)
    node.rules()
    node.start()
    wait_for("the node to be ready again", lambda: node.http("/readyz")[0] == 200)
    load.wait_acks(50)


def test_a_failing_journal_stops_the_node():
    with ShimCluster() as c:
        load = Load(c, writers=4).start()
        load.wait_acks(100)
        segment = r"/journal/[0-9a-f]{16}\.seg"
        stops_and_comes_back(c, load, c.leader(), "sync *.seg EIO once", segment, "input/output error")
        stops_and_comes_back(c, load, follower_of(c), "sync *.seg EIO once", segment, "input/output error")
        stops_and_comes_back(c, load, c.leader(), "write *.seg ENOSPC once", segment, "no space left")
        stops_and_comes_back(c, load, follower_of(c), "write *.seg half", segment, "no space left")
        load.stop().verify()
        c.same_digest()


def test_a_failing_database_stops_the_node():
    with ShimCluster() as c:
        load = Load(c, writers=4).start()
        load.wait_acks(100)
        database = r"/state-\d+\.db"
        stops_and_comes_back(c, load, c.leader(), "sync *.db-wal EIO once", database, "input/output error")
        stops_and_comes_back(c, load, follower_of(c), "write *.db-wal ENOSPC", database, "no space left")
        stops_and_comes_back(c, load, follower_of(c), "write *.db-wal half", database, "no space left")
        stops_and_comes_back(c, load, c.leader(), "write *.db-wal EIO once", database, "input/output error")
        load.stop().verify()
        c.same_digest()


def test_a_failing_vote_file_stops_the_node():
    with ShimCluster() as c:
        load = Load(c, writers=4).start()
        load.wait_acks(100)
        for rule, error in (("sync */vote EIO once", "input/output error"),
                            ("write */vote ENOSPC once", "no space left")):
            leader = c.leader()
            node = follower_of(c)
            node.rules(rule)
            leader.kill()  # somebody must be voted for
            assert node.wait_exit() == EXIT_FAILED
            assert re.search(rf"this node stops.*/journal/vote.*{error}", node.log_text()), node.log_text()[-2000:]
            assert not any(call.startswith("sync-again") for call in node.calls())
            node.rules()
            node.start()
            load.wait_acks(50)
            leader.start()
            load.wait_acks(50)
        load.stop().verify()
        c.same_digest()


def test_a_hung_disk_is_announced_and_costs_no_service():
    with ShimCluster() as c:
        load = Load(c, writers=4).start()
        load.wait_acks(100)
        # A leader steps aside, though its process lives; when the disk goes on in time so does the node.
        old = c.leader()
        others = [n for n in c.nodes if n is not old]
        old.rules("sync *.seg hang")
        c.leader(among=others)
        load.wait_acks(100)
        wait_for("the announcement", lambda: "does not finish a write" in old.log_text())
        old.rules()
        wait_for("the node to be ready again", lambda: old.alive() and old.http("/readyz")[0] == 200)
        load.wait_acks(50)
        # The database as well as the journal.
        node = follower_of(c)
        said_before = len(node.log_text())
        node.rules("sync *-wal hang")
        wait_for("the announcement", lambda: "does not finish a write" in node.log_text()[said_before:])
        node.rules()
        wait_for("the node to be ready again", lambda: node.alive() and node.http("/readyz")[0] == 200)
        load.wait_acks(50)
        # A vote that is never written holds its node; one that hangs for good ends.
        leader = c.leader()
        node = follower_of(c)
        said_before = len(node.log_text())
        node.rules("sync */vote hang")
        leader.kill()
        wait_for("a vote on its way", lambda: any("vote" in call for call in node.calls()))
        leader.start()
        load.wait_acks(50)  # the other two
        assert node.wait_exit(60) == EXIT_FAILED
        said = node.log_text()[said_before:]
        assert "does not finish a write" in said and re.search("this node stops.*has not finished a write", said), said
        node.rules()
        node.start()
        wait_for("the node to be ready again", lambda: node.http("/readyz")[0] == 200)
        load.stop().verify()
        c.same_digest()


def refusal(node, *command):
    try:
        node.call(*command)
    except ReplyError as e:
        return str(e)
    return ""


def test_space_runs_out_and_comes_back():
    """Warning, low, critical and back, with the numbers made up: the levels and what each allows."""
    with ShimCluster(extra=["--min-free-disk", "64mb"]) as c:
        load = Load(c, writers=2).start()
        load.wait_acks(50)
        leader, node = c.leader(), follower_of(c)
        other = next(n for n in c.nodes if n not in (leader, node))
        ballast = os.path.join(node.dir, "ballast")
        wait_for("the reserve", lambda: os.path.exists(ballast) and os.path.getsize(ballast) == 16 * MIB and
                 metric(node, "disk_reserve_bytes") == 16 * MIB)
        for i in range(20):
            leader.call("SET", f"doomed{i}", "x")

        node.rules(f"free * {120 * MIB}")
        wait_for("the warning", lambda: metric(node, "disk_space_level") == 1)
        assert "disk space is getting low" in node.log_text()
        assert node.http("/readyz")[0] == 200
        assert "disk space is getting low" in node.http("/status")[1]
        assert other.call("SET", "allowed", "1") == "OK"

        node.rules(f"free * {60 * MIB}")
        for n in c.nodes:
            wait_for("a refusal",
                     lambda: refusal(n, "SET", "k", "v").startswith(f"NOSPACE the disk of node {node.number}"))
        assert metric(node, "disk_space_level") == 2
        code, text = node.http("/readyz")
        assert code == 503 and "disk space is low" in text, text
        for i, n in enumerate(c.nodes):  # what does not grow the state goes on
            assert n.call("GET", "allowed") == b"1"
            assert n.call("DEL", f"doomed{i}") == 1
            assert n.call("UNLINK", f"doomed{i + 3}") == 1
            assert n.call("EXPIRE", f"doomed{i + 6}", 1000) == 1
            assert n.call("PERSIST", f"doomed{i + 6}") == 1
            assert n.call("GETDEL", f"doomed{i + 9}") == b"x"
        # So do changes of the members: the full node may be the one that has to go.
        assert leader.call("HF.MEMBER", "DEMOTE", str(node.number)).startswith("OK")
        wait_for("its vote again",  # it has caught up within a moment
                 lambda: refusal(leader, "HF.MEMBER", "PROMOTE", str(node.number)) == "" and
                 leader.members()[str(node.number)]["role"] == "voter")
        assert os.path.exists(ballast)

        node.rules(f"free * {15 * MIB}")
        wait_for("the reserve to be given up",
                 lambda: not os.path.exists(ballast) and metric(node, "disk_space_level") == 3)
        assert metric(node, "disk_reserve_bytes") == 0
        assert refusal(other, "SET", "k", "v").startswith("NOSPACE")

        node.rules(f"free * {67 * MIB}")  # more than the threshold, but not enough more
        wait_for("the level", lambda: metric(node, "disk_space_level") == 2)
        assert refusal(other, "SET", "k", "v").startswith("NOSPACE")
        node.rules(f"free * {80 * MIB}")
        acks = load.count
        wait_for("service without a restart", lambda: other.call("SET", "k", "v") == "OK" and load.count > acks + 20)
        assert not os.path.exists(ballast), "the reserve was made again although it would bring the disk to the mark"
        node.rules()
        wait_for("the reserve again", lambda: os.path.exists(ballast) and metric(node, "disk_space_level") == 0)
        load.stop().verify()
        c.same_digest()


def small_disk(directory, mib):
    """A file system of its own for the directory, in a mount namespace of this process. None, or why there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    CLONE_NEWNS = 0x20000
    if os.geteuid() != 0:
        return "only root can mount"
    if libc.unshare(CLONE_NEWNS) != 0:
        return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
    os.makedirs(directory, exist_ok=True)
    image = directory + ".img"
    with open(image, "wb") as f:
        f.truncate(mib * MIB)
    said = ""
    for command in (["mount", "--make-rprivate", "/"], ["mkfs.ext4", "-q", "-m", "0", image],
                    ["mount", "-o", "loop", image, directory]):
        try:
            p = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return f"there is no {command[0]}"
        said += p.stderr
        if p.returncode != 0:
            p = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "tmpfs", directory],
                               capture_output=True, text=True, check=False)
            return None if p.returncode == 0 else f"cannot mount: {said}{p.stderr}"
    return None


def fill(directory, leave=0):
    """Every byte of the disk but `leave`."""
    st = os.statvfs(directory)
    path = os.path.join(directory, "filler")
    with open(path, "ab") as f:
        try:
            os.posix_fallocate(f.fileno(), 0, max(1, st.f_bavail * st.f_frsize - leave))
        except OSError:
            pass
        if leave == 0:
            try:
                while True:
                    f.write(b"\0" * 65536)
                    f.flush()
            except OSError:
                pass
    return path


def test_a_disk_that_is_really_full():
    c = Cluster(3, extra=["--min-free-disk", "48mb", "--journal-segment-bytes", "1mb"])
    node = c.nodes[1]
    why = small_disk(node.dir, 256)
    if why:
        print(f"     skipped: {why}", flush=True)
        shutil.rmtree(c.dir)
        return
    stopping = threading.Event()
    try:
        with c:
            load = Load(c, writers=4).start()
            load.wait_acks(100)
            ballast = os.path.join(node.dir, "ballast")
            wait_for("the reserve", lambda: os.path.exists(ballast))
            heavy = threading.Thread(target=write_much, args=(c, stopping))
            heavy.start()

            # Little by little: refused before it hurts, everything else goes on, and nobody stops.
            filler = fill(node.dir, leave=30 * MIB)
            wait_for("a refusal", lambda: refusal(c.nodes[0], "SET", "k", "v").startswith("NOSPACE"))
            os.unlink(filler)
            acks = load.count
            wait_for("service again", lambda: load.count > acks + 50)
            assert node.alive()

            # All of it at once, faster than anybody can look, on a follower and with writes under way.
            for leads in (False, True):
                if leads:
                    wait_for("the small disk to lead", lambda: make_leader(c, node))
                filler = fill(node.dir)
                wait_for("the node to notice",
                         lambda: not node.alive() or refusal(c.nodes[0], "SET", "k", "v").startswith("NOSPACE"))
                os.sync()
                died = not node.alive()
                if died:
                    assert node.proc.returncode == EXIT_FAILED, node.proc.returncode
                    assert re.search("this node stops.*no space left", node.log_text()), node.log_text()[-2000:]
                    acks = load.count
                    wait_for("service without the node", lambda: load.count > acks + 50)
                    # With the disk as full as it is: the reserve was given up for just this.
                    node.start()
                    wait_for("a start on the full disk or a clear end",
                             lambda: not node.alive() or node.http("/readyz")[0] in (200, 503))
                print(f"     filled at once: {'stopped' if died else 'went on'}, "
                      f"{'and runs' if node.alive() else 'and did not start again'} on the full disk", flush=True)
                os.unlink(filler)
                if not node.alive():
                    node.start()
                wait_for("the node to be ready", lambda: node.http("/readyz")[0] == 200)
                acks = load.count
                wait_for("service", lambda: load.count > acks + 50)
            stopping.set()
            heavy.join()
            load.stop().verify()
            c.same_digest()
    finally:
        stopping.set()
        subprocess.run(["umount", "-l", node.dir], check=False)
        shutil.rmtree(c.dir, ignore_errors=True)


def write_much(c, stopping):
    """Megabytes a second, so that a full disk is felt at once; over the same few keys, so that they fit."""
    conn, i = None, 0
    while not stopping.is_set():
        try:
            conn = conn or Conn(c.nodes[0].port)
            for _ in range(8):
                i += 1
                conn.send("SET", f"much:{i % 100}", b"x" * 100000)
            for _ in range(8):
                conn.read()
        except (OSError, ConnectionError, ValueError):
            conn = None
            stopping.wait(0.05)


def make_leader(c, node):
    """Lets the others stand aside until this node leads."""
    leader = c.leader()
    if leader is node:
        return True
    leader.pause()
    try:
        wait_for("another leader",
                 lambda: any(n.info()["raft_state"] == "leader" for n in c.nodes if n is not leader), 10)
    finally:
        leader.resume()
    return c.leader() is node


def directory_bytes(path):
    total = 0
    for name in os.listdir(path):
        try:
            total += os.stat(os.path.join(path, name)).st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def test_the_journal_stays_within_its_bound():
    """Several times the bound goes through while one member is down for good, in small and in large entries."""
    segment, kept = 256 << 10, 2 * MIB
    with Cluster(3, extra=["--journal-segment-bytes", str(segment), "--journal-max-bytes", str(kept),
                           "--journal-retain-bytes", str(segment), "--snapshot-journal-bytes", str(segment),
                           "--journal-tail-bytes", str(segment)]) as c:
        follower_of(c).kill()
        up = c.up()
        bound = max(int(n.info("store")["journal_bytes_max"]) for n in up)
        tail_bound = segment + 4 * MIB  # and what is on its way to the disk
        most = {n: 0 for n in up}
        most_tail = most_told = 0
        stopping = threading.Event()
        problems = []

        def watch():
            nonlocal most_tail, most_told
            while not stopping.is_set():
                try:
                    for n in up:
                        most[n] = max(most[n], directory_bytes(os.path.join(n.dir, "journal")))
                        info = n.info("store")
                        most_told = max(most_told, int(info["journal_bytes"]))
                        most_tail = max(most_tail, int(info["journal_tail_bytes"]))
                except Exception as e:  # noqa: BLE001 - told at the end
                    problems.append(e)
                stopping.wait(0.05)
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            conn = c.leader().conn()
            written = 0
            for size, pipeline, rounds in ((64, 1, 2000), (1000, 16, 600), (20000, 8, 60),
                                           (300000, 1, 30), (64, 100, 100)):
                for i in range(rounds):
                    for k in range(pipeline):
                        conn.send("SET", f"k{(i * pipeline + k) % 500}", b"x" * size)
                    for k in range(pipeline):
                        assert conn.read() == "OK"
                    written += size * pipeline
            assert written > 3 * bound, (written, bound)
        finally:
            stopping.set()
            watcher.join()
        # An entry larger than all of it passes through as well, and with what comes after it its space is back.
        assert conn.call("SET", "huge", b"x" * (2 * bound)) == "OK"

        def is_back():
            assert conn.call("SET", "k", b"x" * 20000) == "OK"
            return all(directory_bytes(os.path.join(n.dir, "journal")) <= bound for n in up)
        wait_for("the space of the huge entry", is_back)
        conn.close()
        assert not problems, problems[0]
        print(f"     {written // MIB} MiB written; bound {bound / MIB:.1f} MiB, on disk at most "
              f"{max(most.values()) / MIB:.1f}, told {most_told / MIB:.1f}, tail in memory {most_tail / MIB:.1f}",
              flush=True)
        assert max(most.values()) <= bound, (most.values(), bound)
        assert most_told <= bound
        assert most_tail <= tail_bound, (most_tail, tail_bound)


def test_a_restart_does_not_read_the_state():
    """The time until a node serves again depends on the log since its last commit, not on what it keeps."""
    value = 16384
    count = STATE_MIB * MIB // value
    with Cluster(3) as c:
        noise = os.urandom(2 * value)
        conn = c.leader().conn(timeout=120)
        for start in range(0, count, 32):
            batch = range(start, min(start + 32, count))
            for i in batch:
                at = i * 7919 % value
                conn.send("SET", f"big:{i}", noise[at:at + value])
            for _ in batch:
                assert conn.read() == "OK"
        conn.close()

        def restart(node, end):
            end()
            began = time.monotonic()
            node.start()
            wait_for("an answer", lambda: node.call("GET", "big:1") is not None, 120)
            return time.monotonic() - began
        clean = restart(*(lambda n: (n, n.stop))(follower_of(c)))
        load = Load(c, writers=4).start()
        load.wait_acks(300)
        killed = restart(*(lambda n: (n, n.kill))(follower_of(c)))
        leader = restart(*(lambda n: (n, n.kill))(c.leader()))
        print(f"     {STATE_MIB} MiB of state: serves {clean:.2f} s after a clean stop, {killed:.2f} s after "
              f"kill -9 under load, {leader:.2f} s when it led", flush=True)
        if "asan" not in HOLDFASTD and STATE_MIB >= 1024:  # for numbers that mean something
            assert clean < 2 and killed < 10 and leader < 10
        load.stop().verify()
        c.same_digest()


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")])
