"""One test body, two implementations.

Both are imported by their private names and live in one process, so nothing here can test the
wrong one by accident. By default the implementation that ``import inflight`` chose is tested;
``--impl both`` tests the two in one run. The other one is deselected rather than skipped: a run
that was asked for the compiled implementation and does not find it must fail.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
import sysconfig
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# For `helpers`, `aio` and the like, under every import mode of pytest. Registered first, so that their asserts
# explain themselves.
if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite(*(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "conftest"))

import aio  # noqa: E402
import command_line  # noqa: E402
import racing  # noqa: E402
import witness as witnesses  # noqa: E402
from helpers import FakeClock  # noqa: E402

import inflight  # noqa: E402
from inflight._invariants import check_invariants  # noqa: E402


@dataclass(frozen=True)
class Implementation:
    """The classes of one implementation."""

    name: str
    Op: Any
    CallGroup: Any
    OpSet: Any
    OpQueue: Any
    DedupeQueue: Any
    OpWindow: Any


def load(name: str) -> Implementation:
    module = importlib.import_module(f"inflight._{name}")
    classes = ("Op", "CallGroup", "OpSet", "OpQueue", "DedupeQueue", "OpWindow")
    return Implementation(name, *(getattr(module, each) for each in classes))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--impl",
        choices=("native", "pure", "both"),
        default=inflight.IMPLEMENTATION,
        help="the implementation to test (default: the one that `import inflight` chose)",
    )
    parser.addoption("--steps", type=int, default=0, help="steps of the state machines in all (default: a few seconds)")
    parser.addoption(
        "--operations",
        type=int,
        default=100,
        metavar="N",
        help="how many rounds each scenario of test_leaks_* makes (default: 100)",
    )
    parser.addoption(
        "--rounds",
        type=int,
        default=1,
        metavar="N",
        help="multiplies the rounds of races and of interrupts (default: 1)",
    )


# Most tests leave operations behind; the tests of this very warning record it themselves.
DROPPED = "operation .* was dropped unfinished"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", f"ignore:{DROPPED}:ResourceWarning")
    # Threads that use fork are what test_fork is about.
    config.addinivalue_line("filterwarnings", "ignore:.*multi-threaded, use of fork:DeprecationWarning")


def pytest_collection_finish() -> None:
    # The collector looks at all there is, and tests call it thousands of times: not at what pytest has. Tests
    # that freeze more do not thaw it; what is frozen is alive, and few cycles come of it.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    # Hypothesis, if it is loaded only now, looks for referrers, and those that are frozen are not found.
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    # The line above holds during tests only; here pytest frees what the tracebacks of failed tests have kept.
    warnings.filterwarnings("ignore", DROPPED, ResourceWarning)


def pytest_report_header(config: pytest.Config) -> str:
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        gil = "GIL on (free-threaded build)" if sys._is_gil_enabled() else "GIL off"
    else:
        gil = "GIL on"
    return (
        f"inflight {inflight.__version__} from {inflight.__file__}, IMPLEMENTATION {inflight.IMPLEMENTATION}, "
        f"testing {config.getoption('--impl')}, {gil}"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "impl" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--impl")
        names = ("native", "pure") if asked == "both" else (asked,)
        metafunc.parametrize("impl", names, ids=names, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> None:
    # Tests that are `async def` run on each kind of loop in turn.
    if inspect.iscoroutinefunction(obj) and collector.istestfunction(obj, name):
        pytest.mark.usefixtures("loop_factory")(obj)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    aio.run(pyfuncitem.obj(**arguments), pyfuncitem.funcargs["loop_factory"])
    return True


@pytest.fixture(params=aio.LOOPS)
def loop_factory(request: pytest.FixtureRequest) -> aio.LoopFactory:
    """Makes loops of each kind in turn; what an ``async def`` test runs on."""
    return aio.loop_factory(request.param)


@pytest.fixture(scope="session")
def impl(request: pytest.FixtureRequest) -> Implementation:
    return load(request.param)


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    """What multiplies the number of rounds of tests that hope to meet an instant."""
    number: int = request.config.getoption("--rounds")
    return number


@dataclass
class QueueMaker:
    """Makes queues of one kind, and checks the invariants of each that is still alive after the test."""

    impl: Implementation
    kind: str
    made: list[weakref.ref[Any]] = field(default_factory=list)

    @property
    def exclusive(self) -> bool:
        return self.kind in ("DedupeQueue", "OpWindow-exclusive")

    def __call__(self, depth: int | None = None, width: int | None = None) -> Any:
        impl = self.impl
        queue = {
            "OpQueue": lambda: impl.OpQueue(depth, width),
            "DedupeQueue": lambda: impl.DedupeQueue(depth, width),
            "OpWindow": lambda: impl.OpWindow(depth, width, 0),
            "OpWindow-exclusive": lambda: impl.OpWindow(depth, width, 0, exclusive=True),
        }[self.kind]()
        self.made.append(weakref.ref(queue))
        return queue


@pytest.fixture(params=["OpQueue", "DedupeQueue", "OpWindow", "OpWindow-exclusive"])
def make_queue(request: pytest.FixtureRequest, impl: Implementation) -> Any:
    """For what all queues have in common: makes queues without a window, of each kind in turn."""
    maker = QueueMaker(impl, request.param)
    yield maker
    for ref in maker.made:
        queue = ref()
        if queue is not None:
            check_invariants(queue)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A clock that stands still until told; queues made from here on measure their windows with it."""
    fake = FakeClock()
    monkeypatch.setattr("inflight._clock.monotonic", fake)
    return fake


@pytest.fixture
def witness(impl: Implementation, monkeypatch: pytest.MonkeyPatch) -> witnesses.Witness:
    """Tells what has happened inside the implementation, where it can be known; see witness.py."""
    if impl.name == "pure":
        return witnesses.Witness(witnesses.Wrapped(monkeypatch.setattr).counters)
    return witnesses.Witness(witnesses.native_counters())


@pytest.fixture(scope="module")
def duo() -> Any:
    """Two threads for all the races of a module."""
    duo = racing.Duo()
    yield duo
    duo.stop()


@pytest.fixture
def tiny_switch_interval() -> Any:
    """Threads change places as often as the interpreter can, so that races are run into."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def huge_switch_interval() -> Any:
    """With the GIL, a woken thread does not run before the waking one blocks."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def collect() -> Any:
    """``collect()`` frees what is unreachable, now."""

    def collect() -> None:
        # Twice: a finalizer of the first round may have made more garbage.
        gc.collect()
        gc.collect()

    return collect


@pytest.fixture(scope="module")
def loops() -> Iterator[tuple[Any, Any]]:
    """Two loops, each in its thread."""
    with aio.LoopThread() as one, aio.LoopThread() as other:
        yield one, other


@pytest.fixture
def cli(impl: Any, tmp_path: Path) -> command_line.Cli:
    """``inflight run`` in a directory of its own."""
    return command_line.Cli(impl.name, tmp_path)


@pytest.fixture
def dropped() -> Iterator[Callable[[], list[str]]]:
    """The texts of the warnings about dropped operations."""
    # What earlier tests left to the collector is not to be heard here.
    for _ in range(3):
        gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(each.message) for each in caught if each.category is ResourceWarning]
