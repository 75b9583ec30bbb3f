"""On a free-threaded interpreter: the import leaves the GIL off, and threads that run at once lose nothing."""

from __future__ import annotations

import sysconfig

import pytest
from helpers import run_python, run_script

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded interpreter"
)


def test_the_import_leaves_the_gil_off(impl):
    source = "import sys, inflight; print(inflight.IMPLEMENTATION, sys._is_gil_enabled())"
    done = run_python("-W", "error", "-c", source, env={"PYTHON_GIL": None, "INFLIGHT_IMPL": impl.name})
    assert (done.stdout, done.stderr) == (f"{impl.name} False\n", "")


def test_threads_share_queues_and_groups_without_the_gil(impl):
    run_script(
        impl,
        """
        assert not sys._is_gil_enabled()
        total, sides = 5000, 4
        calls = []
        group = CallGroup(calls.append)
        queue = DedupeQueue(64, None)

        def produce(me):
            for number in range(total):
                queue.enqueue(number % 100, group.add((me, number)), timeout=None)

        def consume():
            for row in queue:
                with row:
                    row.finish_all(row.key)

        with group:
            producers = [threading.Thread(target=produce, args=(me,)) for me in range(sides)]
            consumers = [threading.Thread(target=consume) for _ in range(sides)]
            for thread in producers + consumers:
                thread.start()
            for thread in producers:
                thread.join()
            queue.close()
            for thread in consumers:
                thread.join()
        assert len(calls) == 1
        assert len(calls[0].responses) == total * sides
        assert all(response.result == response.op.key[1] % 100 for response in calls[0].responses)
        queue._check()
        """,
    )
