"""MetricsSource without a Prometheus: engines' own pages, read every 15 s and kept for a day in one SQLite file.

Only what `domain.engines.engine_metrics` asks for is kept. Not here: alerting, metrics of anything but serving engines.
"""
