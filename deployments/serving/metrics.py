"""Per-stage metrics, exported by Ray's metrics agent of every node (``/metrics``, Prometheus text)."""

from ray.util import metrics

LATENCY_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000]
FILL = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]


class StageMetrics:
    """Counters and histograms shared by the stages of one process, tagged by stage."""

    def __init__(self) -> None:
        self._latency = metrics.Histogram(
            "visiongraph_stage_batch_latency_ms",
            description="Time of one predict_batch call in milliseconds.",
            boundaries=LATENCY_MS,
            tag_keys=("stage",),
        )
        self._fill = metrics.Histogram(
            "visiongraph_stage_batch_fill",
            description="Items of a batch over the largest batch allowed.",
            boundaries=FILL,
            tag_keys=("stage",),
        )
        self._items = metrics.Counter(
            "visiongraph_stage_items",
            description="Items that went through predict_batch.",
            tag_keys=("stage",),
        )
        self._errors = metrics.Counter(
            "visiongraph_stage_errors",
            description="Items answered with an error, by error code.",
            tag_keys=("stage", "code"),
        )

    def batch(self, stage: str, size: int, max_size: int, seconds: float) -> None:
        """Record one batch of ``size`` items that took ``seconds``."""
        tags = {"stage": stage}
        self._latency.observe(seconds * 1000, tags)
        self._fill.observe(size / max_size, tags)
        self._items.inc(size, tags)

    def error(self, stage: str, code: str) -> None:
        """Record one item answered with an error."""
        self._errors.inc(1, {"stage": stage, "code": code})
