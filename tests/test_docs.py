"""The examples in docstrings are run, with the implementation that is active."""

from __future__ import annotations

import doctest
import inspect

import pytest

import inflight

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def docstrings():
    """Every docstring of what is public, by its name."""
    yield "inflight", inflight.__doc__
    for name in inflight.__all__:
        thing = getattr(inflight, name)
        if not inspect.isclass(thing):
            continue
        yield name, thing.__doc__
        for attribute in vars(thing):
            if not attribute.startswith("_"):
                yield f"{name}.{attribute}", inspect.getattr_static(thing, attribute).__doc__


EXAMPLES = {name: text for name, text in docstrings() if text and ">>>" in text}


def run(name, text):
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    output = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=output.append)
    assert results.attempted > 0
    assert results.failed == 0, "".join(output)


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples(name):
    run(name, EXAMPLES[name])


@pytest.mark.parametrize("name", ["Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow"])
def test_every_primitive_has_an_example(name):
    assert any(each == name or each.startswith(name + ".") for each in EXAMPLES)
