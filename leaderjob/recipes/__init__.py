"""The classic uses of etcd as small recipes: sessions, elections, locks; others follow.

General purpose: nothing here knows what a job is, or what a replica publishes.
"""

from leaderjob.recipes.election import Election
from leaderjob.recipes.errors import (
    AlreadyHeld,
    AlreadyStanding,
    CampaignLost,
    HoldLost,
    NotAcquired,
    NotHeld,
    NotLeader,
    PermitsDiffer,
    SessionLost,
    TermLost,
)
from leaderjob.recipes.leadership import Leadership, fence
from leaderjob.recipes.line import Held
from leaderjob.recipes.lock import Lock, ReadWriteLock, Semaphore
from leaderjob.recipes.session import Session, Timing
from leaderjob.recipes.while_held import while_held

__all__ = [
    "AlreadyHeld",
    "AlreadyStanding",
    "CampaignLost",
    "Election",
    "Held",
    "HoldLost",
    "Leadership",
    "Lock",
    "NotAcquired",
    "NotHeld",
    "NotLeader",
    "PermitsDiffer",
    "ReadWriteLock",
    "Semaphore",
    "Session",
    "SessionLost",
    "TermLost",
    "Timing",
    "fence",
    "while_held",
]
