"""The examples of the README, of the pages in docs/ and of the directory examples/ do what they say."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import inflight

ROOT = Path(__file__).parent.parent


def run_blocks(page: str) -> str:
    """Run the page's Python blocks, one after the other, without those for what is not installed; its text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    source = "\n".join(block for block in blocks if "import trio" not in block or find_spec("trio"))
    test = doctest.DocTestParser().get_doctest(source, {}, page, page, 0)
    report: list[str] = []
    results = doctest.DocTestRunner().run(test, out=report.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(report)
    return text


def test_readme() -> None:
    text = run_blocks("README.md")
    for primitive in ("CallGroup", "OpQueue", "DedupeQueue", "OpWindow"):
        assert f"import {primitive}" in text


def test_the_page_on_asyncio() -> None:
    text = run_blocks("docs/asyncio.md")
    section = text.partition("## Which calls wait\n")[2].partition("\n## ")[0]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))
    for primitive in (inflight.Op, inflight.CallGroup, inflight.OpSet, inflight.DedupeQueue, inflight.OpWindow):
        public = {name for name in dir(primitive) if not name.startswith("_")}
        # What a row inherits from Sequence has one entry.
        assert public - words <= {"count", "index"}, primitive


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("map_reduce", r"42\n"),
        ("micro_batching", r"200 events written in \d+ batches\n"),
        ("asyncio_worker", r"200 requests, 10 fetches\n"),
    ],
)
def test_example(name: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / f"{name}.py"],
        env=os.environ | {"INFLIGHT_IMPL": inflight.IMPLEMENTATION},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(expected, done.stdout), done.stdout
