"""How the service is deployed: images, Compose, Kubernetes and systemd; docs/deployment.md."""
