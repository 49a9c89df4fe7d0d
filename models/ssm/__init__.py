"""Selective scans: Mamba-1 (arXiv 2312.00752) and Mamba-2 (SSD, arXiv 2405.21060), over sequences and over pictures."""
