"""How the demo is shown: live in a terminal, as lines in a pipe, not at all for ``--json``."""

from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from leaderjob.records.narrate import Story, leader_facts
from leaderjob.records.view import View


class SilentDisplay:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self, text: str) -> None:
        return None

    def event(self, event: dict[str, Any], view: View) -> None:
        return None

    def answer(self, replica: str, version: int, value: dict[str, Any]) -> None:
        return None

    def finish(self, failover: dict[str, Any]) -> None:
        return None


class PlainDisplay(SilentDisplay):
    """One line for what matters, for a pipe or a log."""

    def note(self, text: str) -> None:
        click.echo(f"• {text}")

    def event(self, event: dict[str, Any], view: View) -> None:
        if line := sentence(event):
            click.echo(f"  {line}")

    def answer(self, replica: str, version: int, value: dict[str, Any]) -> None:
        click.echo(f"  {replica} (v{version}): {answer_line(value)}")


class LiveDisplay(SilentDisplay):
    """The replicas and the build, redrawn as they change, below the story so far."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._view = View()
        self._progress = Progress(
            TextColumn("  build by {task.fields[leader]}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TextColumn("{task.fields[message]}", style="dim"),
            console=self._console,
        )
        self._build = self._progress.add_task("", total=None, visible=False, leader="", message="")
        self._live = Live(console=self._console, refresh_per_second=8, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        self._console.print(Text.assemble(("● ", "cyan"), (text, "bold")))

    def event(self, event: dict[str, Any], view: View) -> None:
        self._view = view
        if event["event"] == Story.RUN_STARTED:
            self._progress.reset(
                self._build, total=None, completed=0, visible=True, leader=event["replica"], message=""
            )
        elif event["event"] == Story.RUN_PROGRESS:
            self._progress.update(
                self._build,
                total=event["total"],
                completed=event["done"],
                message=str(event["message"])[: max(10, self._console.width - 75)],
            )
        elif event["event"] == Story.RUN_FINISHED:
            self._progress.update(self._build, visible=False)
        if line := sentence(event):
            style = {"leader_lost": "red", "leader_elected": "green", "published": "green"}.get(
                event["event"], "dim"
            )
            self._console.print(Text(f"  {line}", style=style))

    def answer(self, replica: str, version: int, value: dict[str, Any]) -> None:
        self._console.print(
            Text.assemble((f"  {replica}", "cyan"), f" (v{version}): ", (answer_line(value), "default"))
        )

    def finish(self, failover: dict[str, Any]) -> None:
        self._live.stop()

    def _render(self) -> Group:
        leader = leader_facts(self._view)
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
        for column in ("  REPLICA", "ROLE", "SERVES", "PID"):
            table.add_column(column)
        for replica in sorted(self._view.members):
            member = self._view.members[replica].record
            leads = leader is not None and leader["replica"] == replica
            versions = ", ".join(
                f"{job} v{holding.active}"
                for job, holding in member.holds.items()
                if holding.active is not None
            )
            role = (
                Text(f"leader (token {leader['token']})", style="green")
                if leads and leader
                else Text("follower")
            )
            table.add_row(f"  {replica}", role, versions or "nothing yet", str(member.pid))
        return Group(Text(""), table, self._progress)


def sentence(event: dict[str, Any]) -> str | None:  # noqa: PLR0911 - a table, one row per event
    """What happened, for people; None for what is not worth a line."""
    match event["event"]:
        case Story.MEMBER_JOINED:
            return f"{event['replica']} joined (pid {event['pid']})"
        case Story.MEMBER_LEFT:
            return f"{event['replica']} left"
        case Story.LEADER_ELECTED:
            return f"{event['replica']} leads, fencing token {event['token']}"
        case Story.LEADER_LOST:
            return f"{event['replica']} no longer leads"
        case Story.PUBLISHED:
            documents = (
                (event["result"] or {}).get("documents") if isinstance(event["result"], dict) else None
            )
            counted = f", {documents} documents" if documents else ""
            return f"version {event['version']} is published: {event['size_bytes'] / 1e6:.1f} MB{counted}"
        case Story.ACTIVATED:
            return f"{event['replica']} serves version {event['version']}"
        case Story.RUN_FINISHED if event["outcome"] != "succeeded":
            return f"the run {event['outcome']}: {event['reason']}"
        case _:
            return None


def answer_line(value: dict[str, Any]) -> str:
    titles = ", ".join(result["title"] for result in value["results"][:3])
    return (
        f"“{value['query']}” → {value['total']} matches: {titles}"
        if titles
        else f"“{value['query']}” → nothing"
    )
