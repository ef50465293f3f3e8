"""``leaderjob doctor``: would a replica with these settings run here?"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.output import print_json
from leaderjob.cli.replica_options import load_replica_settings, replica_options
from leaderjob.doctor.etcd import check_etcd
from leaderjob.doctor.jobs import check_jobs
from leaderjob.doctor.machine import check_ports, check_python, check_secrets, check_state
from leaderjob.doctor.members import check_members
from leaderjob.doctor.replica import check_replica
from leaderjob.doctor.verdict import Finding, Verdict, problem
from leaderjob.settings import Settings

_MARKS = {Verdict.OK: ("ok", "green"), Verdict.WARNING: ("!!", "yellow"), Verdict.PROBLEM: ("XX", "red")}


@click.command()
@replica_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(*, config: Path | None, as_json: bool, **flags: Any) -> int:
    """Check whether 'leaderjob run' with the same options would run here, and what is in its way.

    Starts nothing and changes nothing. Exits with 1 if there is a problem; a warning is none.
    """
    settings = load_replica_settings(config, flags).settings
    findings = asyncio.run(_examine(settings))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            _print(finding)
    return 1 if any(finding.verdict is Verdict.PROBLEM for finding in findings) else 0


async def _examine(settings: Settings) -> list[Finding]:
    secrets = list(check_secrets(settings))
    findings = [*check_python(), *secrets, *check_state(settings), *check_ports(settings)]
    overrides: Mapping[str, Any] = {}
    if not settings.etcd.endpoints:
        findings.append(problem("etcd", "none is configured", "say --etcd HOST:PORT, or set etcd.endpoints"))
    elif not secrets:  # without its password, etcd is not asked
        findings += await check_etcd(settings.etcd)
        told, overrides = await check_replica(settings)
        findings += told
        if settings.election.takeover_fast:
            findings += await check_members(settings.etcd)
    return findings + await check_jobs(settings, overrides)


def _print(finding: Finding) -> None:
    mark, colour = _MARKS[finding.verdict]
    click.echo(f"{click.style(mark, fg=colour)}  {click.style(finding.subject, bold=True)}: {finding.found}")
    if finding.remedy is not None:
        click.echo(f"      → {finding.remedy}")
