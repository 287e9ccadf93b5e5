"""Our own gateways from the control plane: tables pushed, a gateway opened for a fleet check, records read.

Here: TrafficRouter, GatewayOpener, RecordSource. Not here: the data plane itself (`controlplane.gateway`).
"""
