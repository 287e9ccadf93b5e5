"""One page a file: reads the API, puts words, tables and charts on the page.

Here: Streamlit. Not here: figures (`charts`) or wording (`words`).
"""
