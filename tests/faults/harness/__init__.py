"""Real etcd clusters, and every way to break them, each in one line of a test.

A *member* is a process (``kill``, ``stop``, ``resume``, ``restart``) with a *link* to the network (``cut``,
``reject``, ``heal``) and a *disk* (``freeze``, ``thaw``). A client has *lines*, its own way to each member.
``store`` does to a store what operators do: backups, compaction, defragmentation, quota. ``traffic`` writes,
watches and holds office meanwhile, and says what was lost.

``replicas`` (imported by its own name) has replicas of leaderjob beside such a cluster, and what can be done to them.

As root the members are machines of a network of their own; otherwise proxies on loopback stand before them.
May not live here: claims about leaderjob. They are in the tests.
"""

from tests.faults.harness.candidates import Candidate, end_of, standing, trusted_after
from tests.faults.harness.lines import Lines, lines_to
from tests.faults.harness.member import Member
from tests.faults.harness.members import Members, each_network, every_release, members
from tests.faults.harness.traffic import Recorder, Writer, recording, writing

__all__ = [
    "Candidate",
    "Lines",
    "Member",
    "Members",
    "Recorder",
    "Writer",
    "each_network",
    "end_of",
    "every_release",
    "lines_to",
    "members",
    "recording",
    "standing",
    "trusted_after",
    "writing",
]
