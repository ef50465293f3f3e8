"""What another program imports: discover, query, trigger, watch.

Reads and writes keys, and asks replicas for answers; needs no leader for anything but the execution of
what it triggers.
"""

import asyncio
import getpass
import os
import random
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from pydantic import ValidationError

from leaderjob.clock import utcnow
from leaderjob.cluster.rank import why_worse
from leaderjob.cluster.schema import why_not_lead
from leaderjob.errors import LeaderjobError, NotFound, SettingsError
from leaderjob.etcd import Etcd, EtcdError, Put, User, absent
from leaderjob.etcd.lease import time_to_live
from leaderjob.etcd.maintenance import check_health
from leaderjob.json_text import ANSWER_LIMIT_BYTES, PARAMS_LIMIT_BYTES, QUERY_LIMIT_BYTES, InvalidJson, encode
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.ids import check_name, new_run_id
from leaderjob.model.query import QUERY_METHOD, SERVICE, Answer, Query
from leaderjob.model.run import Progress, Run, State
from leaderjob.records.facts import etcd_facts, job_facts, member_facts, next_in_line
from leaderjob.records.feed import Changes, read_feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.narrate import Narrator, leader_facts
from leaderjob.records.view import View
from leaderjob.tls import CertificateFiles

COMMAND_EXPIRES_AFTER = timedelta(minutes=5)
_QUERY_TIMEOUT_S = 15.0
_LOOK_EVERY_S = 2.0
_STATE_TIMEOUT_S = 1.0


class CommandRefused(LeaderjobError):
    """The leader consumed the command and refused it; the message says why."""


class NobodyLeads(LeaderjobError):
    """No leader took the command in time; it stays until it expires."""

    exit_code = 4


class NoAnswer(LeaderjobError):
    """No replica answered the query."""


class Client:
    """One namespace of an etcd cluster, and the replicas in it.

    :param endpoints: etcd's; ``certificates``, ``user`` and ``allow_plaintext_password``: see :class:`Etcd`.
    :param replica_certificates: what is shown to replicas that demand certificates.
    :raises SettingsError: see :class:`Etcd`.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        namespace: str = "default",
        *,
        certificates: CertificateFiles | None = None,
        user: User | None = None,
        allow_plaintext_password: bool = False,
        replica_certificates: CertificateFiles | None = None,
    ) -> None:
        self.keys = Keys(namespace)
        connect = partial(Etcd, user=user, allow_plaintext_password=allow_plaintext_password)
        self._etcd = connect(endpoints, certificates=certificates)
        # Single members are asked by their addresses, which no longer say https://.
        self._connect = partial(connect, certificates=self._etcd.connection.certificates)
        self._replica_certificates = replica_certificates

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._etcd.close()

    async def view(self) -> View:
        """Everything under the namespace, at one revision. :raises EtcdUnavailable: etcd is not there."""
        return await self._read(self.keys.root)

    async def _read(self, prefix: str) -> View:
        view = View()
        async with aclosing(read_feed(self._etcd, self.keys, view, below=prefix)) as batches:
            async for _ in batches:
                break
        return view

    async def status(self) -> dict[str, Any]:
        """Who leads, who is there and what it serves, each job's next fire and last run, and how etcd is.

        :raises EtcdUnavailable: etcd is not there.
        """
        view = await self.view()
        connect = partial(self._connect, call_timeout_s=_STATE_TIMEOUT_S)
        health = await check_health(connect, self._etcd.connection.endpoints)
        leader, key = leader_facts(view), view.leader_key
        if leader is not None and key is not None:
            left_s = await time_to_live(self._etcd.connection, key.lease) if key.lease else None
            leader["lease_left_s"] = left_s
            # By etcd's word on its last keepalive; the leader itself counts from when that was sent.
            stored = view.leader
            margin_s = stored.record.margin_s if stored is not None else None
            leader["trust_left_s"] = (
                None if left_s is None or margin_s is None else max(0.0, left_s - margin_s)
            )
        return {
            "namespace": self.keys.namespace,
            "leader": leader,
            "next": next_in_line(view, leader),
            "members": [member_facts(view, replica) for replica in sorted(view.members)],
            "jobs": [job_facts(view, job) for job in sorted(view.specs)],
            "schema_problem": why_not_lead(view),
            "newer": {key: found.reason for key, found in sorted(view.newer.items())},
            "quarantined": {key: found.reason for key, found in sorted(view.quarantined.items())},
            "etcd": etcd_facts(health),
        }

    async def follow(self) -> AsyncGenerator[tuple[Changes, View], None]:
        """Each batch of changes with the view that shows it; the first batch is what there is."""
        view = View()
        async with aclosing(read_feed(self._etcd, self.keys, view)) as batches:
            async for batch in batches:
                yield batch, view

    async def watch(self) -> AsyncGenerator[dict[str, Any], None]:
        """Events as ``leaderjob watch --json`` prints them, beginning with who is there. Runs until closed."""
        narrator = Narrator()
        async with aclosing(self.follow()) as batches:
            async for batch, view in batches:
                for event in narrator.tell(batch, view):
                    yield event

    async def outages(self, *, every_s: float = _LOOK_EVERY_S) -> AsyncGenerator[EtcdError | None, None]:
        """Beside a watch, which waits in silence: the error once etcd does not answer, None once it does again.

        Asked by a small linearizable read every ``every_s``. Runs until closed.
        """
        lost = False
        while True:
            await asyncio.sleep(every_s)
            error = await self._problem()
            if lost is (error is None):
                lost = error is not None
                yield error

    async def _problem(self) -> EtcdError | None:
        try:
            await self._etcd.get(self.keys.history)
        except EtcdError as error:
            return error
        return None

    async def runs(self, job: str | None = None) -> list[Run]:
        """The ledger, oldest first. :raises NotFound: there is no such job."""
        view = await self.view()
        if job is not None and job not in view.specs and not view.runs(job):
            raise NotFound(_no_job(view, job))
        found = [
            stored.record for name in ([job] if job else _jobs_with_runs(view)) for stored in view.runs(name)
        ]
        return sorted(found, key=lambda run: run.created)

    async def trigger(
        self, job: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 15.0
    ) -> str:
        """Ask the leader to run a job now; returns the run's id once it was admitted.

        :raises CommandRefused: it was not, and why. :raises NobodyLeads: no leader took it in time.
        :raises NotFound: there is no such job.
        """
        given = _checked(f"the parameters of {job}", params or {}, PARAMS_LIMIT_BYTES)
        view = await self._read(self.keys.jobs)
        if job not in view.specs:
            raise NotFound(_no_job(view, job))
        command = _command(CommandKind.TRIGGER, job=check_name("job", job), params=given)
        return (await self._give(command, f"{job} was not triggered", timeout_s)).id

    async def resign(self, *, to: str | None = None, force: bool = False, timeout_s: float = 30.0) -> int:
        """Ask the leader to give up office; returns the token of its term once it does.

        Runs under way may end before, for as long as its setting ``election.drain`` allows.

        :param to: the replica that is to lead next; by default whoever is next in line.
        :param force: also if that replica lacks more of the jobs than another candidate does.
        :raises CommandRefused: it does not, and why. :raises NobodyLeads: nobody does, or took it in time.
        """
        view = await self.view()
        leader = leader_facts(view)
        if leader is None or leader.get("foreign"):
            raise NobodyLeads(
                "no replica leads, so none can give up office: 'leaderjob status' shows who is there"
            )
        if to is not None and not force and (worse := why_worse(view, to)) is not None:
            raise CommandRefused(f"{leader['replica']} does not give up office: {worse}")
        kind = CommandKind.RESIGN if to is None else CommandKind.TRANSFER
        command = _command(kind, token=leader["token"], to=to and check_name("replica", to), force=force)
        await self._give(command, f"{leader['replica']} does not give up office", timeout_s)
        return int(leader["token"])

    async def follow_run(self, job: str, run: str) -> AsyncGenerator[tuple[Run, Progress | None], None]:
        """The run and how far its latest attempt is, now and whenever either changes; ends once the run is over.

        :raises NotFound: there is no such run, or no longer.
        """
        shown = None
        async with aclosing(self.follow()) as batches:
            async for _, view in batches:
                record = _run_in(view, job, run)
                found = record, view.progress(job, run)
                if found != shown:
                    shown = found
                    yield found
                if record.state is State.DONE:
                    return

    async def forget(self, job: str, *, timeout_s: float = 60.0) -> str:
        """Ask the leader to delete a job that no replica has any more, with its runs and results; returns what it did.

        :raises CommandRefused: a replica has it, or a worker of it may be alive. :raises NobodyLeads: no leader took it
            in time. :raises NotFound: there is no such job.
        """
        view = await self.view()
        if job not in view.specs and not view.runs(job) and not view.versions(job):
            raise NotFound(_no_job(view, job))
        command = _command(CommandKind.FORGET, job=check_name("job", job))
        return str((await self._give(command, f"{job} was not forgotten", timeout_s)).outcome)

    async def wait_for_run(self, job: str, run: str) -> Run:
        """The run, once it is over. :raises NotFound: there is no such run, or no longer."""
        view = View()
        changes = read_feed(self._etcd, self.keys, view, below=self.keys.run(job, run))
        async with aclosing(changes):
            async for _ in changes:
                record = _run_in(view, job, run)
                if record.state is State.DONE:
                    break
        return record

    async def query(
        self,
        job: str,
        fields: Mapping[str, Any],
        *,
        replica: str | None = None,
        timeout_s: float = _QUERY_TIMEOUT_S,
    ) -> Answer:
        """Ask one replica, any that serves the job, or the one named; the next one where it does not answer.

        :raises NotFound: there is no such replica, or none serves the job.
        :raises SettingsError: the query is wrong, or is not JSON within the bounds. :raises NoAnswer: nobody answered.
        """
        query = Query(job=job, fields=_checked(f"the query to {job}", fields, QUERY_LIMIT_BYTES))
        members = (await self.view()).members
        if replica is not None and replica not in members:
            raise NotFound(
                f"no replica is called {replica!r}; there are {', '.join(sorted(members)) or 'none'}"
            )
        serving = [
            stored.record
            for name, stored in members.items()
            if (replica is None or name == replica)
            and (holding := stored.record.holds.get(job)) is not None
            and holding.active is not None
        ]
        if not serving:
            raise NotFound(
                f"no replica serves a version of {job!r} yet: trigger a run with 'leaderjob trigger {job}'"
            )
        random.shuffle(serving)
        failures = []
        for member in serving:
            try:
                certificates = self._replica_certificates
                return await ask(member.addresses["grpc"], query, timeout_s, certificates=certificates)
            except NoAnswer as failure:
                failures.append(f"{member.replica}: {failure}")
        raise NoAnswer(f"no replica answered: {'; '.join(failures)}")

    async def _give(self, command: Command, refused: str, timeout_s: float) -> Command:
        """Hand it to the leader; returns it as it was consumed. :param refused: what it means if it is refused."""
        key, view = self.keys.command(command.id), View()
        # The id is random, so nobody else can have made the key: an unanswered write may be repeated.
        await self._etcd.txn([absent(key)], [Put(key, command.to_bytes())], repeatable=True)
        try:
            # Only the command: to list a hundred thousand finished runs takes longer than a leader needs.
            changes = read_feed(self._etcd, self.keys, view, below=key)
            async with asyncio.timeout(timeout_s), aclosing(changes):
                async for _ in changes:
                    stored = view.get(Kind.COMMAND, command.id)
                    if stored is not None and stored.record.done is not None:
                        if not stored.record.accepted:
                            raise CommandRefused(f"{refused}: {stored.record.outcome}")
                        done: Command = stored.record
                        return done
        except TimeoutError:
            pass
        raise NobodyLeads(
            f"no leader took the command within {timeout_s:g} s; it waits as {command.id} until it expires. "
            "'leaderjob status' shows who is there"
        )


def _checked(what: str, values: Mapping[str, Any], limit_bytes: int) -> dict[str, Any]:
    """:raises SettingsError: the values are not JSON within the bounds."""
    try:
        encode(dict(values), limit_bytes)
    except InvalidJson as error:
        raise SettingsError(f"{what} cannot be sent: {error}") from error
    return dict(values)


def _command(kind: CommandKind, **fields: Any) -> Command:
    now = utcnow()
    return Command(
        id=new_run_id(now),
        kind=kind,
        created=now,
        expires=now + COMMAND_EXPIRES_AFTER,
        by=f"{_user()}@{socket.gethostname()}",
        **fields,
    )


async def ask(
    address: str, query: Query, timeout_s: float, *, certificates: CertificateFiles | None = None
) -> Answer:
    """One replica's answer. :raises NoAnswer: it gave none; and as :meth:`Client.query`."""
    async with _channel(address, certificates) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{QUERY_METHOD}")
        try:
            return Answer.from_bytes(await call(query.to_bytes(), timeout=timeout_s))
        except ValidationError as error:
            raise NoAnswer(f"what {address} sent is not an answer") from error
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name.lower()
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise SettingsError(details) from error
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise NotFound(details) from error
            raise NoAnswer(details) from error


def _channel(address: str, certificates: CertificateFiles | None) -> Any:
    options = (
        ("grpc.enable_http_proxy", 0),
        # An answer at its limit, which may be longer as it travels: 1e-05 becomes 0.00001.
        ("grpc.max_receive_message_length", 2 * ANSWER_LIMIT_BYTES),
    )
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=options)
    pem = certificates.read_for_client()
    credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)
    return grpc.aio.secure_channel(address, credentials, options=options)


def _run_in(view: View, job: str, run: str) -> Run:
    """:raises NotFound: there is no such run."""
    stored = view.get(Kind.RUN, job, run)
    if stored is None:
        raise NotFound(f"job {job!r} has no run {run!r}: 'leaderjob runs {job}' lists those on record")
    record: Run = stored.record
    return record


def _jobs_with_runs(view: View) -> list[str]:
    return sorted({names[0] for names in view.records[Kind.RUN]})


def _no_job(view: View, job: str) -> str:
    known = ", ".join(sorted(view.specs)) or "none yet: a leader announces its jobs when it is elected"
    return f"no job is called {job!r}; known are {known}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
