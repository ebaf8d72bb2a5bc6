"""Plan a deployment: what a Serve configuration needs, what there is, and what an update would restart."""
