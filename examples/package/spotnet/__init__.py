"""Spotnet: an example of a system of your own."""
