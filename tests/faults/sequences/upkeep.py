"""What befalls a store that is looked after, and one that is not: its past is compacted away, its space runs out."""

from tests.faults.harness.store import defragment, disarm, fill_quota
from tests.faults.history import Intervention
from tests.faults.sequences.stage import Heal, Stage

QUOTA_BYTES = 32 << 20
"""Of etcd: several times what a sequence writes, and filled within a second or two."""

_TRIED_AGAIN_S = 4.0
"""In which candidates that could not write have tried again."""


def compacted_while_a_follower_is_cut_off(stage: Stage) -> Heal:
    """When it hears etcd again, what it missed is gone; and each member is defragmented."""
    follower = stage.follower
    follower.link.cut_from_etcd()

    def heal() -> None:
        # Nothing that the recorder has yet to hear of.
        revision = stage.recorder.history().changes[-1].revision
        stage.etcd[0].etcdctl("compact", str(revision))
        for member in stage.etcd:
            stage.fleet.run(defragment(member))
        follower.link.heal()

    return heal


def out_of_space(stage: Stage) -> Heal:
    """Nothing can be written, so nobody can take office. Who has it keeps it: leases can be kept alive."""
    note = stage.note(Intervention.OUTAGE, _TRIED_AGAIN_S)
    stage.recorder.history()  # leaves its mark
    stage.fleet.run(fill_quota(stage.fleet.etcd))

    def heal() -> None:
        # What filled it was no news to the recorder, which would go on from before that.
        revision = stage.recorder.caught_up_in_a_full_store()
        stage.fleet.run(disarm(stage.fleet.etcd, revision=revision))
        note.end()

    return heal
