"""Prometheus rules, scrape configuration and Grafana dashboards as files, made from the services they watch.

Here: values in, text out; metrics have the names that the gateway and vLLM give them. Not here: reading metrics.
"""
