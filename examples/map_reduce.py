"""Map and reduce: sums of numbers, added up by threads, and reduced to one total.

A group fans its operations out; whoever finishes the last one runs the reducer.
"""

from concurrent.futures import ThreadPoolExecutor

from inflight import CallGroup, Op, Results

DATA = ["1:2", "5:6:7", "1:2", "5:6:7"]


def add_up(op: Op[int, str, int]) -> None:
    op.finish(sum(int(number) for number in op.msg.split(":")))


def total(results: Results[int, str, int]) -> None:
    results.raise_for_errors()
    print(sum(response.result or 0 for response in results.responses))


def main() -> None:
    # Inside `with group`, completion is held back: a worker may be done before the next is added.
    with ThreadPoolExecutor() as workers, CallGroup(total) as group:
        for number, entry in enumerate(DATA):
            workers.submit(add_up, group.add(number, entry))
    group.result(timeout=10)


if __name__ == "__main__":
    main()
