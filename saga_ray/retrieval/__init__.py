"""Retrieval: exact search, metrics over ranked ids, clustering, indexes and reports.

Shapes: Q queries, M gallery items, K neighbours a query, E embedding width.
"""
