"""The classic uses of etcd as small recipes: sessions, elections, locks; others follow.

General purpose: nothing here knows what a job is, or what a replica publishes.
"""

from leaderjob.recipes.election import Election
from leaderjob.recipes.errors import (
    AlreadyHeld,
    AlreadyStanding,
    CampaignLost,
    ClaimLost,
    HoldLost,
    NotAcquired,
    NotClaimed,
    NotHeld,
    NotLeader,
    PermitsDiffer,
    QueueEmpty,
    SessionLost,
    TermLost,
)
from leaderjob.recipes.leadership import Leadership, fence
from leaderjob.recipes.line import Held
from leaderjob.recipes.lock import Lock, ReadWriteLock, Semaphore
from leaderjob.recipes.queue import Queue
from leaderjob.recipes.queue_claim import Claimed
from leaderjob.recipes.queue_item import Item
from leaderjob.recipes.session import Session, Timing
from leaderjob.recipes.while_held import while_held

__all__ = [
    "AlreadyHeld",
    "AlreadyStanding",
    "CampaignLost",
    "ClaimLost",
    "Claimed",
    "Election",
    "Held",
    "HoldLost",
    "Item",
    "Leadership",
    "Lock",
    "NotAcquired",
    "NotClaimed",
    "NotHeld",
    "NotLeader",
    "PermitsDiffer",
    "Queue",
    "QueueEmpty",
    "ReadWriteLock",
    "Semaphore",
    "Session",
    "SessionLost",
    "TermLost",
    "Timing",
    "fence",
    "while_held",
]
