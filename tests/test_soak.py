"""The soak script runs, and its books balance; how it is run for long is said in its __main__."""

from __future__ import annotations

from pathlib import Path

from helpers import HANG, run_python

import inflight

SOAK = Path(__file__).parent.parent / "proofs" / "soak"


def test_a_short_soak(impl):
    done = run_python(str(SOAK), "--seconds", "2", "--impl", impl.name, timeout=4 * HANG)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    assert done.stdout.startswith(f"inflight {inflight.__version__} {impl.name}, ")
    assert done.stdout.endswith("every operation accounted for\n")
