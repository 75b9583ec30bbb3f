"""What a subclass overrides is called by who calls it, and by no other method, but where it is documented."""

from __future__ import annotations

import asyncio

import pytest


def overriding(cls, calls):
    """A subclass that notes which of its methods are called, by whomever."""

    def noting(name, method):
        def override(self, *arguments, **options):
            calls.append(name)
            return method(self, *arguments, **options)

        return override

    blocks = {"__enter__", "__exit__", "__aenter__", "__aexit__"}
    special = blocks | {"__await__", "__iter__", "__aiter__", "__len__", "__contains__"}
    names = [name for name in dir(cls) if name in special or not name.startswith("_")]
    methods = {name: getattr(cls, name) for name in names if callable(getattr(cls, name))}
    return type(cls.__name__, (cls,), {name: noting(name, method) for name, method in methods.items()})


@pytest.fixture
def calls():
    return []


def test_of_an_operation(impl, calls):
    async def wait():
        return await op

    op_class = overriding(impl.Op, calls)
    op = op_class("a")
    op.finish(1)
    assert asyncio.run(wait()) == 1
    assert op_class("b").cancel()
    # Finished by their row, their queue, their group.
    queue = impl.OpQueue(None, None)
    queue.enqueue("a", op_class("a"))
    queue.dequeue().finish_all()
    assert calls == ["finish", "__await__", "cancel"]


def test_of_a_group(impl, calls):
    async def wait():
        return await group

    with overriding(impl.CallGroup, calls)() as group:
        group.add("a").finish(1)
        group.add_many([("b", 2)])[0].finish()
    assert len(asyncio.run(wait()).responses) == 2
    assert calls == ["__enter__", "add", "add_many", "__exit__", "__await__"]


@pytest.mark.parametrize("kind", ["OpQueue", "DedupeQueue", "OpWindow"])
def test_of_a_queue(impl, calls, kind):
    cls = overriding(getattr(impl, kind), calls)
    arguments = (None, None, 0) if kind == "OpWindow" else (None, None)

    async def consume():
        async for row in queue:
            row.finish_all()
            row.release()

    with cls(*arguments) as queue:
        for key in range(4):
            queue.submit(key)
        assert queue.process(lambda row: row.finish_all())
        row = next(iter(queue))
        row.finish_all()
        row.release()
        queue.close()
        asyncio.run(consume())
    # Both ways to take a row and work on it are written in terms of dequeue(); leaving the block closes.
    assert calls == [
        *["__enter__", *["submit"] * 4],
        *["process", "dequeue", "__iter__", "dequeue"],
        *["close", "__aiter__", "__exit__", "close"],
    ]


@pytest.mark.parametrize("entry", ["with", "async with"])
def test_a_block_closes_its_queue_even_if_an_override_fails_to(impl, entry):
    class Broken(impl.OpQueue):
        def close(self):
            raise LookupError("broken")

    async def use():
        queue = Broken(None, None)
        consumer = asyncio.create_task(anext(aiter(queue), "over"))
        await asyncio.sleep(0)
        assert queue.stats().consumers_waiting == 1
        with pytest.raises(LookupError, match="broken"):
            if entry == "with":
                with queue:
                    pass
            else:
                async with queue:
                    pass
        assert queue.closed
        return await consumer

    assert asyncio.run(use()) == "over"


def test_leaving_an_async_block_of_a_queue_is_not_written_in_terms_of_leaving_a_block(impl, calls):
    """Which may wait in an override, and would keep the loop from running."""

    async def use():
        async with queue:
            pass

    queue = overriding(impl.OpQueue, calls)(None, None)
    asyncio.run(use())
    assert calls == ["__aenter__", "__aexit__", "close"]
