"""The classic uses of etcd as small recipes: sessions, elections, locks; others follow.

General purpose: nothing here knows what a job is, or what a replica publishes.
"""

from leaderjob.recipes.balancing import BalancedChannel, balanced_channel
from leaderjob.recipes.election import Election
from leaderjob.recipes.errors import (
    AlreadyHeld,
    AlreadyRegistered,
    AlreadyStanding,
    CampaignLost,
    ClaimLost,
    HoldLost,
    NotAcquired,
    NotClaimed,
    NotFollowed,
    NotHeld,
    NotLeader,
    PermitsDiffer,
    QueueEmpty,
    SessionLost,
    TermLost,
)
from leaderjob.recipes.instance import Change, Instance
from leaderjob.recipes.leadership import Leadership, fence
from leaderjob.recipes.line import Held
from leaderjob.recipes.lock import Lock, ReadWriteLock, Semaphore
from leaderjob.recipes.queue import Queue
from leaderjob.recipes.queue_claim import Claimed
from leaderjob.recipes.queue_item import Item
from leaderjob.recipes.registration import Registration
from leaderjob.recipes.registry import Followed, Registry
from leaderjob.recipes.session import Session, Timing
from leaderjob.recipes.while_held import while_held

__all__ = [
    "AlreadyHeld",
    "AlreadyRegistered",
    "AlreadyStanding",
    "BalancedChannel",
    "CampaignLost",
    "Change",
    "ClaimLost",
    "Claimed",
    "Election",
    "Followed",
    "Held",
    "HoldLost",
    "Instance",
    "Item",
    "Leadership",
    "Lock",
    "NotAcquired",
    "NotClaimed",
    "NotFollowed",
    "NotHeld",
    "NotLeader",
    "PermitsDiffer",
    "Queue",
    "QueueEmpty",
    "ReadWriteLock",
    "Registration",
    "Registry",
    "Semaphore",
    "Session",
    "SessionLost",
    "TermLost",
    "Timing",
    "balanced_channel",
    "fence",
    "while_held",
]
