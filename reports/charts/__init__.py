"""Figures of a record, described once and drawn twice: interactive for the page, and for print."""
