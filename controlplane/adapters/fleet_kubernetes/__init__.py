"""Engines on a Kubernetes cluster, and what else of an installation lives there: gateways as pods, the lead by a Lease.

Here: the only door to the `kubernetes` package, the manifests of revisions as built from the client's own models, the
fleet that applies them. Not here: which revision serves, and anything that a cluster does by itself (scheduling,
restarting, spreading).
"""
