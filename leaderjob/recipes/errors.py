"""How a session, a campaign or a term can end against our will."""

from collections.abc import Sequence

from leaderjob.errors import LeaderjobError


class SessionLost(LeaderjobError):
    """The session's lease is gone, and every key on it. Campaign again with a new session."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; campaign again with a new session")


class AlreadyStanding(LeaderjobError):
    """The session stands in an election already, or leads. What its keepalives confirm is one term's key."""

    exit_code = 2


class AlreadyHeld(LeaderjobError):
    """The session holds it already, or waits for it: no lock here can be taken twice."""

    exit_code = 2

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this session holds {what} already, or waits for it: release it first, or open another session"
        )


class NotAcquired(LeaderjobError):
    """Others held it for as long as was to be waited. Nothing is left of the attempt."""

    exit_code = 4

    def __init__(self, what: str, waited_s: float | None) -> None:
        when = "at once" if not waited_s else f"within {waited_s:g} s"
        super().__init__(
            f"{what} was not to be had {when}: others hold it. Wait for longer, or try again later"
        )


class NotHeld(LeaderjobError):
    """What is to be released was released already, or somebody else acquired it. Nothing was changed."""

    exit_code = 2

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not held by this: it was released already, or another session acquired it; nothing was changed. "
            "Release once, with what acquire() returned"
        )


class PermitsDiffer(LeaderjobError):
    """Somebody holds a permit of the semaphore, or waits for one, by another number of permits. Nothing was changed."""

    exit_code = 2

    def __init__(self, name: str, permits: int, says: str) -> None:
        super().__init__(
            f"semaphore {name} is to have {permits} permits, and its record says {says}; nothing was changed. Say the "
            "same number everywhere; it can be changed while nobody holds a permit or waits for one"
        )


class HoldLost(LeaderjobError):
    """A lock or permit is not held any more, though nobody released it."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; stop what is done under it, and acquire it again")


class CampaignLost(LeaderjobError):
    """The candidate's own key vanished while it was waiting. Campaign again with a new session."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; campaign again with a new session")


class TermLost(LeaderjobError):
    """The term is over, or no longer certain; nothing may be written in its name."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; stop what is done in its name, and campaign again")


class NotLeader(LeaderjobError):
    """A write was fenced off: this term no longer holds office."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; stop what is done in its name, and campaign again")


class ClaimLost(LeaderjobError):
    """An item of a queue is not this consumer's any more, though it neither acked nor nacked it."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; stop what is done with it: another consumer may have it by now")


class NotClaimed(LeaderjobError):
    """An item was acked or nacked already. Nothing was changed."""

    exit_code = 2

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was acked or nacked already, and nothing was changed: do so once")


class QueueEmpty(LeaderjobError):
    """There was nothing in the queue that another consumer did not have, for as long as was to be waited."""

    exit_code = 4

    def __init__(self, what: str, waited_s: float | None) -> None:
        when = "" if not waited_s else f" for {waited_s:g} s"
        super().__init__(f"{what} had no item to give{when}. Wait for longer, or try again later")


class AlreadyRegistered(LeaderjobError):
    """A registration is entered once at a time."""

    exit_code = 2

    def __init__(self, address: str) -> None:
        super().__init__(
            f"this registration of {address} is in use already: leave it first, or call register() once more"
        )


class NotRegistered(LeaderjobError):
    """A registration was left, or could not be entered, so there is nothing to wait for."""

    exit_code = 2

    def __init__(self, address: str) -> None:
        super().__init__(
            f"this registration of {address} was left, so it will neither be there nor end: wait inside its 'async with'"
        )


class NotFollowed(LeaderjobError):
    """A view was asked for that nobody keeps."""

    exit_code = 2

    def __init__(self, service: str) -> None:
        super().__init__(
            f"service {service!r} is not followed, so nothing is known of its instances: ask inside "
            "'async with registry.following(...)', or use discover()"
        )


class BarrierClosed(LeaderjobError):
    """Not all conditions held at once for as long as was to be waited."""

    exit_code = 4

    def __init__(self, what: str, missing: Sequence[str], waited_s: float | None) -> None:
        when = "now" if not waited_s else f"within {waited_s:g} s"
        super().__init__(
            f"{what} is not open {when}: {', '.join(missing)} did not hold at last. Wait for longer, or see to it that "
            "they are set together"
        )
        self.missing = tuple(missing)


class Unsettled(LeaderjobError):
    """etcd did not answer for long, or the topic moved on meanwhile: the message may be published, or be so later."""

    exit_code = 3

    def __init__(self, what: str, message_id: str) -> None:
        super().__init__(
            f"{what}: whether the message was published is not known, and it may be published later. Publish it again with "
            f"message_id={message_id!r}: it is not published twice as long as the topic keeps it"
        )
        self.message_id = message_id


class SubscriptionLost(LeaderjobError):
    """Somebody else reads by the same subscription, or removed it. What was handled since may be handed out again."""

    exit_code = 4

    def __init__(self, what: str, happened: str) -> None:
        super().__init__(
            f"{what} {happened}; its cursor was left as it is. Let one at a time read by it (a Lock sees to that), and "
            "subscribe again"
        )


class UnreadableRecord(LeaderjobError):
    """A key that is a recipe's own has a value that is not. It was left as it is."""

    def __init__(self, what: str, key: str) -> None:
        super().__init__(
            f"{what}: the value of {key} is not one that leaderjob wrote, and was left as it is. Look at it with etcdctl "
            "get, and delete it, or write it anew"
        )


class AlreadyReported(LeaderjobError):
    """Somebody reports that progress already. Nothing was written."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is reported by another session already; nothing was written. Wait for its end, or take another name"
        )


class ReporterLost(LeaderjobError):
    """What reports a progress does so no more: it has ended, or its lease is gone. Watchers were told."""

    exit_code = 4

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} is not reported by this any more: {reason}; begin a new report, with a session that lives"
        )
