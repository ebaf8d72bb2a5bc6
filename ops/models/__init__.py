"""Models of the hub for stages: register them after a trial, and say which model of its chain each stage uses."""
