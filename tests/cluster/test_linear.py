#!/usr/bin/env python3
"""Linearizability on real processes: clients pipeline mixed commands through every node while nodes are killed, stopped
and cut off from each other; then the history of every key is checked.
Run: HOLDFASTD=build/holdfastd tests/cluster/test_linear.py [--seed N] [--seconds N]

The seed decides what is chosen; when it happens is up to the machine. Checked are:

- every key's history is linearizable, and the commands of one connection on it took effect in their order: a read sees
  the writes of its own connection that were sent before it and none that was sent later;
- what an error calls not done is not in the history, so a value of it that is seen fails the check; UNKNOWN, a broken
  connection and a missing answer leave a command open: it may happen once, at any later time;
- a version belongs to one write, and later writes have higher ones;
- afterwards the nodes are the same.

Every node's address in --peers is a relay of ours before its real one. A relay knows which node dialed (the owner of
the socket in /proc), so each direction between two nodes can be stalled by itself, or its streams broken."""
import argparse
import os
import random
import selectors
import socket
import sys
import threading
import time

from harness import Cluster, Conn, ReplyError, free_ports, run_tests, wait_for

CLIENTS = 12
SHARED_KEYS = 4
KEY_COMMANDS = 90           # then another key takes its place, so that histories stay short
WINDOW = 12                 # commands under way on one connection
STATES_MAX = 150000         # of one key's search; beyond it the key counts as undecided
OPEN = float("inf")


# ---- the check ---------------------------------------------------------------------------------------------

class Op:
    """One command. Answered: `end` and `result`. Open: `end` is OPEN. Not done: dropped from the history."""
    __slots__ = ("conn", "seq", "key", "name", "args", "begin", "end", "result", "error")

    def __init__(self, conn, seq, key, name, args=(), begin=0.0, end=OPEN, result=None):
        self.conn, self.seq, self.key, self.name, self.args = conn, seq, key, name, args
        self.begin, self.end, self.result, self.error = begin, end, result, None

    def words(self):
        return (self.name, self.key, *self.args)

    def is_read(self):
        return self.name in ("GET", "HF.GETV")

    def __str__(self):
        end = "open" if self.end == OPEN else f"{self.end:.6f}"
        return f"{self.begin:.6f}..{end} c{self.conn}#{self.seq} {' '.join(map(str, self.words()))} -> " \
               f"{self.error or self.result}"


def number(reply):
    return None if reply is None else int(reply)


def step(state, op):
    """The state after the command gave its result there, or None when it can't have. A state is the value, its version
    (None: not known) and the highest version known so far."""
    value, version, floor = state
    is_open = op.end == OPEN
    if op.name == "GET":
        return state if number(op.result) == value else None
    if op.name == "HF.GETV":
        seen, seen_version = number(op.result[0]), op.result[1]
        if seen != value:
            return None
        if value is None:
            return state if seen_version == 0 else None
        if version is not None:
            return state if seen_version == version else None
        return (value, seen_version, seen_version) if seen_version > floor else None
    if op.name == "SET":
        return (op.args[0], None, floor) if is_open or op.result == "OK" else None
    if op.name == "INCR":
        after = (value or 0) + 1
        return (after, None, floor) if is_open or op.result == after else None
    how, expected, new = op.args  # HF.CAS
    if how == "VALUE":
        matches = {value is not None and value == expected}
    elif value is None:
        matches = {expected == 0}
    elif version is None:
        matches = {True, False} if expected > floor else {False}
    else:
        matches = {version == expected}
    if is_open:
        return (new, None, floor) if True in matches else None
    if op.result is None:
        return state if False in matches else None
    known = max(floor, expected) if how == "VERSION" else floor
    return (new, op.result, op.result) if True in matches and op.result > known else None


def linearizable(ops):
    """True, False, or None when the search was given up. Wing and Gong's search with the memory of Lowe."""
    ops = sorted((o for o in ops if not (o.end == OPEN and o.is_read())), key=lambda o: o.begin)
    n = len(ops)
    before = [0] * n
    needed = 0
    for i, a in enumerate(ops):
        if a.end != OPEN:
            needed |= 1 << i
        for j, b in enumerate(ops):
            if b.end < a.begin or (b.conn == a.conn and b.seq < a.seq and b.end != OPEN):
                before[i] |= 1 << j
    seen = set()
    stack = [(0, (None, None, 0))]
    while stack:
        done, state = stack.pop()
        if (done, state) in seen:
            continue
        seen.add((done, state))
        if len(seen) > STATES_MAX:
            return None
        rest = needed & ~done
        if rest == 0:
            return True
        first_end = OPEN
        open_next, next_ones, read = [], [], None
        i = ((done + 1) & ~done).bit_length() - 1
        while i < n:
            op = ops[i]
            if op.begin > first_end:
                break
            if not done >> i & 1:
                first_end = min(first_end, op.end)
                if before[i] & ~done == 0:
                    after = step(state, op)
                    if after is not None:
                        if op.is_read() or after == state:
                            # It changes nothing, so now is as good as later.
                            read = (done | 1 << i, after)
                            break
                        (open_next if op.end == OPEN else next_ones).append((done | 1 << i, after))
            i += 1
        if read:
            stack.append(read)
        else:
            stack.extend(open_next)
            stack.extend(reversed(next_ones))
    return False


# ---- clients -----------------------------------------------------------------------------------------------

class Clients:
    def __init__(self, cluster, seed):
        self.cluster, self.seed = cluster, seed
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.histories, self.used = {}, {}
        self.names = [f"k{i}.0" for i in range(SHARED_KEYS)]
        self.conns = self.answered = self.open = self.refused = 0
        self.errors = {}
        self.problem = None
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(CLIENTS)]

    def start(self):
        for t in self.threads:
            t.start()
        return self

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a client hangs"
        if self.problem:
            raise self.problem

    def run(self, who):
        rng = random.Random(f"{self.seed} client {who}")
        unique = [0]
        while not self.stopping.is_set() and self.problem is None:
            node = self.cluster.nodes[who % 3] if rng.random() < 0.7 else rng.choice(self.cluster.nodes)
            try:
                # A stopped node accepts (its kernel does), then is silent.
                conn = Conn(node.port, timeout=rng.choice((0.5, 2.0, 12.0)))
            except OSError:
                time.sleep(0.02)
                continue
            with self.lock:
                self.conns += 1
                number_of = self.conns
            try:
                self.talk(conn, rng, number_of, who, unique, rng.choice((1, 3, WINDOW, WINDOW)))
            except (OSError, ConnectionError, ReplyError):
                pass
            except Exception as e:  # noqa: BLE001 - told to the main thread
                self.problem = e
            conn.close()

    def choose_key(self, rng):
        with self.lock:
            i = rng.randrange(SHARED_KEYS)
            key = self.names[i]
            self.used[key] = self.used.get(key, 0) + 1
            if self.used[key] >= KEY_COMMANDS:
                self.names[i] = f"k{i}.{int(key.split('.')[1]) + 1}"
            return key

    def talk(self, conn, rng, conn_number, who, unique, window):
        under_way, seq = [], 0
        known = {}  # key -> value and version that this connection saw last
        try:
            for _ in range(rng.randrange(20, 400)):
                if self.stopping.is_set() or self.problem:
                    break
                burst = []
                key = self.choose_key(rng)
                for _ in range(rng.randrange(1, window - len(under_way) + 1) if len(under_way) < window else 0):
                    if rng.random() < 0.4:
                        key = self.choose_key(rng)
                    seq += 1
                    burst.append(self.choose(rng, conn_number, seq, key, who, unique, known.get(key)))
                with self.lock:
                    for op in burst:
                        self.histories.setdefault(op.key, []).append(op)
                under_way += burst
                now = time.monotonic()
                for op in burst:
                    op.begin = now
                conn.raw(b"".join(conn.encode(*op.words()) for op in burst))
                for _ in range(rng.randrange(0, len(under_way) + 1) if rng.random() < 0.5 else len(under_way)):
                    self.take(under_way, conn.read(), known)
                if rng.random() < 0.5:
                    time.sleep(rng.random() * 0.03)
            while under_way:
                self.take(under_way, conn.read(), known)
        finally:
            with self.lock:
                self.open += len(under_way)

    @staticmethod
    def choose(rng, conn, seq, key, who, unique, known):
        def new_value():
            unique[0] += 1
            return (unique[0] * CLIENTS + who) * 1000000  # room for what INCR adds
        dice = rng.random()
        if dice < 0.30:
            return Op(conn, seq, key, "GET")
        if dice < 0.45:
            return Op(conn, seq, key, "HF.GETV")
        if dice < 0.75:
            return Op(conn, seq, key, "INCR")
        if dice < 0.87 or known is None:
            return Op(conn, seq, key, "SET", (new_value(),))
        value, version = known
        if version is not None and rng.random() < 0.6:
            return Op(conn, seq, key, "HF.CAS", ("VERSION", version, new_value()))
        return Op(conn, seq, key, "HF.CAS", ("VALUE", value if value is not None else 0, new_value()))

    def take(self, under_way, reply, known):
        op = under_way[0]
        if isinstance(reply, ReplyError):
            text = str(reply)
            op.error = text
            with self.lock:
                word = " ".join(text.split()[:1])
                self.errors[word] = self.errors.get(word, 0) + 1
                if word == "UNKNOWN":
                    self.open += 1
                else:
                    self.refused += 1
                    op.end = -1.0
            under_way.pop(0)
            if word == "UNKNOWN" and op.is_read():
                raise AssertionError(f"a read of unknown outcome: {op}")
            return
        op.result = reply
        op.end = time.monotonic()
        under_way.pop(0)
        self.answered += 1
        if op.name == "GET":
            known[op.key] = (number(reply), None)
        elif op.name == "HF.GETV":
            known[op.key] = (number(reply[0]), reply[1])
        elif op.name == "INCR":
            known[op.key] = (reply, None)

    def check(self):
        """Returns (keys that could not be decided, longest history)."""
        undecided = longest = 0
        for key, ops in sorted(self.histories.items()):
            ops = [o for o in ops if o.end >= 0]
            longest = max(longest, len(ops))
            counts = [o.result for o in ops if o.name == "INCR" and o.end != OPEN]
            assert len(counts) == len(set(counts)), f"{key}: INCR answered the same number twice\n{story(ops)}"
            verdict = linearizable(ops)
            undecided += verdict is None
            assert verdict is not False, \
                f"seed {self.seed}: the history of {key} is not linearizable:\n{story(self.histories[key])}"
        return undecided, longest


def story(ops):
    return "\n".join(str(o) for o in sorted(ops, key=lambda o: (o.begin, o.conn, o.seq)))


# ---- relays between the nodes ------------------------------------------------------------------------------

class Half:
    """Bytes in one direction of a stream, from node to node."""

    def __init__(self, source, sink, way):
        self.source, self.sink, self.way = source, sink, way
        self.waiting = b""


class Relays:
    """One listening socket for each node, one thread for all. `stalled` holds (from, to) pairs."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.base = free_ports(cluster.n)
        self.stalled, self.broken = set(), set()
        self.changed = False
        self.halves = []
        self.selector = selectors.DefaultSelector()
        self.stopping = False
        self.unknown = 0
        for node in cluster.nodes:
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", self.base + node.number - 1))
            s.listen(64)
            s.setblocking(False)
            self.selector.register(s, selectors.EVENT_READ, node.number)
        self.peers = ",".join(f"{i}=127.0.0.1:{self.base + i - 1}" for i in range(1, cluster.n + 1))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def dialer(self, port, listen_port):
        """Which node's process owns the socket from `port`."""
        inode = None
        with open("/proc/net/tcp", encoding="ascii") as f:
            for line in f:
                words = line.split()
                if words[1].endswith(f":{port:04X}") and words[2].endswith(f":{listen_port:04X}"):
                    inode = f"socket:[{words[9]}]"
        for node in self.cluster.nodes:
            if not inode or not node.alive():
                continue
            folder = f"/proc/{node.proc.pid}/fd"
            try:
                for fd in os.listdir(folder):
                    try:
                        if os.readlink(f"{folder}/{fd}") == inode:
                            return node.number
                    except OSError:
                        pass
            except OSError:
                pass
        return None

    def accept(self, listener, to):
        dialed, address = listener.accept()
        source = self.dialer(address[1], self.base + to - 1)
        if source is None:
            self.unknown += 1
        if source is None or (source, to) in self.broken:
            dialed.close()
            return
        real = socket.socket()
        try:
            real.connect(("127.0.0.1", self.cluster.node(to).peer_port))
        except OSError:
            dialed.close()
            real.close()
            return
        for s in (dialed, real):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.halves += [Half(dialed, real, (source, to)), Half(real, dialed, (to, source))]

    def close_stream(self, half):
        for h in [h for h in self.halves if h.source in (half.source, half.sink)]:
            self.halves.remove(h)
            self.forget(h.source)
            h.source.close()

    def forget(self, sock):
        try:
            self.selector.unregister(sock)
        except (KeyError, ValueError):
            pass

    def arm(self):
        """What each socket waits for now."""
        wanted = {}
        for h in self.halves:
            if h.way in self.stalled:
                continue
            if h.waiting:
                wanted[h.sink] = wanted.get(h.sink, 0) | selectors.EVENT_WRITE
            else:
                wanted[h.source] = wanted.get(h.source, 0) | selectors.EVENT_READ
        for h in self.halves:
            events = wanted.get(h.source, 0)
            registered = self.selector.get_map().get(h.source)
            if registered and registered.events == events:
                continue
            if registered:
                self.selector.unregister(h.source)
            if events:
                self.selector.register(h.source, events, None)

    def run(self):
        while not self.stopping:
            for h in [h for h in self.halves if h.way in self.broken]:
                if h in self.halves:
                    self.close_stream(h)
            self.arm()
            for key, _ in self.selector.select(0.02):
                if key.data is not None:
                    self.accept(key.fileobj, key.data)
            for h in list(self.halves):
                if h.way in self.stalled or h not in self.halves:
                    continue
                try:
                    if not h.waiting:
                        h.waiting = h.source.recv(262144)
                        if not h.waiting:
                            self.close_stream(h)
                            continue
                    h.waiting = h.waiting[h.sink.send(h.waiting):]
                except BlockingIOError:
                    pass
                except OSError:
                    self.close_stream(h)

    def heal(self):
        self.stalled, self.broken = set(), set()

    def close(self):
        self.stopping = True
        self.thread.join(10)
        for h in list(self.halves):
            if h in self.halves:
                self.close_stream(h)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


# ---- faults ------------------------------------------------------------------------------------------------

class Faults:
    def __init__(self, cluster, relays, seed):
        self.cluster, self.relays = cluster, relays
        self.rng = random.Random(f"{seed} faults")
        self.fired = {}
        self.kinds = [self.stop_leader, self.stop_leader, self.stop_leaders_in_a_row, self.stop_follower,
                      self.stop_all_but_one, self.kill_leader, self.kill_follower, self.stop_and_kill,
                      self.restart_all, self.isolate_leader, self.isolate_leader, self.isolate_follower,
                      self.deafen_leader, self.silence_leader, self.break_streams, self.isolate_and_stop,
                      self.lose_answers, self.lose_answers]

    def leader(self):
        """The leader's node, as far as anyone who answers knows, or any node."""
        end = time.monotonic() + 3
        while time.monotonic() < end:
            best = None
            for n in self.cluster.up():
                try:
                    conn = Conn(n.port, timeout=1)
                    text = conn.call("INFO", "raft").decode()
                    conn.close()
                except (OSError, ConnectionError, ReplyError):
                    continue
                info = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
                if info["raft_state"] == "leader" and (best is None or int(info["raft_term"]) > best[0]):
                    best = (int(info["raft_term"]), n)
            if best:
                return best[1]
            time.sleep(0.02)
        return self.rng.choice(self.cluster.nodes)

    def others(self, node):
        return [n for n in self.cluster.nodes if n is not node]

    def a_while(self, longest=5.0):
        """Mostly about the length of an election, at times much longer."""
        time.sleep(self.rng.choice((0.1, 0.3, 0.8, 1.2, 1.7, 2.5, longest)) * (0.7 + 0.6 * self.rng.random()))

    def pause(self, node, longest=5.0):
        node.pause()
        self.a_while(longest)
        node.resume()

    def kill_and_start(self, node):
        node.kill()
        self.a_while(1.5)
        node.start()

    def stop_leader(self):
        self.pause(self.leader())

    def stop_leaders_in_a_row(self):
        for _ in range(self.rng.randrange(2, 5)):
            self.pause(self.leader(), 2.0)

    def stop_follower(self):
        self.pause(self.rng.choice(self.others(self.leader())))

    def stop_all_but_one(self):
        stopped = self.others(self.rng.choice(self.cluster.nodes))
        for n in stopped:
            n.pause()
        self.a_while(2.0)
        for n in stopped:
            n.resume()
            time.sleep(self.rng.random() * 0.3)

    def kill_leader(self):
        self.kill_and_start(self.leader())

    def kill_follower(self):
        self.kill_and_start(self.rng.choice(self.others(self.leader())))

    def stop_and_kill(self):
        leader = self.leader()
        other = self.rng.choice(self.others(leader))
        leader.pause()
        time.sleep(self.rng.random() * 1.5)
        if self.rng.random() < 0.5:
            self.kill_and_start(other)
            leader.resume()
        else:
            leader.kill()
            time.sleep(self.rng.random())
            leader.start()

    def restart_all(self):
        for n in self.cluster.nodes:
            n.kill()
        for n in self.cluster.nodes:
            time.sleep(self.rng.random() * 0.2)
            n.start()

    def ways(self, node, to=True, off=True):
        return {way for o in self.others(node) for way in
                ([(o.number, node.number)] if to else []) + ([(node.number, o.number)] if off else [])}

    def stall(self, ways, longest=5.0):
        self.relays.stalled = ways
        self.a_while(longest)
        self.relays.heal()

    def isolate_leader(self):
        self.stall(self.ways(self.leader()))

    def isolate_follower(self):
        self.stall(self.ways(self.rng.choice(self.others(self.leader()))))

    def deafen_leader(self):
        self.stall(self.ways(self.leader(), off=False))

    def silence_leader(self):
        self.stall(self.ways(self.leader(), to=False))

    def lose_answers(self):
        """One follower's commands reach the leader and are carried out; the answers are lost with their stream."""
        leader = self.leader()
        for _ in range(self.rng.randrange(2, 6)):
            other = self.rng.choice(self.others(leader)).number
            self.relays.stalled = {(leader.number, other)}
            time.sleep(self.rng.choice((0.02, 0.1, 0.3)))
            self.relays.broken = {(leader.number, other)}
            time.sleep(0.05)
            self.relays.heal()
            time.sleep(self.rng.random() * 0.5)

    def break_streams(self):
        leader = self.leader()
        for _ in range(self.rng.randrange(1, 6)):
            self.relays.broken = self.ways(self.rng.choice(self.cluster.nodes + [leader]))
            time.sleep(self.rng.choice((0.03, 0.1, 1.0)))
            self.relays.heal()
            time.sleep(self.rng.random() * 0.2)

    def isolate_and_stop(self):
        leader = self.leader()
        self.relays.stalled = self.ways(leader)
        time.sleep(self.rng.random() * 1.5)
        self.pause(self.rng.choice(self.cluster.nodes), 2.0)
        self.relays.heal()

    def run(self, seconds):
        end = time.monotonic() + seconds
        left = []
        while time.monotonic() < end:
            if not left:
                left = list(self.kinds)
                self.rng.shuffle(left)
            kind = left.pop()
            self.fired[kind.__name__] = self.fired.get(kind.__name__, 0) + 1
            kind()
            time.sleep(self.rng.choice((0.05, 0.3, 0.7, 1.5)))


# ---- the tests ---------------------------------------------------------------------------------------------

def test_the_check_notices():
    def op(conn, seq, name, begin, end, result=None, *args):
        return Op(conn, seq, "k", name, args, begin, end, result)
    assert linearizable([op(1, 1, "SET", 0, 1, "OK", 5), op(2, 1, "GET", 2, 3, b"5")])
    assert not linearizable([op(1, 1, "SET", 0, 1, "OK", 5), op(2, 1, "GET", 2, 3, None)])
    # Open: may be seen or not, and also late; but not unseen again.
    late = [op(1, 1, "SET", 0, OPEN, None, 5), op(2, 1, "GET", 1, 2, None), op(2, 2, "GET", 3, 4, b"5")]
    assert linearizable(late)
    assert not linearizable(late + [op(2, 3, "GET", 5, 6, None)])
    # Within a pipeline times overlap; the connection's order counts.
    assert linearizable([op(1, 1, "GET", 0, 9, None), op(1, 2, "INCR", 0, 9, 1), op(1, 3, "GET", 0, 9, b"1")])
    assert not linearizable([op(1, 1, "GET", 0, 9, b"1"), op(1, 2, "INCR", 0, 9, 1)])
    assert not linearizable([op(1, 1, "GET", 0, 9, b"1"), op(1, 2, "INCR", 0, OPEN)])
    assert not linearizable([op(1, 1, "INCR", 0, 9, 1), op(1, 2, "GET", 0, 9, None)])
    # A value that nobody wrote (its write was not done).
    assert not linearizable([op(1, 1, "GET", 0, 1, b"7")])
    # Versions.
    assert linearizable([op(1, 1, "SET", 0, 1, "OK", 5), op(1, 2, "HF.GETV", 2, 3, [b"5", 100]),
                         op(1, 3, "HF.CAS", 4, 5, 200, "VERSION", 100, 6), op(1, 4, "HF.GETV", 6, 7, [b"6", 200])])
    assert not linearizable([op(1, 1, "SET", 0, 1, "OK", 5), op(1, 2, "HF.GETV", 2, 3, [b"5", 100]),
                             op(1, 3, "INCR", 4, 5, 6), op(1, 4, "HF.GETV", 6, 7, [b"6", 100])])
    assert not linearizable([op(1, 1, "SET", 0, 1, "OK", 5), op(1, 2, "HF.GETV", 2, 3, [b"5", 100]),
                             op(1, 3, "HF.CAS", 4, 5, None, "VERSION", 100, 6)])
    assert not linearizable([op(1, 1, "SET", 0, 1, "OK", 5), op(1, 2, "HF.GETV", 2, 3, [b"5", 100]),
                             op(1, 3, "INCR", 4, 5, 6), op(1, 4, "HF.CAS", 6, 7, 300, "VERSION", 100, 7)])


def test_histories_under_faults():
    cluster = Cluster(3)
    relays = Relays(cluster)
    cluster.peers = relays.peers
    try:
        with cluster:
            faults = Faults(cluster, relays, options.seed)
            clients = Clients(cluster, options.seed).start()
            wait_for("the first answers", lambda: clients.answered > 200)
            faults.run(options.seconds)
            relays.heal()
            before = clients.answered
            wait_for("answers after the healing", lambda: clients.answered > before + 200)
            clients.stop()
            try:
                undecided, longest = clients.check()
            finally:
                fired = " ".join(f"{k}={v}" for k, v in sorted(faults.fired.items()))
                print(f"faults: {fired}")
                errors = " ".join(f"{k}={v}" for k, v in sorted(clients.errors.items()))
                print(f"seed {options.seed}: {clients.answered} answered, {clients.open} open, {clients.refused} not "
                      f"done ({errors}), {clients.conns} connections, {len(clients.histories)} keys, "
                      f"{relays.unknown} dialers unknown", flush=True)
            print(f"longest history {longest}, undecided keys {undecided}")
            assert undecided * 50 <= len(clients.histories), "too many histories could not be decided"
            cluster.same_digest()
    finally:
        relays.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="histories of real nodes under faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40)
    options, names = parser.parse_known_args()
    sys.argv[1:] = names
    run_tests([test_the_check_notices, test_histories_under_faults])
