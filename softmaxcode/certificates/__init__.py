"""Certificates of codes: which values are proved, and which are only numerical."""
