"""Weights on disk and anywhere: bundles of named parts, sealed folders that are fetched and verified, networks in safetensors."""
