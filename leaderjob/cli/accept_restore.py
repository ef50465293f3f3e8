"""``leaderjob accept-restore``: lead again on a store that was restored from a backup, or reset."""

import asyncio
from pathlib import Path

import click

from leaderjob.cli.output import print_json
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.cluster.restore import accept_restore as accept
from leaderjob.connecting import connect
from leaderjob.model.history import History
from leaderjob.records.keys import Keys


@click.command("accept-restore")
@target_options
@click.option(
    "--token-floor",
    type=click.IntRange(min=0),
    help="All fencing tokens from now on are above this [above all that the replicas saw].",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def accept_restore(
    *, etcd: str | None, namespace: str | None, config: Path | None, token_floor: int | None, as_json: bool
) -> None:
    """Accept the store as it is, after it was restored from a backup, or reset.

    Replicas that notice it do not stand for election until then. Begins a new history, whose fencing
    tokens are above all earlier ones; runs and results that the backup does not have are lost, and are
    not run again.
    """
    new = asyncio.run(_accept(find_target(etcd, namespace, config), token_floor))
    if as_json:
        print_json({"history": new.id, "token_floor": new.token_floor})
    else:
        click.echo(
            f"accepted: history {new.id} begins, fencing tokens are above {new.token_floor}; "
            "the replicas stand for election again within seconds"
        )


async def _accept(target: Target, token_floor: int | None) -> History:
    async with connect(target.etcd) as etcd:
        return await accept(etcd, Keys(target.namespace), token_floor=token_floor)
