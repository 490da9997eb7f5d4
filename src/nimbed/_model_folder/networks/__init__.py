"""The networks that the native engine runs: descriptions of them, and their weights under one set of names."""
