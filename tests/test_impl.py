"""Which implementation runs: INFLIGHT_IMPL, and what happens where the compiled one is missing or broken."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import run_python

import inflight

NATIVE = importlib.util.find_spec("inflight._native") is not None
SHOW = "import inflight; print(inflight.IMPLEMENTATION, inflight.OpQueue.__module__, inflight.Op.__name__)"


def show(value):
    return run_python("-W", "always", "-c", SHOW, env={"INFLIGHT_IMPL": value})


def test_the_implementation_is_told():
    assert inflight.IMPLEMENTATION in ("native", "pure")


def test_the_public_classes_are_those_of_the_implementation(impl):
    if impl.name != inflight.IMPLEMENTATION:
        pytest.skip("not the active one")
    for name in ("Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow"):
        assert getattr(inflight, name) is getattr(impl, name)


def test_pure_on_demand():
    done = show("pure")
    assert done.stderr == ""
    assert done.stdout.split()[0] == "pure"


def test_unset_takes_the_compiled_one_where_it_is():
    done = show(None)
    assert done.stderr == ""
    assert done.stdout.split()[0] == ("native" if NATIVE else "pure")


@pytest.mark.skipif(not NATIVE, reason="there is no compiled implementation")
def test_native_on_demand():
    done = show("native")
    assert done.stderr == ""
    assert done.stdout.split()[0] == "native"


@pytest.mark.parametrize("value", ["", "Native", "cython", "1", "pure "])
def test_an_unknown_value_is_an_import_error_that_names_the_allowed_ones(value):
    done = show(value)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError:")
    for allowed in ("INFLIGHT_IMPL", "'native'", "'pure'", repr(value)):
        assert allowed in last


@pytest.fixture
def copied(tmp_path):
    """A copy of the package without the compiled implementation, and a way to import it."""
    source = Path(inflight.__file__).parent
    target = tmp_path / "inflight"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("_native*", "__pycache__"))

    def run(value):
        environment = {name: text for name, text in os.environ.items() if name != "INFLIGHT_IMPL"}
        if value is not None:
            environment["INFLIGHT_IMPL"] = value
        # Neither -I nor -P: the copy is the current directory.
        return subprocess.run(
            [sys.executable, "-S", "-W", "always", "-c", SHOW],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return target, run


def test_absence_falls_back_silently(copied):
    _, run = copied
    done = run(None)
    assert done.stderr == ""
    assert done.stdout.split()[0] == "pure"


def test_absence_is_an_import_error_where_native_is_asked_for(copied):
    _, run = copied
    done = run("native")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError:")
    assert "INFLIGHT_IMPL=native" in last


@pytest.mark.parametrize("kind", ["extension", "module"])
def test_a_broken_extension_warns_and_falls_back(copied, kind):
    target, run = copied
    if kind == "extension":
        import importlib.machinery

        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        (target / f"_native{suffix}").write_bytes(b"this is no shared library")
    else:
        (target / "_native.py").write_text("raise RuntimeError('made for something else')\n")
    done = run(None)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "pure"
    assert "RuntimeWarning" in done.stderr
    assert "cannot be imported" in done.stderr
    # Nothing to load, nothing to warn of.
    assert run("pure").stderr == ""
    assert run("native").returncode == 1
    assert "INFLIGHT_IMPL=native" in run("native").stderr


def test_the_version_is_a_version():
    assert inflight.__version__[0].isdigit()


def test_everything_public_is_listed():
    for name in inflight.__all__:
        assert hasattr(inflight, name)
    assert len(set(inflight.__all__)) == len(inflight.__all__)


def test_the_import_is_light():
    """What a library for coordination should not drag in."""
    source = "import inflight, sys; print([name for name in ('rich', 'argparse', 'numpy') if name in sys.modules])"
    done = run_python("-c", source)
    assert (done.stdout, done.stderr) == ("[]\n", "")
