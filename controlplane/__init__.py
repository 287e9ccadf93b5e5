"""The control plane: fleet, rollouts, studies, their store, API and command line.

Here: see docs/architecture.md. Not here: how configurations are chosen (`tuner`) or load is sent (`loadtests`).
"""
