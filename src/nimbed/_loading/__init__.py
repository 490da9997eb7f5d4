"""From what the user named to an opened engine: chosen, fetched, built, resolved."""
