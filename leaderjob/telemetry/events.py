"""The documented list of every event in the life of a replica.

An event has a name, a level and fields; its fields name what a person on call needs: job, run, term
(the fencing token), replica, reason. The list is a contract: names are added, not changed.
"""

import logging
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

logger = logging.getLogger("leaderjob")


class Events(Enum):
    """Each event: its level, what it means, and the fields that it has whenever it happens."""

    REPLICA_STARTED = (logging.INFO, "the replica is up: addresses, jobs")
    REPLICA_STOPPING = (logging.INFO, "the replica was asked to stop")
    REPLICA_STOPPED = (logging.INFO, "the replica has stopped")
    REPLICA_FAILED = (logging.ERROR, "the replica cannot start, or has ended in disorder: why", "reason")

    ID_IN_DOUBT = (
        logging.WARNING,
        "a process that does not answer has left a record with this replica's id: waits for its lease to run out",
        "host pid",
    )
    ID_TAKEN = (
        logging.ERROR,
        "another live process has this replica's id by now: this one gives up office and ends",
        "reason",
    )
    MEMBER_UNREACHABLE = (
        logging.WARNING,
        "nobody answers at the address that a member advertises: if it crashes while this replica is next in line, "
        "that is noticed by its TTL only",
        "member address reason",
    )
    MEMBER_REACHABLE = (logging.INFO, "a member answers at its address after all", "member address")

    SESSION_OPENED = (logging.INFO, "a lease was granted: its id and TTL", "lease")
    SESSION_SHORT_TTL = (logging.WARNING, "the TTL does not outlast the death of an etcd leader")
    SESSION_LOST = (logging.WARNING, "the lease is gone", "lease")
    KEEPALIVE_FAILED = (
        logging.WARNING,
        "a keepalive was not acknowledged or not confirmed; it is tried again",
        "lease",
    )

    CAMPAIGN_STARTED = (logging.INFO, "the replica is a candidate")
    WAITING_FOR_PREDECESSOR = (logging.INFO, "another candidate stands before this one")
    FOREIGN_CANDIDATE = (logging.WARNING, "a key in the election is not one of ours; it takes part as it is")
    CANDIDATE_WITHOUT_LEASE = (logging.WARNING, "a key without a lease blocked the election; it was deleted")
    VERDICT = (logging.WARNING, "the predecessor's process is gone: the evidence", "key evidence")
    TERM_WON = (
        logging.INFO,
        "this replica leads: the term's token, at which revision, until which boot time in seconds it is trusted",
        "term revision trusted_until",
    )
    TAKES_OFFICE = (
        logging.INFO,
        "the leader acts as such: how long after it was known that the one before is gone",
        "term",
    )
    TRUST_EXTENDED = (
        logging.DEBUG,
        "a keepalive was confirmed: how long the term may be trusted, and until which boot time in seconds",
        "term left_s trusted_until",
    )
    TRUST_AT_RISK = (
        logging.WARNING,
        "keepalives are missing; the term ends when no trust is left",
        "term left_s",
    )
    TRUST_RESTORED = (logging.INFO, "a keepalive was confirmed again in time", "term")
    TRUST_LOST = (logging.WARNING, "no keepalive was confirmed in time: the term is over", "term")
    HOLD_LOST = (logging.WARNING, "a lock or permit was lost that nobody released: why", "key token reason")
    CLAIM_LOST = (logging.WARNING, "a claim on an item of a queue was lost: why", "key reason")
    CLAIM_WITHOUT_LEASE = (logging.WARNING, "a claim without a lease blocked an item; it was deleted", "key")
    QUEUE_VALUE_FOREIGN = (
        logging.WARNING,
        "a value in a queue is none that a queue writes: it stays where it is and is passed over",
        "key reason",
    )
    ITEM_BURIED = (
        logging.WARNING,
        "an item of a queue was tried as often as it may be: it is a dead letter now",
        "key tries",
    )
    LOCK_BLOCKED = (
        logging.WARNING,
        "a key without a lease blocks a lock or a permit, and goes when somebody deletes it only",
        "key",
    )
    INSTANCE_REGISTERED = (logging.INFO, "an instance is registered with its service", "key address")
    INSTANCE_LOST = (
        logging.WARNING,
        "the entry of an instance is gone, though nobody left: it is registered again: why",
        "key address reason",
    )
    REGISTRATION_ENDED = (
        logging.ERROR,
        "an instance is not registered any more, and not again by itself: why",
        "address reason",
    )
    VIEW_ENDED = (
        logging.ERROR,
        "the instances of a service are not followed any more, what is known of them stays: why",
        "prefix reason",
    )
    STEPPING_DOWN = (logging.INFO, "the leader gives up office in order: why", "term reason")
    LETTING_PASS = (logging.INFO, "a candidate queues again behind another one: why", "to reason")
    TERM_ENDED = (logging.INFO, "this replica no longer leads: why", "term reason")
    UNFIT = (logging.ERROR, "this replica has a fault of its own: it serves, but does not lead", "reason")
    ETCD_REFUSES = (
        logging.ERROR,
        "etcd does not allow what a replica has to do: it serves, but does not lead",
        "reason",
    )
    ETCD_FULL = (
        logging.ERROR,
        "etcd's database has reached its quota and refuses writes: the leader stays, and nothing is begun until there "
        "is space again",
        "term reason",
    )
    ETCD_HAS_SPACE = (logging.INFO, "etcd takes writes again: what waited goes on", "term")
    STORE_WENT_BACK = (logging.ERROR, "etcd was restored or reset: this replica serves, but does not lead")

    JOB_FAILED_TO_LOAD = (logging.ERROR, "a job module cannot be used; the other jobs go on", "module")
    IMPORT_TAKES_LONG = (
        logging.WARNING,
        "a job module is still being imported: the replica begins without its jobs, and takes them up later",
        "module",
    )
    JOBS_LOADED_LATE = (
        logging.INFO,
        "a module that failed or took long has been imported: the replica has its jobs now",
        "module jobs",
    )
    LACKS_JOBS = (
        logging.WARNING,
        "jobs are in force that this replica does not have: other candidates go before it. How many, and which",
        "count jobs",
    )
    LACKS_NO_JOBS = (logging.INFO, "this replica has every job that is in force again")
    LEADS_WITHOUT_JOBS = (
        logging.ERROR,
        "this replica leads although it lacks jobs in force: their fires wait for a leader that has them",
        "term count jobs",
    )
    JOB_REMOVED = (
        logging.WARNING,
        "no replica has had a job for long: its unfinished runs end, its fires stop, its history stays",
        "job term",
    )
    JOB_RETURNED = (logging.INFO, "a replica has a job that was removed: it is in force again", "job term")
    JOB_FORGOTTEN = (logging.WARNING, "a removed job was deleted with its history: by whom", "job term")
    JOB_SCHEDULE_INVALID = (
        logging.ERROR,
        "a job cannot fire by its schedule; it only runs when triggered",
        "job",
    )
    JOB_CHANGED = (
        logging.INFO,
        "the dynamic configuration changed a job, and the leader took that up: what is overridden now",
        "job term overridden",
    )
    JOB_OVERRIDE_REFUSED = (
        logging.WARNING,
        "part of a job's override does not fit the job and is left out; the rest of it applies",
        "job term reason",
    )
    PART_BROKEN = (
        logging.ERROR,
        "a part of the replica, or of a term's work, failed; it begins again after a pause",
        "part",
    )
    RECORD_QUARANTINED = (logging.WARNING, "a value under our prefix cannot be read; it is left out")
    RECORD_NEWER = (
        logging.WARNING,
        "only a newer release can read a value under our prefix: it is left alone and not acted on, and a job that it "
        "belongs to waits",
        "key reason",
    )
    JOB_WAITS_FOR_NEWER = (
        logging.WARNING,
        "a job does nothing while records of it are there that only a newer release can read: which ones",
        "job term keys",
    )
    SCHEMA_TOO_NEW = (
        logging.ERROR,
        "the keys have a layout that this release does not read: the replica serves, but does not lead",
        "reason",
    )
    COMMAND_REFUSED = (logging.WARNING, "a command was refused: why", "term reason")
    HOLDING_BACK = (
        logging.INFO,
        "a job waits until its former leader's workers are surely gone",
        "job run term",
    )
    WORKERS_GONE = (
        logging.INFO,
        "the guard of a former leader's worker attests that it is gone",
        "job run term",
    )
    RUN_ADMITTED = (logging.INFO, "a fire was accepted", "job run term")
    FIRES_REFUSED = (logging.INFO, "fires were skipped or missed: why", "job run term reason")
    RUN_STARTED = (logging.INFO, "an attempt's worker starts", "job run attempt term")
    ATTEMPT_FAILED = (
        logging.WARNING,
        "an attempt failed, and another one follows: why, and when",
        "job run attempt term",
    )
    PROGRESS_LOST = (
        logging.WARNING,
        "progress of an attempt cannot be recorded, and is left out; told once an attempt: why",
        "job run reason",
    )
    RUN_FAILED = (logging.ERROR, "a run is over without success: why; run_finished follows", "job run term")
    RUN_FINISHED = (logging.INFO, "a run is over: its outcome", "job run term outcome")
    PUBLISHED_DEGRADED = (
        logging.WARNING,
        "published before enough followers held a verified copy",
        "job run term",
    )
    PUBLISHED = (logging.INFO, "a version is in force", "job run term version")

    FETCH_FAILED = (logging.WARNING, "a version could not be fetched; it is tried again", "job run term")
    ACTIVATED = (logging.INFO, "this replica serves a version", "job run term version")
    SERVING_FAILED = (logging.ERROR, "a version cannot be served; the former one goes on", "job")

    QUERY_FAILED = (
        logging.WARNING,
        "a query got no answer: why, and where the job's code failed if it did",
        "job reason",
    )

    CONFIG_CHANGED = (
        logging.INFO,
        "a dynamic configuration was changed: what was done, and by whom",
        "key number by",
    )
    CONFIG_INVALID = (
        logging.WARNING,
        "a value of a dynamic configuration cannot be used: the last valid configuration stays in force",
        "key reason",
    )

    CERTIFICATES_CHANGED = (logging.INFO, "certificate files were exchanged; new connections use them")
    CERTIFICATES_REFUSED = (
        logging.ERROR,
        "new certificate files cannot be used; the former ones stay in use",
    )
    ETCD_LOSES_DATA = (
        logging.WARNING,
        "this release of etcd is known to lose data if it is killed under load (3.5.0 to 3.5.2)",
        "endpoint version",
    )
    ETCD_ASKS_NOBODY = (logging.WARNING, "etcd has authentication switched off: the user given is not used")

    CANNOT_ACCEPT = (
        logging.ERROR,
        "whoever connects to a port has to wait, most likely for want of descriptors: which port, why",
        "port reason",
    )
    CONNECTION_TROUBLE = (logging.WARNING, "etcd did not answer, or refused a write; it is tried again")

    @property
    def level(self) -> int:
        return int(self.value[0])

    @property
    def meaning(self) -> str:
        return str(self.value[1])

    @property
    def always(self) -> tuple[str, ...]:
        """The names of the fields that it never lacks; others may come with it."""
        return tuple(str(self.value[2]).split()) if len(self.value) > 2 else ()


Listener = Callable[[Events, Mapping[str, Any]], None]
"""Told of every event with its fields, in the thread in which it happened; must return at once."""

_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Tell ``listener`` of every event from now on; returns what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def emit(event: Events, **fields: Any) -> None:
    """Report that ``event`` happened. Fields that are None are left out."""
    present = {name: value for name, value in fields.items() if value is not None}
    logger.log(event.level, event.name.lower(), extra={"event": event.name.lower(), "fields": present})
    for listener in tuple(_listeners):
        try:
            listener(event, present)
        except Exception:
            # What counts or reports events must not disturb what they are about.
            logger.exception("a listener failed on %s", event.name.lower())
