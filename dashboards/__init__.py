"""The Streamlit app: `views` are pages, `charts` figures; `words`, `theme`, `components` are shared by all.

Here: what a person sees, over the API only. Not here: any decision or store.
"""
