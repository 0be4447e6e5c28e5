"""Winnow: tell things apart in photos, and keep the labels clean on the way."""

__version__ = "0.1.0"
