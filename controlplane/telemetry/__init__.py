"""What every process tells of itself while it runs: logs as JSON lines, and traces over OTLP.

Here: how lines and spans are written, what lasts once; the one door to OpenTelemetry. Not here: metrics, and what is
worth telling.
"""
