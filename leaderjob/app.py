"""The composition root: settings become objects, and one TaskGroup names every long-lived task.

::

    liveness listener            closes last: while it listens, this process is alive
    └─ etcd, store, query workers, blob server, gRPC server
       └─ tasks: feed · followers · election (session ─► campaign ─► term)

Stopping goes the other way: the term's work, office, the lease, then what serves, then the listener.
"""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderjob.api.server import ReplicaServer
from leaderjob.catalog.catalog import Catalog, describe
from leaderjob.clock import utcnow
from leaderjob.cluster.history import HistoryCheck
from leaderjob.cluster.liveness import LivenessListener
from leaderjob.cluster.membership import Membership
from leaderjob.engine.office import Assignment
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd
from leaderjob.execution.query import QueryPool
from leaderjob.leading import Leading
from leaderjob.listening import Listening, join, plan_listening, split
from leaderjob.model.ids import new_incarnation
from leaderjob.model.member import Member, Role
from leaderjob.recipes import Timing
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys
from leaderjob.results.activation import Activation
from leaderjob.results.server import BlobServer
from leaderjob.results.store import Store
from leaderjob.scheduling.triggers import parse_schedule
from leaderjob.serving.follower import Follower
from leaderjob.serving.followers import follow_all
from leaderjob.serving.served import served_sequences
from leaderjob.settings import Settings
from leaderjob.telemetry.events import Events, emit
from leaderjob.version import __version__

MAX_RESULT_BYTES = 64 * 1024**3
_STOP_WITHIN_S = 9.0


@dataclass(slots=True)
class _Shutdown:
    """Set by SIGTERM or SIGINT."""

    asked: asyncio.Event

    @classmethod
    def on_signals(cls) -> "_Shutdown":
        shutdown = cls(asyncio.Event())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, shutdown.asked.set)
        return shutdown


async def run_replica(settings: Settings) -> None:
    """Run one replica until SIGTERM or SIGINT; then give up office and leave in order.

    :raises SettingsError: something that was asked for cannot be. :raises EtcdUnavailable: at the start.
    """
    if not settings.etcd.endpoints:
        raise SettingsError(
            "no etcd is given: say --etcd HOST:PORT. To have one to try, run 'leaderjob demo', or install "
            "one (Debian: apt install etcd-server) and start it with 'etcd'"
        )
    shutdown = _Shutdown.on_signals()
    listening = plan_listening(
        settings.replica.listen, settings.replica.advertise, insecure=settings.replica.insecure
    )
    catalog = await describe(settings.jobs, cwd=Path.cwd())
    assignments = assign(catalog, settings)
    keys = Keys(settings.etcd.namespace)
    timing = Timing(settings.election.ttl, settings.election.margin_s, settings.election.keepalive)
    async with AsyncExitStack() as stack:
        incarnation = new_incarnation()
        liveness = await stack.enter_async_context(
            LivenessListener(settings.replica.id, incarnation, listening.host)
        )
        etcd = await stack.enter_async_context(
            Etcd(settings.etcd.endpoints, call_timeout_s=min(2.0, timing.ttl_s / 4))
        )
        store = stack.enter_context(Store(_state_directory(settings) / "store"))
        activation = Activation(store)
        queries = await stack.enter_async_context(QueryPool(settings.state_dir / "queries", cwd=Path.cwd()))
        http_address = _start_blob_server(stack, store, settings, listening)
        grpc_server = await stack.enter_async_context(
            ReplicaServer(settings.replica.id, queries, listening.bind)
        )
        feed = Feed(etcd, keys)
        addresses = {
            "grpc": listening.advertise(grpc_server.port),
            "http": http_address,
            "liveness": join(listening.advertised_host, liveness.port),
        }
        membership = Membership(etcd, keys, feed, _member(settings, incarnation, addresses))
        await membership.refuse_duplicate()
        leading = Leading(
            settings=settings,
            etcd=etcd,
            keys=keys,
            feed=feed,
            timing=timing,
            membership=membership,
            history_check=HistoryCheck(
                etcd,
                keys,
                settings.replica.id,
                settings.state_dir,
                served=lambda: served_sequences(activation, assignments),
            ),
            store=store,
            activation=activation,
            assignments=assignments,
        )

        def follower(job: str) -> Follower:
            description = catalog.find(job)
            return Follower(
                job,
                feed=feed,
                membership=membership,
                store=store,
                activation=activation,
                queries=queries,
                reference=description.spec.reference if description and description.spec.has_query else None,
                history=lambda: leading.history_id,
                keep=settings.results.keep,
                max_total_bytes=MAX_RESULT_BYTES,
            )

        jobs = ",".join(assignments) or "none"
        emit(Events.REPLICA_STARTED, pid=os.getpid(), jobs=jobs, namespace=keys.namespace, **addresses)
        following = follow_all(feed, follower, frozenset(assignments))
        await _run_until(shutdown, leading, feed, following)
    emit(Events.REPLICA_STOPPED)


async def _run_until(
    shutdown: _Shutdown, leading: Leading, feed: Feed, following: Coroutine[Any, Any, None]
) -> None:
    """Every long-lived task of a replica, until it is asked to stop."""
    async with asyncio.TaskGroup() as group:
        election = group.create_task(leading.run(), name="election")
        serving = [
            group.create_task(feed.run(), name="feed"),
            group.create_task(following, name="followers"),
        ]
        await shutdown.asked.wait()
        emit(Events.REPLICA_STOPPING)
        _give_up_after(_STOP_WITHIN_S)
        # Office first, while everything that it needs is still there.
        election.cancel()
        await asyncio.wait([election])
        for task in serving:
            task.cancel()


def _member(settings: Settings, incarnation: str, addresses: dict[str, str]) -> Member:
    return Member(
        replica=settings.replica.id,
        incarnation=incarnation,
        role=Role.FOLLOWER,
        release=__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=utcnow(),
        addresses=addresses,
    )


def _give_up_after(seconds: float) -> None:
    """End the process if it has not ended by then, from a thread, whatever the event loop hangs on.

    That costs nobody anything: workers die with the pipe to their guard, the lease runs out by itself.
    """

    def give_up() -> None:
        emit(Events.REPLICA_STOPPED, reason=f"it did not stop in order within {seconds:g} s")
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def assign(catalog: Catalog, settings: Settings) -> dict[str, Assignment]:
    """The jobs as this replica would run them: the module's definition, and what settings override.

    A schedule that cannot be parsed costs its job the schedule, and nobody else anything.

    :raises SettingsError: an override names no job.
    """
    for failure in catalog.failures:
        emit(Events.JOB_FAILED_TO_LOAD, module=failure.module, reason=failure.reason, trace=failure.traceback)
    known = {description.spec.name for description in catalog.jobs}
    for name in settings.overrides:
        if name not in known and not catalog.failures:
            raise SettingsError(
                f"setting 'overrides.{name}': no job is called that; known are {', '.join(sorted(known))}"
            )
    assignments = {}
    for description in catalog.jobs:
        spec = description.spec
        override = settings.overrides.get(spec.name)
        if override is not None:
            changes: dict[str, object] = {"params": {**spec.params, **override.params}}
            if override.schedule is not None:
                changes["schedule"] = override.schedule
            if override.timeout is not None:
                changes["policy"] = spec.policy.model_copy(update={"timeout_s": override.timeout})
            spec = spec.model_copy(update=changes)
        try:
            trigger = parse_schedule(spec.schedule, job=spec.name, time_zone=spec.time_zone)
        except SettingsError as error:
            emit(Events.JOB_SCHEDULE_INVALID, job=spec.name, reason=error)
            spec = spec.model_copy(update={"schedule_error": str(error)})
            trigger = parse_schedule((), job=spec.name)
        assignments[spec.name] = Assignment(spec, description, trigger)
    return assignments


def _state_directory(settings: Settings) -> Path:
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the state directory {settings.state_dir} cannot be made: {error.strerror}; choose another --state-dir"
        ) from error
    if not os.access(settings.state_dir, os.W_OK):
        raise SettingsError(
            f"the state directory {settings.state_dir} is not writable by this user; choose another --state-dir"
        )
    return settings.state_dir


def _start_blob_server(stack: AsyncExitStack, store: Store, settings: Settings, listening: Listening) -> str:
    if settings.replica.listen_http is None:
        host, port = listening.host, 0
    else:
        host, port = split("listen_http", settings.replica.listen_http)
    server = BlobServer(store, host, port)
    stack.push_async_callback(asyncio.to_thread, server.close)
    _, bound_port = server.start()
    return join(listening.advertised_host, bound_port)
