"""Traffic that Fleetune sends by itself: continuous replays as a time series, and the top-up beside live traffic.

Here: sending, comparing, keeping. Not here: how requests are sent (`loadtests`), trials of studies.
"""
