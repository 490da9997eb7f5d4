"""What clients say and hear: a module for each dialect, with its routes, its fields and its errors."""
