"""etcd: is it reachable, of which version and size, may we do what we have to, and what time is it there."""

import asyncio
import http.client
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from leaderjob.cluster.preflight import UPGRADE, is_too_old, loses_data, refuse_without_permission
from leaderjob.connecting import connect, etcd_certificates
from leaderjob.doctor.verdict import Finding, ok, problem, warning
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Etcd, EtcdError
from leaderjob.etcd.maintenance import Health, check_health
from leaderjob.records.keys import Keys
from leaderjob.settings import EtcdSettings

_SLOW_S = 0.1
_CLOCK_WARNING_S = 2.0
_TIMEOUT_S = 2.0


async def check_etcd(settings: EtcdSettings) -> list[Finding]:
    """:param settings: with an endpoint at least."""
    health = await check_health(
        lambda endpoints: connect(
            settings.model_copy(update={"endpoints": tuple(endpoints)}), call_timeout_s=_TIMEOUT_S
        ),
        settings.endpoints,
    )
    # First of all: an old one may not even understand what is asked next.
    findings = list(_versions(health))
    try:
        async with connect(settings, call_timeout_s=_TIMEOUT_S) as client:
            began = time.monotonic()
            await client.get(Keys(settings.namespace).history)
            findings.append(_round_trip(time.monotonic() - began))
            findings.append(await _permissions(client, Keys(settings.namespace)))
    except LeaderjobError as error:
        remedy = "a replica does not start without etcd; one that runs goes on serving what it has, and nobody leads"
        return [*findings, problem("etcd", str(error), remedy)]
    findings += [problem("etcd", sentence, "see docs/etcd.md") for sentence in health.warnings()]
    findings += [await asyncio.to_thread(_clock, settings, status.endpoint) for status in health.endpoints]
    return findings


def _round_trip(seconds: float) -> Finding:
    found = f"answers a linearizable read in {seconds * 1000:.0f} ms"
    if seconds > _SLOW_S:
        return warning("etcd", found, "give etcd a fast disk, and run it near the replicas")
    return ok("etcd", found)


async def _permissions(client: Etcd, keys: Keys) -> Finding:
    try:
        await refuse_without_permission(client, keys)
    except EtcdError as error:
        return problem("permissions", str(error), "docs/etcd.md lists what a replica needs")
    return ok("permissions", f"may read and write below {keys.root}")


def _versions(health: Health) -> Iterator[Finding]:
    for status in health.endpoints:
        found = f"{status.version}, database {status.db_size_bytes / 1024**2:.1f} MiB"
        subject = f"etcd at {status.endpoint}"
        if is_too_old(status.version):
            yield problem(subject, found, "leaderjob needs etcd 3.4 or newer")
        elif loses_data(status.version):
            yield warning(subject, f"{found}: etcd 3.5.0 to 3.5.2 are known to lose data", UPGRADE)
        else:
            yield ok(subject, found)


def _clock(settings: EtcdSettings, endpoint: str) -> Finding:
    """By the date in the header of an HTTP answer, which has whole seconds."""
    subject = f"clock against {endpoint}"
    if endpoint.startswith("unix:"):
        return ok(subject, "on this machine")
    certificates = etcd_certificates(settings)
    connection = (
        http.client.HTTPConnection(endpoint, timeout=_TIMEOUT_S)
        if certificates is None
        else http.client.HTTPSConnection(endpoint, timeout=_TIMEOUT_S, context=certificates.client_context())
    )
    try:
        connection.request("GET", "/version")
        there = parsedate_to_datetime(connection.getresponse().headers["Date"])
    except (OSError, http.client.HTTPException, TypeError, ValueError) as error:
        return warning(subject, f"it does not tell its time: {error}", "compare the clocks yourself")
    finally:
        connection.close()
    apart_s = abs((datetime.now(UTC) - there).total_seconds() - 0.5)
    if apart_s > _CLOCK_WARNING_S:
        return warning(
            subject,
            f"{apart_s:.0f} s apart",
            "let NTP set the clocks: fires are due by the leader's clock. Leadership does not depend on it",
        )
    return ok(subject, "less than 2 s apart")
