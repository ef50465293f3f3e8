"""What can go wrong with the bytes of an artifact. ``OSError`` of a broken disk passes through as it is."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from leaderjob.errors import LeaderjobError, NotFound, SettingsError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoreInUse(LeaderjobError):
    """Another process has opened the same store; two would delete each other's unfinished files."""


class Unpublishable(LeaderjobError):
    """What a run left in its artifact directory cannot be published; the message names the path."""


class ObjectMissing(NotFound):
    """This store does not hold the object."""

    def __init__(self, digest: str, what: str = "object") -> None:
        super().__init__(f"the {what} {digest} is not in this store: fetch the artifact (again) first")


class ArtifactDamaged(LeaderjobError):
    """Bytes on the disk are missing or are not those that were published.

    ``problems`` maps each path (or ``manifest``) to what is wrong with it.
    """

    def __init__(self, digest: str, problems: Mapping[str, str]) -> None:
        self.digest = digest
        self.problems = dict(problems)
        listed = "; ".join(f"{path}: {what}" for path, what in list(self.problems.items())[:10])
        more = len(self.problems) - 10
        super().__init__(
            f"artifact {digest} is damaged on this replica: {listed}{f'; and {more} more' if more > 0 else ''}. "
            "Damaged objects were moved aside: fetch the artifact again, and check the disk"
        )


class ManifestRefused(LeaderjobError):
    """A manifest is not one that can be trusted with a directory; nothing of it was written."""


class NotEnoughSpace(LeaderjobError):
    """The disk has no room for the artifact; what is active goes on serving."""


class TooLarge(LeaderjobError):
    """The artifact is larger than the settings allow."""


class WouldGoBack(LeaderjobError):
    """A pointer does not come after the one that is active in the same history."""


class RecordDamaged(LeaderjobError):
    """The record of what is active cannot be read, so going back could not be refused."""


class FetchFailed(LeaderjobError):
    """No source could deliver the artifact. ``answers`` are (source, what it answered), in order."""

    def __init__(self, what: str, answers: Sequence[tuple[str, str]]) -> None:
        self.answers = tuple(answers)
        listed = "; ".join(f"{source}: {answer}" for source, answer in answers) or "there was none to ask"
        super().__init__(
            f"could not fetch {what} from any source ({listed}). What is active goes on serving; "
            "try again when a replica that holds the artifact can be reached"
        )


class FetchCancelled(LeaderjobError):
    """The fetch was called off by whoever asked for it."""


class AddCancelled(LeaderjobError):
    """Taking an artifact in was called off by whoever asked for it."""


class CannotListen(SettingsError):
    """The address to serve artifacts on cannot be bound."""


@contextmanager
def full_disk_is_not_enough_space(directory: Path) -> Iterator[None]:
    """Turn the errors of a full disk or quota into :class:`NotEnoughSpace`; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NotEnoughSpace(
            f"the disk under {directory} is full ({error.strerror}): the artifact was not taken in, and what "
            "is active goes on serving; free some space or lower what retention keeps"
        ) from error
