"""The command line: what a run does, and what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from command_line import MODULE, PYTHON, Cli, ended, feed, output
from helpers import HANG

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the commands of these tests are those of POSIX")

# With a terminal to control it.
ON_TERMINAL = """
import os, runpy, sys
os.setsid()
os.close(os.open(sys.argv.pop(1), os.O_RDWR))
os.close(os.open("/dev/tty", os.O_RDWR))
runpy.run_module("inflight", run_name="__main__", alter_sys=True)
"""


# What a run does.


def test_merges_duplicates_and_runs_once_for_each_key(cli: Cli) -> None:
    # The window outlasts the input, whose end closes it.
    summary = cli.summary("--window", "60", "--", "true", lines="a\nb\na\nc\na\n")
    assert summary["lines"] == 5
    assert summary["merged"] == 2
    assert summary["runs"] == 3
    assert summary["failures"] == summary["skipped"] == summary["cancelled"] == 0


def test_never_runs_one_key_twice_at_once(cli: Cli) -> None:
    # Rows of one line: every line is a run of its own, and eight workers want them.
    script = "mkdir lock-{} && sleep 0.02 && rmdir lock-{}"
    summary = cli.summary("-j", "8", "--width", "1", "--", "sh", "-c", script, lines="a\nb\n" * 10)
    assert (summary["runs"], summary["merged"], summary["failures"]) == (20, 0, 0)


def test_keys_run_in_parallel(cli: Cli) -> None:
    # Each run waits for the other.
    os.mkfifo(cli.directory / "fifo")
    script = "if [ {} = a ]; then echo met > fifo; else cat fifo; fi"
    assert cli("-j", "2", "--", "sh", "-c", script, lines="a\nb\n").stdout == b"met\n"


def test_the_lines_of_a_row_arrive_on_stdin_in_order(cli: Cli) -> None:
    done = cli("--window", "60", "-j", "1", "--field", "1", "--", "sh", "-c", "echo {}:; cat", lines="a 1\nb 2\na 3")
    assert done.stdout == b"a:\na 1\na 3\nb:\nb 2\n"


def test_a_command_need_not_read_its_lines(cli: Cli) -> None:
    assert cli.summary("--window", "60", "--field", "1", "--", "true", lines="a 1234567890\n" * 900)["runs"] == 1


def test_key_replaces_braces_in_every_argument(cli: Cli) -> None:
    assert cli("--", "echo", "<{}>", "{}{}", "x", lines="a b\n").stdout == b"<a b> a ba b x\n"


def test_key_is_appended_where_there_are_no_braces(cli: Cli) -> None:
    assert cli("--", "echo", "x", lines="a b\n").stdout == b"x a b\n"


def test_everything_after_the_dashes_is_the_command(cli: Cli) -> None:
    assert cli("--", "echo", "--json", "--", "-j", lines="a\n").stdout == b"--json -- -j a\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"1,x  one", "2,y two", " 1,z  three"}),
        (["--field", "1"], {"1,x", "2,y", "1,z"}),
        (["--field", "2"], {"one", "two", "three"}),
        (["--field", "1", "--delimiter", ","], {"1", "2", " 1"}),
        (["--regex", "([0-9]),"], {"1", "2"}),
    ],
)
def test_choice_of_the_key(cli: Cli, options: list[str], expected: set[str]) -> None:
    done = cli(*options, "--window", "60", "--", "printf", "%s\\n", lines="1,x  one\n2,y two\n 1,z  three\n")
    assert set(done.stdout.decode().splitlines()) == expected


def test_lines_without_a_key_are_skipped_and_counted(cli: Cli) -> None:
    lines = "a 1\n\nb\nc 2\n \n"
    summary = cli.summary("--field", "2", "--", "true", lines=lines)
    assert (summary["lines"], summary["skipped"], summary["runs"]) == (5, 3, 2)
    done = cli("--field", "2", "--", "true", lines=lines)
    assert done.returncode == 0
    message, total = done.stderr.decode().splitlines()
    assert message.startswith("inflight: line 2 has no key")
    assert "3 skipped" in total


def test_reads_a_file(cli: Cli) -> None:
    (cli.directory / "input").write_text("a\nb")
    assert sorted(cli("--input", "input", "--", "echo").stdout.split()) == [b"a", b"b"]


def test_bytes_that_are_no_text_pass_unchanged(cli: Cli) -> None:
    key = b"caf\xe9 \xff\xc3\xa9"
    done = cli("--", "sh", "-c", 'printf %s "$1"; cat', "sh", lines=key + b"\n")
    assert done.stdout == key + key + b"\n"
    assert done.returncode == 0


def test_no_input(cli: Cli) -> None:
    summary = cli.summary("--", "true")
    assert (summary["lines"], summary["runs"]) == (0, 0)


# What it prints.


def test_output_of_a_run_is_not_mixed_with_another(cli: Cli) -> None:
    script = "for i in 1 2 3; do echo {} out; echo {} err >&2; sleep 0.01; done"
    lines = [f"key{number}" for number in range(12)]
    done = cli("-j", "6", "--", "sh", "-c", script, lines="\n".join(lines))
    for stream, name in ((done.stdout, "out"), (done.stderr, "err")):
        printed = stream.decode().splitlines()[: 3 * len(lines)]
        assert printed[0::3] == printed[1::3] == printed[2::3]
        assert sorted(printed[0::3]) == sorted(f"{line} {name}" for line in lines)


def test_summary(cli: Cli, impl: Any) -> None:
    done = cli("--window", "60", "--", "true", lines="a\nb\na\n")
    pattern = r"inflight: 3 lines read, 1 merged, 2 runs, 0 failures, [\d.]+ operations per second, (\w+)\n"
    match = re.fullmatch(pattern, done.stderr.decode())
    assert match
    assert match[1] == impl.name


def test_summary_as_json(cli: Cli, impl: Any) -> None:
    done = cli("--json", "--window", "60", "--", "sh", "-c", "test {} = a", lines="a\nb\na\n")
    summary = json.loads(done.stderr)
    assert done.returncode == 123
    assert summary.pop("seconds") > 0
    assert summary.pop("operations_per_second") > 0
    assert summary.pop("first_failure").startswith("'b': ")
    assert summary == {
        "lines": 3,
        "skipped": 0,
        "merged": 1,
        "runs": 2,
        "failures": 1,
        "cancelled": 0,
        "implementation": impl.name,
    }


def test_progress_bar_on_a_terminal(cli: Cli) -> None:
    pytest.importorskip("rich")
    shown = _on_a_terminal(cli, MODULE)
    assert "\x1b[" in shown
    assert "2 runs, 0 failures" in shown
    assert shown.count("hello a") == shown.count("hello b") == 1


def test_plain_text_on_a_terminal_without_rich(cli: Cli) -> None:
    hide = "import runpy, sys; sys.modules['rich'] = None; runpy.run_module('inflight', run_name='__main__')"
    shown = _on_a_terminal(cli, (*PYTHON, "-c", hide))
    assert "\x1b" not in shown
    assert "2 runs, 0 failures" in shown


def _on_a_terminal(cli: Cli, start: tuple[str, ...]) -> str:
    ours, terminal = os.openpty()
    command = [*start, "run", "--", "sh", "-c", "echo hello {} >&2"]
    environment = cli.environment | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=terminal, env=environment) as process:
        os.close(terminal)
        assert process.stdin is not None
        process.stdin.write(b"a\nb\n")
        process.stdin.close()
        shown = b""
        # A terminal that nobody writes to any more reads as an input/output error.
        with contextlib.suppress(OSError):
            while select.select([ours], [], [], HANG)[0] and (data := os.read(ours, 4096)):
                shown += data
        os.close(ours)
        assert process.wait(HANG) == 0
    return shown.decode()


# What its streams and its terminal are.


@pytest.mark.skipif(sys.platform != "linux", reason="a terminal is had in another way there")
def test_commands_have_no_terminal(cli: Cli) -> None:
    """In a mere process group of their own, they would be stopped when they read it."""
    script = "if : < /dev/tty; then echo there is one; fi"
    ours, terminal = os.openpty()
    try:
        done = cli("--", "sh", "-c", script, lines="a\n", module=(*PYTHON, "-c", ON_TERMINAL, os.ttyname(terminal)))
    finally:
        os.close(ours)
        os.close(terminal)
    assert b"there is one" not in done.stdout
    assert done.returncode in (0, 123)


def test_input_that_does_not_block(cli: Cli) -> None:
    """Nothing to read yet is not the end of it."""
    theirs, ours = os.pipe()
    os.set_blocking(theirs, False)
    with cli.started("--", "echo", stdin=theirs) as process:
        os.close(theirs)
        for line in (b"a\n", b"b\n"):
            os.write(ours, line)
            assert output(process).readline() == line
        os.close(ours)
        assert process.wait(HANG) == 0


def test_output_that_does_not_block(cli: Cli) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with cli.started("--", "sh", "-c", "head -c 300000 /dev/zero", stdout=theirs) as process:
        os.close(theirs)
        feed(process, "a\n")
        assert process.stdin is not None
        process.stdin.close()
        with open(ours, "rb") as whole:
            assert len(whole.read()) == 300_000
        assert process.wait(HANG) == 0


# Endless input.


def test_lines_that_were_answered_are_not_called_cancelled_at_the_end(cli: Cli) -> None:
    with cli.started("--json", "-j1", "--", "echo", "got") as process:
        for key in ("a", "b", "c"):
            feed(process, f"{key}\n")
            assert output(process).readline() == f"got {key}\n".encode()
        # Written before it is counted: the next answer comes after that.
        feed(process, "d\ne\n")
        assert [output(process).readline() for _ in range(2)] == [b"got d\n", b"got e\n"]
        process.send_signal(signal.SIGINT)
        status, summary = ended(process)
    assert status == 130
    told = json.loads(summary)
    assert told["lines"] - told["cancelled"] >= 4
    assert told["runs"] == told["lines"] == 5
    assert told["operations_per_second"] > 0


def test_results_appear_while_input_goes_on(cli: Cli) -> None:
    with cli.started("--", "echo", "got") as process:
        for key in ("a", "b", "a"):
            feed(process, f"{key}\n")
            assert output(process).readline() == f"got {key}\n".encode()
        assert process.stdin is not None
        process.stdin.close()
        assert ended(process)[0] == 0


@pytest.mark.parametrize("bound", ["--depth", "--width"])
def test_reading_pauses_while_the_queue_is_full_and_no_line_is_lost(cli: Cli, bound: str) -> None:
    os.mkfifo(cli.directory / "gate")
    count, padding = 200, "x" * 10_000
    keys = [f"{number if bound == '--depth' else 'same'} {padding}\n" for number in range(count)]
    rest = memoryview("".join(keys).encode())
    total = len(rest)
    with cli.started("-j", "1", "--json", bound, "1", "--field", "1", "--", "sh", "-c", "cat gate; wc -l") as process:
        pipe = output(process)
        assert process.stdin is not None
        fd = process.stdin.fileno()
        rest = rest[os.write(fd, rest[: len(keys[0])]) :]
        # Open as soon as the first command reads from it, which ends when it is closed.
        with (cli.directory / "gate").open("wb"):
            os.set_blocking(fd, False)
            # Until nothing more has been taken for a second. What was taken is in the pipe and in buffers.
            while select.select([], [fd], [], 1)[1]:
                rest = rest[os.write(fd, rest) :]
                assert rest, "all was read although nothing was done"
            assert len(rest) > total / 2
            os.set_blocking(fd, True)
            # A gate that stays open: nobody who opens it for reading waits any more.
            (cli.directory / "gate").rename(cli.directory / "fifo")
            (cli.directory / "gate").touch()
        writer = threading.Thread(target=lambda: (process.stdin.write(rest), process.stdin.close()))  # type: ignore[union-attr]
        writer.start()
        lines = sum(int(line) for line in pipe)
        writer.join()
        status, summary = ended(process)
    assert (status, lines) == (0, count)
    assert json.loads(summary)["lines"] == count


def test_the_readme_example_on_a_history(cli: Cli, tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("needs git")
    repository = tmp_path / "repository"
    repository.mkdir()
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")

    def run(*arguments: str) -> bytes:
        return subprocess.run([git, *identity, *arguments], cwd=repository, check=True, capture_output=True).stdout

    run("init")
    for number in range(3):
        (repository / "always").write_text(str(number))
        (repository / f"once {number}").write_text("")
        run("add", ".")
        run("commit", "-m", f"change {number}")
    history = run("log", "--format=", "--name-only")
    assert history.count(b"\n") == 6
    command = ("git", "log", "--format=%s", "-1", "--", "{}")
    done = cli("-j", "4", "--window", "60", "--", *command, lines=history, cwd=repository)
    assert done.returncode == 0
    assert sorted(done.stdout.decode().splitlines()) == ["change 0", "change 1", "change 2", "change 2"]
    assert b"6 lines read, 2 merged, 4 runs, 0 failures" in done.stderr
