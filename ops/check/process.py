"""Checks of one deployment's lines: its limits, and the user_config of the stages that run in it."""

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig

from deployments.serving.handle import StageHandle
from deployments.serving.stage import StageConfig
from ops.check.code import Code, models_of
from ops.check.fault import Report

CALL_ITEMS: int = inspect.signature(StageHandle).parameters["max_batch"].default
"""Items that one call to a stage carries at most."""
RAY_MAX_ONGOING = 5
LARGEST_BATCH = 512
LONGEST_WAIT_S = 1.0


def check_limits(line: Mapping[str, Any], report: Report) -> None:
    """Queue limit, backpressure and autoscaling."""
    queued = line.get("max_queued_requests")
    if queued is None or (isinstance(queued, int) and queued < 0):
        report.at("max_queued_requests").add("nothing limits its queue", "set it, to 64 for example")
    backpressure = line.get("backpressure_config")
    answer = backpressure if isinstance(backpressure, dict) else {}
    if answer.get("status_code") != 429 or not answer.get("retry_after_s"):
        fix = "set it to {status_code: 429, retry_after_s: 1}"
        report.at("backpressure_config").add("overload must answer 429 with Retry-After", fix)
    _check_autoscaling(line, report)


def check_worker(line: Mapping[str, Any], report: Report) -> None:
    """Of the worker, which gets no requests: neither a queue to limit nor anything to scale by."""
    _check_autoscaling(line, report)
    if line.get("autoscaling_config") is not None:
        what = "scales by requests, of which the worker gets none"
        report.at("autoscaling_config").add(what, "set num_replicas instead")


def _check_autoscaling(line: Mapping[str, Any], report: Report) -> None:
    if line.get("num_replicas") is not None and line.get("autoscaling_config") is not None:
        what = "has no effect beside autoscaling_config, which stages with a deployment of their own have by default"
        report.at("num_replicas").add(what, "remove it, or set autoscaling_config to null")
    if isinstance(line.get("autoscaling_config"), dict):
        try:
            AutoscalingConfig.model_validate(line["autoscaling_config"], extra="forbid")
        except ValidationError as error:
            report.at("autoscaling_config").add_invalid(error)


def check_stages(line: Mapping[str, Any], keys: list[str], code: Code, report: Report) -> None:
    """``user_config`` against the stages ``keys`` that run in this deployment."""
    user_config = line.get("user_config") or {}
    if not isinstance(user_config, dict):
        return  # the schema says so
    for key in sorted(map(str, user_config.keys() - set(keys))):
        fix = f"it runs {', '.join(keys)}" if keys else "remove it: this deployment takes no user_config"
        report.at("user_config").add(f"{key} does not run here", fix)
    for key in keys:
        if key not in code.stages:
            continue
        here = report.at("user_config", key)
        config_class = code.stages[key].config_class
        try:
            config = config_class.model_validate(user_config.get(key, {}))
        except ValidationError as error:
            if key in user_config:  # else it is a fault of the class, and reported there
                here.add_invalid(error, fix=f"see {config_class.__module__}.{config_class.__name__}")
            continue
        _check_batches(config, line.get("max_ongoing_requests", RAY_MAX_ONGOING), here)
        if key in user_config and code.models is not None:
            for name in models_of(config):
                if name not in code.models:
                    here.add(f"no model {name} is registered", "register it in configs/models.yaml or correct it")


def _check_batches(config: StageConfig, ongoing: Any, report: Report) -> None:
    size = config.max_batch_size
    if isinstance(ongoing, int) and size > ongoing * CALL_ITEMS:
        what = f"a batch of {size} never fills: at most {ongoing} calls of {CALL_ITEMS} items run at once"
        report.add(what, f"set max_ongoing_requests to {-(-size // CALL_ITEMS) * 2} or more")
    if size > LARGEST_BATCH:
        report.add(f"max_batch_size {size} is over {LARGEST_BATCH}", "use more replicas instead")
    if config.batch_wait_s > LONGEST_WAIT_S:
        what = f"batch_wait_s has a request wait {config.batch_wait_s:g} s for others"
        report.add(what, f"some milliseconds are enough; at most {LONGEST_WAIT_S:g}")
