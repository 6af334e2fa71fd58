"""Which tests wait for `--all`: a short suite has one representative of each kind, the whole one has them all."""

from __future__ import annotations

import pytest

SLOW = pytest.mark.slow
_LEFT_OUT = pytest.StashKey[int]()
_OF_WORKERS = "slow tests left out"


def slow_but(kept, values) -> list:
    """Values of one parameter, of which those that are not among `kept` are slow."""
    return [value if value in kept else pytest.param(value, marks=SLOW) for value in values]


def slow(*values):
    """One set of parameters that is slow."""
    return pytest.param(*values, marks=SLOW)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="slow tests too: every representative, Concrete ML, Slurm, long counts")


def pytest_collection_modifyitems(config, items):
    """Leave slow tests out, unless they were asked for: all of them, by mark, or by name."""
    named = any("::" in argument for argument in config.args)
    if config.getoption("--all") or config.option.markexpr or named:
        return
    left_out = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.stash[_LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)


def pytest_sessionfinish(session):
    """A process of xdist tells the one that prints."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[_OF_WORKERS] = config.stash.get(_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Every process of xdist collects all tests, so they say the same."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[_LEFT_OUT] = output.get(_OF_WORKERS, 0)


def pytest_terminal_summary(terminalreporter, config):
    count = config.stash.get(_LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(f"{count} slow tests left out: --all runs them")
