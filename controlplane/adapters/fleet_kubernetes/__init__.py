"""Engines on a Kubernetes cluster: the manifests of one revision, as built from the client's own models.

Here: the only door to the `kubernetes` package; today it renders (`fleetune render`), it does not apply. Not here:
which revision serves, and anything that a cluster does by itself (scheduling, restarting, spreading).
"""
