"""The one list of what Prometheus is asked: the panels of the dashboard, and the alerts.

``$__rate_interval`` is Grafana's: at least four scrapes. A metric of this software is ``ray_visiongraph_…`` there, see
``deployments.serving.metrics``; each process has its own series, so an expression sums or compares them.
"""

from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["short", "reqps", "ops", "percentunit", "ms", "s", "Bps", "bytes"]
Source = Literal["service", "node", "haproxy", "gpu"]
Severity = Literal["critical", "warning"]

RUNBOOK: Final = "docs/monitoring.md#alerts"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and the name of each of its series in the legend."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot of the dashboard, with data where its ``source`` is; of a ``fault`` only when there was one."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    source: Source = "service"
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule of Prometheus: ``expression`` has a result for ``minutes`` minutes. ``action`` says what to do then."""

    name: str
    severity: Severity
    minutes: int
    expression: str
    summary: str
    action: str


def _rate(metric: str, labels: str = "") -> str:
    return (
        f"rate(ray_visiongraph_{metric}{{{labels}}}[$__rate_interval])"
        if labels
        else (f"rate(ray_visiongraph_{metric}[$__rate_interval])")
    )


def _quantile(share: float, metric: str, *by: str, labels: str = "") -> str:
    return f"histogram_quantile({share:g}, sum by ({', '.join(('le', *by))}) ({_rate(f'{metric}_bucket', labels)}))"


REQUESTS: Final = 'api!="service"'
"""Requests of clients: not those for health and documentation."""
ERRORS: Final = f'{REQUESTS},status=~"5.."'
FOUND: Final = 'result!="miss"'

ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Overview": (
        Panel(
            "Requests",
            "Requests that were answered, by API.",
            "reqps",
            (Query(f"sum by (api) ({_rate('requests_total')})", "{{api}}"),),
        ),
        Panel(
            "Share of errors",
            "Answers with a status of 500 or more among all to clients.",
            "percentunit",
            (
                Query(
                    f"(sum({_rate('requests_total', ERRORS)}) or vector(0)) / sum({_rate('requests_total', REQUESTS)})",
                    "errors",
                ),
            ),
        ),
        Panel(
            "Time to answer",
            "Time to the first byte of an answer, without that for which its client was waited for.",
            "ms",
            tuple(
                Query(_quantile(share, "request_latency_ms", labels=REQUESTS), f"{share:.0%}")
                for share in (0.5, 0.95, 0.99)
            ),
        ),
        Panel(
            "In flight",
            "Requests whose answer has not ended, streams included; and the gateways that there are.",
            "short",
            (
                Query("sum(ray_visiongraph_requests_in_flight)", "requests"),
                Query("count by (version) (ray_visiongraph_info)", "gateways {{version}}"),
            ),
        ),
    ),
    "Gateway": (
        Panel(
            "Slowest routes",
            "99 of 100 requests of a route are answered within this time.",
            "ms",
            (
                Query(
                    f"topk(8, {_quantile(0.99, 'request_latency_ms', 'method', 'route', labels=REQUESTS)})",
                    "{{method}} {{route}}",
                ),
            ),
        ),
        Panel(
            "Statuses",
            "Answers to clients by status; 499 is a client that left before.",
            "reqps",
            (Query(f"sum by (status) ({_rate('requests_total', REQUESTS)})", "{{status}}"),),
        ),
        Panel(
            "Refused",
            "Answers 429: because of the client's rate or quota, or because the service is overloaded.",
            "reqps",
            (Query(f"sum by (api, reason) ({_rate('requests_refused_total')})", "{{api}}: {{reason}}"),),
            fault=True,
        ),
        Panel(
            "Bytes",
            "Bytes of bodies in and out.",
            "Bps",
            (
                Query(f"sum({_rate('request_bytes_total')})", "in"),
                Query(f"sum({_rate('response_bytes_total')})", "out"),
            ),
        ),
        Panel(
            "Found, not made",
            "Share of features and of parts of videos that were there already, in the cache or in a store.",
            "percentunit",
            (
                Query(
                    f"sum by (cache) ({_rate('cache_lookups_total', FOUND)}) "
                    f"/ sum by (cache) ({_rate('cache_lookups_total')})",
                    "{{cache}}",
                ),
            ),
        ),
        Panel(
            "Statuses at HAProxy",
            "Also what no gateway was there to answer.",
            "reqps",
            (
                Query(
                    'sum by (code) (rate(haproxy_frontend_http_responses_total{proxy="http_frontend"}'
                    "[$__rate_interval]))",
                    "{{code}}",
                ),
            ),
            source="haproxy",
        ),
    ),
    "Stages": (
        Panel(
            "Items",
            "Items of each stage.",
            "ops",
            (Query(f"sum by (stage) ({_rate('stage_items_total')})", "{{stage}}"),),
        ),
        Panel(
            "Time of a batch",
            "95 of 100 batches take this time at most.",
            "ms",
            (Query(_quantile(0.95, "stage_batch_latency_ms", "stage"), "{{stage}}"),),
        ),
        Panel(
            "Batch fill",
            "Median of the items of a batch over the largest allowed: full batches mean a busy stage.",
            "percentunit",
            (Query(_quantile(0.5, "stage_batch_fill", "stage"), "{{stage}}"),),
        ),
        Panel(
            "Wait for a batch",
            "95 of 100 items wait this time at most in the process of their stage.",
            "ms",
            (Query(_quantile(0.95, "stage_queue_wait_ms", "stage"), "{{stage}}"),),
        ),
        Panel(
            "Queues",
            "Items that wait in gateways and workers for a call of the stage.",
            "short",
            (Query("sum by (stage) (ray_visiongraph_stage_waiting)", "{{stage}}"),),
        ),
        Panel(
            "Errors",
            "Items that a stage answered with an error, also those of bad files, and those that found a queue full.",
            "ops",
            (
                Query(f"sum by (stage, code) ({_rate('stage_errors_total')})", "{{stage}} {{code}}"),
                Query(f"sum by (stage) ({_rate('stage_refused_total')}) > 0", "{{stage}} queue full"),
            ),
            fault=True,
        ),
        Panel(
            "Loaded",
            "1 where every replica of a stage can answer; below, one that loads, or lacks its weights.",
            "short",
            (
                Query("min by (stage) (ray_visiongraph_stage_loaded)", "{{stage}}"),
                Query("max by (stage) (ray_visiongraph_stage_fault) > 0", "{{stage}} lacks weights"),
            ),
        ),
        Panel(
            "Models",
            "Replicas by the version of the model that serves.",
            "short",
            (
                Query(
                    "count by (stage, version, engine, device) (ray_visiongraph_model_info)",
                    "{{stage}} {{version}} {{engine}} {{device}}",
                ),
            ),
        ),
        Panel(
            "GPU memory",
            "Used share of the memory of each GPU.",
            "percentunit",
            (
                Query(
                    'max by (gpu) (ray_visiongraph_gpu_memory_bytes{state="used"}) '
                    '/ max by (gpu) (ray_visiongraph_gpu_memory_bytes{state="total"})',
                    "{{gpu}}",
                ),
            ),
            source="gpu",
        ),
    ),
    "Jobs": (
        Panel(
            "Unfinished",
            "Jobs that wait or run.",
            "short",
            (Query("max by (kind, status) (ray_visiongraph_jobs)", "{{kind}} {{status}}"),),
        ),
        Panel(
            "Oldest in the queue",
            "How long the oldest job that is due waits already.",
            "s",
            (Query("max by (kind) (ray_visiongraph_jobs_oldest_queued_seconds)", "{{kind}}"),),
        ),
        Panel(
            "Attempts",
            "Attempts that have ended, by what came of them.",
            "ops",
            (Query(f"sum by (kind, outcome) ({_rate('job_attempts_total')})", "{{kind}} {{outcome}}"),),
        ),
        Panel(
            "Frames",
            "Frames of videos a second that jobs look at.",
            "short",
            (Query(f"sum by (kind) ({_rate('job_frames_total')})", "{{kind}}"),),
        ),
        Panel(
            "Webhooks",
            "Webhooks that are enabled and disabled, and deliveries that wait.",
            "short",
            (
                Query("max by (state) (ray_visiongraph_webhooks)", "{{state}}"),
                Query("max(ray_visiongraph_webhook_waiting)", "waiting"),
            ),
        ),
        Panel(
            "Deliveries",
            "Attempts at deliveries to webhooks, and deliveries that were given up.",
            "ops",
            (Query(f"sum by (outcome) ({_rate('webhook_attempts_total')})", "{{outcome}}"),),
            fault=True,
        ),
    ),
    "Stores": (
        Panel(
            "Time of a call",
            "99 of 100 calls take this time at most.",
            "ms",
            (Query(_quantile(0.99, "store_latency_ms", "store"), "{{store}}"),),
        ),
        Panel(
            "Slowest operations",
            "95 of 100 calls take this time at most.",
            "ms",
            (
                Query(
                    f"topk(8, {_quantile(0.95, 'store_latency_ms', 'store', 'operation')})", "{{store}} {{operation}}"
                ),
            ),
        ),
        Panel(
            "Calls",
            "Calls of each store.",
            "ops",
            (Query(f"sum by (store) ({_rate('store_latency_ms_count')})", "{{store}}"),),
        ),
        Panel(
            "Failed calls",
            "Calls that a store failed, by why.",
            "ops",
            (Query(f"sum by (store, error) ({_rate('store_errors_total')})", "{{store}} {{error}}"),),
            fault=True,
        ),
    ),
    "Machines": (
        Panel(
            "Free disk",
            "Free share of the disks of embedded stores and of uploads on their way in.",
            "percentunit",
            (
                Query(
                    "min by (disk, NodeAddress) (ray_visiongraph_disk_free_bytes / ray_visiongraph_disk_size_bytes)",
                    "{{NodeAddress}} {{disk}}",
                ),
            ),
        ),
        Panel(
            "Processors",
            "Busy share of the processors of each node.",
            "percentunit",
            (Query("max by (instance) (ray_node_cpu_utilization) / 100", "{{instance}}"),),
            source="node",
        ),
        Panel(
            "Memory",
            "Used memory of each node.",
            "bytes",
            (Query("max by (instance) (ray_node_mem_used)", "{{instance}}"),),
            source="node",
        ),
    ),
}
"""The dashboard, row by row."""

_CLIENTS: Final = f"ray_visiongraph_requests_total{{{REQUESTS}}}[5m]"
_ERRORS: Final = f'ray_visiongraph_requests_total{{{REQUESTS},status=~"5.."}}[5m]'
_DISK: Final = "min by (disk, NodeAddress) (ray_visiongraph_disk_free_bytes / ray_visiongraph_disk_size_bytes)"

ALERTS: Final[tuple[Alert, ...]] = (
    Alert(
        "VisiongraphDown",
        "critical",
        2,
        "absent(ray_visiongraph_info)",
        "No gateway reports metrics: the service is down, or Prometheus does not reach it.",
        "Ask /livez and /readyz; look whether `visiongraph serve` runs, and at the last lines of its log.",
    ),
    Alert(
        "VisiongraphTargetDown",
        "warning",
        5,
        'up{job=~"visiongraph.*"} == 0',
        "Prometheus cannot scrape {{ $labels.instance }}.",
        "Look whether the node lives and whether its metrics port is the one that Prometheus has.",
    ),
    Alert(
        "VisiongraphErrors",
        "critical",
        5,
        f"sum by (api) (rate({_ERRORS})) / sum by (api) (rate({_CLIENTS})) > 0.02",
        "{{ $value | humanizePercentage }} of the answers of {{ $labels.api }} are errors of the service.",
        "`recent_errors` of /status says which; `error` of its stages and stores says why.",
    ),
    Alert(
        "VisiongraphSlow",
        "warning",
        10,
        "histogram_quantile(0.99, sum by (le, api) "
        '(rate(ray_visiongraph_request_latency_ms_bucket{api!~"service|authenticity"}[5m]))) > 10000',
        "One of 100 requests of {{ $labels.api }} waits more than 10 s for its answer.",
        "Look which stage has full batches and a long wait: it needs more replicas or a GPU.",
    ),
    Alert(
        "VisiongraphOverloaded",
        "warning",
        5,
        'sum by (api) (rate(ray_visiongraph_requests_refused_total{reason="overload"}[5m])) > 0.1',
        "{{ $labels.api }} answers 429 because the service is overloaded.",
        "Raise `max_replicas` of the stage whose queue is full, or lower the load.",
    ),
    Alert(
        "VisiongraphQueueFull",
        "warning",
        2,
        "sum by (stage) (increase(ray_visiongraph_stage_refused_total[5m])) > 0",
        "The queue of {{ $labels.stage }} is full, and items are refused.",
        "Raise its replicas; `queue` of /status shows what waits.",
    ),
    Alert(
        "VisiongraphJobsWait",
        "warning",
        10,
        "max by (kind) (ray_visiongraph_jobs_oldest_queued_seconds) > 3600",
        "A job {{ $labels.kind }} waits for {{ $value | humanizeDuration }} already.",
        "Look whether the worker of jobs runs; if it does, it needs more replicas.",
    ),
    Alert(
        "VisiongraphJobsFail",
        "warning",
        5,
        'sum by (kind) (increase(ray_visiongraph_job_attempts_total{kind!="webhook",outcome="failed"}[1h])) > 5 and '
        'sum by (kind) (increase(ray_visiongraph_job_attempts_total{kind!="webhook",outcome="failed"}[1h])) '
        '> sum by (kind) (increase(ray_visiongraph_job_attempts_total{kind!="webhook",outcome!="failed"}[1h]))',
        "Most jobs {{ $labels.kind }} of the last hour failed.",
        "`error` of /api/v1/jobs?status=failed says why.",
    ),
    Alert(
        "VisiongraphStoreErrors",
        "critical",
        5,
        "sum by (store, error) (rate(ray_visiongraph_store_errors_total[5m])) > 0.05",
        "The store {{ $labels.store }} fails ({{ $labels.error }}).",
        "StoreFull: make room. StoreRefused: check its credentials. Others: look whether it runs and is reached.",
    ),
    Alert(
        "VisiongraphDiskLow",
        "warning",
        10,
        f"{_DISK} < 0.1",
        "{{ $value | humanizePercentage }} of the disk of {{ $labels.disk }} on {{ $labels.NodeAddress }} are free.",
        "Delete assets or make room otherwise: below VISION_DISK_RESERVE_BYTES nothing is stored any more.",
    ),
    Alert(
        "VisiongraphDiskFull",
        "critical",
        2,
        f"{_DISK} < 0.03",
        "The disk of {{ $labels.disk }} on {{ $labels.NodeAddress }} is nearly full.",
        "Make room now; deletes work on the reserve.",
    ),
    Alert(
        "VisiongraphGpuMemory",
        "warning",
        10,
        'max by (gpu) (ray_visiongraph_gpu_memory_bytes{state="used"}) '
        '/ max by (gpu) (ray_visiongraph_gpu_memory_bytes{state="total"}) > 0.95',
        "{{ $value | humanizePercentage }} of the memory of GPU {{ $labels.gpu }} are used.",
        "Lower `max_batch_size` or `cuda_memory_fraction` of its stages, or move one to another GPU.",
    ),
    Alert(
        "VisiongraphWeightsMissing",
        "warning",
        10,
        "max by (stage) (ray_visiongraph_stage_fault) > 0",
        "{{ $labels.stage }} lacks weights.",
        "`error` of the stage in /status has the reason; `visiongraph models pull` fetches them.",
    ),
    Alert(
        "VisiongraphStageLoads",
        "warning",
        20,
        "min by (stage) (ray_visiongraph_stage_loaded) == 0",
        "A replica of {{ $labels.stage }} cannot answer.",
        "Its log says whether it is loading over and over again.",
    ),
)
"""The alerts; docs/operations.md has them in a table."""
