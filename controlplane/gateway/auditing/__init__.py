"""The audit log of one gateway: what is noted of each request, and the file it goes to.

Here: making entries of tallies, appending them. Not here: the chain and its check (`domain.door.audit`), reading it.
"""
