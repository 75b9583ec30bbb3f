"""Builds the extension module inflight._native. Everything else is in pyproject.toml.

Read from the environment:

INFLIGHT_BUILD      native (default): compile the extension; a failing compile fails the build.
                    pure: leave it out, which makes a py3-none-any wheel and needs no Cython.
INFLIGHT_DEBUG=1    no optimisation, assertions, debug information, warnings are errors.
INFLIGHT_SANITIZE   sanitizers to compile in, e.g. address,undefined or thread.
INFLIGHT_PROOF=1    a build for tests: it verifies its invariants, counts what happened, can refuse
                    allocations, and checks the order of its locks (see src/proof.h).
INFLIGHT_TRACE=1    line tracing, for the coverage of the Cython sources (see src/trace.h).
"""

import os
import re
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILD = os.environ.get("INFLIGHT_BUILD", "native")
if BUILD not in ("native", "pure"):
    sys.exit(f"INFLIGHT_BUILD must be 'native', 'pure' or unset, not {BUILD!r}")

TRACE = os.environ.get("INFLIGHT_TRACE") == "1"
DEBUG = ["-O0", "-g3", "-UNDEBUG", "-Wall", "-Werror", "-Wno-unused-function"]


def extension() -> Extension:
    """The one extension module, with the flags that the environment asks for."""
    compile_args, link_args, macros = [], [], []
    if os.environ.get("INFLIGHT_DEBUG") == "1":
        compile_args += DEBUG
    if sanitizers := os.environ.get("INFLIGHT_SANITIZE"):
        compile_args += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g"]
        link_args += [f"-fsanitize={sanitizers}"]
    if os.environ.get("INFLIGHT_PROOF") == "1":
        macros += [("INFLIGHT_PROOF", "1")]
    if sys.platform == "win32" and sysconfig.get_config_var("Py_GIL_DISABLED"):
        # There, one pyconfig.h serves both builds of the interpreter.
        macros += [("Py_GIL_DISABLED", "1")]
    return Extension(
        "inflight._native",
        ["src/_native.pyx"],
        depends=sorted(glob("src/*.px[id]") + glob("src/*.h")),
        include_dirs=["src"],
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


def trace_with_our_macro(path: Path) -> None:
    """Replaces what Cython puts into the C where there is no tracer."""
    source = path.read_text()
    definition = re.compile(r"^ *#define __Pyx_TraceLine\(line, .*\) +if \(\(1\)\).*$", re.MULTILINE)
    source, found = definition.subn('#include "trace.h"', source)
    if not found:
        sys.exit("INFLIGHT_TRACE: the C is not what this was written for")
    path.write_text(source)


def tell_files_apart(path: Path) -> None:
    """Have the generated C keep the code objects of tracebacks by file and line: see src/code_key.h."""
    source = path.read_text()
    path.write_text(source.replace("c_line ? -c_line : py_line", "inflight_code_key(filename, py_line)"))


class BuildNative(build_ext):
    """Translates and compiles, always both: C left over from another build is never used."""

    def build_extensions(self) -> None:
        """Build, or say how to do without."""
        try:
            from Cython.Build import cythonize

            for ext in self.extensions:
                ext.sources = cythonize(
                    [ext], build_dir=self.build_temp, force=True, compiler_directives={"linetrace": TRACE}
                )[0].sources
                tell_files_apart(Path(ext.sources[0]))
                if TRACE:
                    trace_with_our_macro(Path(ext.sources[0]))
            self.force = True
            super().build_extensions()
        except Exception as error:
            message = (
                f"\nThe extension module inflight._native could not be built: {error}\n"
                "It needs a C compiler and the headers of Python. To install the pure-Python implementation\n"
                "instead, which behaves the same, set INFLIGHT_BUILD=pure."
            )
            raise SystemExit(message) from error


if BUILD == "native":
    setup(ext_modules=[extension()], cmdclass={"build_ext": BuildNative})
else:
    setup()
