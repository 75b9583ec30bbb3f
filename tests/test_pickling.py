"""What can be pickled and copied, and what refuses: live objects are bound to their process."""

from __future__ import annotations

import copy
import pickle

import pytest
from helpers import KINDS, one_of, put

from inflight import QueueSaturatedError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_live_objects_refuse_to_be_pickled_and_copied(impl, kind, how):
    thing = one_of(impl, kind)
    with pytest.raises(TypeError, match=f"^{kind} objects cannot be pickled: they are bound to this process$"):
        how(thing)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_refused(impl, protocol):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(impl.OpQueue(1, 1), protocol)


def test_stats_pickle(impl):
    queue = impl.OpQueue(None, None)
    put(queue, 1, 1)
    stats = queue.stats()
    assert pickle.loads(pickle.dumps(stats)) == stats


def test_errors_raised_by_queues_pickle(impl):
    queue = impl.OpQueue(1, 1)
    put(queue, 1)
    for key in (1, 2):
        with pytest.raises(QueueSaturatedError) as info:
            queue.submit(key)
        twin = pickle.loads(pickle.dumps(info.value))
        assert (type(twin), twin.key, twin.limit) == (type(info.value), key, 1)
