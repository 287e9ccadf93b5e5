"""Programs of users, each run in a Python of its own that has the client it needs, against a gateway.

Here: what is run there. Not here: anything of ours; the tests that run them are in `test_other_clients.py`.
"""
