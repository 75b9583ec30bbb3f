"""What the user asked for: the arguments, checked, and the function that finds a line's key."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TextIO

from .. import __version__

BAD_USAGE = 125

DESCRIPTION = """\
Run COMMAND once for every key among the lines of the input, in parallel, and never twice at once
for one key. A line is an operation; its key is the line itself, or the part of it that --field or
--regex selects. Lines whose key waits already are merged and answered by one run, which gets them
on its standard input; those that arrive during a run of their key are merged into the next. {}
stands for the key in every argument; without any, the key becomes the last argument. A line
without a key is skipped and counted."""

EPILOG = """\
Commands have no terminal, so that all they start can be ended with them. A line ends at "\\n".

Exit status: 0; 123 if a command failed or could not be run; 125 for bad usage; 130 after Ctrl-C
(128 + the signal's number in general, 141 when nobody reads the output any more).

Example: git log --format= --name-only | inflight run -j 4 -- git log --oneline -1 -- {}"""


@dataclass(frozen=True)
class Options:
    """The arguments of ``inflight run``."""

    input: TextIO
    key: Callable[[str], str | None]
    command: tuple[str, ...]
    workers: int
    depth: int
    width: int
    window: float
    json: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(BAD_USAGE, f"{self.prog}: error: {message}\n")


def parse(arguments: Sequence[str]) -> Options:
    """The options in ``arguments``; exits with status 125 where they make no sense."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    command = tuple(arguments[split + 1 :])
    parser, run = _parsers()
    given, unknown = parser.parse_known_args(arguments[:split])
    if unknown:
        run.error(f"unknown arguments before --: {' '.join(unknown)}")
    if not command:
        run.error("no command: expected -- COMMAND [ARGUMENT ...] after the options")
    if given.delimiter is not None and given.field is None:
        run.error("--delimiter needs --field")
    return Options(
        input=given.input,
        key=_key(given.field, given.delimiter, given.regex),
        command=command if any("{}" in argument for argument in command) else (*command, "{}"),
        workers=given.workers,
        depth=given.depth,
        width=given.width,
        window=given.window,
        json=given.json,
    )


def _parsers() -> tuple[_Parser, _Parser]:
    parser = _Parser(prog="inflight", description="Coordinate operations in flight.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"inflight {__version__}")
    commands = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="run a command for every key among the lines of the input",
        usage="inflight run [OPTION ...] -- COMMAND [ARGUMENT ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = run.add_argument
    add("--input", metavar="FILE", type=_lines, default="-", help="read lines from FILE (default: standard input)")
    key = run.add_mutually_exclusive_group()
    key.add_argument("--field", metavar="N", type=_positive, help="the key is the N-th field, from 1")
    key.add_argument("--regex", metavar="PATTERN", type=_pattern, help="the key is group 1 of the first match")
    add("--delimiter", metavar="TEXT", type=_text, help="what separates fields (default: whitespace)")
    cpus = os.cpu_count() or 1
    add("-j", "--workers", metavar="N", type=_positive, default=cpus, help="runs in parallel (default: %(default)s)")
    add("--depth", metavar="N", type=_positive, default=1000, help="keys that may wait (default: %(default)s)")
    add("--width", metavar="N", type=_positive, default=1000, help="lines one run may get (default: %(default)s)")
    add("--window", metavar="SECONDS", type=_seconds, default=0.0, help="gather a key's lines this long (default: 0)")
    add("--json", action="store_true", help="print the summary as JSON, and no messages")
    return parser, run


def _key(field: int | None, delimiter: str | None, pattern: re.Pattern[str] | None) -> Callable[[str], str | None]:
    def by_field(line: str) -> str | None:
        fields = line.split(delimiter)
        return fields[field - 1] if field is not None and field <= len(fields) else None

    def by_pattern(line: str) -> str | None:
        match = pattern.search(line) if pattern is not None else None
        return match[1] if match else None

    return by_field if field is not None else by_pattern if pattern is not None else str


def _lines(path: str) -> TextIO:
    # Bytes that are no text become what the arguments of a process turn back into the same bytes.
    encoding = sys.getfilesystemencoding()
    try:
        if path == "-":
            if hasattr(os, "set_blocking"):
                # Somebody who shares it may have set it otherwise: nothing to read yet would look like the end.
                os.set_blocking(0, True)
            return open(0, encoding=encoding, errors="surrogateescape", newline="\n", closefd=False)
        return open(path, encoding=encoding, errors="surrogateescape", newline="\n")
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {path!r}: {error.strerror}") from error


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from error
    if not pattern.groups:
        raise argparse.ArgumentTypeError("expected a group in parentheses, which is the key")
    return pattern


def _positive(text: str) -> int:
    try:
        number = int(text) if text.isdecimal() else 0
    except ValueError as error:  # of more digits than int() takes
        raise argparse.ArgumentTypeError(str(error)) from error
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    # A full queue would wait for ever for a window without an end.
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number of seconds, 0 or more, got {text!r}")
    return number


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected at least one character")
    return text
