"""A coalescing worker: many requests, and each page is fetched once for all who ask for it meanwhile.

Requests for one URL merge into one row of the queue. As the queue is exclusive, no URL is fetched
twice at the same time: who asks during a fetch gets the next one. If a fetch fails, or its worker
is cancelled, all who wait for it are told.
"""

import asyncio

from inflight import DedupeQueue, OpSet

queue: DedupeQueue[str] = DedupeQueue(depth=1000, width=1000)  # belongs to no loop
fetches: list[str] = []


async def fetch(url: str) -> str:
    """Stands for a request over the network."""
    fetches.append(url)
    await asyncio.sleep(0.01)
    return f"contents of {url}"


async def serve(row: OpSet) -> None:
    row.finish_all(await fetch(row.key))


async def worker() -> None:
    while await queue.aprocess(serve):
        pass


async def get(url: str) -> str:
    # Waits while 1000 URLs are queued, and for the answer. Who gives up harms nobody else.
    async with asyncio.timeout(10):
        op = await queue.asubmit(url)
        return str(await op)


async def main() -> None:
    async with asyncio.TaskGroup() as tasks, queue:  # leaving `queue` closes it, which ends the workers
        requests = [tasks.create_task(get(f"/page/{number % 10}")) for number in range(200)]
        for _ in range(4):
            tasks.create_task(worker())
        answers = await asyncio.gather(*requests)
    print(f"{len(answers)} requests, {len(fetches)} fetches")


if __name__ == "__main__":
    asyncio.run(main())
