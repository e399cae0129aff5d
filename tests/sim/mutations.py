#!/usr/bin/env python3
"""Breaks the server on purpose, one rule at a time, and counts in how many simulated clusters each break is noticed.

Works on a copy of the last commit in a temporary folder. Writes the table into docs/testing.md (between the markers).

  tests/sim/mutations.py [--seeds N] [--enough K] [--only WORD] [--keep]

A seed counts when the simulator reports a failure, dies or hangs. A row ends after K such seeds, or after N. What no
seed notices is given to the unit tests of consensus and journal.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

UNITS = ["consensus/unit_consensus", "journal/test_journal", "snapshot/unit_snapshot"]

# name, what breaks it: (file, old text, new text), each text exactly once in its file
MUTATIONS = [
    ("apply, and answer, before the commit",
     [("src/consensus/driver.c", "return c->commit_index < c->durable_index ? c->commit_index : c->durable_index;",
       "return c->durable_index;"),
      ("src/consensus/driver.c", "    if (c->commit_index > c->delivered_index)\n        c->env->post(c->env, "
       "&c->delivery_task);\n}\n\nstatic void on_vote_durable",
       "    c->env->post(c->env, &c->delivery_task);\n}\n\nstatic void on_vote_durable")]),
    ("answer OK when the outcome is unknown",
     [("src/dispatch/run.c", "hf_dispatch_finish_error(req, OUTCOME_RAN, unknown_proposed);",
       "hf_reply_ok(&req->reply);\n        hf_dispatch_finish(req, OUTCOME_RAN);")]),
    ("a proposal that is lost from sight counts as not done (R21)",
     [("src/propose/propose.c", "remove_batch(&p->pending, b);\n        finish_batch(p, b, HF_FATE_UNKNOWN);\n    }\n"
       "    arm_unknown(p);", "remove_batch(&p->pending, b);\n        finish_batch(p, b, HF_FATE_REFUSED);\n    }\n"
       "    arm_unknown(p);")]),
    ("a forwarded write whose stream broke is sent again (R3)",
     [("src/proxy/proxy.c", "finish_call(p, s->first, is_sent ? HF_PROXY_LOST : HF_PROXY_REFUSED",
       "finish_call(p, s->first, is_sent && !s->p ? HF_PROXY_LOST : HF_PROXY_REFUSED")]),
    ("reads do not wait for any confirmation",
     [("src/consensus/gate.c", "    uint64_t quorum = quorum_sequence(c);",
       "    uint64_t quorum = c->ping_sequence;")]),
    ("answers to pings sent before the gate count (R5)",
     [("src/consensus/gate.c", "g->sequence = c->ping_sequence;\n            push",
       "g->sequence = c->ping_sequence - 1;\n            push")]),
    ("a confirmation needs no majority",
     [("src/consensus/gate.c", "acked[n / 2]", "acked[0]")]),
    ("a voter confirms whatever its term is",
     [("src/consensus/gate.c", "raft_current_term(&c->raft) <= term ? 1 : 0", "1"),
      ("src/consensus/gate.c", "!(flags & 1) ||", "")]),
    ("a read is not held back until its index is applied",
     [("src/consensus/gate.c", "c->gates_confirmed->read_index <= c->delivered_index && ", "")]),
    ("no entry of the own term (R6)",
     [("src/consensus/driver.c", "        ensure_own_term_entry(c);\n", "        (void)ensure_own_term_entry;\n")]),
    ("reads do not wait for the own term's entry (R6)",
     [("src/consensus/gate.c", "return c->commit_index > c->own_term_index ? c->commit_index : c->own_term_index;",
       "return c->commit_index;")]),
    ("deliver beyond what the own journal has stored (R22)",
     [("src/consensus/driver.c", "return c->commit_index < c->durable_index ? c->commit_index : c->durable_index;",
       "return c->commit_index;")]),
    ("the journal does not sync what it writes",
     [("src/journal/journal.c", "        w->rc = w->fs->sync(w->fs, w->file);\n", "")]),
    ("term and vote are not written",
     [("src/journal/journal.c", "    w->rc = hf_jvote_store(w->fs, w->file, &w->value);",
       "    w->rc = 0;\n    (void)hf_jvote_store;")]),
    ("messages leave before term and vote are stored (R13)",
     [("src/consensus/driver.c", "        c->is_held = true;\n        c->is_stepping = false;\n"
       "        hf_journal_set_vote(c->journal, raft_current_term(&c->raft), raft_voted_for(&c->raft));\n"
       "        return 0;\n    }\n    carry_out(c);",
       "        for (unsigned i = 0; i < c->update.messages.n; i++)\n"
       "            hf_consensus_send(c, &c->update.messages.batch[i]);\n        c->update.messages.n = 0;\n"
       "        c->is_held = true;\n        c->is_stepping = false;\n"
       "        hf_journal_set_vote(c->journal, raft_current_term(&c->raft), raft_voted_for(&c->raft));\n"
       "        return 0;\n    }\n    carry_out(c);")]),
    ("completions of truncated writes are reported (R12)",
     [("src/journal/journal.c", "    if (w->truncations != j->truncations)\n        return false;\n", "")]),
    ("a truncation is not written to disk",
     [("src/journal/journal.c", "    j->cut = HF_JCUT_TRUNCATE;\n    j->cut_from = from_index;\n", "")]),
    ("entries are applied again after a restart",
     [("src/consensus/driver.c", "    if (e->index > c->applied_at_start)\n", ""),
      ("src/apply/apply.c", "    if (err == 0 && e->index <= meta->applied_index)\n        return 0;\n", ""),
      ("src/apply/apply.c", "err == 0 && e->index != meta->applied_index + 1",
       "err == 0 && e->index > meta->applied_index + 1")]),
    ("the state claims to be durable before its commit (I4, R14)",
     [("src/apply/state.c", "    j->err = hf_store_commit(j->st->store);\n",
       "    if (hf_store_meta(j->st->store)->applied_index % 4 != 0)\n        goto told;\n"
       "    j->err = hf_store_commit(j->st->store);\n"),
      ("src/apply/state.c", "    keep_meta(j, hf_store_durable_meta(j->st->store));\n}",
       "told:\n    keep_meta(j, hf_store_meta(j->st->store));\n}")]),
    ("the journal is cut without asking what others need",
     [("src/consensus/compact.c", "    if (needed < from) {\n", "    if (false && needed < from) {\n")]),
    ("reads do not wait for writes of their connection (R2)",
     [("src/dispatch/run.c", "    if (!may_start(lane, KIND_READ, 0, term))\n        return WAIT_LANE;\n", "")]),
    ("writes do not wait for reads of their connection (R2)",
     [("src/dispatch/run.c", "    if (!may_start(lane, KIND_WRITE, 0, term))\n        return WAIT_LANE;\n", "")]),
    ("versions without the position in the entry (R1)",
     [("src/apply/apply.c", "e->index << 16 | position", "e->index << 16")]),
    ("log time by each node's own clock",
     [("src/apply/apply.c", "hf_store_begin(s, e->index, e->term, reader.header.stamp_ms);",
       "hf_store_begin(s, e->index, e->term, reader.header.stamp_ms == INT64_MIN ? INT64_MIN : "
       "reader.header.stamp_ms + (int64_t)((uintptr_t)s >> 5) % 211);")]),
    ("a read takes a due key for dead without waiting for its tick (R4)",
     [("src/dispatch/run.c", "    if (read->needs_tick && is_gated) {",
       "    if (read->needs_tick)\n        hf_reply_null(&read->reply);\n    if (false && is_gated) {")]),
    ("random numbers differ from node to node",
     [("src/apply/apply.c", "cx.revision = e->index << 16 | position;",
       "cx.revision = (e->index << 16 | position) + (((uintptr_t)s >> 5) % 3 == 0 && position > 1);")]),
    ("an install is not marked as pending in CURRENT (R16)",
     [("src/consensus/install.c", "    c->install.marker.install_pending = true;\n",
       "    c->install.marker.install_pending = false;\n")]),
    ("the state is swapped before the journal is reset (R16)",
     [("src/consensus/install.c", "    c->install.phase = HF_INSTALL_JOURNAL;\n    hf_journal_reset(c->journal, "
       "c->install.marker.index + 1); /* hf_consensus_install_journal_done follows */\n",
       "    c->install.phase = HF_INSTALL_JOURNAL;\n    hf_consensus_install_journal_done(c);\n"
       "    c->install.phase = HF_INSTALL_SWAP;\n    hf_journal_reset(c->journal, c->install.marker.index + 1);\n")]),
    ("entries are reported as stored while a copy is installed (R12)",
     [("src/consensus/driver.c", "            hf_consensus_install_journal_done(c);\n        return;\n",
       "            hf_consensus_install_journal_done(c);\n        if (c->install.phase != HF_INSTALL_FILES)\n"
       "            return;\n")]),
    ("the journal is cut behind a copy on its way (R17)",
     [("src/consensus/compact.c", "if (c->pin_index != 0 && c->pin_index < lowest)",
       "if (false && c->pin_index < lowest)")]),
    ("a copy of another index is installed",
     [("src/snapshot/target.c", "|| in->held.info.index != index || in->held.info.term != term)",
       "|| index == 0 || term == 0)")]),
    ("the id of a removed member is given out again (R19)",
     [("src/consensus/operate.c", "bool drops = edit->kind == EDIT_DROP && edit->id != max;",
       "bool drops = edit->kind == EDIT_DROP && max != 0;")]),
    ("a change of the members while another is uncommitted",
     [("src/consensus/operate.c", "if (c->operation.is_active || c->is_transferring || "
       "c->raft.configuration_uncommitted_index != 0)", "if (c->operation.is_active || c->is_transferring)")]),
    ("a change of the members before an entry of the own term is committed",
     [("src/consensus/operate.c", "c->own_term_index == 0 ||\n        c->commit_index < c->own_term_index || "
       "c->delivered_index < c->own_term_index || ", "")]),
    ("a removed node does not stop",
     [("src/consensus/join.c", "    if (c->events.on_removed)\n", "    if (c->events.on_removed && c->is_closing)\n")]),
    ("a node that joins votes before it has the log",
     [("src/consensus/operate.c", "match + 1 < hf_journal_first_index(c->journal) ||\n        "
       "hf_journal_bytes_after(c->journal, match) > HF_PROMOTE_LAG_BYTES", "match > c->commit_index")]),
    ("a learner does not vote",
     [("src/consensus/driver.c", "s->role = is_let ? RAFT_VOTER : RAFT_STANDBY;", "s->role = RAFT_STANDBY;\n"
       "        (void)is_let;")]),
    ("a member that an uncommitted change leaves out is forgotten at a restart",
     [("src/consensus/receive.c", "    if (c->raft.configuration_uncommitted_index != 0)\n        n = add_members",
       "    if (c->raft.configuration_uncommitted_index != 0 && c->is_closing)\n        n = add_members")]),
    ("a wiped voter takes part as what it was (R19)",
     [("src/consensus/receive.c", "    if (is_member_of_something(c) && o->member.store_id != theirs->store_id) {",
       "    if (false && o->member.store_id != theirs->store_id) {")]),
    ("a vote is granted twice in a term",
     [("src/consensus/life.c", "    event.start.voted_for = c->recovered.vote;\n    event.start.start_index",
       "    event.start.voted_for = 0;\n    event.start.start_index")]),
]


def run(cmd, **kw):
    return subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)


def is_caught(sim, seed):
    try:
        return run(["nice", str(sim), "--seed", str(seed)], timeout=60).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def count(sim, seeds, enough):
    caught, ran = 0, 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for at in range(1, seeds + 1, 20):
            part = range(at, min(at + 20, seeds + 1))
            caught += sum(pool.map(lambda s: is_caught(sim, s), part))
            ran += len(part)
            if caught >= enough:
                break
    return caught, ran


def noticing_units(build):
    """The unit tests that fail, of the folders where most rules live."""
    found = []
    for name in UNITS:
        if run(["ninja", "-C", str(build), f"tests/unit/{name}"]).returncode != 0:
            continue
        try:
            bad = run([str(build / f"tests/unit/{name}")], timeout=300,
                      env=dict(os.environ, CK_FORK="no")).returncode != 0
        except subprocess.TimeoutExpired:
            bad = True
        if bad:
            found.append(name.split("/")[1])
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seeds", type=int, default=300)
    ap.add_argument("--enough", type=int, default=5)
    ap.add_argument("--only", default="")
    ap.add_argument("--keep", action="store_true", help="do not write docs/testing.md")
    args = ap.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="mutations-"))
    tree, build = work / "tree", work / "build"
    tree.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    env = dict(os.environ, CC="ccache gcc" if shutil.which("ccache") else "gcc")
    setup = run(["meson", "setup", str(build), str(tree), "--buildtype=release", "-Db_ndebug=false",
                 "-Dwerror=false"], env=env)
    if setup.returncode != 0:
        sys.exit(setup.stdout)
    rows, missed = [], []
    for name, edits in [("nothing (the tree as it is)", [])] + MUTATIONS:
        if args.only and args.only not in name:
            continue
        kept = {}
        for file, old, new in edits:
            path = tree / file
            text = path.read_text()
            kept.setdefault(path, text)
            if text.count(old) != 1:
                sys.exit(f"{name}: {file} does not hold this text exactly once: {old}")
            path.write_text(text.replace(old, new))
        made = run(["ninja", "-C", str(build), "tests/sim/sim"])
        if made.returncode != 0:
            sys.exit(f"{name}: does not build\n{made.stdout[-3000:]}")
        caught, ran = count(build / "tests/sim/sim", args.seeds, args.enough)
        units = noticing_units(build) if caught == 0 and edits else []
        for path, text in kept.items():
            path.write_text(text)
        rows.append(f"| {name} | {caught} of {ran}" + (f"; by {', '.join(units)}" if units else "") + " |")
        print(rows[-1], flush=True)
        if (caught == 0 and not units) == bool(edits):
            missed.append(name)
    shutil.rmtree(work)
    if not args.keep and not args.only:
        page = ROOT / "docs" / "testing.md"
        table = "\n".join(["| What is broken | Noticed in clusters |", "| --- | --- |"] + rows)
        page.write_text(re.sub(r"(<!-- mutations -->\n).*?(<!-- end -->)", lambda m: m[1] + table + "\n" + m[2],
                               page.read_text(), flags=re.S))
    if missed:
        sys.exit("not as expected: " + "; ".join(missed))


if __name__ == "__main__":
    main()
