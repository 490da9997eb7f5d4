"""What the adapters to frameworks share, and each framework's own parts."""
