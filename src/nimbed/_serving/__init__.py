"""Calls of many callers, made batches for the engine, and given their vectors in order."""
