"""Fixtures that many tests share, and two rules: nothing is skipped in CI, no process is left behind."""

import asyncio
import contextlib
import inspect
import os
import secrets
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd, NoEtcdBinary
from tests.support import etcd as servers
from tests.support import leaks
from tests.support.streams import run_with_streams

_SESSION_MARK = pytest.StashKey[str]()
_LEFT_OVER = pytest.StashKey[list[leaks.LeftOver]]()


@pytest.fixture(scope="session")
def etcd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEtcd]:
    """A server that all tests share: keep to your own ``namespace``, and leave it running."""
    server = servers.new_server(tmp_path_factory.mktemp("etcd"), getattr(request, "param", None))
    yield from _running(server)


@pytest.fixture
def own_etcd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedEtcd]:
    """A server of this test alone, which may be killed, paused and started again."""
    yield from _running(servers.new_server(tmp_path / "etcd", getattr(request, "param", None)))


@pytest.fixture
def small_etcd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedEtcd]:
    """A server of this test alone, with room for little: see ``tests.support.full_etcd``."""
    binary = getattr(request, "param", None)
    yield from _running(servers.new_server(tmp_path / "small", binary, quota_bytes=4 << 20))


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{secrets.token_hex(4)}"


def _running(server: EmbeddedEtcd) -> Iterator[EmbeddedEtcd]:
    asyncio.run(server.start())
    try:
        yield server
    finally:
        server.kill()


def pytest_configure(config: pytest.Config) -> None:
    # Tests start hundreds of interpreters. Without bytecode each of them would compile every module again,
    # and so would each worker of pytest-xdist compile every test.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # A worker of pytest-xdist has the mark of the session that started it, which looks when all have ended.
    if not hasattr(config, "workerinput"):
        config.stash[_SESSION_MARK] = leaks.mark_session()
        # What looks for an etcd by itself, as the demo does, finds the one that all others use.
        with contextlib.suppress(NoEtcdBinary):  # unit tests need none
            here = servers.program("etcd").parent
            os.environ["PATH"] = f"{here}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def pytest_report_header() -> str:
    try:
        used, *others = (f"{servers.version_of(binary)} ({binary})" for binary in servers.releases())
    except NoEtcdBinary as error:
        return f"etcd: {error}"
    return f"etcd: {used}; slow variants also on: {', '.join(others) or 'nothing else'}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine in an event loop of its own, and fail it if it leaves tasks behind.

    It may take a minute, or what ``@pytest.mark.timeout_s(seconds)`` says.
    """
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    marker = pyfuncitem.get_closest_marker("timeout_s")
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    run_with_streams(pyfuncitem.obj(**arguments), timeout_s=marker.args[0] if marker else 60.0)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped_in_ci(report)
    return report


def _fail_if_skipped_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A claim that is not checked where it counts is as good as broken; an expected failure is checked."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get("CI") not in ("true", "1"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: nothing may be skipped in CI, and this is: {reason}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    yield
    mark = session.config.stash.get(_SESSION_MARK, None)
    if mark is None:
        return
    session.config.stash[_LEFT_OVER] = found = leaks.left_over(mark)
    if found:
        leaks.end(found)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for process in config.stash.get(_LEFT_OVER, []):
        terminalreporter.write_line(f"LEFT BEHIND: {process}", red=True)
