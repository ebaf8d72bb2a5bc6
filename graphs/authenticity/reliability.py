"""How often verdicts were right on labelled samples that no curve was fitted to, and what follows from that.

``configs/reliability.yaml`` has the risk scores of the samples, by the signals that made them; a file of the settings
adds one's own, measured by ``ops.calibration.reliability``. Confidence is no higher than they allow, and a threshold
for a rate of false alarms comes from them alone.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

import configs
from graphs.authenticity.errors import FalseAlarmsUnknown
from graphs.authenticity.fusion import SUSPICIOUS_FROM, Verdict
from graphs.authenticity.schemas import Confidence, OperatingPoint
from vision.forensics.calibration import PRIOR

SHIPPED: Final = Path(configs.__file__).parent / "reliability.yaml"
Media = Literal["image", "video", "audio"]
KINDS: Final[Mapping[Media, tuple[str, ...]]] = {
    "image": ("generated", "reenacted", "retouched", "spliced", "swapped"),
    "video": ("generated", "reenacted", "swapped"),
    "audio": ("converted", "synthetic", "vocoded"),
}
"""Kinds of fakes. A verdict of AUTHENTIC denies all of them, so it is no surer than for the one that is missed most."""
RIGHT: Final[Mapping[Confidence, float]] = {"HIGH": 0.95, "MEDIUM": 0.8}
"""Least share of right verdicts of a confidence."""
SURE: Final = 0.95
"""Confidence of the upper bound of a rate of false alarms (Clopper and Pearson 1934)."""
LEVELS: Final[tuple[Confidence, ...]] = ("LOW", "MEDIUM", "HIGH")
STEP: Final = 0.1
"""Of risk scores."""

Risk = Annotated[float, Field(ge=0, le=100)]
States = Annotated[
    tuple[Risk, ...],
    Field(min_length=1),
    BeforeValidator(lambda value: (value,) if isinstance(value, int | float) else value),
]
"""Of one sample, such as a picture that was judged as it is and saved again; one number for a single state."""


class Measured(BaseModel):
    """Risk scores of labelled samples, all made by the same signals.

    ``signals``: name → model and version. ``genuine``: of each sample the scores of its states. ``fakes``: one score
    for each sample of a kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    media: Media
    signals: Annotated[dict[str, str], Field(min_length=1)]
    measured_on: Annotated[str, Field(min_length=1)]
    genuine: Annotated[tuple[States, ...], Field(min_length=1)]
    fakes: dict[str, tuple[Risk, ...]]

    def flagged_right(self, low: float, high: float = math.inf) -> float:
        """Return how often a risk from ``low`` to below ``high`` means a fake, 0-1; the more careful of two estimates.

        One is the share among the samples. The other assumes ``PRIOR`` of fakes, all measured kinds alike, and half a
        false alarm more than there were.
        """
        alarms = [[low <= risk < high for risk in states] for states in self.genuine]
        hits = {kind: sum(low <= risk < high for risk in risks) for kind, risks in self.fakes.items() if risks}
        if not any(hits.values()):
            return 0.0
        found = PRIOR * sum(hits[kind] / len(self.fakes[kind]) for kind in hits) / len(hits)
        false = (1 - PRIOR) * (_mean_sum(alarms) + 0.5) / (len(self.genuine) + 1)
        seen = sum(hits.values())
        return min(found / (found + false), seen / (seen + sum(map(sum, alarms))))

    def passed_right(self, high: float) -> float:
        """Return how often a risk below ``high`` means a genuine file, 0-1; 0 where a kind of fake was never measured.

        Estimated as above, for the kind of fake that is missed most.
        """
        if any(not self.fakes.get(kind) for kind in KINDS[self.media]):
            return 0.0
        missed = max(
            (sum(risk < high for risk in risks) + 0.5) / (len(risks) + 1) for risks in self.fakes.values() if risks
        )
        passed = _mean_sum([[risk < high for risk in states] for states in self.genuine]) / len(self.genuine)
        return (1 - PRIOR) * passed / ((1 - PRIOR) * passed + PRIOR * missed)

    @cached_property
    def steps(self) -> tuple[float, float]:
        """Return the risks from which MEDIUM and HIGH are right often enough; infinite where none is."""
        risks = sorted({risk for risks in self.fakes.values() for risk in risks if round(risk) >= SUSPICIOUS_FROM})
        high = next((risk for risk in risks if self.flagged_right(risk) >= RIGHT["HIGH"]), math.inf)
        below = [risk for risk in risks if risk < high]
        medium = next((risk for risk in below if self.flagged_right(risk, high) >= RIGHT["MEDIUM"]), high)
        return medium, high

    def confidence(self, verdict: Verdict) -> Confidence:
        """Return the highest confidence that the samples allow a verdict."""
        if verdict.classification == "AUTHENTIC":
            right = self.passed_right(verdict.risk_score + STEP)
            return next((level for level in reversed(LEVELS[1:]) if right >= RIGHT[level]), "LOW")
        medium, high = self.steps
        return "HIGH" if verdict.risk_score >= high else "MEDIUM" if verdict.risk_score >= medium else "LOW"

    def threshold(self, max_false_alarms: float) -> tuple[float, int] | None:
        """Return the lowest risk from which no more false alarms are raised, surely, and those raised by the samples.

        None where there are too few genuine samples to tell.
        """
        count = len(self.genuine)
        if upper_bound(0, count) > max_false_alarms:
            return None
        allowed = max(alarms for alarms in range(count) if upper_bound(alarms, count) <= max_false_alarms)
        # A sample raises an alarm where any of its states does: the states of one picture are not independent.
        risk = sorted(map(max, self.genuine), reverse=True)[allowed] + STEP
        return round(risk, 1), sum(max(states) >= risk - STEP / 2 for states in self.genuine)

    @property
    def samples(self) -> int:
        """Return the number of fakes."""
        return sum(len(risks) for risks in self.fakes.values())


@dataclass(frozen=True, slots=True)
class Reliability:
    """What was measured: a later measurement of the same signals replaces an earlier one."""

    measured: Mapping[tuple[Media, frozenset[tuple[str, str]]], Measured]

    @classmethod
    def of(cls, measured: Iterable[Measured]) -> "Reliability":
        """Return the measurements by the signals that were measured."""
        return cls({(each.media, frozenset(each.signals.items())): each for each in measured})

    @classmethod
    def load(cls, own: Path | None) -> "Reliability":
        """Read the measurements of this product, and one's own. Raises ValueError with the faults of a file."""
        return cls.of([*_read(SHIPPED), *(() if own is None else _read(own))])

    def find(self, media: Media, signals: Mapping[str, str]) -> Measured | None:
        """Return the measurement of these signals; None where there was none."""
        return self.measured.get((media, frozenset(signals.items())))

    def limited(self, media: Media, verdict: Verdict, signals: Mapping[str, str]) -> tuple[Verdict, str]:
        """Return a verdict with a confidence that samples bear out, and on what that rests, in words.

        ``signals``: all that judged; those without weight in the verdict do not count.
        """
        deciding = {name: model for name, model in signals.items() if verdict.weights.get(name)}
        measured = self.find(media, deciding)
        if measured is None:
            names = " and ".join(f"{name} ({model})" for name, model in sorted(deciding.items()))
            basis = f"How often verdicts by {names} are right was not measured for this kind of file"
            return replace(verdict, confidence="LOW"), basis
        level = min(verdict.confidence, measured.confidence(verdict), key=LEVELS.index)
        return replace(verdict, confidence=level), _basis(measured, verdict)

    def operating_point(
        self, media: Media, verdict: Verdict, signals: Mapping[str, str], max_false_alarms: float
    ) -> OperatingPoint:
        """Return the threshold that keeps a rate of false alarms. Raises FalseAlarmsUnknown where none is known."""
        measured = self.find(media, signals)
        if measured is None:
            names = " and ".join(f"{name} ({model})" for name, model in sorted(signals.items()))
            raise FalseAlarmsUnknown(
                f"False alarms of {names or 'these signals'} were never measured on a file like this, so no threshold "
                "is known that keeps them rare. Send it without max_false_alarms, or measure them on labelled files."
            )
        found = measured.threshold(max_false_alarms)
        if found is None:
            raise _too_few(max_false_alarms, measured)
        threshold, alarms = found
        recall = {
            kind: round(sum(risk >= threshold for risk in risks) / len(risks), 4)
            for kind, risks in sorted(measured.fakes.items())
            if risks
        }
        return OperatingPoint(
            max_false_alarms=max_false_alarms,
            threshold=threshold,
            flagged=verdict.risk_score >= threshold,
            recall=round(sum(recall.values()) / len(recall), 4) if recall else None,
            recall_by_kind=recall,
            false_alarms=alarms,
            false_alarm_bound=round(upper_bound(alarms, len(measured.genuine)), 4),
            genuine_samples=len(measured.genuine),
            fake_samples=measured.samples,
            measured_on=measured.measured_on,
            signals=measured.signals,
        )

    def refuse_unknown(self, media: Media, max_false_alarms: float | None) -> None:
        """Raise FalseAlarmsUnknown where no measurement of this kind of file can tell such a rate."""
        if max_false_alarms is None:
            return
        ours = [each for each in self.measured.values() if each.media == media]
        if not ours:
            raise FalseAlarmsUnknown(
                f"False alarms on {media} files were never measured, so no threshold is known that keeps them rare. "
                "Send the file without max_false_alarms, or measure them on labelled files."
            )
        largest = max(ours, key=lambda each: len(each.genuine))
        if largest.threshold(max_false_alarms) is None:
            raise _too_few(max_false_alarms, largest)


@dataclass(frozen=True, slots=True)
class Operation:
    """What verdicts of one request are held against: the measurements, and the rate of false alarms asked for."""

    reliability: Reliability
    max_false_alarms: float | None = None

    def judge(
        self, media: Media, verdict: Verdict, signals: Mapping[str, str], faults: Collection[str] = ()
    ) -> tuple[Verdict, str, OperatingPoint | None]:
        """Return the verdict with a confidence that is borne out, what that rests on, and the operating point.

        ``faults``: signals that should exist. Raises FalseAlarmsUnknown.
        """
        limited, basis = self.reliability.limited(media, verdict, signals)
        if self.max_false_alarms is None:
            return limited, basis, None
        if faults:
            raise FalseAlarmsUnknown(
                f"No threshold is known that keeps false alarms rare, as a model is missing ({', '.join(faults)}). "
                "Send the file without max_false_alarms, or again once the model is there."
            )
        return limited, basis, self.reliability.operating_point(media, verdict, signals, self.max_false_alarms)


def upper_bound(errors: int, count: int) -> float:
    """Return the upper 95 % confidence bound of a rate of which ``errors`` of ``count`` were seen, 0-1."""
    if errors >= count:
        return 1.0
    low, high = errors / count, 1.0
    while high - low > 1e-6:  # finer than any number of samples here can tell
        middle = (low + high) / 2
        tail = sum(math.comb(count, k) * middle**k * (1 - middle) ** (count - k) for k in range(errors + 1))
        low, high = (middle, high) if tail > 1 - SURE else (low, middle)
    return high


def samples_for(max_false_alarms: float) -> int:
    """Return how many genuine samples without a false alarm tell a rate."""
    return math.ceil(math.log1p(-SURE) / math.log1p(-max_false_alarms))


def _too_few(rate: float, measured: Measured) -> FalseAlarmsUnknown:
    count = len(measured.genuine)
    least = math.ceil(1e4 * upper_bound(0, count)) / 1e4
    return FalseAlarmsUnknown(
        f"A rate of false alarms of {rate:g} cannot be told from {count} genuine samples: that takes "
        f"{samples_for(rate):,} without a false alarm. The lowest rate that they can tell is {least:g}."
    )


def _basis(measured: Measured, verdict: Verdict) -> str:
    if verdict.classification != "AUTHENTIC":
        low = verdict.risk_score
        hits = sum(risk >= low for risks in measured.fakes.values() for risk in risks)
        states = [risk for sample in measured.genuine for risk in sample]
        alarms = sum(risk >= low for risk in states)
        return (
            f"Of measured samples, {hits} of {measured.samples} fakes and {alarms} of {len(states)} genuine ones have "
            "such a risk or a higher one"
        )
    missed = {
        kind: sum(risk <= verdict.risk_score for risk in risks) / len(risks)
        for kind, risks in measured.fakes.items()
        if risks
    }
    unknown = [kind for kind in KINDS[measured.media] if kind not in missed]
    worst = max(missed, key=lambda kind: missed[kind], default=None)
    parts = [] if worst is None else [f"{100 * missed[worst]:.0f} % of the measured {worst} fakes look as harmless"]
    if unknown:
        parts.append(f"{' and '.join(unknown)} ones were never measured")
    return f"That nothing was found proves little: {', and '.join(parts)}"


def _mean_sum(samples: Sequence[Sequence[bool]]) -> float:
    """Return the sum of the shares of the states of each sample."""
    return sum(sum(states) / len(states) for states in samples)


def _read(path: Path) -> list[Measured]:
    try:
        return TypeAdapter(list[Measured]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or [])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{path.name} has no measurements that can be read: {error}") from error
