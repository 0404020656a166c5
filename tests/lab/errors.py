"""The one error that the lab reports to the person at the keyboard."""

from __future__ import annotations


class LabError(Exception):
    """Something went wrong; the text says what, and what to do about it."""
