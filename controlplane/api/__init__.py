"""The HTTP API: one router per noun, problems as problem+json.

Here: requests in, use cases called, values out. Not here: any use case itself.
"""
