#!/usr/bin/env python3
"""Checks of the source text itself; each is one test of the suite `lint`.

    tests/lint/lint.py [--build DIR] CHECK ...     run checks (all: every one of them)
    tests/lint/lint.py --build DIR --rewrite       write the generated files anew from the programs in DIR

A check yields findings as "path:line: what". The tables at the top are the rules; an exception carries its reason.
Exit status: 0 nothing found, 1 something found, 77 (skipped) the tool of the check is not installed.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Who may include whom. Calls go down this table; upwards a folder only calls what was registered with it. Every folder
# may include base and itself. Of another folder only <folder>/<folder>.h may be included, and these:
EDGES = {
    "base": "",
    "entry": "",
    "resp": "",
    "uv": "",
    "peer": "",
    "store": "",
    "admin": "",
    "journal": "entry",
    "command": "store resp entry",
    "snapshot": "peer store",
    "consensus": "journal peer entry",
    "apply": "command store entry resp",
    "propose": "consensus command entry apply resp",
    "proxy": "peer resp",
    "dispatch": "command propose proxy consensus apply resp entry",
    "net": "resp command dispatch",
    "operate": "command apply consensus propose dispatch snapshot store resp entry",
    "main": "entry resp uv journal peer store snapshot command apply consensus propose proxy dispatch operate net "
            "admin",
    "tools": "resp command main consensus store uv",
}
PUBLIC = {"resp/reply.h", "uv/uv_env.h", "command/client.h", "command/doc.h", "main/config.h", "main/node.h",
          "consensus/offline.h"}
# Each library is known to these folders only.
LIBRARIES = {
    "raft.h": "consensus",
    "uv.h": "uv",
    "sqlite3.h": "store",
    "xxhash.h": "store snapshot tools",
    "zstd.h": "tools",
    "microhttpd.h": "admin",
    "hiredis/hiredis.h": "tools",
    "editline/readline.h": "tools",
}
# Functions that are not called in src: name -> why.
BANNED = {
    "strcpy strcat sprintf vsprintf gets alloca": "has no bound",
    "strtok localtime gmtime strerror": "keeps a static buffer",
    "atoi atol atoll atof": "hides errors and overflow; see hf_parse_int64",
    "rand srand random srandom drand48": "randomness comes from the entry or from hf_env",
    "setlocale localeconv system popen": "must not happen in a server",
    "malloc calloc realloc": "hf_malloc and its kin",
    "assert": "HF_ASSERT stays on in release",
}
# Functions that only these folders call: the world reaches all other code through hf_env and hf_fs.
CONFINED = {
    "clock_gettime gettimeofday time getrandom uv_now uv_hrtime": "base uv main tools",
    "sleep usleep nanosleep fork exec": "main",
    "printf puts putchar": "main tools",
    "open write pwrite fsync fdatasync rename unlink ftruncate connect accept": "base uv main tools",
    "socket": "base uv main tools admin",
}
ALLOWED_CALLS = {
    ("src/base/mem.c", "malloc"): "this is hf_malloc",
    ("src/base/mem.c", "calloc"): "this is hf_calloc",
    ("src/base/mem.c", "realloc"): "this is hf_realloc",
    ("src/store/db.c", "clock_gettime"): "measures commits for the statistics; no result depends on it",
    ("src/command/server.c", "nanosleep"): "DEBUG SLEEP, which blocks on purpose; off by default",
    ("src/command/info.c", "atoi"): "a port of our own settings, which were checked at the start",
    ("src/main/main.c", "atoi"): "a port of our own settings, which were checked at the start",
}
FILE_LINES_MAX = 1500
LINE_CHARS_MAX = 120
CPPCHECK = "2.10"
CLANG_FORMAT = "14"
# cppcheck findings that are wrong: id:file -> why.
CPPCHECK_WRONG = {
    "nullPointer:*src/peer/peer.c": "it does not see that HF_ASSERT ends the process",
    "uninitvar:*src/consensus/receive.c": "an insertion sort: only places below `at` are read, which were written",
}
GENERATED = {
    "docs/commands.md": ["src/tools/cmddoc"],
    "docs/configuration.md": ["holdfastd", "--print-docs"],
    "deploy/holdfast.conf": ["holdfastd", "--print-config"],
}
# Pages that name functions of all kinds, by which a reader finds his way.
WALKS = {"ARCHITECTURE.md", "consensus.md"}
SKIPPED_FOLDERS = {".git", "node_modules", "__pycache__", "holdfast-cluster", "holdfast-data", "corpus"}

build = None


class Skip(Exception):
    pass


# ---- reading -------------------------------------------------------------------------------------------------


def files(root, folders, suffixes=None):
    """Files below the folders ("." = all), in order, without what was built or installed."""
    for folder in folders:
        for at, dirs, names in os.walk(root / folder):
            dirs[:] = sorted(d for d in dirs if d not in SKIPPED_FOLDERS and not re.fullmatch(r"build(-.*)?", d))
            for name in sorted(names):
                if suffixes is None or name.endswith(suffixes):
                    yield Path(at, name).relative_to(root)


def text_of(root, path):
    try:
        return (root / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # an image, a corpus file


def code_of(text):
    """C without comments and without the insides of literals; line numbers stay."""

    def blank(m):
        s = m.group(0)
        return '""' if s[0] == '"' else "' '" if s[0] == "'" else re.sub(r"[^\n]", " ", s)

    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def line_at(text, offset):
    return text.count("\n", 0, offset) + 1


C_FILES = (".c", ".h")

# ---- checks --------------------------------------------------------------------------------------------------


def check_includes(root):
    """Includes point one way, at public headers, and each library is known to one folder."""
    for path in files(root, ["src"], C_FILES):
        text = text_of(root, path)
        folder = path.parts[1]
        if folder not in EDGES:
            yield f"{path}:1: the folder {folder} has no row in the table of edges"
            continue
        allowed = {folder, "base", *EDGES[folder].split()}
        for m in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, flags=re.M):
            place, name = f"{path}:{line_at(text, m.start())}", m.group(2)
            is_ours = m.group(1) == '"' and (root / "src" / name).exists()
            library = next((n for n in LIBRARIES if name == n or name.startswith(n.removesuffix(".h") + "/")), None)
            library = None if is_ours else library
            if library:
                if folder not in LIBRARIES[library].split():
                    yield f"{place}: {name} is included in src/{LIBRARIES[library]} only"
            elif m.group(1) == '"':
                target = name.split("/")[0]
                if "/" not in name or ".." in name:
                    yield f'{place}: write "folder/file.h" instead of "{name}"'
                elif target not in allowed:
                    yield f"{place}: {folder} may not include {target}"
                elif target not in (folder, "base") and name != f"{target}/{target}.h" and name not in PUBLIC:
                    yield f"{place}: {name} is not a public header of {target}"
                elif not (root / "src" / name).exists():
                    yield f"{place}: there is no src/{name}"


def check_calls(root):
    """No call of a function that is unsafe, or that passes the interfaces to the world by."""
    rules = [(n, why, ()) for names, why in BANNED.items() for n in names.split()]
    for names, where in CONFINED.items():
        rules += [(n, f"is called in {where} only", where.split()) for n in names.split()]
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(n for n, _, _ in rules) + r")[ ]*\(")
    table = {n: (why, where) for n, why, where in rules}
    used = set()
    for path in files(root, ["src"], C_FILES):
        code = code_of(text_of(root, path))
        for m in pattern.finditer(code):
            name = m.group(1)
            why, where = table[name]
            if path.parts[1] in where:
                continue
            if (str(path), name) in ALLOWED_CALLS:
                used.add((str(path), name))
                continue
            yield f"{path}:{line_at(code, m.start())}: {name}: {why}"
    for path, name in ALLOWED_CALLS.keys() - used:
        if (root / path).exists():
            yield f"{path}:1: the exception for {name} is not needed any more"


def check_text(root):
    """Nothing unfinished, no path of somebody's machine, no tabs, long lines or blanks at the end of a line."""
    unfinished = re.compile(r"\b(TODO|FIX" + r"ME|XXX)\b")
    machine = re.compile(r"(?<![\w.~}])/(home|root|work|Users|mnt)/\w")
    this = Path("tests/lint/lint.py")
    for path in files(root, ["."]):
        if path.name in ("package-lock.json", ".gitignore", "LICENSE"):
            continue
        for n, line in enumerate(text_of(root, path).split("\n"), 1):
            if path != this and unfinished.search(line):
                yield f"{path}:{n}: unfinished work belongs in the list of issues"
            if path != this and machine.search(line):
                yield f"{path}:{n}: a path of one machine"
            if path.suffix in (".c", ".h", ".py") and len(line) > LINE_CHARS_MAX:
                yield f"{path}:{n}: {len(line)} characters in a line"
            if path.suffix in (".c", ".h", ".py", ".build") and "\t" in line:
                yield f"{path}:{n}: a tab"
            if path.suffix in (".c", ".h", ".py", ".build", ".md") and line != line.rstrip():
                yield f"{path}:{n}: blanks at the end"


def check_shape(root):
    """A source file opens with its job, stays readable in one sitting, and hides no struct behind a typedef."""
    for path in files(root, ["src", "include", "tests"], C_FILES):
        text = text_of(root, path)
        if not text.startswith("/*"):
            yield f"{path}:1: opens without a comment that says its job"
        if text.count("\n") > FILE_LINES_MAX:
            yield f"{path}:1: {text.count(chr(10))} lines; split it by topic"
        if path.suffix == ".h":
            guard = "HF_" + "_".join(path.parts[1:]).replace(".", "_").upper()
            if path.parts[0] == "src" and f"#ifndef {guard}\n" not in text and "#pragma once" not in text:
                yield f"{path}:1: the include guard should be {guard}"
        code = code_of(text)
        for m in re.finditer(r"\btypedef\s+(struct|union|enum)\b", code):
            yield f"{path}:{line_at(code, m.start())}: a typedef hides a {m.group(1)}"


def check_generated(root):
    """What a program prints is what is committed."""
    if not build:
        raise Skip("needs --build")
    for path, command in GENERATED.items():
        want = generate(command)
        have = text_of(root, path) if (root / path).exists() else ""
        if have != want:
            pairs = enumerate(zip(have.split("\n") + [""], want.split("\n") + [""]), 1)
            n = next((n for n, (a, b) in pairs if a != b), 1)
            yield f"{path}:{n}: differs from what {' '.join(command)} prints; tests/lint/lint.py --build DIR --rewrite"


def generate(command):
    program = [str(build / command[0]), *command[1:]]
    return subprocess.run(program, check=True, capture_output=True, text=True, timeout=60).stdout


def check_docs(root):
    """Links, files and functions that the pages name exist."""
    sources = "\n".join(text_of(root, p) for p in files(root, ["src", "tests"], C_FILES))
    names = set(re.findall(r"\b\w+\b", sources))
    for path in files(root, ["."], (".md",)):
        text = text_of(root, path)
        for m in re.finditer(r"\]\(([^)#\s]+)(#[^)]*)?\)", text):
            if "://" not in m.group(1) and not (root / path.parent / m.group(1)).exists():
                yield f"{path}:{line_at(text, m.start())}: the link {m.group(1)} leads nowhere"
        for m in re.finditer(r"`(\.?/?(?:src|tests|deploy|docs|include)/[\w./-]+)`", text):
            if not (root / m.group(1)).exists():
                yield f"{path}:{line_at(text, m.start())}: there is no {m.group(1)}"
        pattern = r"`(\w+_\w+)(?:\(\))?`" if path.name in WALKS else r"`(hf_\w+)(?:\(\))?`"
        for m in re.finditer(pattern, text):
            if m.group(1) not in names:
                yield f"{path}:{line_at(text, m.start())}: there is no {m.group(1)} in the sources"
    for path in files(root, ["src", "tests"], C_FILES):
        text = text_of(root, path)
        for m in re.finditer(r"\b(docs/(?:[\w-]+/)*(?:\d{4}|[\w-]+\.md))\b", text):
            if not list(root.glob(m.group(1) + ("" if m.group(1).endswith(".md") else "-*.md"))):
                yield f"{path}:{line_at(text, m.start())}: there is no {m.group(1)}"


def check_format(root):
    """clang-format decides the layout."""
    tool = next((t for t in (f"clang-format-{CLANG_FORMAT}", "clang-format") if shutil.which(t)), None)
    if not tool:
        raise Skip("clang-format is not installed")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout.strip()
    if not re.search(rf"version {CLANG_FORMAT}\.", version):
        raise Skip(f"layout differs between versions: wants {CLANG_FORMAT}, found {version}")
    names = [str(p) for p in files(root, ["src", "tests", "include"], C_FILES)]
    run = subprocess.run([tool, "--dry-run", "-Werror", *names], cwd=root, capture_output=True, text=True)
    lines = [line for line in run.stderr.split("\n") if ": error:" in line]
    yield from lines
    if run.returncode and not lines:
        yield f".clang-format:1: {run.stderr.strip()}"


def check_cppcheck(root):
    """A second opinion on the C code."""
    if not shutil.which("cppcheck"):
        raise Skip("cppcheck is not installed")
    version = subprocess.run(["cppcheck", "--version"], capture_output=True, text=True).stdout.strip()
    if not version.endswith(f" {CPPCHECK}"):
        raise Skip(f"its opinions differ between versions: wants {CPPCHECK}, found {version}")
    command = ["cppcheck", "--enable=warning,performance,portability", "--error-exitcode=1", "--quiet", "--std=c11"]
    command += ["-j2", "-I", "src", "-D_GNU_SOURCE", '-DHF_VERSION=""', "--template={file}:{line}: {message} [{id}]"]
    command += [f"--suppress={rule}" for rule in CPPCHECK_WRONG] + ["--suppress=missingIncludeSystem", "src"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if run.returncode:
        yield from sorted({line for line in run.stderr.split("\n") if re.match(r"\S+:\d+: ", line)}) or [run.stderr]


def check_scripts(root):
    """Scripts compile."""
    for path in files(root, ["."]):
        text = text_of(root, path)
        if path.suffix == ".py":
            try:
                compile(text, str(path), "exec")
            except SyntaxError as e:
                yield f"{path}:{e.lineno}: {e.msg}"
        elif path.suffix == ".sh" or re.match(r"#!.*\b(ba)?sh\b", text.split("\n", 1)[0]):
            run = subprocess.run(["bash", "-n", str(root / path)], capture_output=True, text=True)
            if run.returncode:
                yield f"{path}:1: {run.stderr.strip()}"


# ---- the checks, checked -------------------------------------------------------------------------------------

# A file that breaks a rule, and what its check must say of it.
BAD_FILES = [
    ("includes", "src/store/bad.c", '/* Job. */\n#include "command/command.h"\n', "store may not include command"),
    ("includes", "src/apply/bad.c", '#include "store/internal.h"\n', "not a public header of store"),
    ("includes", "src/apply/bad.c", '#include "apply.h"\n', 'write "folder/file.h"'),
    ("includes", "src/apply/bad.c", '#include "apply/gone.h"\n', "there is no src/apply/gone.h"),
    ("includes", "src/journal/bad.c", "  #  include <raft.h>\n", "in src/consensus only"),
    ("includes", "src/net/bad.c", '#include "raft/uv.h"\n', "in src/consensus only"),
    ("includes", "src/apply/bad.c", "#include <sqlite3.h>\n", "in src/store only"),
    ("includes", "src/utils/bad.c", "\n", "no row in the table"),
    ("calls", "src/net/bad.c", "int x = atoi (p);\n", "atoi: hides errors"),
    ("calls", "src/apply/bad.c", "t = time(NULL);\n", "time: is called in"),
    ("calls", "src/store/bad.c", "x = y ? malloc(9) : 0;\n", "malloc: hf_malloc"),
    ("text", "docs/bad.md", "one\nTO" + "DO two\n", "docs/bad.md:2: unfinished"),
    ("text", "deploy/bad", "cd /home/me/holdfast\n", "a path of one machine"),
    ("text", "src/net/bad.c", "int x; \n", "blanks at the end"),
    ("text", "src/net/bad.c", "int" + " " * 130 + "x;\n", "135 characters"),
    ("shape", "src/net/bad.c", "int x;\n", "opens without"),
    ("shape", "src/net/bad.c", "/* Job. */\ntypedef struct x y;\n", "a typedef hides a struct"),
    ("shape", "src/net/bad.h", "/* Job. */\n#ifndef BAD\n", "should be HF_NET_BAD_H"),
    ("shape", "src/net/bad.c", "/* Job. */\n" + "\n" * 1500, "1501 lines"),
    ("docs", "README.md", "[x](docs/gone.md)\n", "leads nowhere"),
    ("docs", "README.md", "`src/net/gone.c`\n", "there is no src/net/gone.c"),
    ("docs", "README.md", "`hf_gone()`\n", "there is no hf_gone"),
    ("docs", "docs/consensus.md", "`carry_gone`\n", "there is no carry_gone"),
    ("docs", "src/net/bad.c", "/* see docs/gone.md */\n", "there is no docs/gone.md"),
    ("docs", "src/net/bad.c", "/* docs/decisions/0099 */\n", "there is no docs/decisions/0099"),
    ("scripts", "deploy/bad.py", "def f(:\n", "bad.py:1"),
    ("scripts", "deploy/bad", "#!/usr/bin/env bash\nif true\n", "deploy/bad:1"),
    ("format", "src/net/bad.c", "int  x;\n", "clang-formatted"),
    ("cppcheck", "src/net/bad.c", "int f(void);\nint f(void) { int a[2]; a[2] = 1; return a[2]; }\n", "out of bounds"),
    ("generated", "docs/commands.md", "old\n", "docs/commands.md:1: differs"),
]
# Files with which the checks must be content.
GOOD_FILES = [
    ("includes", "src/apply/apply.h", '#include "base/mem.h"\n#include "command/command.h"\n#include <stdio.h>\n'),
    ("includes", "src/main/main.c", '#include "main/node.h"\n#include "uv/uv_env.h"\n'),
    ("calls", "src/net/good.c", '/* atoi(x) */ hf_malloc(3); p->time(x); f("atoi(x)"); uptime(3);\n'),
    ("text", "docs/good.md", "/var/lib/holdfast, $HOME/x\n"),
    ("docs", "README.md", "[x](https://example.org/) [y](docs/y.md#z) `src/apply/apply.h`\n"),
]


def check_selftest(_):
    """Each check finds what it is there for."""
    seams = {"base/mem.h", "command/command.h", "main/node.h", "uv/uv_env.h", "store/internal.h", "apply/apply.h"}
    for check, path, text, want in BAD_FILES + [(c, p, t, None) for c, p, t in GOOD_FILES]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "src").mkdir()
            if check in ("includes", "docs"):
                for name in sorted(seams) + ["../docs/y.md"]:
                    (root / "src" / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / "src" / name).write_text("")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
            shutil.copy(Path(__file__).resolve().parents[2] / ".clang-format", root)
            try:
                found = list(CHECKS[check](root))
            except Skip:
                continue
            if want is None and found:
                yield f"{check}: {path} is fine, but: {found[0]}"
            elif want is not None and not any(want in f for f in found):
                yield f"{check}: {path} must be reported with '{want}', but: {found}"


CHECKS = {name[6:]: function for name, function in list(globals().items()) if name.startswith("check_")}


def main():
    global build
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=lambda p: Path(p).resolve(), help="build folder with the programs")
    parser.add_argument("--rewrite", action="store_true", help="write the generated files")
    parser.add_argument("checks", nargs="*", choices=[*CHECKS, "all", []], metavar="CHECK", help=", ".join(CHECKS))
    args = parser.parse_args()
    root = Path(__file__).resolve().parents[2]
    build = args.build
    if args.rewrite:
        for path, command in GENERATED.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(generate(command))
        return 0
    wanted = list(CHECKS) if not args.checks or "all" in args.checks else args.checks
    n_found = n_skipped = 0
    for name in wanted:
        try:
            found = list(CHECKS[name](root))
        except Skip as e:
            n_skipped += 1
            print(f"{name}: skipped: {e}")
            continue
        n_found += len(found)
        for line in found:
            print(line)
        print(f"{name}: {len(found)} findings" if found else f"{name}: nothing to say")
    if n_found:
        return 1
    return 77 if n_skipped == len(wanted) else 0


sys.exit(main())
