"""A store with some versions of a job, and an activation on it."""

from pathlib import Path

from leaderjob.results.activation import Activation
from leaderjob.results.store import StagedArtifact, Store

FILES = ("a", "deep/er/b")


def added(store: Store, version: int) -> StagedArtifact:
    """An artifact whose files all say which version they belong to."""
    source = store.root.parent / f"src-{version}"
    for path in FILES:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(b"%d" % version)
    return store.add("job", f"run-{version}", source)


def said(directory: Path) -> set[int]:
    return {int((directory / path).read_bytes()) for path in FILES}


def directories(activation: Activation) -> list[str]:
    return sorted(path.name for path in (activation.current("job").parent / "versions").iterdir())


class Place:
    """A store with artifacts of some versions, and an activation on it that can be restarted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests: dict[int, str] = {}
        self.restart()

    def restart(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.store = Store(self.root)
        self.activation = Activation(self.store)

    def add(self, *versions: int) -> None:
        for version in versions:
            self.digests[version] = added(self.store, version).digest

    def activate(self, version: int, sequence: int | None = None, history: str = "h") -> Path:
        return self.activation.activate(
            "job",
            history=history,
            sequence=version if sequence is None else sequence,
            version=version,
            digest=self.digests[version],
        )
