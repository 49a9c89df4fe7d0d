"""The gates: what a finished sample must keep, measured and judged; a stage without weights."""
