"""The classic uses of etcd as small recipes: sessions and elections; others follow.

General purpose: nothing here knows what a job is, or what a replica publishes.
"""

from leaderjob.recipes.election import Election
from leaderjob.recipes.errors import AlreadyStanding, CampaignLost, NotLeader, SessionLost, TermLost
from leaderjob.recipes.leadership import Leadership, fence
from leaderjob.recipes.session import Session, Timing

__all__ = [
    "AlreadyStanding",
    "CampaignLost",
    "Election",
    "Leadership",
    "NotLeader",
    "Session",
    "SessionLost",
    "TermLost",
    "Timing",
    "fence",
]
