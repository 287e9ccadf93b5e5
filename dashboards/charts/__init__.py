"""Figures: values in, Plotly figures out.

Here: pure drawing. Not here: Streamlit, HTTP.
"""
