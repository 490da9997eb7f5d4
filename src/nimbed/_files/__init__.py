"""Files read and written with care, whatever they are for."""
