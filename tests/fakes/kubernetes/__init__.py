"""A stand-in for a Kubernetes 1.36 API server and the parts of a cluster that Fleetune leans on, over real HTTP.

Modelled, as a real server does it: resource versions and 409 on stale writes, generation, strict field validation from
the OpenAPI and CRD schemas, quantities and defaults as a server writes them back, server-side apply with field
ownership, merge and JSON patches, dry runs, label and field selectors, lists in pages, watches with bookmarks and 410,
the `status` and `scale` subresources, finalizers, graceful deletion of pods, owner references with deletion in the
background and in the foreground, namespaces (what is put into them, and how they go), what nobody may change of an
object, admission of pods (accounts and tokens, tolerations, priorities, Pod Security at its strictest, quotas that a
controller counts), replica sets that try less often what was refused, one known token, TLS; endpoint slices;
controllers for Deployments and ReplicaSets (with the order in which pods are chosen to go), a scheduler that knows
node selectors, taints and extended resources, lost nodes. Pods run as processes on loopback by `kubelet`, which is a
plain client of the API and serves a real server too. What clients ask first is answered too: version, groups, kinds.
On request: delays, dropped watches, 429 and 500, an outage, rights taken away, policies that deny a kind, webhooks
that cannot be tried, controllers and watches that are late, a slow garbage collector, add-ons that are not installed.

Not modelled: other authentication and admission (rights are taken away by name, kinds denied whole), defaults of kinds
that Fleetune does not send, strategic merge patches (treated as merge patches), CEL rules but a few, LimitRanger,
rolling updates (a changed template replaces all pods), affinity to pods, topology spread, CPU and memory, volumes,
images (every image is there unless a node is told otherwise), Jobs other than those of our load generators (they are
said to be done and never run), networks and their policies, disruption budgets and evictions (but of pods that bear a
lost node for no time), `exec`, `proxy`, protobuf, the growth of a crashed container's back-off.
"""
