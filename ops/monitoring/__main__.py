"""Write the dashboard for Grafana and the rules for Prometheus: ``python -m ops.monitoring``."""

from pathlib import Path

from ops.monitoring.write import written

if __name__ == "__main__":
    for path, text in written().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
