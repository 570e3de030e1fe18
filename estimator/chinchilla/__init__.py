"""Scaling laws: presets, closed and numeric solutions, fits of a user's runs, plots."""
