"""Serving: calls of many callers become batches for the engine, and vectors come back in each call's order."""
