"""How a session, a campaign or a term can end against our will."""

from leaderjob.errors import LeaderjobError


class SessionLost(LeaderjobError):
    """The session's lease is gone, and every key on it. Campaign again with a new session."""

    exit_code = 4

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; campaign again with a new session")


class AlreadyStanding(LeaderjobError):
    """The session stands in an election already, or leads. What its keepalives confirm is one term's key."""

    exit_code = 2


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
