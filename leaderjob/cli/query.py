"""``leaderjob query`` and ``leaderjob search``: ask a replica."""

import asyncio
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.output import parse_object, print_json
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.model.query import Answer


@click.command()
@click.argument("job")
@click.argument("fields", metavar="JSON")
@target_options
@click.option("--replica", help="Ask this replica, not just any.")
@click.option("--json", "as_json", is_flag=True, help="Print who answered and from which version, too.")
def query(
    *,
    job: str,
    fields: str,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    replica: str | None,
    as_json: bool,
) -> None:
    """Ask a replica about the active version of JOB. JSON holds the query's fields."""
    answer = _ask(find_target(etcd, namespace, config), job, parse_object("JSON", fields), replica)
    print_json(answer.model_dump(exclude={"v"}) if as_json else answer.value)


@click.command()
@click.argument("text", nargs=-1, required=True)
@target_options
@click.option("--replica", help="Ask this replica, not just any.")
@click.option("--limit", default=10, show_default=True, help="How many results.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def search(
    *,
    text: tuple[str, ...],
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    replica: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Search the index of the job search_index."""
    fields = {"q": " ".join(text), "limit": limit}
    answer = _ask(find_target(etcd, namespace, config), "search_index", fields, replica)
    if as_json:
        print_json(answer.model_dump(exclude={"v"}))
    else:
        _print(answer)


def _ask(target: Target, job: str, fields: dict[str, Any], replica: str | None) -> Answer:
    async def ask() -> Answer:
        async with target.client() as client:
            return await client.query(job, fields, replica=replica)

    return asyncio.run(ask())


def _print(answer: Answer) -> None:
    value = answer.value
    for rank, result in enumerate(value["results"], start=1):
        where = f"{result['path']}:{result['line']}" if result.get("line") else result.get("path") or ""
        click.echo(f"{rank:>3}. {result['title']}  {click.style(where, dim=True)}")
        if result.get("snippet"):
            click.echo(f"     {' '.join(result['snippet'].split())}")
    click.echo(
        f"{value['hits']} of {value['total']} matches in {value['documents']} documents; "
        f"answered by {answer.replica} from version {answer.version}",
        err=True,
    )
