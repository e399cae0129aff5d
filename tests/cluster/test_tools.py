#!/usr/bin/env python3
"""What people hold in their hands: the command-line tool, deploy/cluster, the HTTP pages, the settings, on real nodes.
Run: HOLDFASTD=build/holdfastd tests/cluster/test_tools.py [part of a test's name ...]
The tool is the program `holdfast` beside the server."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import HOLDFASTD, PATIENCE, Cluster, Conn, ReplyError, free_ports, run_tests, wait_for  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SERVER = os.path.abspath(HOLDFASTD)
TOOL = os.path.join(os.path.dirname(SERVER), "holdfast")
# Nothing of the caller's may change what the programs do.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST")}


def tool(*args, stdin=None, env=None):
    p = subprocess.run([TOOL, *args], capture_output=True, input=stdin if stdin is not None else b"",
                       timeout=PATIENCE * 2, env={**CLEAN, **(env or {})})
    return p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace")


def at(node):
    return ("--server", f"127.0.0.1:{node.port}")


def dead_port():
    """A port where nobody listens."""
    return free_ports(1)


# ---- holdfast cli ---------------------------------------------------------------------------------------------

def test_cli_prints_replies_and_tells_by_its_exit_status():
    with Cluster(1) as c:
        s = at(c.node(1))
        assert tool("cli", *s, "SET", "k", "a b") == (0, "OK\n", "")
        assert tool(*s, "cli", "GET", "k") == (0, "a b\n", "")
        assert tool("cli", *s, "--no-raw", "GET", "k")[1] == '"a b"\n'
        assert tool("cli", *s, "--no-raw", "GET", "none")[1] == "(nil)\n"
        assert tool("cli", *s, "--no-raw", "INCR", "n")[1] == "(integer) 1\n"
        assert tool("cli", *s, "--no-raw", "MGET", "k", "none")[1] == '1) "a b"\n2) (nil)\n'
        assert tool("cli", *s, "--no-raw", "KEYS", "nothing*")[1] == "(empty array)\n"
        assert tool("cli", *s, "--json", "MGET", "k", "none", "n")[1] == '["a b",null,"1"]\n'
        code, out, _ = tool("cli", *s, "INCR", "k")
        assert (code, out) == (1, "ERR value is not an integer or out of range\n")
        code, out, _ = tool("cli", *s, "--json", "INCR", "k")
        assert code == 1 and json.loads(out) == {"error": "ERR value is not an integer or out of range"}
        assert tool("cli", *s, "--no-raw", "INFO", "raft")[1].startswith("# Raft\r\n"), "reports are shown as they are"
        code, out, err = tool("cli", *s, "HELLO", "3")
        assert code == 2 and "RESP2" in err


def test_cli_takes_the_first_server_that_answers():
    with Cluster(1) as c:
        code, out, err = tool("cli", "--server", f"127.0.0.1:{dead_port()}", *at(c.node(1)), "PING")
        assert (code, out) == (0, "PONG\n") and "cannot connect" in err
        code, out, err = tool("cli", "--server", f"127.0.0.1:{dead_port()}", "PING")
        assert (code, out) == (3, "") and "Connection refused" in err
        assert tool("cli", "PING", env={"HOLDFAST_SERVER": f"127.0.0.1:{c.node(1).port}"})[1] == "PONG\n"


def test_cli_refuses_nonsense():
    for args in (["--bogus"], ["cli", "--bogus"], ["bogus"], ["cli", "--server"],
                 ["cli", "--server", "nowhere", "PING"], ["cli", "--server", "host:0", "PING"],
                 ["cli", "--timeout", "soon", "PING"], ["status", "more"], [],
                 ["member"], ["member", "fly"], ["member", "list", "more"], ["member", "add", "name"],
                 ["member", "remove"], ["member", "replace", "a"], ["member", "promote", "a", "b"],
                 ["transfer", "a", "b"], ["backup"], ["backup", "--out"], ["backup", "verify"], ["backup", "fly"],
                 ["backup", "--out", "f", "--level", "20"], ["backup", "--out", "f", "--level", "0"],
                 ["backup", "--out", "f", "--bogus"], ["restore"], ["restore", "f"], ["restore", "--dir", "d"],
                 ["restore", "f", "--dir", "d", "--id", "0"], ["restore", "f", "g", "--dir", "d"],
                 ["inspect"], ["inspect", "d"], ["recover"], ["recover", "--dir"], ["recover", "--dir", "d", "--bogus"],
                 ["repair"], ["repair", "--dir", "d"], ["repair", "--from-peers"]):
        code, out, err = tool(*args)
        assert code == 2 and out == "" and err, (args, code, out, err)
    for args in (["--help"], ["--version"], *([name, "--help"] for name in
                 ("cli", "status", "member", "transfer", "backup", "restore", "inspect", "recover", "repair"))):
        code, out, err = tool(*args)
        assert code == 0 and out and err == "", (args, code, out, err)


def test_cli_runs_the_lines_of_its_input():
    with Cluster(1) as c:
        lines = b'SET "k x" "a\\nb\\x00\\"c"\n\nGET "k x"\n'
        lines += b'SET \'it\\\'s\' 1\nEXISTS it\'s\nGET it"\'"s\nINCR "k x"\nPING\n'
        code, out, err = tool("cli", *at(c.node(1)), "--no-raw", stdin=lines)
        assert out.split("\n")[:3] == ["OK", '"a\\nb\\x00\\"c"', "OK"], out
        assert "(error) ERR value is not an integer" in out and out.endswith("PONG\n"), "an error does not end the run"
        assert "a quote is not closed" in err
        assert code == 2, "the worst of all lines"


def test_cli_never_repeats_a_command():
    """A server that takes a command and dies: the user is told that it may have run, and no one else is asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    second = socket.create_server(("127.0.0.1", 0))

    def serve():
        conn, _ = listener.accept()
        conn.recv(1000)
        conn.close()

    threading.Thread(target=serve, daemon=True).start()
    code, out, err = tool("cli", "--server", f"127.0.0.1:{listener.getsockname()[1]}",
                          "--server", f"127.0.0.1:{second.getsockname()[1]}", "INCR", "n")
    assert code == 4 and out == "" and "may or may not have run" in err, (code, out, err)
    second.setblocking(False)
    try:
        second.accept()
        raise AssertionError("the command went to another server as well")
    except BlockingIOError:
        pass


def test_cli_waits_no_longer_than_told():
    with Cluster(1) as c:
        c.node(1).pause()
        began = time.monotonic()
        code, _, err = tool("cli", *at(c.node(1)), "--timeout", "300", "PING")
        assert code == 4 and time.monotonic() - began < 5, err


def test_cli_gives_the_password():
    with Cluster(1, extra=["--enable-debug-command", "yes"]) as c:
        c.node(1).call("CONFIG", "SET", "requirepass", "secret")
        s = at(c.node(1))
        code, out, _ = tool("cli", *s, "GET", "k")
        assert code == 1 and out.startswith("NOAUTH")
        assert tool("cli", *s, "--password", "secret", "SET", "k", "v")[0] == 0
        assert tool("cli", *s, "GET", "k", env={"HOLDFAST_PASSWORD": "secret"})[1] == "v\n"
        code, _, err = tool("cli", *s, "--password", "wrong", "GET", "k")
        assert code == 3 and "WRONGPASS" in err, err
        assert tool("status", *s)[0] == 3
        assert tool("status", *s, "--password", "secret")[0] == 0


class Terminal:
    """The tool on a terminal of its own."""

    def __init__(self, args, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(TOOL, [TOOL, *args], {**CLEAN, "TERM": "dumb", **env})
        self.seen = ""

    def expect(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"waited for {text!r}, saw {self.seen!r}"
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            assert data, f"waited for {text!r}, the tool ended, saw {self.seen!r}"
            self.seen += data.decode("utf-8", "replace")
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, text):
        """The editor shows its prompt a moment before it takes the terminal out of line mode, where keys such as
        Ctrl-D mean something else: type when it has."""
        wait_for("the editor", lambda: not termios.tcgetattr(self.fd)[3] & termios.ICANON)
        os.write(self.fd, text.encode())

    def end(self):
        """Reads to the end; the exit status."""
        try:
            while select.select([self.fd], [], [], PATIENCE)[0]:
                if not os.read(self.fd, 4096):
                    break
            else:
                raise AssertionError("the tool does not end")
        except OSError:
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_shell_completes_and_remembers():
    with Cluster(1) as c, tempfile.TemporaryDirectory() as home:
        prompt = f"127.0.0.1:{c.node(1).port}> "
        t = Terminal(["cli", *at(c.node(1))], {"HOME": home})
        t.expect(prompt)
        t.type("incrbyf\t")
        t.expect("incrbyfloat ")
        t.type("pi 3.5\r")
        t.expect('"3.5"')
        t.expect(prompt)
        t.type("CLIENT SETN\t")
        t.expect("SETNAME ")
        t.type("me\r")
        t.expect("OK")
        t.expect(prompt)
        t.type("help hf.cas\r")
        assert "HF.CAS" in t.expect(prompt)
        t.type("auth secret\r")
        t.expect("(error)")
        t.expect(prompt)
        t.type("get pi\r")
        t.expect('"3.5"')
        t.expect(prompt)
        t.type("\x04")
        assert t.end() == 0
        path = os.path.join(home, ".holdfast_history")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with open(path, encoding="utf-8") as f:
            history = f.read()
        assert "incrbyfloat" in history and "secret" not in history
        t = Terminal(["cli", *at(c.node(1))], {"HOME": home})
        t.expect(prompt)
        t.type("\x10\r")  # the line before
        t.expect("get pi")
        t.expect('"3.5"')
        t.expect(prompt)
        t.type("quit\r")
        assert t.end() == 0


def test_shell_goes_on_without_a_server():
    with Cluster(1) as c, tempfile.TemporaryDirectory() as home:
        prompt = f"127.0.0.1:{c.node(1).port}> "
        t = Terminal(["cli", *at(c.node(1))], {"HOME": home})
        t.expect(prompt)
        c.node(1).kill()
        t.type("ping\r")
        t.expect("may or may not have run")
        t.expect("not connected> ")
        t.type("ping\r")
        t.expect("cannot connect")
        t.expect("not connected> ")
        c.node(1).start()
        c.leader()
        t.type("ping\r")
        t.expect("PONG")
        t.expect(prompt)
        t.type("exit\r")
        assert t.end() == 0


# ---- holdfast status ------------------------------------------------------------------------------------------

def test_status_finds_all_nodes_through_any():
    with Cluster(3) as c:
        leader = c.leader()

        def whole(node):
            code, out, _ = tool("status", *at(node), "--json")
            return code == 0 and json.loads(out)

        for node in c.nodes:
            # A follower learns the leader's address, and the leader the followers', with the first messages.
            s = wait_for(f"the whole table from node {node.number}", lambda: whole(node))
            assert s["leader_id"] == leader.number
            assert [n["id"] for n in s["nodes"]] == [1, 2, 3]
            assert [n["address"] for n in s["nodes"]] == [f"127.0.0.1:{n.port}" for n in c.nodes]
            assert sorted(n["role"] for n in s["nodes"]) == ["follower", "follower", "leader"]
            assert len({n["term"] for n in s["nodes"]}) == 1 and len({n["cluster_id"] for n in s["nodes"]}) == 1
        code, out, _ = tool("status", *at(leader))
        assert code == 0 and "3 of 3 nodes answer" in out and f"node {leader.number} leads" in out, out
        # The same node by two names is one node.
        code, out, _ = tool("status", *at(leader), "--server", f"localhost:{leader.port}")
        assert "3 of 3 nodes answer" in out, out


def test_status_shows_what_is_missing():
    with Cluster(3) as c:
        dead = next(n for n in c.nodes if n is not c.leader())
        dead.kill()
        alive = c.leader()

        def shown():
            code, out, _ = tool("status", *at(alive), "--json")
            nodes = {n["id"]: n for n in json.loads(out)["nodes"]}
            return code == 1 and len(nodes) == 3 and not nodes[dead.number]["answers"]
        wait_for("the dead node in the table", shown)
        paused = next(n for n in c.nodes if n.alive() and n is not alive)
        paused.pause()
        code, out, err = tool("status", *at(alive), *at(paused))
        assert code == 1 and re.search(rf"127\.0\.0\.1:{paused.port} +no answer", out), out
        paused.resume()
        code, out, err = tool("status", *at(dead))
        assert code == 3 and "cannot connect" in err


# ---- members and leadership -----------------------------------------------------------------------------------

def member_list(node):
    code, out, err = tool("member", *at(node), "list", "--json")
    assert code == 0 and err == "", (code, out, err)
    return json.loads(out)


def test_member_list_is_the_leaders_from_any_node():
    with Cluster(3) as c:
        c.leader().call("SET", "k", "v")

        def complete(node):
            rows = member_list(node)
            return len(rows) == 3 and all(r["connected"] and r["lag"] == 0 and r["level"] for r in rows) and rows

        for node in c.nodes:
            rows = wait_for(f"the whole list from node {node.number}", lambda: complete(node))
            assert [r["id"] for r in rows] == [1, 2, 3] and {r["role"] for r in rows} == {"voter"}
            assert [r["address"] for r in rows] == [f"127.0.0.1:{n.peer_port}" for n in c.nodes]
            assert [r["client_address"] for r in rows] == [f"127.0.0.1:{n.port}" for n in c.nodes]
            assert [r["id"] for r in rows if r["leader"]] == [c.leader().number]
        code, out, _ = tool("member", *at(c.node(1)), "list")
        lines = out.strip().split("\n")
        assert code == 0 and len(lines) == 4 and lines[0].split()[:4] == ["ID", "NAME", "ROLE", "LEADER"], out
        # Without a leader, what the node itself knows.
        alive = c.followers()[0]
        for n in c.nodes:
            if n is not alive:
                n.kill()
        wait_for("the leader to be forgotten", lambda: not any(r["leader"] for r in member_list(alive)))
        rows = {r["id"]: r for r in member_list(alive)}
        others = [r for r in rows.values() if r["id"] != alive.number]
        assert len(others) == 2 and all(r["match_index"] is None and r["lag"] is None for r in others), rows
        assert "no leader" in tool("member", *at(alive), "list")[1]


def test_members_are_changed_one_by_one():
    with Cluster(3) as c:
        c.leader().call("SET", "k", "v")
        follower = c.followers()[0]
        name = str(follower.number)
        # Any node takes it.
        asked = c.followers()[1]
        wait_for("the cluster's level", lambda: int(asked.info("members")["feature_level"]) >= 2)
        code, out, err = tool("member", *at(asked), "demote", name)
        assert code == 0 and out.startswith("OK") and err == "", (code, out, err)
        wait_for("the learner in the list",
                 lambda: {str(r["id"]): r["role"] for r in member_list(asked)}[name] == "learner")
        code, out, err = tool("member", *at(asked), "promote", name)
        assert code == 0, (code, out, err)
        wait_for("the voter in the list",
                 lambda: {str(r["id"]): r["role"] for r in member_list(asked)}[name] == "voter")
        # What makes no sense, or is not safe, is refused with a reason, and nothing happens.
        for args in (["remove", "nobody"], ["promote", "nobody"], ["replace", name, "nobody"], ["add", "7", "h:1"],
                     ["add", "n", "nowhere"]):
            code, out, err = tool("member", *at(asked), *args)
            assert code == 1 and out == "" and err.startswith("ERR "), (args, code, out, err)
        code, out, err = tool("member", *at(asked), "remove", "nobody", "--json")
        assert code == 1 and json.loads(out)["error"].startswith("ERR "), (code, out, err)
        assert len(member_list(asked)) == 3
        code, out, err = tool("member", "--server", f"127.0.0.1:{dead_port()}", "remove", "1")
        assert code == 3 and out == "", (code, out, err)


def test_leadership_is_handed_over():
    with Cluster(3) as c:
        for target in c.followers():
            code, out, err = tool("transfer", *at(c.followers()[0]), str(target.number))
            assert code == 0, (code, out, err)
            wait_for(f"node {target.number} to lead", lambda: target.info()["raft_state"] == "leader")
        before = c.leader()
        code, out, err = tool("transfer", *at(before))
        assert code == 0, (code, out, err)
        wait_for("another leader", lambda: c.leader() is not before)
        code, out, err = tool("transfer", *at(c.leader()), "nobody")
        assert code == 1 and err.startswith("ERR"), (code, out, err)
    with Cluster(1) as c:
        code, out, err = tool("transfer", *at(c.node(1)))
        assert code == 1 and err.startswith("ERR"), (code, out, err)


def test_status_tells_of_names_journals_and_problems():
    with Cluster(3) as c:
        def whole():
            code, out, _ = tool("status", *at(c.node(1)), "--json")
            return code == 0 and json.loads(out)
        s = wait_for("a sound cluster", whole)
        for n in s["nodes"]:
            assert n["name"] == str(n["id"]) and n["member_role"] == "voter" and n["problem"] == "", n
            assert 0 < n["journal_bytes"] <= n["journal_bytes_max"] and n["level"] >= 1 and n["copies"] == [], n
        code, out, _ = tool("status", *at(c.node(1)))
        assert code == 0 and "JOURNAL" in out and re.search(r"[kM]B of [0-9.]+ [MG]B", out), out
        alive = c.node(1)
        c.node(2).kill()
        c.node(3).kill()
        wait_for("the problem", lambda: "leader" in next(
            n for n in json.loads(tool("status", *at(alive), "--json")[1])["nodes"] if n["id"] == 1)["problem"])
        code, out, _ = tool("status", *at(alive))
        assert code == 1 and re.search(r"^node 1: .*leader", out, re.M), out


# ---- backups --------------------------------------------------------------------------------------------------

def fill_some(node, n=300, size=20000):
    with_conn = node.conn()
    for i in range(n):
        with_conn.send("SET", f"key:{i}", (b"%d:" % i) + os.urandom(size))
    for _ in range(n):
        assert with_conn.read() == "OK"
    with_conn.close()


def committed(node):
    """Waits until everything applied is in the database file: a backup shows the last commit."""
    def is_durable():
        info = node.info()
        return info["raft_durable_index"] == info["raft_applied_index"]
    wait_for(f"node {node.number} to have committed", is_durable)


def test_backup_is_a_database_and_verify_knows_it():
    with Cluster(3) as c:
        fill_some(c.leader())
        c.same_digest()
        for n in c.nodes:
            committed(n)
        path = os.path.join(c.dir, "a backup.zst")
        code, out, err = tool("backup", *at(c.leader()), "--out", path)
        assert code == 0 and err == "", (code, out, err)
        source = re.search(r" from (127\.0\.0\.1:\d+),", out).group(1)
        assert source in [f"127.0.0.1:{n.port}" for n in c.followers()], "a follower gives it"
        assert not os.path.exists(path + ".part") and stat.S_IMODE(os.stat(path).st_mode) == 0o600
        code, out, err = tool("backup", "verify", path, "--json")
        assert code == 0 and err == "", (code, out, err)
        told, info = json.loads(out), c.leader().info()
        assert (told["index"], told["digest"]) == (int(info["raft_applied_index"]), info["raft_digest"])
        assert told["cluster_id"] == info["raft_cluster_id"] and told["sound"] is True
        assert tool("backup", "verify", path, "--tmp", c.dir)[0] == 0
        assert sorted(os.listdir(c.dir)) == sorted(["a backup.zst", *(x for n in c.nodes for x in (
            os.path.basename(n.dir), os.path.basename(n.log)))]), "verify cleans up"
        if shutil.which("zstd"):
            plain = os.path.join(c.dir, "plain.db")
            with open(plain, "wb") as f:
                subprocess.run(["zstd", "-dc", path], check=True, stdout=f)
            db = sqlite3.connect(plain)
            assert db.execute("SELECT count(*) FROM keys").fetchone() == (300,)
            db.close()
        # Damage anywhere is noticed: the description in front, the database, the sums at the end, a missing end.
        with open(path, "rb") as f:
            whole = f.read()
        bad = os.path.join(c.dir, "bad.zst")
        digest_at = whole.index(told["digest"].encode())
        for what, data in [(at, bytes([*whole[:at], whole[at] ^ 1, *whole[at + 1:]])) for at in (
                1, digest_at, whole.index(b"created_at") + 14, len(whole) // 2, len(whole) - 20)] + [
                    ("short", whole[:-1]), ("half", whole[:len(whole) // 2]), ("empty", b""), ("long", whole + b"x")]:
            with open(bad, "wb") as f:
                f.write(data)
            code, out, err = tool("backup", "verify", bad)
            assert code == 1 and out == "" and bad in err, (what, code, out, err)
        os.remove(bad)
        # An existing file stays, unless told otherwise; nothing is left of an attempt that failed.
        code, out, err = tool("backup", *at(c.leader()), "--out", path)
        assert code == 1 and "--force" in err, (code, out, err)
        assert tool("backup", *at(c.leader()), "--out", path, "--force", "--level", "1", "--quiet")[0] == 0
        missing = os.path.join(c.dir, "no such folder", "b")
        code, out, err = tool("backup", *at(c.leader()), "--out", missing)
        assert code == 1 and missing in err, (code, out, err)
        code, out, err = tool("backup", "--server", f"127.0.0.1:{dead_port()}", "--out", path + "2")
        assert code == 3 and not os.path.exists(path + "2.part"), (code, out, err)
        # One of a file that another process writes.
        with open(path + "3.part", "wb") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            code, out, err = tool("backup", *at(c.leader()), "--out", path + "3")
            assert code == 1 and "another process" in err, (code, out, err)


def test_backup_of_one_node_comes_from_its_leader_and_says_so():
    with Cluster(1) as c:
        fill_some(c.node(1), 10)
        committed(c.node(1))
        path = os.path.join(c.dir, "b.zst")
        code, out, err = tool("backup", *at(c.node(1)), "--out", path)
        assert code == 0 and "the leader" in err, (code, out, err)
        code, out, err = tool("backup", "--node", f"127.0.0.1:{c.node(1).port}", "--out", path, "--force")
        assert code == 0 and err == "", (code, out, err)


class Cutter:
    """Passes bytes on to a node, and breaks every connection after it has brought so many. After the last of `times`
    cuts nobody listens any more."""

    def __init__(self, port, after, times=1000000):
        self.port, self.after, self.times, self.cuts = port, after, times, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                inner, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(inner,), daemon=True).start()

    def carry(self, inner):
        outer = socket.create_connection(("127.0.0.1", self.port))
        left = self.after
        while left > 0:
            for s in select.select([inner, outer], [], [])[0]:
                data = s.recv(min(65536, left))
                if not data:
                    left = -1
                    break
                (outer if s is inner else inner).sendall(data)
                left -= len(data) if s is outer else 0
        self.cuts += left == 0
        if self.cuts == self.times:
            self.stop()
        for s in (inner, outer):
            s.close()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_backup_goes_on_after_a_broken_connection():
    with Cluster(1) as c:
        node = c.node(1)
        fill_some(node, 600)
        committed(node)
        cutter = Cutter(node.port, 3500000)
        path = os.path.join(c.dir, "b.zst")
        code, out, err = tool("backup", "--node", cutter.address, "--out", path)
        assert code == 0 and cutter.cuts >= 3 and "going on at byte" in err, (code, out, err, cutter.cuts)
        assert json.loads(tool("backup", "verify", path, "--json")[1])["digest"] == node.info()["raft_digest"]
        cutter.stop()


def test_backup_of_a_node_that_dies_fails_and_leaves_nothing():
    with Cluster(1) as c:
        node = c.node(1)
        fill_some(node, 600)
        committed(node)
        cutter = Cutter(node.port, 2500000, times=2)
        path = os.path.join(c.dir, "b.zst")
        code, out, err = tool("backup", "--node", cutter.address, "--out", path)
        assert code == 1 and "could not be made again" in err and cutter.cuts == 2, (code, out, err)
        assert not os.path.exists(path) and not os.path.exists(path + ".part")


def test_restore_begins_again_where_it_was_killed():
    with Cluster(1) as c:
        node = c.node(1)
        fill_some(node, 50)
        committed(node)
        path, directory = os.path.join(c.dir, "b.zst"), os.path.join(c.dir, "new")
        assert tool("backup", *at(node), "--out", path)[0] == 0
        digest = node.info()["raft_digest"]
        node.stop()
        # What a restore leaves that was killed while it unpacked.
        os.mkdir(directory)
        with open(os.path.join(directory, "restore.db"), "wb") as f:
            f.write(b"half")
        code, out, err = tool("restore", path, "--dir", directory + "/", "--id", "5", "--peer-address",
                              f"127.0.0.1:{node.peer_port}")
        assert code == 0 and f"--id 5 --dir {directory}" in out and "--join 127.0.0.1:" in out, (code, out, err)
        code, out, err = tool("inspect", "--dir", directory, "--json")
        seen = json.loads(out)
        assert code == 0 and seen["node_id"] == 5 and seen["state"]["keys"] == 50, (code, out, err)
        assert [(m["id"], m["role"], m["address"]) for m in seen["members"]] == [
            (5, "voter", f"127.0.0.1:{node.peer_port}")]
        p = subprocess.Popen([SERVER, "--id", "5", "--dir", directory, "--listen", f"127.0.0.1:{node.port}",
                              "--peer-listen", f"127.0.0.1:{node.peer_port}",
                              "--http-listen", f"127.0.0.1:{node.http_port}"], env=CLEAN,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for("the restored node to serve", lambda: node.call("GET", "key:7").startswith(b"7:"))
            assert node.call("SET", "new", "1") == "OK"
            assert node.call("DBSIZE") == 51 and node.info()["raft_digest"] != digest
        finally:
            p.kill()
            p.wait()
        # Not over anything that is there already.
        code, out, err = tool("restore", path, "--dir", directory)
        assert code == 1 and "not empty" in err, (code, out, err)


# ---- directories at rest --------------------------------------------------------------------------------------

def test_inspect_tells_what_a_directory_holds():
    with Cluster(3) as c:
        c.leader().call("SET", "k", "v")
        c.same_digest()
        node = c.followers()[0]
        code, out, err = tool("inspect", "--dir", node.dir)
        assert code == 1 and "run" in err, "not while the node runs: " + err
        info = node.info()
        node.stop()
        code, out, err = tool("inspect", "--dir", node.dir, "--json")
        seen = json.loads(out)
        assert code == 0 and err == "" and seen["problem"] == "", (code, out, err)
        assert (seen["node_id"], seen["cluster_id"]) == (node.number, info["raft_cluster_id"])
        assert seen["state"]["applied_index"] >= int(info["raft_applied_index"])
        assert seen["last_index"] >= seen["state"]["applied_index"]
        assert [m["id"] for m in seen["members"]] == [1, 2, 3]
        code, out, _ = tool("inspect", "--dir", node.dir)
        assert code == 0 and "this one" in out and "member of a cluster" in out, out
        code, out, err = tool("inspect", "--dir", os.path.join(c.dir, "nowhere"))
        assert code == 1 and "nowhere" in err, (code, out, err)


def test_recover_wants_to_be_sure():
    with Cluster(3) as c:
        c.leader().call("SET", "k", "v")
        c.same_digest()
        survivor = c.node(1)
        for n in c.nodes:
            n.stop()
        cluster_id = json.loads(tool("inspect", "--dir", survivor.dir, "--json")[1])["cluster_id"]
        code, out, err = tool("recover", "--dir", survivor.dir)
        assert code == 1 and "--yes" in err and "WARNING" in err, (code, out, err)
        code, out, err = tool("recover", "--dir", survivor.dir, "--dry-run")
        assert code == 0 and "Nothing was changed" in err, (code, out, err)
        for answer, wanted in (("yes", 1), (cluster_id[:8], 0)):
            t = Terminal(["recover", "--dir", survivor.dir], {})
            t.expect("to go ahead:")
            os.write(t.fd, answer.encode() + b"\n")
            assert t.end() == wanted, t.seen
        survivor.start()
        wait_for("the survivor to serve alone", lambda: survivor.call("GET", "k") == b"v")
        wait_for("the list of one", lambda: [r["id"] for r in member_list(survivor)] == [1])


def test_repair_wipes_and_joins_again():
    with Cluster(3) as c:
        fill_some(c.leader(), 20)
        c.same_digest()
        wait_for("the cluster's level", lambda: int(c.node(1).info("members")["feature_level"]) >= 2)
        node = c.followers()[0]
        code, out, err = tool("repair", "--dir", node.dir, "--from-peers", "--yes")
        assert code == 1 and "run" in err, "not while the node runs: " + err
        node.stop()
        code, out, err = tool("repair", "--dir", node.dir, "--from-peers")
        assert code == 1 and "--yes" in err, (code, out, err)
        assert os.path.exists(os.path.join(node.dir, "CURRENT"))
        code, out, err = tool("repair", "--dir", node.dir, "--from-peers", "--yes")
        assert code == 0 and "start the node" in out, (code, out, err)
        assert not os.path.exists(os.path.join(node.dir, "CURRENT"))
        node.start()
        wait_for("three voters again", lambda: sorted(
            r["role"] for r in member_list(c.leader()) if r["connected"]) == ["voter"] * 3)
        c.same_digest()


# ---- deploy/cluster -------------------------------------------------------------------------------------------

class Deploy:
    def __init__(self, base, directory, env=None):
        self.base, self.dir, self.env = base, directory, {**CLEAN, "HOLDFASTD": SERVER, **(env or {})}

    def __call__(self, *words, base=True):
        args = [os.path.join(TOP, "deploy", "cluster"), "--dir", self.dir]
        args += ["--base-port", str(self.base)] if base else []
        p = subprocess.run([*args, *words], capture_output=True, text=True, timeout=PATIENCE * 3, env=self.env,
                           stdin=subprocess.DEVNULL)
        return p.returncode, p.stdout, p.stderr

    def ok(self, *words, **options):
        code, out, err = self(*words, **options)
        assert code == 0, f"{words}: exit {code}: {out}{err}"
        return out

    def refused(self, text, *words, **options):
        code, out, err = self(*words, **options)
        assert code != 0 and text in err, f"{words}: exit {code}, no '{text}' in: {out}{err}"

    def pid(self, n):
        with open(os.path.join(self.dir, f"node{n}", "pid"), encoding="ascii") as f:
            return int(f.read())

    def process(self, n):
        """The fourth word of the node's line in the table of status: how its process is."""
        return next(line.split()[2] for line in self.ok("status").split("\n") if line.startswith(str(n)))

    def call(self, n, *args):
        c = Conn(self.base + n - 1)
        try:
            return c.call(*args)
        finally:
            c.close()


class deployed:
    def __init__(self, **options):
        self.dir = tempfile.mkdtemp(prefix="holdfast test ")
        self.deploy = Deploy(free_ports(5), os.path.join(self.dir, "c"), **options)

    def __enter__(self):
        return self.deploy

    def __exit__(self, kind, value, trace):
        code, out, err = self.deploy("wipe")
        shutil.rmtree(self.dir, ignore_errors=True)
        assert code == 0 or kind is not None, out + err


def test_cluster_script_does_what_it_says():
    with deployed() as d:
        d.ok("up")
        for n in (1, 2, 3):
            assert d.call(n, "SET", f"k{n}", n) == "OK"
            os.kill(d.pid(n), 0)
            assert "CLUSTER" in d.call(n, "INFO").decode().upper()
        d.ok("up")  # again: nothing to do
        pid = d.pid(2)
        d.ok("kill", "2")
        wait_for("the end of node 2", lambda: d.process(2) == "stopped")
        d.refused("not running", "kill", "2")
        d.ok("start", "2")
        assert d.pid(2) != pid and d.process(2) == "running"
        d.refused("runs already", "start", "2")
        wait_for("node 2 to serve", lambda: d.call(2, "GET", "k1") == b"1")
        d.ok("pause", "3")
        assert d.process(3) == "paused"
        d.ok("resume", "3")
        assert d.process(3) == "running"
        pid = d.pid(1)
        d.ok("restart", "1")
        assert d.pid(1) != pid
        wait_for("node 1 to serve", lambda: d.call(1, "GET", "k3") == b"3")
        assert "ready for clients" in d.ok("logs", "1")
        d.ok("pause", "2")
        d.ok("down")  # a paused node as well
        assert [d.process(n) for n in (1, 2, 3)] == ["stopped"] * 3
        d.ok("up", base=False)  # the ports are remembered
        assert d.call(1, "GET", "k2") == b"2"
        d.ok("wipe")
        assert not os.path.exists(d.dir)
        d.ok("down")
        d.ok("wipe")


def test_cluster_script_adds_a_node():
    with deployed() as d:
        d.ok("up")
        assert d.call(1, "SET", "k", "v") == "OK"
        out = d.ok("add")
        assert "node 4 (name node4) joined" in out, out
        assert d.call(4, "GET", "k") == b"v"
        code, out, _ = tool("member", "list", "--server", f"127.0.0.1:{d.base}", "--json")
        assert code == 0 and [r["role"] for r in json.loads(out)] == ["voter"] * 4, out
        d.ok("down")
        d.ok("up")  # all four
        assert [d.process(n) for n in (1, 2, 3, 4)] == ["running"] * 4
        wait_for("node 4 to serve", lambda: d.call(4, "GET", "k") == b"v")


def test_cluster_script_restarts_one_by_one():
    with tempfile.TemporaryDirectory() as home:
        server = os.path.join(home, "holdfastd")
        shutil.copy(SERVER, server)
        with deployed(env={"HOLDFASTD": server}) as d:
            d.ok("up")
            assert d.call(1, "SET", "k", "v") == "OK"
            pids = [d.pid(n) for n in (1, 2, 3)]
            assert "another build" not in d.ok("up")
            shutil.copy(SERVER, server + ".new")
            os.replace(server + ".new", server)  # as a build does
            assert "another build" in d.ok("up") and d.process(2) == "outdated"
            leader = next(n for n in (1, 2, 3) if b"raft_state:leader" in d.call(n, "INFO", "raft"))
            out = d.ok("rolling-restart")
            restarted = [int(n) for n in re.findall(r"^node (\d) restarted", out, re.M)]
            assert sorted(restarted) == [1, 2, 3] and restarted[-1] == leader, out
            assert not set(pids) & {d.pid(n) for n in (1, 2, 3)}
            assert "another build" not in d.ok("up") and d.call(3, "GET", "k") == b"v"
            # One that is away already: no other is taken away.
            d.ok("kill", "2")
            pids = [d.pid(n) for n in (1, 3)]
            d.refused("node 2 is not running", "rolling-restart")
            assert pids == [d.pid(n) for n in (1, 3)]
            d.ok("start", "2")
            # One that does not come back ends it.
            with open(server + ".new", "w", encoding="ascii") as f:
                f.write("#!/bin/sh\nexit 1\n")
            os.chmod(server + ".new", 0o755)
            os.replace(server + ".new", server)
            wait_for("all nodes to be ready", lambda: b"raft_ready:1" in d.call(2, "INFO", "raft"))
            d.refused("has ended", "rolling-restart")
            assert sorted(d.process(n) for n in (1, 2, 3)) == ["outdated", "outdated", "stopped"]


def test_cluster_script_of_five_and_a_neighbour():
    with deployed() as five, deployed() as three:
        five.ok("up", "5")
        three.ok("up", "3")
        assert five.call(5, "SET", "k", "five") == "OK" and three.call(3, "SET", "k", "three") == "OK"
        assert (five.call(1, "GET", "k"), three.call(1, "GET", "k")) == (b"five", b"three")
        three.ok("down")
        assert five.call(2, "GET", "k") == b"five"
        five.refused("began with 5 nodes", "up", "3")


def test_cluster_script_refuses():
    with deployed() as d:
        d.refused("there is no cluster", "status")
        d.refused("there is no cluster", "kill", "1")
        d.refused("3 or 5", "up", "4")
        d.refused("no command", "fly")
        for base in (0, 55534, 65535, 70000):
            d.base, saved = base, d.base
            d.refused("does not fit", "up")
            d.base = saved
        d.base, saved = "many", d.base
        d.refused("must be a number", "up")
        d.base = saved
        with socket.create_server(("127.0.0.1", d.base + 1)):
            d.refused(f"port {d.base + 1} is in use", "up")
        d.ok("up")
        d.refused("number of a node, 1 to 3", "kill", "4")
        d.refused("number of a node, 1 to 3", "kill")
        d.base += 1
        d.refused("has base port", "status")
        d.base -= 1
    with deployed(env={"HOLDFASTD": "/no/such/holdfastd"}) as d:
        d.refused("there is no program", "up")
    with deployed(env={"HOLDFASTD_FLAGS": "--no-such-flag 1"}) as d:
        d.refused("unknown option", "up")


def test_cluster_script_leaves_processes_of_others_alone():
    """A pid file that outlived its process names a stranger: no command may touch it."""
    with deployed() as d:
        d.ok("up")
        d.ok("kill", "1")
        stranger = subprocess.Popen(["sleep", "1000"])
        try:
            with open(os.path.join(d.dir, "node1", "pid"), "w", encoding="ascii") as f:
                f.write(f"{stranger.pid}\n")
            assert d.process(1) == "stopped"
            d.refused("not running", "kill", "1")
            d.ok("down")
            assert stranger.poll() is None
        finally:
            stranger.send_signal(signal.SIGKILL)
            stranger.wait()


# ---- the server's own face ------------------------------------------------------------------------------------

def test_server_without_arguments_is_a_cluster_of_one():
    for port in (7379, 17379, 8379):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            print(f"     port {port} is in use here; not run")
            return
    with tempfile.TemporaryDirectory() as where:
        p = subprocess.Popen([SERVER], cwd=where, env=CLEAN, stderr=subprocess.DEVNULL)
        try:
            wait_for("an answer", lambda: Conn(7379).call("SET", "k", "v") == "OK")
            assert os.path.isdir(os.path.join(where, "holdfast-data"))
            assert tool("cli", "GET", "k") == (0, "v\n", "")
            code, out, _ = tool("status")
            assert code == 0 and "1 of 1 nodes answer" in out
        finally:
            p.terminate()
            assert p.wait(PATIENCE) == 0


METRIC = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? '
                    r'(-?[0-9.]+(e[+-]?[0-9]+)?|[+-]Inf|NaN)$')


def test_http_pages_of_a_node():
    with Cluster(3) as c:
        leader = c.leader()
        leader.call("SET", "k", "v")
        for n in c.nodes:
            assert n.http("/healthz") == (200, "ok\n")
            wait_for(f"node {n.number} to be ready", lambda: n.http("/readyz") == (200, "ready\n"))
            code, text = n.http("/metrics")
            assert code == 200
            typed = set()
            for line in text.rstrip("\n").split("\n"):
                if line.startswith("# TYPE "):
                    name, kind = line.split(" ")[2:]
                    assert name not in typed, f"{name} is declared twice"
                    assert kind in ("counter", "gauge", "histogram", "summary"), line
                    typed.add(name)
                elif not line.startswith("#"):
                    assert METRIC.match(line), f"not Prometheus text: {line!r}"
                    name = re.split(r"[{ ]", line)[0]
                    assert name.startswith("holdfast_"), line
                    assert name in typed or re.sub(r"_(bucket|sum|count)$", "", name) in typed, f"no TYPE for {line}"
            assert len(typed) > 20, text
            code, text = n.http("/status")
            status = json.loads(text)
            assert code == 200 and status["role"] == ("leader" if n is leader else "follower"), text
            assert status["leader_id"] == leader.number and len(status["peers"]) == 2, text
            assert n.http("/nothing")[0] == 404
        for n in c.nodes:
            if n is not leader:
                n.kill()
        wait_for("a leader without followers to be unready", lambda: leader.http("/readyz")[0] == 503)
        assert leader.http("/healthz") == (200, "ok\n")


def test_settings_come_from_flags_file_and_environment():
    with tempfile.TemporaryDirectory() as where:
        path = os.path.join(where, "holdfast.conf")
        with open(path, "w", encoding="ascii") as f:
            f.write("# three sources\nmaxclients 222\ntimeout 22\n")
        with Cluster(1, extra=["--config", path, "--timeout", "33"]) as c:
            n = c.node(1)
            n.kill()
            n.start(env={"HOLDFAST_MAX_ARGS": "1111", "HOLDFAST_MAXCLIENTS": "111"})
            c.leader()
            assert n.call("CONFIG", "GET", "max-args") == [b"max-args", b"1111"]
            assert n.call("CONFIG", "GET", "maxclients") == [b"maxclients", b"222"]
            assert n.call("CONFIG", "GET", "timeout") == [b"timeout", b"33"]
            assert n.info("server")["config_file"] == path
            # Live settings take effect: one connection more than allowed is turned away.
            first, second = n.conn(), n.conn()
            wait_for("earlier connections to be gone",
                     lambda: b"connected_clients:2\r" in first.call("INFO", "clients"))
            assert first.call("CONFIG", "SET", "maxclients", "2") == "OK" and second.call("PING") == "PONG"
            third = n.conn()
            reply = third.read()
            assert isinstance(reply, ReplyError) and "max number of clients" in str(reply), reply
            for conn in (first, second, third):
                conn.close()


def test_wrong_settings_end_the_start_and_name_the_place():
    def refused(text, *args, env=None):
        p = subprocess.run([SERVER, *args], capture_output=True, text=True, timeout=PATIENCE,
                           env={**CLEAN, **(env or {})}, stdin=subprocess.DEVNULL)
        assert p.returncode == 78 and text in p.stderr, (p.returncode, p.stderr)

    refused("--bogus", "--bogus", "1")
    refused("--id needs a value", "--id")
    refused("--id must be from 1", "--id", "0")
    refused("HOLDFAST_ID", env={"HOLDFAST_ID": "x"})
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
        f.write("id 1\nlisten\n\nbogus 2\n")
        f.flush()
        refused(f"{f.name}:4: unknown setting 'bogus'", "--config", f.name)


if __name__ == "__main__":
    run_tests([v for k, v in sorted(globals().items()) if k.startswith("test_")])
