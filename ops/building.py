"""Builds the applications of the first deployment in Serve's controller, in place of five processes for a second each.

Serve starts a process for every application of a configuration, which imports Ray, Serve and this package to build a
few objects, and ends: on two cores a quarter of what a start takes. ``RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH`` names
what Serve's controller calls when it starts (ops.one_machine). Applications that are deployed later are built in
processes of their own, as their code may be newer than what the controller has imported.
"""

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("ray.serve")


def build_here() -> None:
    """Make this process, Serve's controller, build each application once itself; where Serve has changed do nothing."""
    from ray.serve._private import application_state

    task = getattr(application_state, "build_serve_application", None)
    if callable(getattr(task, "_function", None)):
        application_state.build_serve_application = FirstBuilds(task, application_state)


class FirstBuilds:
    """Stands for Serve's remote function ``build_serve_application``."""

    def __init__(self, task: Any, module: Any) -> None:
        self._task = task
        self._module = module
        self._seen: set[str] = set()

    def options(self, **options: Any) -> "_Build":
        """Return what ``remote`` is called on."""
        return _Build(self, options)

    def build(self, options: dict[str, Any], arguments: tuple[Any, ...]) -> Any:
        """Return an ObjectRef of what Serve's function returns, from here or from a process of its own."""
        import ray

        name = str(arguments[2])
        here = name not in self._seen and not options.get("runtime_env")
        self._seen.add(name)
        if here:
            try:
                return ray.put(self._function(*arguments))
            except Exception:
                # What is wrong with it Serve says best.
                logger.warning("%s is built in a process of its own", name, exc_info=True)
        return self._task.options(**options).remote(*arguments)

    def _function(self, *arguments: Any) -> Any:
        # Serve's function begins with a log file of its own for the whole process; the controller has one.
        configure: Callable[..., Any] = self._module.configure_component_logger
        self._module.configure_component_logger = _ignore
        try:
            return self._task._function(*arguments)
        finally:
            self._module.configure_component_logger = configure


class _Build:
    def __init__(self, builds: FirstBuilds, options: dict[str, Any]) -> None:
        self._builds = builds
        self._options = options

    def remote(self, *arguments: Any) -> Any:
        return self._builds.build(self._options, arguments)


def _ignore(**_: Any) -> None:
    """Stand for ``configure_component_logger``."""
