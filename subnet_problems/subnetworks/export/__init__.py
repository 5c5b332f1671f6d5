"""Policies as programs: one file for each target."""
