"""What to try, what it would do, and what it all says: the search as pure thinking.

Here: rooms `space` → `search` → `ladder` → `answer`, and the `twin`. Not here: engines, clocks, stores, load.
"""
