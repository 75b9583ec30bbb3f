"""The examples of the README and of the directory examples/ do what they say."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import inflight

ROOT = Path(__file__).parent.parent


def test_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    source = "\n".join(blocks)
    for primitive in ("CallGroup", "OpQueue", "DedupeQueue", "OpWindow"):
        assert f"import {primitive}" in source
    test = doctest.DocTestParser().get_doctest(source, {}, "README.md", "README.md", 0)
    report: list[str] = []
    assert doctest.DocTestRunner().run(test, out=report.append).failed == 0, "".join(report)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("map_reduce", r"42\n"), ("micro_batching", r"200 events written in \d+ batches\n")],
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
