"""The gate: rules that a new record must meet against an old one."""
