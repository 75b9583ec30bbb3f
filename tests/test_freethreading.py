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
        check_invariants(queue)
        """,
    )


def test_an_error_that_is_still_being_raised_is_not_raised_by_others(impl):
    """A worker's error leaves the block of its row, and then the frames around it, while others raise it.

    CPython does not guard it: two that did so with one instance would free its tracebacks twice, or never.
    """
    run_script(
        impl,
        """
        import gc, types

        def fail(row, depth):
            if depth:
                fail(row, depth - 1)
            with row:
                raise ValueError("from the worker")

        def work():
            for _ in range(total):
                try:
                    fail(queue.dequeue(), 12)
                except ValueError as error:
                    depths.add(len(list(frames(error))))

        def frames(error):
            traceback = error.__traceback__
            while traceback is not None:
                yield traceback.tb_frame
                traceback = traceback.tb_next

        total = 3000
        depths = set()
        queue = OpQueue(None, None)
        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(total):
            op = queue.submit("a")
            try:
                op.result()
            except ValueError as error:
                assert error is not op.exception()
            del op
        worker.join()
        assert depths == {14}
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, types.TracebackType)]
        """,
    )
