"""The composition root: settings become objects, and one TaskGroup names every long-lived task.

::

    liveness listener            closes last: while it listens, this process is alive
    └─ etcd, store, query workers, blob server, gRPC server
       └─ tasks: feed · followers · election (session ─► campaign ─► term)

A task that breaks is reported and begins again; the others go on. Stopping goes the other way: the term's
work, office, the lease, then what serves, then the listener.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from leaderjob.api.server import ReplicaServer
from leaderjob.clock import utcnow
from leaderjob.cluster.history import HistoryCheck
from leaderjob.cluster.identity import Identity
from leaderjob.cluster.lacking import count_lacks, keep_lacks_counted
from leaderjob.cluster.liveness_port import LivenessListener
from leaderjob.cluster.membership import Membership
from leaderjob.cluster.preflight import check_releases, refuse_short_ttl, refuse_without_permission
from leaderjob.cluster.reachability import Reachability
from leaderjob.connecting import connect, replica_certificates
from leaderjob.errors import LeaderjobError, SettingsError
from leaderjob.etcd import Etcd
from leaderjob.execution.cgroup import kill_leftovers
from leaderjob.execution.query import QueryPool
from leaderjob.importing import Imports
from leaderjob.keep_running import keep_running
from leaderjob.leading import Leading
from leaderjob.listening import Listening, join, plan_http, plan_listening
from leaderjob.model.ids import new_incarnation
from leaderjob.model.member import Member, Priority, Role
from leaderjob.model.schema import READS_SCHEMA
from leaderjob.modules import current_directory
from leaderjob.monitors import monitors_of
from leaderjob.probes import Probes
from leaderjob.recipes import Timing
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys
from leaderjob.results.activation import Activation
from leaderjob.results.server import BlobServer
from leaderjob.results.store import Store
from leaderjob.serving.follower import Follower
from leaderjob.serving.followers import follow_all
from leaderjob.serving.served import served_sequences
from leaderjob.settings import ReplicaSettings, Settings, TlsSettings
from leaderjob.shutdown import AskedToStop, Shutdown
from leaderjob.state_directory import provide_temporary_directory, state_directory
from leaderjob.systemd import Systemd
from leaderjob.telemetry.events import Events, emit, listen
from leaderjob.telemetry.redaction import Redaction
from leaderjob.telemetry.sentry.client import Sentry
from leaderjob.telemetry.trace import Trace
from leaderjob.tls import CertificateFiles, Fresh
from leaderjob.version import __version__

MAX_RESULT_BYTES = 64 * 1024**3
SENTRY_CLOSES_WITHIN_S = 2.0
_LOOK_TIMEOUT_S = 1.0

Part = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a replica does as long as it runs: each part runs until it is cancelled, or has nothing to do.

    ``refused`` returns when, and why, the replica may not go on. When it was asked to stop, ``leave`` and ``stopping``
    are called; ``out_of_office`` returns when it does not lead.
    """

    feed: Part
    followers: Part
    election: Part
    reachability: Part
    lacks: Part
    late_jobs: Part
    service_manager: Part
    refused: Callable[[], Awaitable[LeaderjobError]]
    leave: Callable[[], None]
    stopping: Callable[[], None]
    out_of_office: Part


async def run_replica(settings: Settings, redaction: Redaction) -> None:
    """Run one replica until SIGTERM or SIGINT; then give up office and leave in order.

    :param redaction: is told the secrets as they are read.
    :raises SettingsError: something that was asked for cannot be. :raises EtcdUnavailable: at the start.
    """
    if not settings.etcd.endpoints:
        raise SettingsError(
            "no etcd is given: say --etcd HOST:PORT. To have one to try, run 'leaderjob demo', or install "
            "one (Debian: apt install etcd-server) and start it with 'etcd'"
        )
    shutdown = Shutdown.on_signals(
        kill_grace_s=settings.election.kill_grace_s, drain_s=settings.election.drain
    )
    with suppress(AskedToStop):
        async with AsyncExitStack() as stack:
            try:
                async with shutdown.cutting_short():
                    parts = await _start(stack, settings, redaction)
                await run_until_asked(shutdown, parts)
            except AskedToStop:
                raise
            except Exception as error:
                # Told here, where Sentry still is.
                trace = None if isinstance(error, LeaderjobError) else Trace.of(error)
                emit(Events.REPLICA_FAILED, reason=error, trace=trace)
                raise
    emit(Events.REPLICA_STOPPED)


async def _start(stack: AsyncExitStack, settings: Settings, redaction: Redaction) -> Parts:
    """Everything that a replica needs, opened in order; ``stack`` closes it again."""
    systemd = Systemd.from_environment(os.environ)
    # First of all: whatever is told from here on may quote them.
    for secret in (settings.etcd.read_password(), settings.sentry.read_dsn()):
        if secret is not None:
            redaction.add(secret.get_secret_value())
    sentry = _start_sentry(stack, settings, redaction)
    listening, http = _plan(settings.replica, settings.tls)
    imports = await stack.enter_async_context(Imports(settings, cwd=current_directory()))
    await imports.first_look()
    assignments = imports.assignments

    def watch_jobs() -> None:
        if sentry is not None and settings.sentry.crons:
            sentry.watch(monitors_of(assignments.values(), settings.etcd.namespace))

    watch_jobs()
    keys = Keys(settings.etcd.namespace)
    timing = Timing(settings.election.ttl, settings.election.margin_s, settings.election.keepalive)
    incarnation = new_incarnation()
    liveness = await stack.enter_async_context(
        LivenessListener(
            settings.replica.id, incarnation, listening.host, port=settings.replica.liveness_port
        )
    )
    etcd = await _open_etcd(stack, settings, redaction, keys)
    store, activation = _open_store(stack, settings)
    await asyncio.to_thread(kill_leftovers)
    ports = await _open_ports(stack, settings, listening, http, store)
    addresses = {
        "grpc": ports.grpc,
        "http": ports.http,
        "liveness": join(listening.advertised_host, liveness.port),
    }
    feed = Feed(etcd, keys)
    membership = await _join(etcd, keys, feed, _member(settings, incarnation, addresses), settings.state_dir)
    reachability = Reachability(feed, membership, ttl_s=timing.ttl_s)
    may_take_over_fast = (
        settings.election.takeover_fast and membership.member.priority is not Priority.OBSERVER
    )
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
        all_loaded=lambda: not imports.unloaded,
        until_more=imports.until_more,
        hosts=(listening.host, listening.advertised_host),
    )

    def follower(job: str) -> Follower:
        description = imports.find(job)
        return Follower(
            job,
            feed=feed,
            membership=membership,
            store=store,
            activation=activation,
            queries=ports.queries,
            reference=description.spec.reference if description and description.spec.has_query else None,
            history=lambda: leading.history_id,
            keep=settings.results.keep,
            max_total_bytes=MAX_RESULT_BYTES,
            tls=ports.tls,
        )

    probes = Probes(
        leading=leading,
        feed=feed,
        membership=membership,
        release=__version__,
        unloaded=lambda: [f"{failure.module}: {failure.reason}" for failure in imports.unloaded],
    )
    etcd.connection.on_round_trip = probes.metrics.round_trip
    stack.callback(listen(probes.metrics.tell))
    for path, route in probes.routes().items():
        ports.blobs.add_route(path, route)

    async def take_notice_of_late_jobs() -> None:
        known = set(assignments)
        while True:
            await imports.until_more(known)
            known |= assignments.keys()
            if feed.view.revision > 0:
                membership.set(lacks=count_lacks(feed.view, known))
            watch_jobs()

    def stopping() -> None:
        probes.stopping()
        systemd.stopping()

    jobs = ",".join(assignments) or "none"
    emit(Events.REPLICA_STARTED, pid=os.getpid(), jobs=jobs, namespace=keys.namespace, **addresses)
    return Parts(
        feed=feed.run,
        followers=lambda: follow_all(feed, follower, assignments.keys(), imports.until_more),
        election=leading.run,
        reachability=reachability.run if may_take_over_fast else _nothing,
        late_jobs=take_notice_of_late_jobs,
        lacks=lambda: keep_lacks_counted(feed, membership, assignments.keys()),
        service_manager=lambda: systemd.keep_told(lambda: feed.until(lambda view: view.revision > 0)),
        refused=membership.refused,
        leave=leading.leave,
        stopping=stopping,
        out_of_office=leading.out_of_office,
    )


@dataclass(frozen=True, slots=True)
class _Ports:
    """Where others ask. :param grpc: as advertised, and so ``http``. :param tls: what to ask them with, if anything."""

    grpc: str
    http: str
    queries: QueryPool
    blobs: BlobServer
    tls: Callable[[], ssl.SSLContext] | None


async def _open_ports(
    stack: AsyncExitStack, settings: Settings, listening: Listening, http: Listening, store: Store
) -> _Ports:
    """:raises SettingsError: an address is in use, or a certificate cannot be used."""
    queries = await stack.enter_async_context(
        QueryPool(settings.state_dir / "queries", cwd=current_directory())
    )
    certificates = replica_certificates(settings.tls)
    if certificates is not None:
        certificates.check_among_peers(listening.advertised_host)
    tls = Fresh(certificates, CertificateFiles.client_context) if certificates is not None else None
    blobs = BlobServer(store, http.host, http.port, certificates=certificates)
    stack.push_async_callback(asyncio.to_thread, blobs.close)
    _, http_port = blobs.start()
    server = await stack.enter_async_context(
        ReplicaServer(settings.replica.id, queries, listening.bind, certificates=certificates)
    )
    return _Ports(
        grpc=listening.advertise(server.port),
        http=http.advertise(http_port),
        queries=queries,
        blobs=blobs,
        tls=tls.get if tls is not None else None,
    )


async def _open_etcd(stack: AsyncExitStack, settings: Settings, redaction: Redaction, keys: Keys) -> Etcd:
    """The client for all that follows. :raises LeaderjobError: this replica cannot work with that etcd."""
    etcd = await stack.enter_async_context(
        connect(settings.etcd, call_timeout_s=settings.election.call_timeout_s, on_secret=redaction.add)
    )
    await check_releases(
        lambda endpoints: connect(
            settings.etcd.model_copy(update={"endpoints": tuple(endpoints)}),
            call_timeout_s=_LOOK_TIMEOUT_S,
            on_secret=redaction.add,
        ),
        settings.etcd.endpoints,
    )
    await refuse_without_permission(etcd, keys)
    await refuse_short_ttl(etcd, settings.election.ttl)
    return etcd


async def _join(etcd: Etcd, keys: Keys, feed: Feed, member: Member, directory: Path) -> Membership:
    """:raises DuplicateReplica: a live process has this id."""
    identity = Identity(etcd, keys.member(member.replica), member.incarnation, directory)
    identity.note()
    membership = Membership(etcd, keys, feed, member, identity)
    await membership.refuse_duplicate()
    return membership


async def run_until_asked(shutdown: Shutdown, parts: Parts) -> None:
    """Every long-lived task of a replica, until it is asked to stop.

    :raises LeaderjobError: it may not go on, and has left in order.
    """
    async with asyncio.TaskGroup() as group:

        def start(name: str, part: Part) -> asyncio.Task[None]:
            return group.create_task(keep_running(name, part), name=name)

        election = start("election", parts.election)
        serving = [
            start("feed", parts.feed),
            start("followers", parts.followers),
            start("reachability", parts.reachability),
            start("lacks", parts.lacks),
            start("late jobs", parts.late_jobs),
            start("service manager", parts.service_manager),
        ]
        refusal = await _asked_or_refused(shutdown, parts)
        # Office first, while everything that it needs is still there, and before anything else is done: all wait.
        parts.leave()
        parts.stopping()
        await shutdown.unless_insisted(parts.out_of_office())
        election.cancel()
        await asyncio.wait([election])
        for task in serving:
            task.cancel()
    if refusal is not None:
        raise refusal


async def _asked_or_refused(shutdown: Shutdown, parts: Parts) -> LeaderjobError | None:
    """Wait until the replica is asked to stop, or may not go on; then it asks itself, and this is why."""
    refused = asyncio.ensure_future(parts.refused())
    asked = asyncio.ensure_future(shutdown.asked.wait())
    try:
        await asyncio.wait([refused, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in (refused, asked):
            waiting.cancel()
        await asyncio.gather(refused, asked, return_exceptions=True)
    if refused.cancelled():
        return None
    refusal = refused.result()
    emit(Events.ID_TAKEN, reason=refusal)
    shutdown.ask()
    return refusal


async def _nothing() -> None:
    """A part that there is no need of."""


def _start_sentry(stack: AsyncExitStack, settings: Settings, redaction: Redaction) -> Sentry | None:
    """None without a DSN."""
    dsn = settings.sentry.read_dsn()
    if dsn is None:
        return None
    sentry = Sentry(
        dsn.get_secret_value(),
        environment=settings.sentry.environment,
        release=__version__,
        replica=settings.replica.id,
        namespace=settings.etcd.namespace,
        mask=redaction.mask,
    )
    stack.push_async_callback(asyncio.to_thread, sentry.close, SENTRY_CLOSES_WITHIN_S)
    stack.callback(listen(sentry.tell))
    return sentry


def _plan(replica: ReplicaSettings, tls: TlsSettings) -> tuple[Listening, Listening]:
    """Where queries are answered, and where published files are handed out."""
    open_to_all = tls.enabled or replica.insecure
    listening = plan_listening(replica.listen, replica.advertise, open_to_all=open_to_all)
    http = plan_http(replica.listen_http, replica.advertise, main=listening, open_to_all=open_to_all)
    return listening, http


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
        priority=Priority(settings.replica.priority),
        reads_schema=READS_SCHEMA,
    )


def _open_store(stack: AsyncExitStack, settings: Settings) -> tuple[Store, Activation]:
    directory = stack.enter_context(state_directory(settings.state_dir, replica=settings.replica.id))
    provide_temporary_directory(directory)
    try:
        store = stack.enter_context(Store(directory / "store"))
        return store, Activation(store)
    except OSError as error:
        raise SettingsError(
            f"the state directory {directory} cannot be used: {error}; repair what is there, or choose another "
            "--state-dir: what was published is then fetched anew"
        ) from error
