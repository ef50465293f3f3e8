"""What was found: rows of durations, the steps of the limit, who could not take part; as values and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from contest.figures import percentile

from leaderjob.errors import SettingsError

FEWEST_FOR_P99 = 100
"""With fewer values than this, the 99th percentile is their maximum."""


@dataclass(frozen=True, slots=True)
class Target:
    """Milliseconds that are not to be exceeded; None: no such target."""

    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(slots=True)
class Row:
    """One fault of one contestant, and what was waited for.

    :param contestant: "leaderjob", or whose else.
    :param until: what ended the time that was taken, such as "acting leader".
    :param ttl_s: of the lease or session, where the contestant has one.
    :param otherwise: why trials do not count, a line each.
    :param note: what else the trials have shown.
    """

    contestant: str
    fault: str
    until: str
    ttl_s: float | None = None
    target: Target = field(default_factory=Target)
    values_ms: list[float] = field(default_factory=list)
    otherwise: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def p50_ms(self) -> float:
        return percentile(self.values_ms, 50)

    @property
    def p99_ms(self) -> float:
        return percentile(self.values_ms, 99)

    @property
    def max_ms(self) -> float:
        return max(self.values_ms)

    @property
    def missed(self) -> list[str]:
        """The targets that were not met, in words. A p99 is judged only where there are values enough for one."""
        if not self.values_ms:
            return []
        found = (
            ("p50", self.target.p50_ms, self.p50_ms),
            ("p99", self.target.p99_ms if len(self.values_ms) >= FEWEST_FOR_P99 else None, self.p99_ms),
            ("max", self.target.max_ms, self.max_ms),
        )
        return [
            f"{name} {value:.1f} ms, not {wanted:g}"
            for name, wanted, value in found
            if wanted is not None and value > wanted
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """One of those that no takeover after a crash can do without."""

    what: str
    values_ms: list[float]

    @property
    def p50_ms(self) -> float:
        return percentile(self.values_ms, 50)

    @property
    def p99_ms(self) -> float:
        return percentile(self.values_ms, 99)


@dataclass(slots=True)
class Findings:
    """One run of the benchmark.

    :param machine: in words, what it was measured on.
    :param absent: who could not take part, and how that can be changed.
    """

    machine: str
    rows: list[Row] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def limit_ms(self) -> float | None:
        """The sum of the medians of the steps; None: they were not measured."""
        return sum(step.p50_ms for step in self.steps) if self.steps else None

    @property
    def problems(self) -> list[str]:
        """Targets that were missed, and trials that went otherwise, a line each."""
        return [
            f"{row.contestant}, {row.fault}, {row.until}: {problem}"
            for row in self.rows
            for problem in (*row.missed, *row.otherwise)
        ]

    def as_json(self) -> dict[str, Any]:
        """Every value, in milliseconds with three decimals."""
        found = asdict(self)
        for part in (*found["rows"], *found["steps"]):
            part["values_ms"] = [round(value, 3) for value in part["values_ms"]]
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """:raises SettingsError: it is not what :meth:`as_json` makes."""
        try:
            rows = [Row(**{**row, "target": Target(**row["target"])}) for row in found["rows"]]
            steps = [Step(**step) for step in found["steps"]]
            return cls(str(found["machine"]), rows, steps, dict(found["absent"]))
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"this is not a result of the failover benchmark ({error}): give a file that it wrote with --json"
            ) from error
