"""Texts checked, and made token ids."""
