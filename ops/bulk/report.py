"""What came of a bulk run, file by file and in all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["indexed", "skipped", "duplicate", "failed", "cancelled", "unfinished"]


@dataclass(frozen=True, slots=True)
class FileReport:
    """``skipped``: it was indexed before; ``duplicate``: the same bytes as an earlier file of this run; ``cancelled``:
    somebody cancelled its job; ``unfinished``: the run was stopped first. ``seconds``: of video. ``decoded``: frames
    that this run decoded, fewer than ``frames`` where it went on with what another one began."""

    name: str
    state: State
    asset_id: str | None = None
    job_id: str | None = None
    reason: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    frames: int = 0
    decoded: int = 0
    shots: int = 0
    traces: int = 0
    identities: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """``took``: seconds from the first row that came through the pipeline to the end, ``started_in`` those before."""

    sources: Sequence[str]
    files: Sequence[FileReport] = field(default_factory=tuple)
    took: float = 0.0
    started_in: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """How many files came to which state."""
        return dict(Counter(file.state for file in self.files))

    @property
    def failures(self) -> list[FileReport]:
        """Files that failed."""
        return [file for file in self.files if file.state == "failed"]

    @property
    def totals(self) -> dict[str, float]:
        """Over all files that are indexed now, and how fast this run was."""
        there = [file for file in self.files if file.state in ("indexed", "skipped")]
        decoded = sum(file.decoded for file in self.files)
        return {
            "files": len(self.files),
            "hours": round(sum(file.seconds for file in there) / 3600, 4),
            "frames": sum(file.frames for file in there),
            "decoded_frames": decoded,
            "frames_per_s": round(decoded / self.took, 1) if self.took > 0 else 0.0,
            "shots": sum(file.shots for file in there),
            "traces": sum(file.traces for file in there),
            "took_s": round(self.took, 1),
            "started_in_s": round(self.started_in, 1),
        }

    @property
    def exit_code(self) -> int:
        """0 when every file is indexed now; 1 when one failed or was cancelled; 3 when some were not finished."""
        counts = self.counts
        return 1 if counts.get("failed") or counts.get("cancelled") else 3 if counts.get("unfinished") else 0

    def to_json(self) -> dict[str, Any]:
        """The JSON report."""
        return {
            "sources": list(self.sources),
            "counts": self.counts,
            "totals": self.totals,
            "failures": [{"name": file.name, "reason": file.reason} for file in self.failures],
            "files": [asdict(file) for file in self.files],
        }
