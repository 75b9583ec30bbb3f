"""What the distribution says of itself. What it contains is checked where it is built."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import inflight

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def installed() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("inflight")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("inflight is imported from a checkout, not installed")


def test_version_is_in_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", inflight.__version__)
    written = re.compile(re.escape(inflight.__version__))
    sources = [*ROOT.glob("*.py"), *ROOT.glob("*.toml"), *ROOT.glob("src/*"), *ROOT.glob("inflight/**/*.py")]
    found = [path.name for path in sources if path.is_file() and written.search(path.read_text(encoding="utf-8"))]
    assert found == ["_version.py"]


def test_installed_metadata() -> None:
    metadata = installed().metadata
    assert metadata["Version"] == inflight.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Programming Language :: Python :: Free Threading :: 2 - Beta" in metadata.get_all("Classifier", [])
    assert set(metadata.get_all("Provides-Extra", [])) >= {"cli", "test", "bench", "dev"}
    assert not [needed for needed in installed().requires or [] if "extra ==" not in needed]


def test_installed_script_is_the_command_line() -> None:
    (script,) = installed().entry_points.select(group="console_scripts")
    assert script.name == "inflight"
    from inflight._cli import main

    assert script.load() is main


def test_installed_files_are_the_package_alone() -> None:
    files = installed().files or []
    package = Path(inflight.__file__).parent
    if not any(Path(str(file.locate())).resolve() == Path(inflight.__file__).resolve() for file in files):
        pytest.skip("an editable installation")
    assert (package / "py.typed").exists()
    inside = [file for file in files if file.parts[0] == "inflight"]
    assert {file.suffix for file in inside} <= {".py", ".pyc", ".typed", ".so", ".pyd"}
    assert not [file for file in files if "tests" in file.parts or "src" in file.parts]


def test_public_names_are_importable() -> None:
    assert sorted(inflight.__all__, key=str.lower) == sorted(set(inflight.__all__), key=str.lower)
    for name in inflight.__all__:
        assert getattr(inflight, name) is not None


@pytest.mark.parametrize("value", ["", "cython", "NATIVE"])
def test_unknown_build_is_refused(value: str) -> None:
    pytest.importorskip("setuptools")
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=ROOT,
        env=os.environ | {"INFLIGHT_BUILD": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"INFLIGHT_BUILD must be 'native', 'pure' or unset, not {value!r}\n"


def test_pure_build_has_no_extension_and_needs_no_cython() -> None:
    pytest.importorskip("setuptools", minversion="77")
    script = "import sys, runpy; sys.modules['Cython'] = None; sys.argv[1:] = ['--name']; runpy.run_path('setup.py')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"INFLIGHT_BUILD": "pure"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["inflight"]), done.stderr
