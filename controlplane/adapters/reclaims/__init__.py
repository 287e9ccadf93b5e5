"""Notices of reclaim on one host: files that somebody lays down, and a cloud's metadata service.

What a cluster's nodes say is in fleet_kubernetes/.
"""
