"""Micro-batching: single events of many users, written in batches, one batch per user at a time.

Eight threads record events one by one and wait for the answer. A row of the queue is ready 50 ms
after its first event, or as soon as it has ten; as the queue is exclusive, no user's batches are
written by two workers at once.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

from inflight import OpSet, OpWindow

queue: OpWindow[str] = OpWindow(depth=1000, width=10, window=0.05, exclusive=True)
batches: list[int] = []


def write(row: OpSet) -> None:
    """Stands for one round trip to a database that takes many events as easily as one."""
    batches.append(len(row))
    row.finish_each([f"{row.key}: {op.msg} written" for op in row])


def worker() -> None:
    for row in queue:
        with row:  # if write raises, the row's operations get the exception; the key is given back
            write(row)


def record(number: int) -> str:
    user = f"user {number % 5}"
    # Waits while 1000 users are queued, and for its answer.
    return str(queue.submit(user, f"event {number}", timeout=10).result(timeout=10))


def main() -> None:
    workers = [threading.Thread(target=worker) for _ in range(2)]
    for thread in workers:
        thread.start()
    with queue, ThreadPoolExecutor(8) as callers:  # leaving `with queue` closes it, which ends the workers
        answers = list(callers.map(record, range(200)))
    for thread in workers:
        thread.join()
    print(f"{len(answers)} events written in {len(batches)} batches")


if __name__ == "__main__":
    main()
