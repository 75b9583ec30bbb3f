"""Scenarios to pytest-benchmark: one test for each contender, one group for each scenario."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

# For the modules that the benchmarks share, under every import mode of pytest.
if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))

from scenarios import NotInstalledError, Scenario, enter


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scale", type=float, default=1.0, help="how long a round is; 0.1 has a tenth of the operations")
    parser.addoption("--deep", action="store_true", help="also what takes gigabytes: queues of ten million keys")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "measure" in metafunc.fixturenames:
        scenarios: list[Scenario] = metafunc.module.SCENARIOS
        params = [
            pytest.param((scenario, name), id=f"{scenario.name}-{name}")
            for scenario in scenarios
            if not scenario.on_demand or metafunc.config.getoption("--deep")
            for name in scenario.contenders
        ]
        metafunc.parametrize("measure", params, indirect=True)


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Callable[[], None]:
    scenario, name = request.param
    count = scenario.scaled(request.config.getoption("--scale"))

    def run() -> None:
        with ExitStack() as stack:
            try:
                one_round = enter(stack, scenario.contenders[name], count)
            except NotInstalledError as missing:
                pytest.skip(f"{missing} is not installed")
            # Asked for here, because it warns when nobody uses it.
            benchmark = request.getfixturevalue("benchmark")
            benchmark.group = scenario.name
            benchmark.extra_info["operations"] = count
            benchmark(one_round)

    return run
