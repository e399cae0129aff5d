#!/usr/bin/env python3
"""Load on a cluster that knows what must be there afterwards. Many clients, each with keys and counters of its own,
send SET, INCR and GET at a given rate through any nodes; every answer is checked at once and every command is recorded.

  tests/cluster/load.py --nodes 127.0.0.1:7379,127.0.0.1:7380 --rate 4000 --clients 64 --seconds 30

A client has one command under way. It writes rising values to its own keys, so what a key may hold is known exactly:

- answered: the value is there, and a GET or INCR of the same client sees just that;
- refused (an error other than UNKNOWN): the value never appears;
- unknown (UNKNOWN, a broken connection, no answer): it may have happened or may yet happen. The key is left alone from
  then on, so that it holds either this value or the one before, and the client goes on with a new key.

All clients run in one process of their own around one epoll, about 20 us a command, so that neither the servers nor the
caller's own waiting distort what is measured. A command is due at a fixed time, and its latency counts from then: a
stall is seen by all the commands that it delayed. Times are time.monotonic(), which all processes share."""
import argparse
import array
import bisect
import contextlib
import errno
import heapq
import multiprocessing
import os
import random
import select
import socket
import sys
import time

SET, INCR, GET = range(3)
OK, FAILED, UNKNOWN = range(3)
KINDS = ("SET", "INCR", "GET")
ERRORS_KEPT = 1000


def value_of(name, seq, size):
    return (b"%d:%s:" % (seq, name)).ljust(size, b"x")


def encode(*args):
    return b"*%d\r\n%s" % (len(args), b"".join([b"$%d\r\n%s\r\n" % (len(a), a) for a in args]))


class Key:
    """seq: the last answered write, or how often a counter was raised. attempt: the write of unknown outcome."""
    __slots__ = ("number", "name", "kind", "seq", "attempt", "last")

    def __init__(self, number, name, kind):
        self.number, self.name, self.kind, self.seq, self.attempt, self.last = number, name, kind, 0, None, 0


class Client:
    __slots__ = ("number", "node", "sock", "buffer", "due", "sent", "key", "kind", "seq", "keys", "is_connecting",
                 "is_away", "is_queued")

    def __init__(self, number, node):
        self.number, self.node = number, node
        self.sock, self.buffer, self.due, self.sent, self.key, self.kind, self.seq = None, b"", 0.0, 0.0, None, 0, 0
        self.keys, self.is_connecting, self.is_away, self.is_queued = [], False, False, False


class Ledger:
    """What happened: one row for each command, one for each key."""

    def __init__(self, nodes, value_bytes):
        self.nodes, self.value_bytes = list(nodes), value_bytes
        self.due, self.end = array.array("d"), array.array("d")
        self.key, self.seq = array.array("L"), array.array("L")
        self.kind, self.outcome, self.node = array.array("B"), array.array("B"), array.array("B")
        self.keys = []                  # by number: (name, kind, seq, attempt)
        self.errors, self.lies = [], []  # (time, node, text)
        self.reconnects = 0

    # ---- looking ----

    def rows(self, begin=None, end=None, nodes=None, kinds=None):
        """Numbers of the commands that were due in this time, through these nodes ((host, port) or ports)."""
        wanted = None if nodes is None else {i for i, n in enumerate(self.nodes) if n in nodes or n[1] in nodes}
        for i, due in enumerate(self.due):
            if (begin is None or due >= begin) and (end is None or due < end) and \
                    (wanted is None or self.node[i] in wanted) and (kinds is None or self.kind[i] in kinds):
                yield i

    def failures(self, **where):
        return [i for i in self.rows(**where) if self.outcome[i] != OK]

    def describe(self, rows):
        return ", ".join(f"{KINDS[self.kind[i]]} through port {self.nodes[self.node[i]][1]} after "
                         f"{(self.end[i] - self.due[i]) * 1e3:.0f} ms" for i in rows[:5])

    def latency(self, **where):
        """Milliseconds of what was answered, and how many commands were not."""
        taken, failed = [], 0
        for i in self.rows(**where):
            if self.outcome[i] == OK:
                taken.append((self.end[i] - self.due[i]) * 1e3)
            else:
                failed += 1
        taken.sort()

        def at(q):
            return taken[min(len(taken) - 1, int(len(taken) * q))] if taken else float("nan")
        return {"n": len(taken), "failed": failed, "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999),
                "max": at(1)}

    def intervals(self, step=1.0, **where):
        """(begin, latency) of each stretch of time."""
        if not self.due:
            return []
        begin, end = min(self.due), max(self.due)
        n = int((end - begin) / step) + 1
        return [(begin + i * step, self.latency(**{**where, "begin": begin + i * step, "end": begin + (i + 1) * step}))
                for i in range(n)]

    def longest_gap(self, begin=None, end=None, kinds=(SET, INCR)):
        """The longest time without an answered write."""
        ends = sorted(self.end[i] for i in self.rows(begin, end, kinds=kinds) if self.outcome[i] == OK)
        return max((b - a for a, b in zip(ends, ends[1:])), default=float("inf"))

    # ---- verifying ----

    def allowed(self, number):
        """The values that this key may hold now; None = missing."""
        name, kind, seq, attempt = self.keys[number]
        seqs = [seq] if attempt is None else [seq, attempt]
        if kind == INCR:
            return [None if s == 0 else b"%d" % s for s in seqs]
        return [None if s == 0 else value_of(name, s, self.value_bytes) for s in seqs]

    def verify(self, *nodes):
        """Each answered write is there when asked for through each of these nodes (harness nodes), nothing that was
        refused is, and no answer along the way was wrong. The load must have ended."""
        assert not self.lies, f"{len(self.lies)} wrong answers, the first: {self.lies[0]}"
        assert any(o == OK for o in self.outcome), "nothing was answered"
        for node in nodes:
            for number, stored in self.stored(node):
                assert stored in self.allowed(number), \
                    f"{self.keys[number][0]} on port {node.port}: {clip(stored)} is stored, it must be one of " \
                    f"{[clip(v) for v in self.allowed(number)]}"

    def verify_past(self, node, moment):
        """This node holds some past state, in which at least all that was answered before `moment` had happened, and
        nothing that was refused or never asked for."""
        before, refused, last = {}, set(), {}
        for i in self.rows(kinds=(SET, INCR)):
            number, seq = self.key[i], self.seq[i]
            if self.outcome[i] == FAILED:
                refused.add((number, seq))
                continue
            last[number] = max(last.get(number, 0), seq)
            if self.outcome[i] == OK and self.end[i] <= moment:
                before[number] = max(before.get(number, 0), seq)
        assert before, "nothing was answered before that moment"
        for number, stored in self.stored(node):
            name, kind = self.keys[number][:2]
            seq = 0 if stored is None else int(stored.split(b":", 1)[0])
            assert before.get(number, 0) <= seq <= last.get(number, 0), \
                f"{name}: {clip(stored)} is stored, {before.get(number, 0)} was answered before, " \
                f"{last.get(number, 0)} was asked for last"
            if kind == SET:
                assert (number, seq) not in refused, f"{name}: {clip(stored)} was refused and is stored"
                assert stored is None or stored == value_of(name, seq, self.value_bytes), f"{name}: {clip(stored)}"

    def stored(self, node, batch=200):
        conn = node.conn()
        try:
            for at in range(0, len(self.keys), batch):
                part = self.keys[at:at + batch]
                for i, value in enumerate(conn.call("MGET", *[k[0] for k in part])):
                    yield at + i, value
        finally:
            conn.close()

    def summary(self):
        counts = [sum(1 for o in self.outcome if o == which) for which in (OK, FAILED, UNKNOWN)]
        return f"{counts[0]} answered, {counts[1]} refused, {counts[2]} unknown, {self.reconnects} reconnects"


def clip(value):
    return value if value is None or len(value) < 60 else value[:60] + b"..."


class Engine:
    """Runs in the process of its own."""

    def __init__(self, load, control, live):
        self.load, self.control, self.live = load, control, live
        self.rng = random.Random(load.seed)
        self.ledger = Ledger(load.nodes, load.value_bytes)
        self.epoll = select.epoll()
        self.by_fd = {}
        self.ready = []  # heap of (due, client number)
        self.period = load.clients / load.rate if load.rate else 0.0
        self.clients = [Client(i, i % len(load.nodes)) for i in range(load.clients)]
        self.usable = list(range(len(load.nodes)))
        self.stopping = self.holding = False
        now = time.monotonic()
        for c in self.clients:
            c.due = now + self.period * c.number / load.clients
            for i in range(load.keys):
                c.keys.append(self.new_key(c, INCR if i < load.counters else SET))
            self.queue(c, now)

    def new_key(self, c, kind):
        n = len(self.ledger.keys)
        key = Key(n, b"%s:%d:%d" % (self.load.tag, c.number, n), kind)
        self.ledger.keys.append(key)
        return key

    def run(self):
        self.epoll.register(self.control.fileno(), select.EPOLLIN)
        swept = time.monotonic()
        ends = None
        while True:
            now = time.monotonic()
            while self.ready and self.ready[0][0] <= now + 0.0005:
                c = self.clients[heapq.heappop(self.ready)[1]]
                c.is_queued = False
                if c.sock is None:
                    self.connect(c, now)
                elif self.holding:
                    c.due = now + 0.01
                    self.queue(c, c.due)
                elif not self.stopping:
                    self.send(c, now)
            if now - swept > 0.1:
                swept = now
                for c in self.clients:
                    if c.key is not None and now - c.sent > self.load.timeout:
                        self.lost(c, now, "no answer")
                    elif c.is_connecting and now - c.sent > 1:
                        self.lost(c, now, "no connection")
            if self.stopping:
                # What is under way is still waited for, as a client would.
                ends = ends or now + self.load.timeout
                if now > ends or not any(c.key for c in self.clients):
                    break
            wait = min(self.ready[0][0] - now if self.ready else 0.1, 0.1)
            for fd, event in self.epoll.poll(max(wait, 0)):
                if fd == self.control.fileno():
                    self.command()
                    continue
                c = self.by_fd.get(fd)
                if c is not None:
                    self.on_event(c, event)
        now = time.monotonic()
        for c in self.clients:
            if c.key is not None:
                self.lost(c, now, "no answer")
        ledger = self.ledger
        ledger.keys = [(k.name, k.kind, k.seq, k.attempt) for k in ledger.keys]
        self.control.send(ledger)

    def command(self):
        what, *args = self.control.recv()
        if what == "stop":
            self.stopping = True
        elif what == "hold":
            self.holding = args[0]
        elif what == "rate":
            self.period = len(self.clients) / args[0] if args[0] else 0.0
            now = time.monotonic()
            for c in self.clients:
                c.due = now + self.period * self.rng.random()
        elif what == "nodes":
            for node in args[0]:
                if node not in self.ledger.nodes:
                    self.ledger.nodes.append(node)
            self.usable = [self.ledger.nodes.index(n) for n in args[0]]
            for c in self.clients:
                c.is_away = c.node not in self.usable
            # Spread what is idle over the new nodes; clients under way move when they are answered.
            for i, c in enumerate(self.clients):
                c.is_away = c.node != self.usable[i % len(self.usable)]

    def queue(self, c, when):
        assert not c.is_queued and c.key is None
        c.is_queued = True
        heapq.heappush(self.ready, (when, c.number))

    def connect(self, c, now):
        if self.stopping:
            return
        if c.is_away or c.node not in self.usable:
            c.node, c.is_away = self.usable[c.number % len(self.usable)], False
        c.sock = socket.socket()
        c.sock.setblocking(False)
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.buffer, c.is_connecting, c.sent = b"", True, now
        rc = c.sock.connect_ex(self.ledger.nodes[c.node])
        if rc not in (0, errno.EINPROGRESS):
            self.lost(c, now, "no connection")
            return
        self.by_fd[c.sock.fileno()] = c
        self.epoll.register(c.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def send(self, c, now):
        if c.is_away:
            self.leave(c)
            self.connect(c, now)
            return
        load, key = self.load, self.rng.choice(c.keys)
        if self.rng.random() < load.reads:
            c.kind, c.seq, words = GET, key.seq, (b"GET", key.name)
        elif key.kind == INCR:
            c.kind, c.seq, words = INCR, key.seq + 1, (b"INCR", key.name)
        else:
            # Numbers of refused values are not used again.
            key.last += 1
            c.kind, c.seq = SET, key.last
            words = (b"SET", key.name, value_of(key.name, c.seq, load.value_bytes))
        c.key, c.sent = key, now
        try:
            data = encode(*words)
            n = c.sock.send(data)
            if n != len(data):  # a full socket buffer: rare, and short
                c.sock.setblocking(True)
                c.sock.sendall(data[n:])
                c.sock.setblocking(False)
        except OSError as e:
            self.lost(c, now, str(e))

    def leave(self, c):
        if c.sock is not None:
            self.by_fd.pop(c.sock.fileno(), None)
            c.sock.close()  # leaves the epoll set by itself
            c.sock = None
        c.is_connecting = False

    def lost(self, c, now, why):
        """The connection is gone; what was under way may have happened."""
        if c.key is not None:
            self.done(c, now, UNKNOWN, why)
        self.leave(c)
        if self.load.failover and self.usable:
            at = self.usable.index(c.node) + 1 if c.node in self.usable else 0
            c.node = self.usable[at % len(self.usable)]
        self.ledger.reconnects += 1
        if not c.is_queued:  # an idle client is, and connects when its time comes
            self.queue(c, now + 0.02)

    def on_event(self, c, event):
        now = time.monotonic()
        if c.is_connecting:
            rc = c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if rc != 0 or event & (select.EPOLLHUP | select.EPOLLERR):
                self.lost(c, now, os.strerror(rc))
                return
            c.is_connecting = False
            self.epoll.modify(c.sock.fileno(), select.EPOLLIN)
            c.due = max(c.due, now)
            self.queue(c, c.due)
            return
        try:
            data, why = c.sock.recv(65536), "closed"
        except BlockingIOError:
            return
        except OSError as e:
            data, why = b"", str(e)
        if not data:
            self.lost(c, now, why)
            return
        c.buffer += data
        if c.key is not None:
            self.answer(c, now)

    def answer(self, c, now):
        line, found, rest = c.buffer.partition(b"\r\n")
        if not found:
            return
        kind = line[:1]
        value = line[1:]
        if kind == b"$":
            n = int(value)
            if n >= 0 and len(rest) < n + 2:
                return
            value = rest[:n] if n >= 0 else None
        c.buffer = b""
        key = c.key
        if kind == b"-":
            text = value.decode("utf-8", "replace")
            self.done(c, now, UNKNOWN if text.startswith("UNKNOWN") else FAILED, text)
        else:
            if c.kind == SET:
                good = kind == b"+" and value == b"OK"
            elif c.kind == INCR:
                good = kind == b":" and int(value) == c.seq
            elif key.seq == 0:
                good = kind == b"$" and value is None
            else:
                good = kind == b"$" and value == (b"%d" % key.seq if key.kind == INCR else
                                                  value_of(key.name, key.seq, self.load.value_bytes))
            if not good:
                self.ledger.lies.append((now, self.ledger.nodes[c.node],
                                         f"{KINDS[c.kind]} {key.name.decode()} (number {c.seq}) was answered "
                                         f"{line[:60]!r} {clip(value)!r}"))
            self.done(c, now, OK, None)
        if self.period:
            c.due += self.period
        else:
            c.due = now
        self.queue(c, c.due)

    def done(self, c, now, outcome, text):
        ledger, key = self.ledger, c.key
        c.key = None
        # A little early counts as in time.
        ledger.due.append(max(min(c.due, c.sent), 0.0))
        ledger.end.append(now)
        ledger.key.append(key.number)
        ledger.seq.append(c.seq)
        ledger.kind.append(c.kind)
        ledger.outcome.append(outcome)
        ledger.node.append(c.node)
        self.live[outcome] += 1
        if outcome == OK:
            if c.kind != GET:
                key.seq = c.seq
                self.live[3] += 1
            return
        if len(ledger.errors) < ERRORS_KEPT:
            ledger.errors.append((now, ledger.nodes[c.node], text))
        if outcome == UNKNOWN and c.kind != GET:
            key.attempt = c.seq
            c.keys[c.keys.index(key)] = self.new_key(c, key.kind)


class Load:
    """nodes: harness nodes or (host, port). rate: commands a second, 0 = as fast as they are answered. reads: the part
    of them that reads. keys, counters: of each client, how many in all and how many of these are counters. failover: a
    client whose connection broke goes to the next node, else to the same again."""

    def __init__(self, nodes, rate=500, clients=16, reads=0.2, keys=20, counters=4, value_bytes=64, failover=True,
                 timeout=20.0, seed=None):
        self.nodes = [self.place(n) for n in nodes]
        self.rate, self.clients, self.reads, self.keys, self.counters = rate, clients, reads, keys, counters
        self.value_bytes, self.failover, self.timeout = value_bytes, failover, timeout
        self.seed = random.getrandbits(32) if seed is None else seed
        self.tag = b"l%08x" % random.getrandbits(32)
        fork = multiprocessing.get_context("fork")
        self.live = fork.RawArray("Q", 4)
        self.control, theirs = fork.Pipe()
        self.process = fork.Process(target=self.work, args=(theirs,), daemon=True)
        self.ledger = None

    @staticmethod
    def place(node):
        return ("127.0.0.1", node.port) if hasattr(node, "port") else tuple(node)

    def work(self, control):
        try:
            Engine(self, control, self.live).run()
        except KeyboardInterrupt:
            pass

    def start(self):
        self.process.start()
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if self.ledger is None:
            self.process.kill()
            self.process.join()

    @property
    def answered(self):
        return self.live[OK]

    @property
    def writes(self):
        return self.live[3]

    @property
    def failed(self):
        return self.live[FAILED] + self.live[UNKNOWN]

    def set_nodes(self, nodes):
        """From now on only through these; every client moves when its command is answered."""
        self.control.send(("nodes", [self.place(n) for n in nodes]))

    def set_rate(self, rate):
        self.control.send(("rate", rate))

    @contextlib.contextmanager
    def held(self):
        """Nothing new is sent meanwhile."""
        self.control.send(("hold", True))
        yield
        self.control.send(("hold", False))

    def wait(self, n, patience=60.0):
        """Until n more writes were answered."""
        end, target = time.monotonic() + patience, self.writes + n
        while self.writes < target:
            assert time.monotonic() < end, f"waited {patience:.0f} s for {n} writes, {self.writes - target + n} came"
            assert self.process.is_alive(), "the load died"
            time.sleep(0.01)

    def stop(self):
        """The ledger."""
        if self.ledger is None:
            self.control.send(("stop",))
            assert self.control.poll(self.timeout + 30), "the load does not end"
            self.ledger = self.control.recv()
            self.process.join()
        return self.ledger


class Moments:
    """What was certainly committed when: (moment, index) such that all that was answered before the moment is in the
    log at or below the index. sample() asks the nodes; before(index) is the last moment with all of that."""

    def __init__(self):
        self.moments, self.indexes = [], []

    def sample(self, leader):
        """Of a node that led all the time of asking (only then its commit index tells of all that was answered)."""
        moment = time.monotonic()
        before = leader.info()
        leader.call("GET", "no-such-key")  # through the read gate: has applied all that was answered before
        after = leader.info()
        if before["raft_state"] == after["raft_state"] == "leader" and before["raft_term"] == after["raft_term"]:
            self.moments.append(moment)
            self.indexes.append(int(after["raft_commit_index"]))

    def before(self, index):
        at = bisect.bisect_right(self.indexes, index)
        return self.moments[at - 1] if at else None


def main():
    p = argparse.ArgumentParser(description="Load with a ledger; ends with what was found.")
    p.add_argument("--nodes", required=True, help="host:port,...")
    p.add_argument("--rate", type=float, default=1000, help="commands a second; 0 = as many as are answered")
    p.add_argument("--clients", type=int, default=32)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--interval", type=float, default=1, help="seconds of a line")
    p.add_argument("--reads", type=float, default=0.2, help="part of the commands that are GET")
    p.add_argument("--keys", type=int, default=20, help="keys of each client")
    p.add_argument("--value-bytes", type=int, default=64)
    p.add_argument("--stay", action="store_true", help="clients connect to the same node again")
    o = p.parse_args()
    nodes = [(h, int(port)) for h, port in (n.rsplit(":", 1) for n in o.nodes.split(","))]
    load = Load(nodes, rate=o.rate, clients=o.clients, reads=o.reads, keys=o.keys, counters=min(4, o.keys),
                value_bytes=o.value_bytes, failover=not o.stay).start()
    end = time.monotonic() + o.seconds
    try:
        while time.monotonic() < end and load.process.is_alive():
            time.sleep(0.05)
    except KeyboardInterrupt:
        pass
    ledger = load.stop()
    for begin, figures in ledger.intervals(o.interval):
        print(f"{begin - ledger.due[0]:6.1f} s  {figures['n'] / o.interval:8.0f}/s  failed {figures['failed']:4d}  "
              f"p50 {figures['p50']:7.2f}  p99 {figures['p99']:7.2f}  max {figures['max']:7.2f} ms")
    whole = ledger.latency()
    print(f"{ledger.summary()}; p50 {whole['p50']:.2f}  p99 {whole['p99']:.2f}  p99.9 {whole['p999']:.2f}  "
          f"max {whole['max']:.2f} ms")
    for moment, node, text in ledger.errors[:5]:
        print(f"  {moment - ledger.due[0]:6.1f} s  {node[0]}:{node[1]}  {text}")
    from harness import Remote
    try:
        ledger.verify(*[Remote(port, host) for host, port in nodes])
    except AssertionError as e:
        print(f"WRONG: {e}")
        sys.exit(1)
    print("every answered write is there")


if __name__ == "__main__":
    main()
