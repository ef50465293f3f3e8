"""``leaderjob demo``: the whole thing on one machine, with real processes and a real etcd."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.demo_display import LiveDisplay, PlainDisplay, SilentDisplay
from leaderjob.cli.output import print_json
from leaderjob.client import Client
from leaderjob.cluster.preflight import loses_data
from leaderjob.embedded.cluster import ReplicaProcess, stop_all
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.running import announced
from leaderjob.embedded.show import MODULE, NAMESPACE, Display, Report, Show, ShowFailed, replica_config
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd
from leaderjob.etcd.maintenance import check_health
from leaderjob.user_state import state_folder

_PYTHON = "python"


@dataclass(frozen=True, slots=True)
class _Options:
    replicas: int
    corpus: str
    leave: bool
    as_json: bool
    etcd_binary: Path | None


@click.command()
@click.option(
    "--replicas", type=click.IntRange(2, 9), default=3, show_default=True, help="How many replicas."
)
@click.option(
    "--corpus",
    metavar="PATH",
    default=_PYTHON,
    help="What to index: a folder of text, Markdown, HTML or source files, or a JSON-lines file "
    "[the modules, classes and functions of this Python].",
)
@click.option("--exit", "leave", is_flag=True, help="Stop after the show.")
@click.option("--json", "as_json", is_flag=True, help="No display; one JSON object at the end.")
@click.option("--etcd-binary", type=click.Path(path_type=Path), help="The etcd server to start.")
def demo(*, replicas: int, corpus: str, leave: bool, as_json: bool, etcd_binary: Path | None) -> int:
    """Start an etcd and replicas here, and show what they do.

    Stays up until Ctrl-C, for you to try commands in another terminal.
    """
    if corpus != _PYTHON:
        path = Path(corpus).expanduser().absolute()
        if not path.exists():
            raise SettingsError(f"the corpus {corpus} does not exist: name a folder or a JSON-lines file")
        corpus = str(path)
    _check_search_is_installed()
    report = asyncio.run(_demo(_Options(replicas, corpus, leave, as_json, etcd_binary)))
    if report is None:
        return 130
    problems = report.problems()
    if as_json:
        print_json(report.as_json())
    if problems:
        raise ShowFailed("the show did not prove what it should: " + "; ".join(problems))
    return 0


async def _demo(options: _Options) -> Report | None:
    """The report of the show; None if Ctrl-C came before its end."""
    directory = _fresh_directory()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    etcd = EmbeddedEtcd(directory / "etcd", binary=options.etcd_binary)
    async with etcd:
        with announced([etcd.endpoint], NAMESPACE):
            report = await _with_replicas(options, directory, etcd, stopping)
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    return report


async def _with_replicas(
    options: _Options, directory: Path, etcd: EmbeddedEtcd, stopping: asyncio.Event
) -> Report | None:
    config = directory / "leaderjob.toml"
    config.write_text(replica_config(options.corpus))
    arguments = ["--etcd", etcd.endpoint, "--namespace", NAMESPACE, "--jobs", MODULE, "--config", str(config)]
    replicas = [
        ReplicaProcess(f"replica-{number}", directory, arguments) for number in range(1, options.replicas + 1)
    ]
    display = _display(options)
    try:
        async with Client([etcd.endpoint], NAMESPACE) as client:
            show = Show(client, replicas, options.corpus, display)
            with display:
                await tell_of_etcd(display, etcd)
                async with show.watching():
                    if not await _unless_stopped(show.run(), stopping):
                        return None
                    display.finish(show.report.failover)
                    if not options.leave:
                        if not options.as_json:
                            _print_hints(directory)
                        await stopping.wait()
            return show.report
    finally:
        if not options.as_json:
            click.echo("stopping the replicas, then etcd", err=True)
        await stop_all(replicas)


async def tell_of_etcd(display: Display, etcd: EmbeddedEtcd) -> None:
    """Say which etcd was started, and whether it will do for more than a demo."""
    version = next(status.version for status in (await check_health(Etcd, [etcd.endpoint])).endpoints)
    display.note(f"started etcd {version} at {etcd.endpoint} ({etcd.binary})")
    if loses_data(version):
        display.note(
            f"etcd {version} is known to lose data: use it for this demo only, and a newer one for your own"
        )


async def _unless_stopped(show: Coroutine[Any, Any, None], stopping: asyncio.Event) -> bool:
    """Whether the show came to its end; it is broken off when the user wants to stop."""
    running = asyncio.ensure_future(show)
    asked = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            return False
        running.result()
        return True
    finally:
        for task in (running, asked):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _display(options: _Options) -> LiveDisplay | PlainDisplay | SilentDisplay:
    if options.as_json:
        return SilentDisplay()
    return LiveDisplay() if sys.stdout.isatty() else PlainDisplay()


def _print_hints(directory: Path) -> None:
    program = _program()
    click.echo(f"""
The cluster stays up. Try, in another terminal:

  {program} status
  {program} search 'open a file'
  {program} watch
  {program} trigger search_index --wait
  {program} runs

Logs of the replicas: {directory}/replica-*.log
Ctrl-C stops everything.
""")


def _program() -> str:
    """How the user can call us from any directory."""
    beside = Path(sys.executable).with_name("leaderjob")
    on_path = shutil.which("leaderjob")
    if on_path and Path(on_path).resolve() == beside.resolve():
        return "leaderjob"
    return str(beside) if os.access(beside, os.X_OK) else f"{sys.executable} -m leaderjob"


def _fresh_directory() -> Path:
    """A directory for this demo below the user's state folder; what dead demos left is removed."""
    demos = state_folder() / "demo"
    try:
        demos.mkdir(parents=True, exist_ok=True)
        for old in demos.iterdir():
            if old.name.isdigit() and not Path("/proc", old.name).exists():
                shutil.rmtree(old, ignore_errors=True)
        fresh = demos / str(os.getpid())
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
    except OSError as error:
        raise SettingsError(
            f"the demo cannot keep its files in {demos}: {error.strerror}; set XDG_STATE_HOME to a folder that is writable"
        ) from error
    return fresh


def _check_search_is_installed() -> None:
    try:
        import tantivy  # noqa: F401, PLC0415 - to say what is missing before anything is started
    except ImportError:
        raise SettingsError(
            "the demo builds its index with tantivy, which is not installed: pip install tantivy"
        ) from None
