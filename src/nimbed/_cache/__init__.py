"""Vectors kept: in this process, and in a shared tier behind it."""
