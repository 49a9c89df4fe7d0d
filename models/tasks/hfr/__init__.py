"""Training a recogniser for probes of another camera: heterogeneous face recognition, without translation."""
