"""Visible to thermal: T-FAKE's thermalizer, one network per condition, and the baselines it is measured against."""
