"""Whether this process may have its replica's id, which the record under ``members/`` has a holder for.

A process that was started again takes over from the one before it at once, by compare, where it knows that
one to be gone: both had the same state directory, which one process at a time can hold. Whoever else left the
record there may be alive although it does not answer (cut off from here, or stopped for a moment), so there
the lease decides: it runs out, or somebody keeps it alive.
"""

import asyncio
from pathlib import Path

from leaderjob.atomic_files import write_file
from leaderjob.clock import boottime
from leaderjob.cluster.liveness import incarnation_at
from leaderjob.errors import SettingsError
from leaderjob.etcd import Delete, Etcd, KeyValue, created_at
from leaderjob.etcd.lease import time_to_live
from leaderjob.model.member import Candidate, Member
from leaderjob.records.keys import Kind
from leaderjob.records.stored import CorruptRecord, NewerRecord, decode
from leaderjob.telemetry.events import Events, emit

INCARNATIONS = "incarnations"

_MOST_NOTED = 8
_DIAL_TIMEOUT_S = 1.0
_LOOK_AGAIN_S = 0.25
_LEASES_END_LATE_BY_S = 2.0  # etcd looks for those that ran out twice a second, and revokes them through Raft


class DuplicateReplica(SettingsError):
    """Another live process has this replica's id."""

    def __init__(self, other: Member, how: str) -> None:
        super().__init__(
            f"replica {other.replica!r} is already running on host {other.host} with pid {other.pid}, {how}: "
            "give this one another --id, or stop that one"
        )


class TakenByNewer(DuplicateReplica):
    """A record with this id is there that only a newer release can read: whose it is cannot be told."""

    def __init__(self, key: str, left_s: int, reason: str) -> None:
        SettingsError.__init__(
            self,
            f"{reason}. Give this replica another --id; or, if that process is gone, start this one again once the "
            f"lease of {key} has run out, in {left_s} s",
        )


class Identity:
    """The claim of one incarnation to its replica's id.

    :param key: of the record.
    :param directory: the state directory, which this process holds.
    """

    def __init__(self, etcd: Etcd, key: str, incarnation: str, directory: Path) -> None:
        self._etcd = etcd
        self._key = key
        self._incarnation = incarnation
        self._path = directory / INCARNATIONS
        self._gone: frozenset[str] = frozenset()

    def note(self) -> None:
        """Write this incarnation to the state directory, for the next one. :raises SettingsError: it cannot be written."""
        try:
            noted = self.read_former()
            kept = [self._incarnation, *noted][:_MOST_NOTED]
            write_file(self._path, ("\n".join(kept) + "\n").encode())
        except OSError as error:
            raise SettingsError(
                f"{self._path} cannot be written: {error.strerror}. It tells the next start that this process is gone; "
                "mend the disk or its rights, or choose another --state-dir"
            ) from error

    def read_former(self) -> list[str]:
        """Read which incarnations the state directory knows, the latest first. :raises OSError: it cannot be read."""
        noted = self._path.read_text(errors="replace").split() if self._path.exists() else []
        self._gone = frozenset(noted) - {self._incarnation}
        return noted

    async def doubted(self) -> Member | None:
        """Whose process may still have the id, by one look; None: it is free.

        :raises DuplicateReplica: a live process has it. :raises EtcdError: etcd does not answer.
        """
        return await self._doubted(await self._etcd.get(self._key))

    async def claim(self) -> int:
        """The ``mod_revision`` of the record that this process may replace; 0: there is none.

        Takes as long as a lease that nobody may keep alive, where it is not known whether somebody does.

        :raises DuplicateReplica: a live process has the id. :raises EtcdError: etcd does not answer.
        """
        doubted: Member | None = None
        left_s: int | None = None
        give_up_at = 0.0
        while True:
            found = await self._etcd.get(self._key)
            other = await self._doubted(found)
            if found is None or other is None:
                return found.mod_revision if found is not None else 0
            before_s = left_s if doubted == other else None
            left_s = await time_to_live(self._etcd.connection, found.lease) or 0
            if doubted != other:
                doubted, give_up_at = other, boottime() + left_s + _LEASES_END_LATE_BY_S
                emit(Events.ID_IN_DOUBT, host=other.host, pid=other.pid, seconds=left_s)
            elif (before_s is not None and left_s > before_s) or boottime() >= give_up_at:
                address = other.addresses.get("liveness", "")
                raise DuplicateReplica(other, f"and keeps its lease alive, but does not answer at {address}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def withdraw_former(self, election: str) -> None:
        """Delete what former processes of this replica left in the election: nobody has to wait for their leases.

        What they may have had under way is another matter, as after any verdict: their jobs are held back until
        the workers are surely gone.

        :param election: its prefix. :raises EtcdError: etcd does not answer.
        """
        for kv in (await self._etcd.range(election)).kvs:
            try:
                candidate = Candidate.from_bytes(kv.value)
            except ValueError:
                continue  # of another program
            if candidate.incarnation not in self._gone:
                continue
            emit(
                Events.VERDICT,
                key=kv.key,
                evidence=f"{candidate.replica} was started again on its state directory",
            )
            result = await self._etcd.txn(
                [created_at(kv.key, kv.create_revision)], [Delete(kv.key)], repeatable=True
            )
            if result.succeeded and kv.lease:
                await self._etcd.revoke(kv.lease)

    async def _doubted(self, found: KeyValue | None) -> Member | None:
        """Who else the record is of, where that process may live. :raises DuplicateReplica: it does, as it answers."""
        other = await self._other(found)
        if found is None or other is None:
            return None
        address = other.addresses.get("liveness", "")
        if address and await incarnation_at(address, timeout_s=_DIAL_TIMEOUT_S) == other.incarnation:
            raise DuplicateReplica(other, f"and answers at {address}")
        return None if other.incarnation in self._gone or not found.lease else other

    async def _other(self, found: KeyValue | None) -> Member | None:
        """Who else the record is of; None: of nobody, because it is ours, not there, or cannot be read.

        :raises TakenByNewer: of a newer release's replica, as long as its lease lives.
        """
        if found is None:
            return None
        try:
            record = decode(Kind.MEMBER, found).record
        except CorruptRecord:
            return None
        except NewerRecord as newer:
            left_s = await time_to_live(self._etcd.connection, found.lease) if found.lease else None
            if left_s is None:
                return None
            raise TakenByNewer(self._key, left_s, str(newer)) from newer
        return record if isinstance(record, Member) and record.incarnation != self._incarnation else None
