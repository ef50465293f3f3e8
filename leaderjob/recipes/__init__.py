"""The classic uses of etcd as small recipes: sessions and elections, locks and semaphores, queues, barriers, a registry
of services and channels balanced over it, topics, configurations, progress.

General purpose: nothing here knows what a job is, or what a replica publishes.
"""

from leaderjob.recipes.balancing import BalancedChannel, balanced_channel
from leaderjob.recipes.barrier import Barrier
from leaderjob.recipes.config import ConfigStore, ConfigUnreadable
from leaderjob.recipes.config_model import InvalidConfig
from leaderjob.recipes.config_path import Difference, InvalidPath
from leaderjob.recipes.config_record import ConfigEntry, ConfigTooLarge
from leaderjob.recipes.election import Election
from leaderjob.recipes.errors import (
    AlreadyHeld,
    AlreadyRegistered,
    AlreadyReported,
    AlreadyStanding,
    BarrierClosed,
    CampaignLost,
    ClaimLost,
    HoldLost,
    NotAcquired,
    NotClaimed,
    NotFollowed,
    NotHeld,
    NotLeader,
    NotRegistered,
    PermitsDiffer,
    QueueEmpty,
    ReporterLost,
    SessionLost,
    SubscriptionLost,
    TermLost,
    UnreadableRecord,
    Unsettled,
)
from leaderjob.recipes.instance import Change, Instance
from leaderjob.recipes.leadership import Leadership, fence
from leaderjob.recipes.line import Held
from leaderjob.recipes.lock import Lock, ReadWriteLock, Semaphore
from leaderjob.recipes.progress import Progress
from leaderjob.recipes.progress_report import ProgressState, Report
from leaderjob.recipes.queue import Queue
from leaderjob.recipes.queue_claim import Claimed
from leaderjob.recipes.queue_item import Item
from leaderjob.recipes.queue_view import QueueView
from leaderjob.recipes.registration import Registration
from leaderjob.recipes.registry import Followed, Registry
from leaderjob.recipes.reporter import Reporter
from leaderjob.recipes.session import Session, Timing
from leaderjob.recipes.subscription import Subscription
from leaderjob.recipes.topic import Topic
from leaderjob.recipes.topic_log import Message, Missed
from leaderjob.recipes.while_held import while_held

__all__ = [
    "AlreadyHeld",
    "AlreadyRegistered",
    "AlreadyReported",
    "AlreadyStanding",
    "BalancedChannel",
    "Barrier",
    "BarrierClosed",
    "CampaignLost",
    "Change",
    "ClaimLost",
    "Claimed",
    "ConfigEntry",
    "ConfigStore",
    "ConfigTooLarge",
    "ConfigUnreadable",
    "Difference",
    "Election",
    "Followed",
    "Held",
    "HoldLost",
    "Instance",
    "InvalidConfig",
    "InvalidPath",
    "Item",
    "Leadership",
    "Lock",
    "Message",
    "Missed",
    "NotAcquired",
    "NotClaimed",
    "NotFollowed",
    "NotHeld",
    "NotLeader",
    "NotRegistered",
    "PermitsDiffer",
    "Progress",
    "ProgressState",
    "Queue",
    "QueueEmpty",
    "QueueView",
    "ReadWriteLock",
    "Registration",
    "Registry",
    "Report",
    "Reporter",
    "ReporterLost",
    "Semaphore",
    "Session",
    "SessionLost",
    "Subscription",
    "SubscriptionLost",
    "TermLost",
    "Timing",
    "Topic",
    "UnreadableRecord",
    "Unsettled",
    "balanced_channel",
    "fence",
    "while_held",
]
