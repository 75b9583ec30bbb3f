"""The command line: how a run ends, with which status, and what becomes of its commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from command_line import MODULE, PYTHON, Cli, ended, feed, output
from helpers import HANG

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the commands of these tests are those of POSIX")

# Does something else than to start the thread that comes after so many.
AT_THREAD = """
import os, runpy, signal, sys, threading
start, left = threading.Thread.start, int(sys.argv.pop(1))
def start_or_not(thread):
    global left
    left -= 1
    if left == -1:
        left = 0
        {act}
    start(thread)
threading.Thread.start = start_or_not
runpy.run_module("inflight", run_name="__main__", alter_sys=True)
"""
# As where the system lets a user have no more.
FEW_THREADS = AT_THREAD.format(act='raise RuntimeError("can\'t start new thread")')
SIGNAL_AT_THREAD = AT_THREAD.format(act="os.kill(os.getpid(), signal.SIGTERM)")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--"],
        ["-j", "0", "--", "true"],
        ["-j", "x", "--", "true"],
        ["-j", "9" * 5000, "--", "true"],
        ["--regex", "(a{99999999999999999999})", "--", "true"],
        ["--depth", "0", "--", "true"],
        ["--width", "-1", "--", "true"],
        ["--window", "nan", "--", "true"],
        ["--window", "-1", "--", "true"],
        ["--window", "inf", "--", "true"],
        ["--field", "0", "--", "true"],
        ["--field", "1", "--delimiter", "", "--", "true"],
        ["--delimiter", ",", "--", "true"],
        ["--field", "1", "--regex", "(a)", "--", "true"],
        ["--regex", "(", "--", "true"],
        ["--regex", "a", "--", "true"],
        ["--input", "no/such/file", "--", "true"],
        ["--input", "/", "--", "true"],
        ["--no-such-option", "--", "true"],
        ["true"],
    ],
    ids=" ".join,
)
def test_bad_usage_is_125(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments, lines="a\n")
    assert done.returncode == 125
    assert done.stdout == b""
    assert b"usage: inflight run" in done.stderr
    assert b"error: " in done.stderr
    assert b"Traceback" not in done.stderr


def test_no_subcommand_is_125(cli: Cli) -> None:
    done = subprocess.run(MODULE, env=cli.environment, cwd=cli.directory, capture_output=True, check=False)
    assert done.returncode == 125


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]], ids=" ".join)
def test_help_is_0(cli: Cli, arguments: list[str]) -> None:
    done = subprocess.run(
        [*MODULE, *arguments], env=cli.environment, cwd=cli.directory, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"inflight" in done.stdout


@pytest.mark.parametrize(
    "command", [["sh", "-c", "exit 3"], ["sh", "-c", "kill -9 $$"], ["no-such-command"], ["/"]], ids=" ".join
)
def test_a_failing_command_is_123_and_the_others_still_run(cli: Cli, command: list[str]) -> None:
    done = cli("--", *command, lines="a\nb\n")
    assert done.returncode == 123
    assert b"'a': " in done.stderr
    assert b"2 runs, 2 failures" in done.stderr


def test_a_key_that_no_argument_can_hold_fails_alone(cli: Cli) -> None:
    done = cli("--", "echo", lines=b"nul\0nul\nb\n")
    assert (done.returncode, done.stdout) == (123, b"b\n")
    assert b"2 runs, 1 failures" in done.stderr


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_fewer_threads_than_workers(cli: Cli, threads: int) -> None:
    """One reads; the others work, or it is said that nobody can."""
    module = (*PYTHON, "-c", FEW_THREADS, str(threads))
    done = cli("-j", "1" + "0" * 30, "--", "echo", lines="a\nb\nc\n", module=module)
    if threads < 2:
        assert done.returncode == 125
        assert b"inflight: cannot work: can't start new thread\n" in done.stderr
    else:
        assert done.returncode == 0
        assert sorted(done.stdout.split()) == [b"a", b"b", b"c"]
        assert b"inflight: works with 2 in parallel: can't start new thread\n" in done.stderr


def test_ctrl_c_ends_the_commands_with_all_that_they_started(cli: Cli) -> None:
    os.mkfifo(cli.directory / "held")
    with cli.started("-j", "2", "--", "sh", "-c", "exec 3> held; echo >&3; sleep 600; true") as process:
        feed(process, "a\nb\nc\n")
        with (cli.directory / "held").open("rb") as held:
            assert held.readline() + held.readline() == b"\n\n"
            process.send_signal(signal.SIGINT)
            status, summary = ended(process)
            # The end of this file: nobody holds it open any more, the sleeping grandchildren included.
            assert held.read() == b""
    assert status == 130
    assert "3 lines read, 0 merged, 2 runs, 0 failures, 3 cancelled" in summary
    assert "Traceback" not in summary


def test_second_ctrl_c_kills_commands_that_do_not_end(cli: Cli) -> None:
    os.mkfifo(cli.directory / "held")
    script = "trap 'echo asked >&3' TERM; exec 3> held; echo >&3; while :; do sleep 0.1; done"
    with cli.started("--", "sh", "-c", script) as process:
        feed(process, "a\n")
        with (cli.directory / "held").open("rb") as held:
            assert held.readline() == b"\n"
            process.send_signal(signal.SIGINT)
            assert held.readline() == b"asked\n"
            process.send_signal(signal.SIGINT)
            assert ended(process)[0] == 130
            held.read()


def test_commands_that_do_not_end_are_killed_after_a_while(cli: Cli) -> None:
    with cli.started("--", "sh", "-c", "trap '' TERM; echo > held; sleep 600; sleep 600") as process:
        os.mkfifo(cli.directory / "held")
        feed(process, "a\n")
        assert (cli.directory / "held").read_bytes() == b"\n"
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130


def test_ctrl_c_while_waiting_for_input(cli: Cli) -> None:
    with cli.started("--json", "--", "echo") as process:
        feed(process, "a\n")
        assert output(process).readline() == b"a\n"
        process.send_signal(signal.SIGINT)
        status, summary = ended(process)
    assert status == 130
    assert json.loads(summary)["runs"] == 1


@pytest.mark.parametrize("bound", ["--depth", "--width"])
def test_ctrl_c_while_the_queue_is_full(cli: Cli, bound: str) -> None:
    os.mkfifo(cli.directory / "held")
    with cli.started(bound, "1", "-j", "1", "--json", "--", "sh", "-c", "echo > held; sleep 600") as process:
        feed(process, "a\n" * 5 if bound == "--width" else "a\nb\nc\nd\ne\n")
        with (cli.directory / "held").open("rb") as held:
            assert held.readline() == b"\n"
        process.send_signal(signal.SIGINT)
        status, summary = ended(process)
    assert status == 130
    assert json.loads(summary)["cancelled"] == json.loads(summary)["lines"] >= 1


@pytest.mark.parametrize("name", ["TERM", "HUP", "QUIT", "ALRM", "USR1", "USR2"])
def test_other_signals_end_it_like_ctrl_c(cli: Cli, name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    os.mkfifo(cli.directory / "held")
    with cli.started("--", "sh", "-c", "exec 3> held; echo >&3; sleep 600; true") as process:
        feed(process, "a\n")
        with (cli.directory / "held").open("rb") as held:
            assert held.readline() == b"\n"
            process.send_signal(number)
            status, summary = ended(process)
            assert status == 128 + number
            assert held.read() == b""
    assert "1 cancelled" in summary


def test_a_signal_while_the_workers_are_started(cli: Cli) -> None:
    """There may be many."""
    module = (*PYTHON, "-c", SIGNAL_AT_THREAD, "5")
    done = cli("-j", "1000000", "--", "echo", lines="a\n", module=module)
    assert done.returncode == 143


def test_ends_when_nobody_reads_its_output(cli: Cli) -> None:
    with cli.started("--", "echo") as process:
        feed(process, "a\n")
        assert output(process).readline() == b"a\n"
        output(process).close()
        feed(process, "b\n")
        status, summary = ended(process)
    assert status == 141
    assert "Traceback" not in summary
    assert "Exception" not in summary


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_125(cli: Cli) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*MODULE, "run", "--", "echo"],
            input=b"a\n",
            stdout=full,
            stderr=subprocess.PIPE,
            env=cli.environment,
            timeout=HANG,
            check=False,
        )
    assert done.returncode == 125
    assert b"cannot write: No space left on device" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_stderr_that_cannot_be_written_leaves_the_status_alone(cli: Cli, options: list[str]) -> None:
    for command, status in (("true", 0), ("false", 123)):
        assert cli(*options, "--", command, lines="a\n", redirected="2>/dev/full").returncode == status


def test_commands_keep_their_time_to_end_if_the_output_of_one_is_closed_then(cli: Cli) -> None:
    os.mkfifo(cli.directory / "started")
    ending = 'if [ {} = a ]; then trap "echo bye; exit" TERM; else trap "sleep 0.5; echo > ended; exit" TERM; fi'
    with cli.started("-j", "2", "--", "sh", "-c", f"{ending}; echo > started; while :; do sleep 0.1; done") as process:
        feed(process, "a\nb\n")
        started = os.open(cli.directory / "started", os.O_RDWR)
        assert os.read(started, 1) == os.read(started, 1) == b"\n"
        os.close(started)
        output(process).close()
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 143
    assert (cli.directory / "ended").exists()


def test_closed_output_is_125_and_nothing_else_gets_it(cli: Cli) -> None:
    # More than fits into a socket that would take its place.
    lines = "".join(f"{number}\n" for number in range(100))
    done = cli("-j1", "--", "sh", "-c", "head -c 10000 /dev/zero", lines=lines, redirected=">&-")
    assert done.returncode == 125
    assert b"cannot write: Bad file descriptor" in done.stderr


def test_closed_stderr_drops_what_is_said(cli: Cli) -> None:
    done = cli("--", "sh", "-c", "echo out; echo err >&2; exit 3", lines="a\n", redirected="2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (123, b"out\n", b"")


def test_closed_input_is_125(cli: Cli) -> None:
    done = cli("--", "true", lines="a\n", redirected="<&-")
    assert done.returncode == 125
    assert b"cannot read: " in done.stderr
