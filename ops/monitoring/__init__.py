"""What Prometheus is asked: the panels of the dashboard and the alerts, from one list (``facts``)."""
