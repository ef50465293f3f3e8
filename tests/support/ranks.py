"""Views with candidates that lack jobs, and what these do about it."""

from collections.abc import Collection, Mapping

from leaderjob.clock import utcnow
from leaderjob.cluster.lacking import count_lacks
from leaderjob.etcd import KeyValue
from leaderjob.model.job import JobSpec
from leaderjob.model.member import Candidate, Member, Priority, Role
from leaderjob.model.record import Record
from leaderjob.model.run import Cause, Run, State
from leaderjob.records.keys import Keys
from leaderjob.records.stored import Stored
from leaderjob.records.view import View

KEYS = Keys("n")
NOW = utcnow()


def member(replica: str, priority: Priority = Priority.ORDINARY) -> Member:
    return Member(
        replica=replica,
        incarnation=replica,
        role=Role.FOLLOWER,
        release="0",
        host="h",
        pid=1,
        started=utcnow(),
        addresses={},
        priority=priority,
    )


def unfinished(job: str, run: str = "r") -> Run:
    return Run(id=run, job=job, cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow())


class Line:
    """A view with definitions, and candidates in the order in which they came.

    :param have: the jobs that each replica has; None: it does not say. :param defined: the jobs in force.
    """

    def __init__(
        self,
        have: Mapping[str, Collection[str] | None],
        defined: Collection[str],
        preferred: Collection[str] = (),
    ) -> None:
        self.view = View(revision=1)
        self._revision = 1
        for job in defined:
            self.put(KEYS.spec(job), JobSpec(name=job, reference="m:f"))
        for replica, jobs in have.items():
            priority = Priority.PREFERRED if replica in preferred else Priority.ORDINARY
            record = member(replica, priority)
            self.put(KEYS.member(replica), record)
            if jobs is not None:
                self.has(replica, jobs)
            self.stand(replica)

    @property
    def order(self) -> list[str]:
        return [stored.record.replica for stored in self.view.queue]

    def put(self, key: str, record: Record) -> None:
        self._revision += 1
        place = KEYS.locate(key)
        assert place is not None
        self.view.set(place, Stored(key, record, self._revision, self._revision))

    def has(self, replica: str, jobs: Collection[str]) -> None:
        """The replica counts which jobs it lacks."""
        record = self.view.members[replica].record
        lacks = count_lacks(self.view, jobs)
        self.put(KEYS.member(replica), record.model_copy(update={"lacks": lacks}))

    def stand(self, replica: str) -> None:
        """It is the last in line from now on."""
        key = f"{KEYS.election}{replica.encode().hex()}"
        candidate = Candidate(replica=replica, incarnation=replica, addresses={}, since=utcnow())
        self.put(key, candidate)
        revision = self._revision
        self.view.candidates[key] = KeyValue(key, candidate.to_bytes(), revision, revision, 1, 0)
