"""Search strategies compared on the twin as ground truth: `fleetune bench search`."""
